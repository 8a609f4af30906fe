"""README.md, the tutorial and the how-to pages: their commands, pasted one after the other on embedded servers."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from documented import ROOT, Block, blocks
from headrace.local.child import free_port
from shell_session import ShellSession

TUTORIAL = Path(".headrace") / "tutorial"
HOW_TO = (
    "README",
    "feed-from-your-topics",
    "dead-letters",
    "rebuild-the-state",
    "models",
    "label-with-a-teacher",
    "check-skew",
    "run-in-containers",
    "back-up-and-restore",
)
MAKE = f'make() {{ command make --no-print-directory -n -C {ROOT} "$@" > /dev/null; }}'
"""A target is looked for and not made: `make test` would run this very test."""


class Reader:
    """Somebody who pastes pages: a checkout as far as the pages need one, a shell, and ports that nobody has."""

    def __init__(self, folder: Path, parts: Path, ending: ExitStack) -> None:
        self._folder = folder
        (folder / ".venv").symlink_to(sys.prefix)
        for repository in (Path(".headrace") / "models", TUTORIAL / ".headrace" / "models"):
            # The student that is built there already is found and left; a copy of links, since bundles come beside it.
            shutil.copytree(parts / "parts", folder / repository / "parts", copy_function=os.link)
        (folder / ".headrace" / "wheels").symlink_to(parts.parent / "wheels")
        kafka, redis, serve, refresh = (free_port() for _ in range(4))
        for servers in (Path(".headrace") / "local", TUTORIAL / "servers"):
            (folder / servers).mkdir(parents=True)
            (folder / servers / "ports.json").write_text(json.dumps({"kafka": kafka, "redis": redis}))
        instead = {
            "127.0.0.1:9092": f"127.0.0.1:{kafka}",
            "127.0.0.1:6379": f"127.0.0.1:{redis}",
            "127.0.0.1:8080": f"127.0.0.1:{serve}",
            "127.0.0.1:9465": f"127.0.0.1:{refresh}",
            # What it says where the usual ports are taken.
            "Never for production.\nReady.": "Never for production.\n...\nReady.",
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "MPLCONFIGDIR": str(folder),
            "HEADRACE_SERVE_PORT": str(serve),
            "HEADRACE_REFRESH_PORT": str(refresh),
            "WORKER": f"http://127.0.0.1:{serve}",
        }
        self.shell = ShellSession(folder, environment, instead)
        ending.callback(self.shell.close)
        self.shell.paste(MAKE)

    def paste(self, page: Path) -> int:
        """Pastes the blocks of a page and compares what the page says comes out; how many blocks there were."""
        found = blocks(page)
        count = 0
        for block, after in zip(found, [*found[1:], None], strict=True):
            if block.language != "sh" or block.note == "elsewhere":
                continue
            expected = after.text if after is not None and after.follows and after.language == "text" else None
            began_s = time.monotonic()
            said = self.shell.run(block, expected)
            print(f"{time.monotonic() - began_s:6.1f} s  {block.where}")
            lines = [line.strip() for line in said.out.splitlines()]
            self.shell.paste("\n".join(line for line in lines if line.startswith("export HEADRACE_")))
            count += 1
        return count


@pytest.fixture
def reader(tmp_path: Path, parts_repository: Path) -> Iterator[Reader]:
    with ExitStack() as ending:
        yield Reader(tmp_path, parts_repository, ending)


@pytest.mark.timeout(600)  # it waits for seven processes, and on a busy machine for each of them
def test_the_tutorial_and_the_how_to_pages(reader: Reader) -> None:
    assert reader.paste(ROOT / "docs" / "tutorial.md") > 15
    pages = [ROOT / "docs" / "how-to" / f"{name}.md" for name in HOW_TO]
    assert sorted(pages) == sorted((ROOT / "docs" / "how-to").glob("*.md"))
    assert sum(reader.paste(page) for page in pages) > 20


def test_the_readme(reader: Reader) -> None:
    assert reader.paste(ROOT / "README.md") > 4


@pytest.mark.parametrize(
    ("note", "text", "expected"),
    [
        ("", "echo one\necho two", "one\n..."),
        ("ends with 3", "echo one\n(exit 3)", "one"),
        ("", "cd /\nsleep 60 &\n{ sleep 0.1; echo up; } &\n", "up"),
        ("", "if false; then :; fi\nfalse || echo no", "no"),
    ],
)
def test_what_a_page_says_comes_out(tmp_path: Path, note: str, text: str, expected: str) -> None:
    shell = ShellSession(tmp_path, {"PATH": os.environ["PATH"]}, {})
    try:
        shell.run(Block("page.md", 1, "sh", note, text), expected)
    finally:
        shell.close()


@pytest.mark.parametrize(
    ("note", "text", "expected"),
    [
        ("", "echo one\necho three", "one\ntwo"),
        ("", "echo one\nfalse\necho one", "one..."),
        ("ends with 3", "echo one", "one"),
        ("", "{ sleep 0.1; echo down; } &\n", "up"),
    ],
)
def test_a_page_that_says_otherwise_is_refused(tmp_path: Path, note: str, text: str, expected: str) -> None:
    shell = ShellSession(tmp_path, {"PATH": os.environ["PATH"]}, {})
    try:
        with pytest.raises(AssertionError, match=r"page\.md:1"):
            shell.run(Block("page.md", 1, "sh", note, text), expected, timeout_s=1.0)
    finally:
        shell.close()
