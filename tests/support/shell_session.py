"""One shell into which the blocks of a page are pasted, one after the other, as a reader would."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from documented import Block, commands

ANY = re.escape("...")
_READS = (
    ("headrace", "inspect"),
    ("headrace", "topics", "list"),
    ("headrace", "dlq", "list"),
    ("headrace", "generations", "list"),
    ("headrace", "parts", "list"),
    ("python", "-m", "json.tool"),
    ("curl",),
    ("grep",),
)


@dataclass
class Said:
    """What a block said: on standard output, on standard error, and the codes of the commands that failed."""

    out: str
    err: str
    failed: list[int] = field(default_factory=list)


class ShellSession:
    """A bash of its own, in a folder, with an environment; everything it started ends with it.

    Args:
        folder: where it begins, and where what it says is kept.
        environment: all of it.
        instead: texts of the blocks that are replaced: addresses that the page takes for free.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], instead: Mapping[str, str]) -> None:
        self._folder, self._instead, self._number = folder, instead, 0
        self._kept = folder / ".said"
        self._kept.mkdir()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._tell("set -E; failed=; trap 'failed+=\" $?\"' ERR")

    def run(self, block: Block, expected: str | None, timeout_s: float = 120.0) -> Said:
        """Pastes a block and returns what it said; with what the page says it says, once that is so.

        A block with a `&` goes on saying things. One that only reads is asked again, as the pages tell their readers.

        Raises:
            AssertionError: a command ended otherwise than the page says, or something else came out.
        """
        deadline_s = time.monotonic() + timeout_s
        text = self._put(block.text)
        wanted = None if expected is None else pattern_of(self._put(expected))
        codes = [int(code) for code in re.findall(r"ends with (\d+)", block.note)]
        again = all(any(tuple(words[: len(read)]) == read for read in _READS) for words in commands(text))
        said, out = self._paste(text)
        while True:
            if said.failed == codes and (wanted is None or wanted.fullmatch(said.out.strip())):
                return said
            if time.monotonic() > deadline_s or not (again or "&\n" in text):
                raise AssertionError(self._complaint(block, said, codes, expected))
            time.sleep(0.2)
            if again:
                said, out = self._paste(text)
            else:
                said = Said(out.read_text(), out.with_suffix(".err").read_text(), said.failed)

    def paste(self, text: str) -> Said:
        """Runs a piece of shell that stands on no page."""
        return self._paste(text)[0]

    def close(self) -> None:
        """Ends what was started and is still running, in order, then the shell."""
        if self._bash.poll() is None:
            try:
                self._paste("kill $(jobs -p) 2> /dev/null || true\nwait")
            finally:
                os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        for pipe in (self._bash.stdin, self._bash.stdout):
            if pipe is not None:
                pipe.close()

    def _put(self, text: str) -> str:
        for usual, ours in self._instead.items():
            text = text.replace(usual, ours)
        return text

    def _paste(self, text: str) -> tuple[Said, Path]:
        self._number += 1
        script = self._kept / f"{self._number}.sh"
        out, err = script.with_suffix(".out"), script.with_suffix(".err")
        script.write_text(text + "\n:\n")  # else the last failure counts for the file too
        self._tell(f'failed=; {{ . {script}; }} > {out} 2> {err} < /dev/null; echo "done$failed"')
        assert self._bash.stdout is not None
        line = self._bash.stdout.readline()
        while line and not line.startswith("done"):
            line = self._bash.stdout.readline()
        failed = [int(code) for code in line.split()[1:]]
        return Said(out.read_text(), err.read_text(), failed), out

    def _tell(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line + "\n")
        self._bash.stdin.flush()

    def _complaint(self, block: Block, said: Said, codes: list[int], expected: str | None) -> str:
        found = [log for log in sorted(self._folder.rglob("*.log")) if "servers" not in log.parts]
        logs = "".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1000:]}\n" for log in found)
        wanted = "" if expected is None else f"--- what the page says comes out\n{expected}"
        return (
            f"{block.where}\n{logs[-8000:]}--- on standard error\n{said.err[-3000:]}\n--- {block.where}: ended with"
            f" {said.failed}, expected {codes}\n{block.text}{wanted}--- what came out\n{said.out}"
        )


def pattern_of(expected: str) -> re.Pattern[str]:
    """What a page says comes out; ``...`` stands for anything, empty lines and ends of lines do not count."""
    return re.compile(re.escape(expected.strip()).replace(ANY, ".*?"), re.DOTALL)
