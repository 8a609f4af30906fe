"""Ways in which the state, the dead letters or the connection once broke a promise."""

from typing import Any, cast

import pytest

from headrace import BadEvent, StoreUnavailable
from headrace.streams import rejections, searches
from headrace.streams.dump import EdgeFact, Facts, dump
from headrace.streams.events import Impression, Query
from headrace.streams.generations import Generation, Recipe
from headrace.streams.ingestion import Record
from headrace.streams.redis_wire import Wire
from headrace.streams.rejections import Rejections
from headrace.streams.searches import Entry, Shopper, StateBounds, fold
from headrace.streams.topics import Source
from headrace.streams.watch import Watch

DAY = 20_000


class _Sent:
    def get(self, timeout: float) -> None:
        """Kafka has it."""


class _Producer:
    """Refuses what kafka-python's producer refuses."""

    def __init__(self, **_: object) -> None:
        self.sent: list[tuple[bytes | None, bytes | None]] = []

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]) -> _Sent:
        if value is None and key is None:
            raise ValueError("Need at least one: key or value")
        self.sent.append((key, value))
        return _Sent()

    def flush(self, timeout: float) -> None:
        """Nothing waits."""


@pytest.mark.parametrize(
    ("key", "value", "there"),
    [(None, None, (None, b"")), (b"k", None, (b"k", None)), (None, b"v", (None, b"v")), (b"", None, (b"", None))],
)
def test_a_record_of_nothing_at_all_becomes_a_letter(
    monkeypatch: pytest.MonkeyPatch, key: bytes | None, value: bytes | None, there: tuple[bytes | None, bytes | None]
) -> None:
    producer = _Producer()
    monkeypatch.setattr(rejections, "KafkaProducer", lambda **_: producer)
    Rejections("127.0.0.1:1", "t")([(Record(0, 7, key, value, 1), BadEvent("", "empty"))])
    assert producer.sent == [there]


def test_the_producer_refuses_a_record_of_nothing_at_all() -> None:
    """The premise of the test above, as long as the client says so."""
    from kafka import KafkaProducer

    with pytest.raises((ValueError, AssertionError)):
        KafkaProducer.send(_Closed(), "t", value=None, key=None, headers=[])


class _Closed:
    _closed = False
    config: dict[str, Any] = {"api_version": (2, 8)}


def test_many_kept_increments_are_repeated_each_by_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    at_ms, count = DAY * 86_400_000, 600
    entries = [Entry(0, at_ms, Query("e", "c", "q", at_ms, "shoe"))]
    entries += [Entry(n, at_ms, Impression(f"e{n}", "c", "q", at_ms, (f"i{n}",), (1,))) for n in range(1, count)]
    shopper = Shopper(searches=[], kept=[])
    first = fold(shopper, entries, 0, StateBounds())
    looks, plain = [0], searches._offset

    def counted(kept: searches.Kept) -> int:
        looks[0] += 1
        return plain(kept)

    monkeypatch.setattr(searches, "_offset", counted)
    again = fold(shopper, entries, 0, StateBounds())
    assert again.increments == first.increments
    assert looks[0] <= count * 11  # log2 of as many as are kept; one after the other it would be 180,000


def test_a_capped_query_out_of_the_window_is_in_no_dump() -> None:
    """Redis forgets its key some time after the window; a rebuild beside it, or the fold in memory, has it still."""
    bounds = StateBounds(window_days=30)
    facts = Facts(edges=[EdgeFact(1, "a", ((DAY, 3, 0),), True), EdgeFact(1, "b", ((DAY - 40, 3, 0),), True)])
    assert dump(facts, DAY + 29, bounds) == b"query 0000000000000001 capped\n"
    assert dump(facts, DAY + 30, bounds) == dump(Facts(), DAY + 30, bounds) == b""


@pytest.mark.parametrize(
    "url",
    ["localhost:6379", "redis://127.0.0.1:abc", "redis://:se/cret@127.0.0.1:1", "redis://127.0.0.1:1/?nonsense=1"],
)
def test_a_url_that_cannot_be_read_is_one_sentence_without_the_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="URL cannot be read") as caught:
        Wire(url)
    assert "cret" not in str(caught.value) and "'se" not in str(caught.value)


class _Moving:
    """Fails in a way nobody thought of, then names another generation."""

    def __init__(self) -> None:
        self.looks = 0

    def current(self) -> str:
        self.looks += 1
        if self.looks == 1:
            raise RuntimeError("a bug of a client")
        return "g2"

    def close(self) -> None:
        """Nothing is open."""


def test_the_watch_goes_on_after_what_nobody_thought_of() -> None:
    generation = Generation("g1", Recipe(), Source("t", "c", "i", 1), (0,), False, 0, "ready")
    watch = Watch(cast(Any, _Moving()), generation, "127.0.0.1:1", period_s=0.01)
    watch.start()
    watch.join(timeout=10.0)
    assert watch.moved_to == "g2"


def test_items_that_met_their_bound_in_either_state_are_left_out_of_a_comparison() -> None:
    rows = ((DAY, 60, 3),)
    whole = Facts(copies=[EdgeFact(1, "a", rows, False), EdgeFact(2, "b", rows, False)])
    cut = Facts(copies=[EdgeFact(2, "b", rows, False)], capped_items={"a"})
    bounds = StateBounds()
    assert dump(whole, DAY, bounds) != dump(cut, DAY, bounds)
    capped = whole.capped_items | cut.capped_items
    assert dump(whole, DAY, bounds, capped) == dump(cut, DAY, bounds, capped)
    assert b'item "b"' in dump(whole, DAY, bounds, capped)
