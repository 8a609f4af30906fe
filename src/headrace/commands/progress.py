"""One line that says how far a long piece of work is: rewritten on a terminal, now and then elsewhere."""

import sys
import time
from typing import Final

import click

_TERMINAL_S: Final = 0.2
_LOG_S: Final = 10.0


class ProgressLine:
    """``label: 12,345 of 100,000 records (12 %), 14,200 a second, 6 s left`` on standard error.

    Args:
        label: what is done.
        unit: of what is counted.
    """

    def __init__(self, label: str, unit: str = "records") -> None:
        self._label, self._unit = label, unit
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._first: int | None = None
        self._width = 0

    def __call__(self, done: int, total: int, more: str = "") -> None:
        """Shows how far it is, if it is time to; ``more`` is said behind it."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = done, now
        if now - self._shown >= (_TERMINAL_S if self._terminal else _LOG_S):
            self._shown = now
            self._show(done, total, now, more)

    def end(self, done: int, total: int) -> None:
        """Shows the end, and leaves the line."""
        self._show(done, total, time.monotonic())
        if self._terminal:
            click.echo(err=True)

    def _show(self, done: int, total: int, now: float, more: str = "") -> None:
        rate = (done - (self._first or 0)) / max(now - self._began, 1e-3)
        share = f" ({100 * done // total} %)" if total else ""
        left = f", {_duration((total - done) / rate)} left" if rate > 0 and done < total else ""
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        line = f"{self._label}: {done:,} of {total:,} {self._unit}{share}, {speed} a second{left}{more}"
        if self._terminal:
            click.echo("\r" + line.ljust(self._width), nl=False, err=True)
            self._width = len(line)
        else:
            click.echo(line, err=True)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
