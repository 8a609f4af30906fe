"""Ways in which the store on Redis once claimed, or hid, that nothing was durable."""

from collections.abc import Callable
from typing import Any

import pytest

from headrace import StoreUnavailable
from headrace.streams import redis_generations, redis_store
from headrace.streams.keys import Keys
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import StateBounds
from headrace.streams.writes import TextWrite

KEYS = Keys("breaks", "g1")


def test_a_store_with_one_of_its_two_connections_takes_no_mark(valkey: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Wire] = []

    def second_fails(url: str, timeout_s: float) -> Wire:
        if opened:
            raise StoreUnavailable("max number of clients reached")
        opened.append(Wire(url, timeout_s))
        return opened[0]

    store = RedisStore(KEYS, StateBounds(), RedisSettings(url=valkey.url))
    monkeypatch.setattr(redis_store, "Wire", second_fails)
    with pytest.raises(StoreUnavailable, match="max number"):
        store.connect()
    for use in (lambda: store.apply([TextWrite(1, "x")]), store.mark, store.settled):
        with pytest.raises(StoreUnavailable, match="connect first"):
            use()
    with pytest.raises(StoreUnavailable, match="lost"):
        opened[0].call([("PING",)])


def test_replicas_that_are_not_there_are_said(valkey: Any) -> None:
    settings = RedisSettings(url=valkey.url, durability="replicas", replicas=2, timeout_s=1.0)
    store = RedisStore(KEYS, StateBounds(), settings)
    store.connect()
    store.apply([TextWrite(2, "x")])
    store.mark()
    with pytest.raises(StoreUnavailable, match="0 of 2 replicas"):
        settle(store.settled)
    store.close()


def settle(settled: Callable[[int], int]) -> None:
    for _ in range(3):
        settled(2_000)


def test_what_a_worker_writes_while_its_generation_is_dropped_goes_too(
    valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = RedisSettings(url=valkey.url, durability="memory")
    store = RedisStore(Keys("breaks", "g2"), StateBounds(), settings)
    store.connect()
    store.apply([TextWrite(number, "x") for number in range(10)])
    late = [TextWrite(11, "y"), TextWrite(12, "z")]
    monkeypatch.setattr(redis_generations, "sleep", lambda _: store.apply([late.pop()]) if late else None)
    told: list[int] = []
    with Generations(settings, "breaks") as generations:
        assert generations.drop("g2", told.append) == 12
    assert told[-3:] == [10, 11, 12]  # a scan of other tests' keys may find the first ten in two steps
    assert not store.facts().texts
    store.close()


@pytest.mark.parametrize("question", ["protocol=3", "protocol=2&db=0"])
def test_a_url_does_not_change_how_answers_are_read(valkey: Any, question: str) -> None:
    wire = Wire(f"{valkey.url}?{question}")
    assert wire.call([("CONFIG", "GET", "appendonly")]) == [[b"appendonly", b"yes"]]
    wire.close()
