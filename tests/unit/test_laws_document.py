"""docs/laws.md names tests that exist, and every mutation."""

import re
from pathlib import Path

from mutations import MUTATIONS, NO_DIFFERENCE

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "laws.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", sources))
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    assert len(named) > 50
    assert named - there == set()


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"tests/[\w/]+(?:\.py)?", DOCUMENT))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_mutation_is_in_the_table() -> None:
    table = DOCUMENT[DOCUMENT.index("## Broken on purpose") :]
    listed = set(re.findall(r"^\|[^|]*\| `([\w-]+)` \|", table, re.MULTILINE))
    assert listed == {mutation.name for mutation in MUTATIONS}
    assert all(f"**{name}**" in DOCUMENT for name in NO_DIFFERENCE)
