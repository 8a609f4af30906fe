import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet, table

from headrace.streams import files
from headrace.streams.files import lines_of, parquet_columns, parquet_rows


def test_lines_and_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"one\r\n\n  \ntwo\nthree")
    assert [(line.number, line.data, line.at) for line in lines_of(path, 100)] == [
        (1, b"one", 5),
        (4, b"two", 13),
        (5, b"three", 18),
    ]


def test_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    assert [line.data for line in lines_of(path, 100)] == [b"one", b"two"]


@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"-").replace(b"\r", b"-"))))
def test_any_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"\n".join(lines))
    expected = [(at, line) for at, line in enumerate(lines, 1) if line.strip()]
    found = list(lines_of(path, 10))
    assert [(line.number, line.data) for line in found] == [(at, line[:10]) for at, line in expected]
    for line, (_, whole) in zip(found, expected, strict=True):
        assert (line.size > len(line.data)) == (len(whole) > 10)


def test_parquet_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BATCH_ROWS", 2)
    path = tmp_path / "a.parquet"
    parquet.write_table(table({"a": [1, 2, 3], "b": ["x", None, "z"]}), path)
    assert parquet_columns(path) == (["a", "b"], 3)
    assert list(parquet_rows(path)) == [(1, {"a": 1, "b": "x"}), (2, {"a": 2, "b": None}), (3, {"a": 3, "b": "z"})]
    assert list(parquet_rows(path, ["b"]))[0] == (1, {"b": "x"})


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not at all")
    with pytest.raises(ValueError, match="(?i)parquet"):
        parquet_columns(path)
