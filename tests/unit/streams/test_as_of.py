"""A query and a shopper as of fences, by small logs; that it equals what was served is in tests/laws/test_skew.py."""

from headrace.streams import neighbours
from headrace.streams.as_of import Past
from headrace.streams.events import Click, Impression, Query, ShopperEvent, encode
from headrace.streams.identity import DAY_MS
from headrace.streams.ingestion import Record
from headrace.streams.searches import query_of
from headrace.streams.sequences import RECORD_BYTES
from shopping_logs import LIMITS, SMALL, START_MS, source

SHOE = query_of("shoe")[0]
TOKEN = source(1).tokens[0]
DAY = START_MS // DAY_MS


def log(*events: ShopperEvent) -> list[Record]:
    return [Record(0, at, one.client_id.encode(), encode(one), one.at_ms) for at, one in enumerate(events)]


EVENTS = log(
    Query("e0", "shopper-0", "q", START_MS, "shoe"),
    Impression("e1", "shopper-0", "q", START_MS + 1, ("a", "b"), (1, 2)),
    Click("e2", "shopper-0", "q", START_MS + 2, "a", None),
    Click("e3", "shopper-0", "q", START_MS + 3, "b", None),
)


def past(*fences: int) -> Past:
    found = Past(source(1), SMALL, LIMITS, {"shopper-0": fences}, [SHOE])
    found.take(EVENTS)
    return found


def counts(found: Past, fence: int) -> dict[str, list[neighbours.Row]]:
    query = found.query(SHOE, {TOKEN: fence})
    assert query is not None and not query.capped
    return {item: neighbours.unpack_edge(edge) for item, edge in query.edges.items()}


def test_a_querys_edges_are_those_of_its_fence_in_whatever_order_they_are_asked_for() -> None:
    found = past()
    for _ in range(2):
        assert counts(found, 3) == {"a": [(DAY, 1, 1)], "b": [(DAY, 1, 1)]}
        assert counts(found, 1) == {"a": [(DAY, 1, 0)], "b": [(DAY, 1, 0)]}
        assert counts(found, 2) == {"a": [(DAY, 1, 1)], "b": [(DAY, 1, 0)]}


def test_a_fence_without_an_increment_is_none_of_this_log() -> None:
    found = past()
    assert found.query(SHOE, {TOKEN: 0}) is None  # a search alone counts nothing
    assert found.query(SHOE, {TOKEN: 4}) is None
    assert found.query(SHOE, {b"elsewhere": 1}) is None
    nothing = found.query(SHOE, {})
    assert nothing is not None and nothing.edges == {}


def test_a_shopper_is_what_it_was_at_its_fence() -> None:
    found = past(0, 2, 7)
    first, third = found.shopper("shopper-0", 0), found.shopper("shopper-0", 2)
    assert first is not None and third is not None
    assert len(first.log) == RECORD_BYTES
    assert len(third.log) == 2 * RECORD_BYTES  # an impression is no record of the sequence
    assert third.log.startswith(first.log)
    assert found.shopper("shopper-0", 7) is None
    assert found.shopper("shopper-1", 0) is None


def test_what_had_happened_by_a_time_holds_what_was_seen_and_what_was_not_later() -> None:
    found = past(2)
    assert len(found.happened("shopper-0", 1, START_MS + 2)) == 2 * RECORD_BYTES
    assert len(found.happened("shopper-0", 1, START_MS + 3)) == 3 * RECORD_BYTES
    assert len(found.happened("shopper-0", 2, START_MS)) == 2 * RECORD_BYTES  # seen, though from ahead of the time
