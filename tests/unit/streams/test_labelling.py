"""What a labelling worker makes of the group's calls, without a broker."""

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from headrace.streams.labelling import LabellingSettings, LabelWorker, label_group
from headrace.streams.topics import Source
from label_worker import HashTeacher

PAIRS, LABELS = Source("pairs", "c", "t1", 2), Source("labels", "c", "t2", 2)


class QuietConsumer:
    """A consumer of an empty topic."""

    def pause(self, *places: Any) -> None: ...
    def resume(self, *places: Any) -> None: ...
    def seek(self, place: Any, offset: int) -> None: ...

    def beginning_offsets(self, places: Iterable[Any]) -> dict[Any, int]:
        return dict.fromkeys(places, 0)

    end_offsets = beginning_offsets

    def committed(self, place: Any) -> None:
        return None


def test_what_was_learned_before_somebody_else_had_the_partition_is_learned_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = LabellingSettings("127.0.0.1:1", PAIRS, LABELS)
    worker = LabelWorker(settings, HashTeacher(), lambda rejected: None, lambda: True)
    may_end, learned = threading.Event(), []

    def learn(partitions: Iterable[int]) -> None:
        learned.append(set(partitions))
        assert may_end.wait(10)

    monkeypatch.setattr(worker, "_consumer", QuietConsumer())
    monkeypatch.setattr(worker._labels, "learn", learn)
    worker.assigned(frozenset({0, 1}))
    worker._step(begin=True)
    worker.assigned(frozenset())  # another worker has them, and labels
    worker.assigned(frozenset({0, 1}))
    for turn in (1, 2):
        may_end.set()
        assert worker._work is not None
        worker._work.result(10)
        worker._collect()
        assert bool(worker.committed) == (turn == 2), "it began with what it knew from before"
        if turn == 1:
            worker._step(begin=True)
    assert learned == [{0, 1}, {0, 1}]
    worker._thread.shutdown()


def test_each_teacher_prompt_and_topic_has_a_group_of_its_own() -> None:
    groups = {
        label_group(pairs, labels, teacher)
        for pairs in (PAIRS, Source("pairs", "c", "t9", 2))
        for labels in (LABELS, Source("labels", "c", "t8", 2))
        for teacher in (HashTeacher(), HashTeacher("b"), HashTeacher("hash", "p2"))
    }
    assert len(groups) == 12
    assert all(group.startswith("headrace.label.pairs.") for group in groups)
