"""The tour on a terminal, or in a file: what stays, and one line that says what goes on now."""

import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import click

from headrace.tour.screen import WIDTH

_TERMINAL_S: Final = 0.1
_FILE_S: Final = 5.0
_MARKED = re.compile(r"<([a-z ]+)>(.*?)</>")
_FAINT: Final = "bright_black"


class Terminal:
    """Shows lines on standard output, and what goes on now on standard error.

    On a terminal that is one line, rewritten; in a file it is a line now and then. click takes colours out of a file.
    """

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty() and sys.stdout.isatty()
        self._shown_s = time.monotonic()
        self._began_s = self._shown_s
        self._there = False

    def doing(self, what: str) -> None:
        """This goes on now; called often."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (_TERMINAL_S if self._terminal else _FILE_S):
            return
        self._shown_s = now_s
        text = f"{now_s - self._began_s:4.0f} s  {what}"[: WIDTH - 1]
        if self._terminal:
            click.echo(f"\r\x1b[K{click.style(text, fg=_FAINT)}", nl=False, err=True)
            self._there = True
        else:
            click.echo(text, err=True)

    def show(self, lines: Sequence[str]) -> None:
        """These lines stay."""
        self.clear()
        for line in lines:
            click.echo(_MARKED.sub(self._mark, line))
        sys.stdout.flush()

    def clear(self) -> None:
        """Takes away the line that says what goes on."""
        if self._there:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._there = False

    def _mark(self, found: "re.Match[str]") -> str:
        name, text = found.groups()
        look: dict[str, Any] = {"bold": True} if name == "bold" else {"fg": name}
        return click.style(text, **look)
