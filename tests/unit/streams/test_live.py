"""What the live driver makes of what faust delivers: order and completeness do not rest on it."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, OffsetOutOfRangeError

from headrace import SourceChanged
from headrace.streams import live
from headrace.streams.generations import Generation, Recipe
from headrace.streams.ingestion import Ingestion, Record, Rejected, Source
from headrace.streams.live import LiveDriver, LiveSettings
from headrace.streams.searches import StateBounds
from headrace.streams.store import MemoryStore
from headrace.streams.topics import Source as Log

LOG = Log("events", "cluster", "id", 2)
GENERATION = Generation("g1", Recipe(), LOG, (0, 0), False, 0, "ready")


@pytest.fixture
def driver() -> LiveDriver:
    rejected: list[Rejected] = []
    source = Source("events", (b"0" * 8, b"1" * 8), lambda _: 0)
    ingestion = Ingestion(MemoryStore(), source, StateBounds(), Recipe().limits, rejected.extend)
    made = LiveDriver(LiveSettings("127.0.0.1:1", "test"), GENERATION, ingestion, stop=lambda: True)
    made._next = {0: 10, 1: 5}
    return made


def records(partition: int, *offsets: int) -> list[Record]:
    return [Record(partition, offset, b"k", b"v", 0) for offset in offsets]


def test_what_comes_next_is_taken(driver: LiveDriver) -> None:
    coming = [*records(0, 10, 11), *records(1, 5), *records(0, 12)]
    assert driver._following(coming) == coming
    assert driver._next == {0: 13, 1: 6}


def test_what_came_before_and_what_is_another_workers_is_left_out(driver: LiveDriver) -> None:
    assert driver._following([*records(0, 8, 9, 10), *records(7, 1)]) == records(0, 10)
    assert driver._following(records(0, 8, 9, 10)) == []
    assert driver._next == {0: 11, 1: 5}


def test_nothing_is_taken_when_something_is_missing(driver: LiveDriver) -> None:
    assert driver._following([*records(1, 5), *records(0, 10, 12)]) is None
    assert driver._next == {0: 10, 1: 5}


def test_what_is_missing_is_read_by_hand_and_stands_in_its_place(
    driver: LiveDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def replay(bootstrap: str, topic: str, stretch: Mapping[int, tuple[int, int]]) -> Iterator[list[Record]]:
        asked.append((topic, dict(stretch)))
        ((partition, (begin, end)),) = stretch.items()
        for offset in range(begin, end):
            yield records(partition, offset)

    monkeypatch.setattr(live, "replay", replay)
    monkeypatch.setattr(live, "source_of", lambda *_: LOG)
    coming = [*records(0, 9, 10, 13, 14), *records(1, 5)]
    assert driver._mended(coming) == [*records(0, 10, 11, 12, 13, 14), *records(1, 5)]
    assert asked == [("events", {0: (11, 13)})]
    assert driver._next == {0: 15, 1: 6}
    assert driver.mended == 2


def test_places_without_records_are_passed_over(driver: LiveDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "replay", lambda *_: iter(()))
    monkeypatch.setattr(live, "source_of", lambda *_: LOG)
    assert driver._mended(records(0, 12)) == records(0, 12)
    assert driver._next[0] == 13
    assert driver.mended == 0


def test_a_gap_in_another_topic_of_that_name_is_not_filled(driver: LiveDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "source_of", lambda *_: Log("events", "cluster", "another id", 2))
    with pytest.raises(SourceChanged, match="headrace rebuild"):
        driver._mended(records(0, 12))


def test_a_transactions_end_behind_records_that_faust_kept_is_committed_in_its_turn(
    driver: LiveDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replay(bootstrap: str, topic: str, stretch: Mapping[int, tuple[int, int]]) -> Iterator[list[Record]]:
        ((partition, (begin, end)),) = stretch.items()
        yield records(partition, *range(begin, min(end, 12)))  # 10 and 11 are records, 12 is the end of a transaction

    monkeypatch.setattr(live, "replay", replay)
    monkeypatch.setattr(live, "source_of", lambda *_: LOG)
    driver.ends, driver.committed = {0: 13, 1: 5}, {0: 10, 1: 5}
    quiet_s = driver._taken_s + 60
    assert asyncio.run(driver._behind_markers(quiet_s)) == {}
    assert driver._next == {0: 12, 1: 5} and driver.mended == 2
    assert driver._ingestion.advance() and not driver._ingestion.pending
    driver.committed[0] = 12
    assert asyncio.run(driver._behind_markers(quiet_s + 60)) == {0: 13}
    # Kafka did not take it: it is due again, until it is committed
    assert asyncio.run(driver._behind_markers(quiet_s + 120)) == {0: 13}
    driver.committed[0] = 13
    assert asyncio.run(driver._behind_markers(quiet_s + 180)) == {}


@pytest.mark.parametrize(
    ("log", "extent", "said"),
    [
        (Log("events", "cluster", "another id", 2), {0: (0, 99), 1: (0, 99)}, "deleted and made again"),
        (LOG, {0: (11, 99), 1: (0, 99)}, "gone before they were read"),
        (LOG, {0: (0, 99), 1: (0, 4)}, "it was cut"),
    ],
)
def test_a_log_that_changed_is_named_as_the_reason_why_faust_gave_up(
    driver: LiveDriver, monkeypatch: pytest.MonkeyPatch, log: Log, extent: dict[int, tuple[int, int]], said: str
) -> None:
    monkeypatch.setattr(live, "source_of", lambda *_: log)
    monkeypatch.setattr(live, "log_extent", lambda *_: extent)
    cause = driver._cause(OffsetOutOfRangeError())
    assert isinstance(cause, SourceChanged) and said in str(cause)


def test_any_other_reason_why_faust_gave_up_stands_as_it_is(
    driver: LiveDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = RuntimeError("a bug")
    monkeypatch.setattr(live, "source_of", lambda *_: LOG)
    monkeypatch.setattr(live, "log_extent", lambda *_: {0: (0, 99), 1: (0, 99)})
    assert driver._cause(crash) is crash

    def away(*_: object) -> Log:
        raise KafkaTimeoutError

    monkeypatch.setattr(live, "source_of", away)
    assert driver._cause(crash) is crash
