import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models import training_pairs
from headrace.models.json_lines import LINE_BYTES
from headrace.models.prompts import Pair
from headrace.models.training_pairs import BadTrainingPairs, TrainingPairs, read, side_of


def written(path: Path, *rows: object) -> Path:
    lines = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.jsonl.gz"])
def test_a_file_of_pairs_is_read_in_its_order(tmp_path: Path, name: str) -> None:
    path = written(
        tmp_path / name,
        {"query": "a", "title": "b", "label": 0.25, "details": "d", "terms": "t", "pair_id": "ignored"},
        b"   ",
        {"query": "q", "title": "i", "probability": 1, "query_neighbours": ["x"], "item_neighbours": ["y", "z"]},
    )
    found = read(path)
    assert found.pairs == (
        Pair("a", "b", "d", "t"),
        Pair("q", "i", query_neighbours=("x",), item_neighbours=("y", "z")),
    )
    assert found.targets.tolist() == [0.25, 1.0]
    assert len(found) == 2


def test_a_persons_label_comes_before_a_probability(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"query": "a", "title": "b", "label": 0, "probability": 1})
    assert read(path).targets.tolist() == [0.0]


def test_whose_probabilities_they_are_is_known_and_stays_known(tmp_path: Path) -> None:
    said = {"title": "b", "probability": 1}
    found = read(
        written(
            tmp_path / "a.jsonl",
            {"query": "a", "teacher": "two", **said},
            {"query": "b", "teacher": "one", **said},
            {"query": "c", "teacher": "two", **said},
            {"query": "d", "teacher": "nobody's", "label": 0, **said},
            {"query": "e", **said},
        )
    )
    assert found.teachers == ("one", "two")
    assert found.at([0]).teachers == found.some(2).teachers == found.teachers


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b"\xff", "malformed"),
        (b'{"query": "a"}', "missing required field `title`"),
        (b'{"query": "a", "title": "b"}', "neither `label` nor `probability`"),
        (b'{"query": "a", "title": "b", "label": 1.01}', "<= 1.0"),
        (b'{"query": "a", "title": "b", "probability": -0.1}', ">= 0.0"),
        (b'{"query": "a", "title": "b", "label": NaN}', "malformed"),
        (b'{"query": 1, "title": "b", "label": 1}', "Expected `str`"),
        (b'{"query": "a", "title": "b", "label": 1, "x": ' + b"[" * 5000, "recursion"),
        (b" " * LINE_BYTES + b'{"query": "a", "title": "b", "label": 1}', "longer than 1,048,576 bytes"),
    ],
)
def test_what_is_no_pair_is_named_by_file_and_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = written(tmp_path / "bad.jsonl", {"query": "a", "title": "b", "label": 1}, line)
    with pytest.raises(BadTrainingPairs, match=r"bad\.jsonl, line 2: ") as error:
        read(path)
    assert reason in str(error.value)


def test_lines_are_bounded_in_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_pairs, "ROWS", 2)
    row = {"query": "a", "title": "b", "label": 1}
    assert len(read(written(tmp_path / "two.jsonl", row, row))) == 2
    with pytest.raises(BadTrainingPairs, match=r"three\.jsonl has more than 2 lines"):
        read(written(tmp_path / "three.jsonl", row, row, row))


def test_an_empty_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTrainingPairs, match="holds no pairs"):
        read(written(tmp_path / "empty.jsonl"))
    whole = gzip.compress(b'{"query": "a", "title": "b", "label": 1}\n' * 100)
    for content in (whole[:-12], whole[:20] + b"\0" * 20 + whole[40:], b"no gzip"):
        path = tmp_path / "broken.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(BadTrainingPairs, match=r"broken\.jsonl\.gz is damaged behind line"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.jsonl")


@given(st.lists(st.text("aB c", min_size=1).filter(str.strip), min_size=1), st.sampled_from([" ", "  ", "\t", "\n"]))
def test_case_and_spaces_do_not_move_a_query_to_another_side(words: list[str], space: str) -> None:
    query = " ".join(words)
    other = space + query.swapcase().replace(" ", space) + space
    assert side_of(query) == side_of(other)


def test_the_sides_have_their_shares() -> None:
    shares = Counter(side_of(f"query {number}") for number in range(20_000))
    assert shares["test"] / 20_000 == pytest.approx(0.20, abs=0.01)
    assert shares["held"] / 20_000 == pytest.approx(0.08, abs=0.01)
    assert shares["train"] / 20_000 == pytest.approx(0.72, abs=0.01)


def test_the_split_is_the_one_that_numbers_were_measured_on() -> None:
    known = {"angle bracket": "train", "deck over": "held", "convection OTR": "held", "toilet": "test"}
    assert {query: side_of(query) for query in known} == known


def made(*queries: str) -> TrainingPairs:
    pairs = tuple(Pair(query, f"title {number}") for number, query in enumerate(queries))
    return TrainingPairs(pairs, np.arange(len(pairs)) / 10)


def test_pairs_are_taken_by_place_by_side_and_by_query() -> None:
    pairs = made(*(f"query {number // 3}" for number in range(60)))
    assert pairs.at([3, 1]).targets.tolist() == [0.3, 0.1]
    sides = [pairs.of(side) for side in ("train", "held", "test")]
    assert sum(map(len, sides)) == 60
    assert {pair.query for pair in sides[0].pairs}.isdisjoint(pair.query for pair in sides[2].pairs)
    assert pairs.of("train", "held", "test").pairs == pairs.pairs
    assert pairs.lists().tolist() == [number // 3 for number in range(60)]


def test_a_draw_has_whole_queries_and_is_the_same_again() -> None:
    pairs = made(*(f"query {number % 10}" for number in range(60)))
    drawn = pairs.some(20)
    assert len(drawn) == 24  # six pairs a query
    assert set(Counter(pair.query for pair in drawn.pairs).values()) == {6}
    assert drawn.pairs == pairs.some(20).pairs
    assert drawn.pairs != pairs.some(20, seed=1).pairs
    assert pairs.some(1_000).pairs == pairs.pairs
    assert len(pairs.some(0)) == 0


def test_pairs_are_named_by_what_they_are() -> None:
    pairs = made("a", "b")
    assert pairs.digest() == made("a", "b").digest()
    assert len({pairs.digest(), made("b", "a").digest(), made("a").digest(), pairs.at([1, 0]).digest()}) == 4
    assert TrainingPairs(pairs.pairs, pairs.targets + 0.1).digest() != pairs.digest()
