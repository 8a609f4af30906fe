"""Computed scores never wait for Redis, and each one is counted whatever became of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from headrace import StoreUnavailable
from headrace.online import score_writer
from headrace.online.score_writer import Made, NoScoreWriter, RedisScoreWriter
from headrace.streams.redis_scores import Score, ScoreCache

PART = b"studentA"


class Cache:
    """Takes what a test lets it."""

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.kept: list[tuple[int, bytes, list[Score], str]] = []
        self.faults: list[Exception] = []
        self.room = True
        self.closed = False

    def put(self, query: int, scores: Sequence[Score], part: bytes, source: str) -> int:
        self.began.set()
        assert self.go.wait(10)
        if self.faults:
            raise self.faults.pop()
        if not self.room:
            return 0
        self.kept.append((query, part, list(scores), source))
        return len(scores)

    def close(self) -> None:
        self.closed = True


def made(query: int, item: str, neighbours: int = 0) -> Made:
    return Made(query, PART, item, 7, 0.5, neighbours)


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def start(counts: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Cache, RedisScoreWriter]]:
    monkeypatch.setattr(score_writer, "REST_S", 0.01)

    def start(**more: Any) -> tuple[Cache, RedisScoreWriter]:
        cache = Cache()
        return cache, RedisScoreWriter(cast(ScoreCache, cache), lambda how, n: counts.update({how: n}), **more)

    return start


Start = Callable[..., tuple[Cache, RedisScoreWriter]]


def test_scores_of_one_query_go_out_together(start: Start, counts: Counter[str]) -> None:
    cache, writer = start()
    cache.go.set()
    for query, item, neighbours in ((1, "a", 0), (2, "a", 0), (1, "b", 9)):
        assert writer.offer(made(query, item, neighbours))
    writer.close()
    assert cache.kept == [
        (1, PART, [("a", 7, 0.5, 0), ("b", 7, 0.5, 9)], "student"),
        (2, PART, [("a", 7, 0.5, 0)], "student"),
    ]
    assert cache.closed
    assert counts == {"sent": 3}


def test_what_does_not_fit_is_dropped_and_counted(start: Start, counts: Counter[str]) -> None:
    cache, writer = start(buffer=2)
    writer.offer(made(1, "a"))
    assert cache.began.wait(5)  # it is out of the buffer
    assert [writer.offer(made(2, item)) for item in "abcd"] == [True, True, False, False]
    cache.go.set()
    writer.close()
    assert counts == {"sent": 3, "dropped": 2}


def test_a_redis_that_is_away_costs_its_scores_and_nothing_else(start: Start, counts: Counter[str]) -> None:
    cache, writer = start()
    cache.faults = [StoreUnavailable("gone")]
    cache.go.set()
    writer.offer(made(1, "a"))
    until_s = time.monotonic() + 5
    while not counts and time.monotonic() < until_s:
        time.sleep(0.005)
    writer.offer(made(2, "b"))
    writer.close()
    assert counts == {"failed": 1, "sent": 1}


def test_a_redis_without_room_is_told_from_one_that_is_away(start: Start, counts: Counter[str]) -> None:
    cache, writer = start()
    cache.room = False
    cache.go.set()
    writer.offer(made(1, "a"))
    writer.close()
    assert counts == {"no_room": 1}


def test_a_worker_may_keep_its_scores_to_itself() -> None:
    writer = NoScoreWriter()
    assert not writer.offer(made(1, "a"))
    writer.close()
