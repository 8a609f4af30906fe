from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headrace.local.child import free_port
from headrace.streams.consumer_meters import ConsumerMeters, Stall, serve_meters


def test_a_partition_stalls_when_records_wait_and_nothing_moves() -> None:
    stall = Stall(10)
    assert stall.look(0, {0: 5, 1: 5}, {0: 9, 1: 5}) == []
    assert stall.look(10, {0: 5, 1: 5}, {0: 9, 1: 5}) == []
    assert stall.look(10.5, {0: 5, 1: 5}, {0: 9, 1: 5}) == [0]
    assert stall.look(11, {0: 6, 1: 5}, {0: 9, 1: 5}) == [], "it moved"
    assert stall.look(21.5, {0: 6, 1: 5}, {0: 9, 1: 5}) == [0]


def test_waiting_begins_when_the_first_record_waits() -> None:
    stall = Stall(10)
    assert stall.look(0, {0: 5}, {0: 5}) == []
    assert stall.look(100, {0: 5}, {0: 5}) == []
    assert stall.look(101, {0: 5}, {0: 6}) == []
    assert stall.look(109, {0: 5}, {0: 6}) == []
    assert stall.look(111, {0: 5}, {0: 6}) == [0]


def test_a_partition_that_left_is_forgotten() -> None:
    stall = Stall(10)
    stall.look(0, {0: 5}, {0: 9})
    stall.look(5, {}, {})
    assert stall.look(12, {0: 5}, {0: 9}) == []


@dataclass
class Seen:
    outcomes: Counter[str] = field(default_factory=Counter)
    committed: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    ages_ms: deque[int] = field(default_factory=deque)
    store_away: str = ""


def shown(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_outcomes_lag_and_ages_are_shown() -> None:
    registry = CollectorRegistry()
    meters = ConsumerMeters(registry, "events", 60)
    outcomes = Counter({"applied": 5, "repeated": 2, "duplicate": 1, "late": 2, "bad.future": 1})
    meters(Seen(outcomes, {0: 4, 1: 7}, {0: 10, 1: 7}, deque([20, 700]), "gone"))
    text = shown(registry)
    for line in (
        'headrace_events_consumed_total{result="applied",topic="events"} 5.0',
        'headrace_events_consumed_total{result="bad",topic="events"} 1.0',
        'headrace_events_dlq_total{reason="future"} 1.0',
        "headrace_events_deduplicated_total 3.0",
        "headrace_events_late_total 2.0",
        'headrace_consumer_lag_messages{partition="0",topic="events"} 6.0',
        'headrace_consumer_lag_messages{partition="1",topic="events"} 0.0',
        'headrace_feature_freshness_seconds_count{kind="state"} 2.0',
        "headrace_store_away 1.0",
    ):
        assert line in text


def test_what_a_second_driver_counts_is_added() -> None:
    registry = CollectorRegistry()
    meters = ConsumerMeters(registry, "events", 60)
    for driver in (Seen(Counter(applied=5), {0: 1}), Seen(Counter(applied=3), {1: 1})):
        meters._next_s = 0.0
        meters(driver)
    text = shown(registry)
    assert 'result="applied",topic="events"} 8.0' in text
    assert 'messages{partition="0"' not in text, "a partition that left shows no lag"
    assert 'messages{partition="1"' in text


@pytest.mark.parametrize(("why", "code"), [("", 200), ("partitions [1] stand still", 503)])
def test_liveness_answers_with_the_reason(why: str, code: int) -> None:
    port = free_port()
    end = serve_meters(CollectorRegistry(), lambda: why, port)
    try:
        with urlopen(f"http://127.0.0.1:{port}/livez") as answer:
            found, body = answer.status, answer.read()
    except HTTPError as error:
        with error:
            found, body = error.code, error.read()
    finally:
        end()
    assert found == code
    assert why.encode() in body
