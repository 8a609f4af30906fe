"""Labels in a file: gone on with after a kill, each once; and what is no pair stops nothing."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.models.prompts import Pair
from headrace.streams.label_files import FileCounts, LabelFile, label_file, labels_of
from headrace.streams.pairs import encode, pair_of
from label_worker import HashTeacher

PAIRS = [pair_of(f"q {number // 4}", f"i{number}", f"title {number}") for number in range(25)]


class Dead(Exception):
    """Stands for a kill."""


class DyingTeacher(HashTeacher):
    """Dies at the n-th batch."""

    batches = 0
    last = 2

    def logits(self, pairs: Sequence[Pair], /) -> NDArray[np.float64]:
        self.batches += 1
        if self.batches == self.last:
            raise Dead
        return super().logits(pairs)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"".join(encode(pair) + b"\n" for pair in PAIRS))
    return path


def run(pairs: Path, out: Path, teacher: HashTeacher, batch: int = 4) -> FileCounts:
    told: list[tuple[int, int]] = []
    with LabelFile(out, teacher) as into:
        counts = label_file(pairs, into, teacher, batch, lambda: False, lambda done, total: told.append((done, total)))
    assert not told or (told[-1][0] <= told[-1][1] == counts.lines)
    return counts


def each_once(out: Path) -> bool:
    return Counter(label.pair_id for label in labels_of(out)) == Counter({pair.pair_id: 1 for pair in PAIRS})


@pytest.mark.parametrize("half", [b"", b'{"pair_id":"', b'{"pair_id":"' + b"x" * 200_000, b"{"])
def test_a_run_that_was_killed_goes_on_and_labels_nothing_twice(pairs: Path, tmp_path: Path, half: bytes) -> None:
    out = tmp_path / "labels.jsonl"
    for death in (3, 2, 1):
        teacher = DyingTeacher()
        teacher.last = death
        with pytest.raises(Dead):
            run(pairs, out, teacher)
        with out.open("ab") as file:
            file.write(half)
    assert run(pairs, out, HashTeacher()) == FileCounts(25, labelled=25 - 12, passed=12)
    assert each_once(out)
    before = out.read_bytes()
    assert run(pairs, out, HashTeacher()) == FileCounts(25, passed=25)
    assert out.read_bytes() == before


def test_labels_are_what_the_teacher_says(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    run(pairs, out, HashTeacher(), batch=7)
    labels = list(labels_of(out))
    said = HashTeacher().logits([Pair(label.query, label.title) for label in labels])
    assert [label.logit for label in labels] == said.tolist()
    assert [label.probability for label in labels] == pytest.approx(1 / (1 + np.exp(-said)))


def test_another_teacher_or_prompt_labels_the_same_pairs_into_the_same_file(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    for teacher in (HashTeacher(), HashTeacher("other"), HashTeacher("hash", "p2")):
        assert run(pairs, out, teacher).labelled == 25
    assert len(list(labels_of(out))) == 75


def test_lines_that_are_no_pairs_and_pairs_that_come_again_stop_nothing(pairs: Path, tmp_path: Path) -> None:
    nan = pair_of("q", "i", "a title of NaN")
    with pairs.open("ab") as file:
        file.write(b"{}\n\n" + encode(PAIRS[0]) + b"\n" + encode(nan) + b"\n" + b"x" * 300_000 + b"\n")
    out = tmp_path / "labels.jsonl"
    counts = run(pairs, out, HashTeacher())
    assert (counts.lines, counts.labelled, counts.passed, counts.rejected, counts.done) == (29, 25, 1, 3, 29)
    found = sorted((number, error.reason) for number, error in counts.faults)
    assert found == [(26, "missing"), (29, "out_of_range"), (30, "too_large")]
    assert each_once(out)


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    with LabelFile(out, HashTeacher()), pytest.raises(ValueError, match="another process"):
        LabelFile(out, HashTeacher())
    with LabelFile(out, HashTeacher()):
        pass


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "notes.txt"
    for notes in ("my notes\n", "my notes"):
        out.write_text(notes)
        with pytest.raises(ValueError, match=r"notes\.txt.* no label"):
            LabelFile(out, HashTeacher())
        assert out.read_text() == notes


def test_a_run_that_is_told_to_stop_stops_between_two_batches(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.jsonl"
    with LabelFile(out, HashTeacher()) as into:
        counts = label_file(pairs, into, HashTeacher(), 4, lambda: len(into.labelled) > 8, lambda done, total: None)
    assert counts.labelled == len(list(labels_of(out))) == 8
