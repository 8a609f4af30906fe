"""Judged pairs in files: read as written, put side by side, and refused with file, line and reason."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from headrace.models.evaluation import Judged
from headrace.models.json_lines import LINE_BYTES
from headrace.models.judged_pairs import BadPairs, read, write

PAIRS = Judged(
    ("a", "ü", "a"), ("x", "y\n", "z"), np.array([0.0, 2 / 3, 1.0]), {"one": np.array([0.1, -9.5, 0.3])}, np.arange(3.0)
)


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, PAIRS)
    found = read([tmp_path / name])
    assert (found.queries, found.titles) == (PAIRS.queries, PAIRS.titles)
    assert np.array_equal(found.labels, PAIRS.labels)
    assert np.array_equal(found.scores["one"], PAIRS.scores["one"])
    assert found.exposures is not None
    assert np.array_equal(found.exposures, np.arange(3.0))
    write(tmp_path / "again", found)
    content = (tmp_path / name).read_bytes()
    assert (tmp_path / "again").read_bytes() == (gzip.decompress(content) if name.endswith("gz") else content)


def test_files_of_the_same_pairs_stand_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "one", Judged(PAIRS.queries, PAIRS.titles, PAIRS.labels, PAIRS.scores))
    write(tmp_path / "two", PAIRS.scored({"two": np.zeros(3)}))
    found = read([tmp_path / "one", tmp_path / "two"])
    assert list(found.scores) == ["one", "two"]
    assert found.exposures is not None
    for other, reason in (
        (PAIRS, "scores of one, which a file before it has too"),
        (Judged(("a",), ("x",), np.zeros(1), {}), "holds 1 pairs, the first file 3"),
        (Judged(("a", "b", "a"), PAIRS.titles, PAIRS.labels, {}), "pair 2: 'b' is another pair"),
        (Judged(PAIRS.queries, PAIRS.titles, np.zeros(3), {}), "pair 2: .* another label"),
    ):
        write(tmp_path / "other", other)
        with pytest.raises(BadPairs, match=reason):
            read([tmp_path / "one", tmp_path / "other"])


GOOD = '{"query":"a","title":"x","label":0.5,"scores":{"m":1}}\n'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense\n", "line 2: JSON is malformed"),
        ('{"query":"a","title":"x","scores":{"m":1}}\n', "line 2: .*`label`"),
        ('{"query":"a","title":"x","label":1.5,"scores":{"m":1}}\n', r"line 2: .*<= 1.*\$\.label"),
        ('{"query":"a","title":"x","label":1,"scores":{"m":"high"}}\n', r"line 2: .*\$\.scores"),
        ('{"query":"a","title":"x","label":1,"scores":{"n":1}}\n', "line 2: scores of m, n are not in every line"),
        ('{"query":"a","title":"x","label":1,"scores":{"m":1},"exposures":3}\n', "line 2: exposures are not in every"),
        ('{"query":"a","title":"x","label":1,"scores":{"m":1},"exposures":-3}\n', "line 2: .*exposures"),
        ('{"query":"' + "a" * LINE_BYTES + '"}\n', "line 2: longer than"),
        ('{"query":"\\ud800","title":"x","label":1,"scores":{"m":1}}\n', "line 2: "),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(GOOD + line, encoding="utf-8")
    with pytest.raises(BadPairs, match=reason):
        read([path])


def test_empty_lines_do_not_count_and_an_empty_or_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"\n{GOOD}\n\n{GOOD}", encoding="utf-8")
    assert len(read([path])) == 2
    path.write_text("\n")
    with pytest.raises(BadPairs, match="holds no pairs"):
        read([path])
    broken = tmp_path / "pairs.jsonl.gz"
    broken.write_bytes(gzip.compress(GOOD.encode() * 100)[:-12])
    with pytest.raises(BadPairs, match="damaged"):
        read([broken])
    with pytest.raises(FileNotFoundError):
        read([tmp_path / "nothing"])
