"""Features never wait for Kafka and are never lost in silence."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from headrace import StoreUnavailable
from headrace.online import outbox
from headrace.online.outbox import KafkaFeatureLog
from headrace.streams.feature_log import Served


def served(number: int) -> Served:
    return Served(f"r{number}", "c", "q", 5, 1, ("a",), b"\0\0", 1, b"\0\0\0\0", "v")


class Future:
    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def add_callback(self, call: Callable[[object], None]) -> None:
        if self.error is None:
            call(None)

    def add_errback(self, call: Callable[[object], None]) -> None:
        if self.error is not None:
            call(self.error)


class Producer:
    """Takes every record but those a test forbids."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.sent: list[Any] = []
        self.closed = False

    def send(self, topic: str, key: bytes, value: bytes, timestamp_ms: int) -> Future:
        self.began.set()
        assert self.go.wait(10)
        if len(self.sent) == 1:
            self.sent.append(None)
            raise ValueError("refused")
        self.sent.append((topic, key, timestamp_ms))
        return Future(ValueError("lost") if len(self.sent) == 3 else None)

    def close(self, timeout: float) -> None:
        self.closed = True


def test_every_record_is_counted_whatever_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    producer, counts = Producer(), Counter[str]()
    monkeypatch.setattr(outbox, "new_producer", lambda *_, **__: producer)
    kept = KafkaFeatureLog("x:1", "features", lambda result: counts.update([result]), buffer=3)
    assert kept.offer(served(0))
    assert producer.began.wait(5)
    offered = [kept.offer(served(number)) for number in range(1, 6)]
    assert offered == [True, True, True, False, False]
    producer.go.set()
    kept.close()
    assert producer.closed
    assert producer.sent[0] == ("features", b"c", 5)
    assert counts == {"sent": 2, "failed": 2, "dropped": 2}


def test_a_broker_that_is_away_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    counts = Counter[str]()
    monkeypatch.setattr(outbox, "new_producer", away)
    kept = KafkaFeatureLog("x:1", "features", lambda result: counts.update([result]), buffer=2)
    accepted = sum(kept.offer(served(number)) for number in range(50))
    kept.close()
    assert counts["failed"] == accepted
    assert counts["dropped"] == 50 - accepted
