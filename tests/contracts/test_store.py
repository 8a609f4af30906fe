"""The promise of ``streams.store``, held by every implementation of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.streams import item_copies, neighbours
from headrace.streams.dump import Facts, dump, newest_day
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.keys import Keys
from headrace.streams.neighbours import Row, pack_edge, unpack_edge
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.searches import Shopper, StateBounds, encode_shopper, prefix
from headrace.streams.store import MemoryStore, Store
from headrace.streams.writes import CountWrite, Edge, EdgeWrite, Increment, ShopperWrite, TextWrite, Write
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source

BOUNDS = StateBounds(floor=2, window_days=4)
NAME = b"0123456789abcdef"
ONE, OTHER = b"source-1", b"source-2"

NewStore = Callable[..., Store]


@pytest.fixture(params=["memory", "redis"])
def new_store(request: pytest.FixtureRequest, namespace: str) -> Iterator[NewStore]:
    """A factory of empty, connected stores: ``new_store(bounds)``."""
    opened: list[RedisStore] = []

    def memory(bounds: StateBounds = BOUNDS) -> Store:
        return MemoryStore(bounds)

    def redis(bounds: StateBounds = BOUNDS) -> Store:
        keys = Keys(namespace, f"g{len(opened)}")
        store = RedisStore(keys, bounds, RedisSettings(valkey.socket_url, durability="memory"))
        store.connect()
        opened.append(store)
        return store

    if request.param == "memory":
        yield memory
        return
    valkey: Any = request.getfixturevalue("valkey")
    yield redis
    for store in opened:
        store.close()


def count(store: Store, *increments: tuple[int, int, int, int, str], query: int = 7, source: bytes = ONE) -> list[Edge]:
    """One call: increments are (offset, day, E, C, items as one text)."""
    made = tuple(Increment(offset, day, e, c, tuple(items.split())) for offset, day, e, c, items in increments)
    reply = store.apply([CountWrite(query, source, made)])[0]
    assert isinstance(reply, list)
    return reply


def rows(store: Store, item: str = "a", query: int = 7) -> list[Row]:
    """What is stored of an edge; empty when it is not there."""
    return next((list(one.rows) for one in store.facts().edges if (one.query, one.item_id) == (query, item)), [])


def copy(store: Store, item: str = "a", query: int = 7) -> list[Row]:
    """An item's copy of an edge; empty when it is not there."""
    return next((list(one.rows) for one in store.facts().copies if (one.query, one.item_id) == (query, item)), [])


# --- counts and their fences -----------------------------------------------------------------------------------------


def test_an_increment_counts_above_its_fence_only(new_store: NewStore) -> None:
    store = new_store()
    count(store, (5, 1, 1, 0, "a"))
    for offset in (5, 4, 0):
        count(store, (offset, 1, 1, 1, "a"))
    assert rows(store) == [(1, 1, 0)]
    count(store, (6, 1, 0, 1, "a"))
    assert rows(store) == [(1, 1, 1)]


def test_offset_0_counts_and_counts_once(new_store: NewStore) -> None:
    store = new_store()
    count(store, (0, 1, 1, 0, "a"))
    count(store, (0, 1, 1, 0, "a"))
    assert rows(store) == [(1, 1, 0)]


def test_two_increments_at_one_offset_both_count(new_store: NewStore) -> None:
    store = new_store()
    count(store, (5, 1, 1, 0, "a b"), (5, 1, 0, 1, "a"))
    assert (rows(store), rows(store, "b")) == ([(1, 1, 1)], [(1, 1, 0)])


def test_the_fence_is_the_one_from_before_the_call(new_store: NewStore) -> None:
    store = new_store()
    count(store, (4, 1, 1, 0, "a"))
    count(store, (3, 1, 1, 0, "a"), (4, 1, 1, 0, "a"), (5, 1, 1, 0, "a"), (5, 1, 0, 1, "a"), (9, 1, 1, 0, "a"))
    assert rows(store) == [(1, 3, 1)]
    count(store, (9, 1, 1, 0, "a"))
    assert rows(store) == [(1, 3, 1)]


def test_every_source_and_every_query_has_its_own_fence(new_store: NewStore) -> None:
    store = new_store()
    for source_ in (ONE, OTHER, ONE, OTHER):
        count(store, (5, 1, 1, 0, "a"), source=source_)
    count(store, (5, 1, 1, 0, "a"), query=8)
    count(store, (6, 1, 1, 0, "a"), source=OTHER)
    assert (rows(store), rows(store, query=8)) == ([(1, 3, 0)], [(1, 1, 0)])


def test_a_call_without_anything_new_moves_no_fence(new_store: NewStore) -> None:
    store = new_store()
    count(store, (9, 1, 1, 0, "a"))
    count(store, (3, 1, 1, 0, "a"))
    count(store, (9, 1, 1, 0, "a"))
    assert rows(store) == [(1, 1, 0)]


def test_large_offsets_and_days_keep_their_value(new_store: NewStore) -> None:
    store = new_store()
    offset = 2**52
    count(store, (offset, 65_000, 1, 0, "a"))
    count(store, (offset, 65_000, 1, 0, "a"))
    count(store, (offset + 1, 65_000, 1, 1, "a"))
    assert rows(store) == [(65_000, 2, 1)]


def test_a_call_answers_the_edges_that_reach_the_floor(new_store: NewStore) -> None:
    store = new_store()
    assert count(store, (1, 1, 1, 0, "a b")) == []
    assert count(store, (2, 1, 1, 0, "a")) == [("a", pack_edge([(1, 2, 0)]))]
    assert count(store, (3, 2, 0, 1, "a b")) == [("a", pack_edge([(1, 2, 0), (2, 0, 1)]))]


def test_a_repeated_call_answers_the_edges_as_they_are_now(new_store: NewStore) -> None:
    store = new_store()
    count(store, (1, 1, 1, 0, "a b"))
    count(store, (2, 1, 1, 0, "a"))
    edge = ("a", pack_edge([(1, 2, 0)]))
    assert count(store, (1, 1, 1, 0, "a b")) == [edge]
    assert count(store, (1, 1, 1, 0, "b a"), (2, 1, 1, 0, "a")) == [edge]
    assert count(store, (2, 1, 1, 0, "c")) == []


def test_days_are_kept_in_order_within_the_window_before_the_newest(new_store: NewStore) -> None:
    store = new_store()
    for offset, day in enumerate((10, 12, 11, 9, 8, 12, 10)):
        count(store, (offset, day, 1, 0, "a"))
    assert rows(store) == [(9, 1, 0), (10, 2, 0), (11, 1, 0), (12, 2, 0)]  # 8 is out of the window of 4 days
    count(store, (20, 14, 1, 1, "a"))
    assert rows(store) == [(11, 1, 0), (12, 2, 0), (14, 1, 1)]
    count(store, (21, 10, 1, 0, "a"))
    assert rows(store) == [(11, 1, 0), (12, 2, 0), (14, 1, 1)]
    count(store, (22, 13, 0, 1, "a"), (23, 30, 1, 0, "a"))
    assert rows(store) == [(30, 1, 0)]


def test_an_edge_below_the_floor_after_its_window_moved_is_not_answered(new_store: NewStore) -> None:
    store = new_store()
    assert count(store, (1, 1, 1, 0, "a"), (2, 1, 1, 0, "a"))
    assert count(store, (3, 9, 1, 0, "a")) == []


def test_thousands_of_items_in_one_call(new_store: NewStore) -> None:
    store = new_store(replace(BOUNDS, query_items=9_000, floor=1))
    names = [f"item {number} ü€".replace(" ", "-") for number in range(5_000)]
    edges = count(store, (1, 1, 1, 0, " ".join(names)), (2, 1, 0, 1, names[17]))
    assert [name for name, _ in edges] == names
    assert unpack_edge(dict(edges)[names[17]]) == [(1, 1, 1)]
    assert sum(fact.rows[0][1] for fact in store.facts().edges) == 5_000


def test_item_ids_that_look_like_something_else(new_store: NewStore) -> None:
    store = new_store()
    names = ["0", "-1", "0f", "\\0f", "é" * 100, "a:b{c}", "true"]
    for offset in (1, 2):
        edges = count(store, (offset, 1, 1, 0, " ".join(names)))
    assert [name for name, _ in edges] == names
    store.apply([EdgeWrite(name, ((7, edge),)) for name, edge in edges])
    assert {fact.item_id for fact in store.facts().edges} == set(names) == {f.item_id for f in store.facts().copies}


def test_a_query_keeps_a_bounded_number_of_items_and_says_so(new_store: NewStore) -> None:
    bound = 16
    store = new_store(replace(BOUNDS, query_items=bound))
    random, truth = Random(1), dict[tuple[str, int], int]()
    for offset in range(300):
        items = sorted({f"item-{random.randrange(60)}" for _ in range(3)})
        day = random.randrange(20, 24)
        for name, edge in count(store, (offset, day, 1, 0, " ".join(items))):
            assert (
                sum(row[1] for row in unpack_edge(edge))
                <= sum(exposures for (item, _), exposures in truth.items() if item == name) + 1
            )
        for item in items:
            truth[item, day] = truth.get((item, day), 0) + 1
    edges = store.facts().edges
    assert bound <= len(edges) <= bound + bound // 8 + 3
    assert all(fact.capped for fact in edges)
    for fact in edges:
        assert all(exposures <= truth[fact.item_id, day] for day, exposures, _ in fact.rows)


def test_a_query_at_its_bound_is_not_capped(new_store: NewStore) -> None:
    store = new_store(replace(BOUNDS, query_items=3))
    count(store, (1, 1, 1, 0, "a b c"))
    assert not any(fact.capped for fact in store.facts().edges)
    count(store, (2, 1, 1, 0, "d"))
    assert all(fact.capped for fact in store.facts().edges)
    count(store, (3, 1, 1, 0, "a"))
    assert all(fact.capped for fact in store.facts().edges), "once capped, always capped"


# --- copies ----------------------------------------------------------------------------------------------------------


def put(store: Store, *edges: tuple[int, list[Row]], item: str = "a") -> None:
    count(store, (1, 1, 1, 0, item), query=99)  # a copy's name is known from an edge
    store.apply([EdgeWrite(item, tuple((query, pack_edge(rows_)) for query, rows_ in edges))])


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ([(5, 3, 0)], [(5, 4, 0)]),
        ([(5, 3, 0)], [(5, 3, 1)]),  # clicks alone
        ([(5, 9, 9)], [(6, 2, 0)]),  # a new day, though the window took more away than came
        ([(4, 9, 0), (5, 1, 0)], [(6, 2, 0)]),
        ([(5, 3, 0)], [(4, 1, 0), (5, 3, 0)]),  # an older day comes late
    ],
)
def test_only_a_newer_version_replaces_a_copy(new_store: NewStore, older: list[Row], newer: list[Row]) -> None:
    store = new_store()
    for edge, expected in ((older, older), (newer, newer), (older, newer), (newer, newer)):
        put(store, (7, edge))
        assert copy(store) == expected


def test_copies_of_many_queries_stand_side_by_side(new_store: NewStore) -> None:
    store = new_store()
    queries = [1, 2, 0x0100000000000000, 2**64 - 1, 0x0101010101010101, 0x0001010101010101]
    put(store, *((query, [(5, 2, 0), (6, number + 1, 0)]) for number, query in enumerate(queries)))
    put(store, (2, [(7, 3, 1)]), (queries[4], [(5, 1, 0)]))
    assert copy(store, query=2) == [(7, 3, 1)]
    for number, query in enumerate(queries):
        if query != 2:
            assert copy(store, query=query) == [(5, 2, 0), (6, number + 1, 0)]


def test_an_items_copies_are_bounded_in_bytes_and_the_newest_stay(new_store: NewStore) -> None:
    most = 5
    store = new_store(replace(BOUNDS, item_bytes=item_copies.HEAD_BYTES + most * item_copies.ROW_BYTES))
    for query in range(most):
        put(store, (query, [(query + 10, 2, 0)]))
    assert not store.facts().capped_items
    put(store, (50, [(12, 2, 0), (13, 2, 1)]))
    facts = store.facts()
    assert facts.capped_items == {"a"}
    assert sum(len(fact.rows) for fact in facts.copies) <= most
    assert {fact.query for fact in facts.copies} == {2, 3, 4, 50}, "the oldest go first"
    put(store, (51, [(1, 2, 0)]))
    assert store.facts().capped_items == {"a"}, "once capped, always capped"


# --- shoppers --------------------------------------------------------------------------------------------------------


def head(fence: int, clock_ms: int = 0) -> bytes:
    return encode_shopper(Shopper(fence=fence, clock_ms=clock_ms, searches=[], kept=[]))


def shop(store: Store, expected: bytes, new: bytes, records: bytes = b"", replace_: bool = False) -> object:
    return store.apply([ShopperWrite(NAME, prefix(expected), new, records, replace_)])[0]


def test_a_shopper_is_written_only_as_it_was_read(new_store: NewStore) -> None:
    store = new_store()
    one = b"1" * 25
    assert shop(store, head(3), head(4)) is False, "there is nothing yet"
    assert store.read([NAME])[0].head is None
    assert shop(store, b"", head(3), one) is True
    for expected in (b"", head(2), head(4)):
        assert shop(store, expected, head(9), b"2" * 25) is False
    assert (store.read([NAME], logs=True)[0].head, store.read([NAME], logs=True)[0].log) == (head(3), one)
    assert shop(store, head(3), head(4), b"3" * 25) is True
    assert (store.read([NAME], logs=True)[0].head, store.read([NAME], logs=True)[0].log) == (head(4), one + b"3" * 25)


def test_what_is_expected_is_codec_and_fence_and_no_more(new_store: NewStore) -> None:
    store = new_store()
    shop(store, b"", head(3, clock_ms=1))
    assert shop(store, head(3, clock_ms=2), head(4)) is True


def test_a_sequence_is_appended_or_replaced_whole(new_store: NewStore) -> None:
    store = new_store()
    shop(store, b"", head(1), b"a" * 50)
    shop(store, head(1), head(2))
    shop(store, head(2), head(3), b"b" * 25)
    assert store.read([NAME], logs=True)[0].log == b"a" * 50 + b"b" * 25
    shop(store, head(3), head(4), b"c" * 25, replace_=True)
    shop(store, head(4), head(5), b"d" * 25)
    assert store.read([NAME], logs=True)[0].log == b"c" * 25 + b"d" * 25


def test_what_was_never_written_is_read_as_nothing(new_store: NewStore) -> None:
    store = new_store()
    shop(store, b"", head(1), b"a" * 25)
    other = bytes(16)
    found = store.read([other, NAME, other], logs=True)
    assert [(one.head, one.log) for one in found] == [(None, b""), (head(1), b"a" * 25), (None, b"")]
    assert [one.log for one in store.read([NAME])] == [b""], "sequences are read when asked for"
    assert store.read([]) == []


# --- texts, several writes, the connection ---------------------------------------------------------------------------


def test_a_text_is_written_once(new_store: NewStore) -> None:
    store = new_store()
    store.apply([TextWrite(5, "first"), TextWrite(2**64 - 1, "zweite Ü")])
    store.apply([TextWrite(5, "second")])
    assert store.facts().texts == {5: "first", 2**64 - 1: "zweite Ü"}


def test_replies_come_in_the_order_of_the_writes(new_store: NewStore) -> None:
    store = new_store()
    writes: list[Write] = [
        CountWrite(7, ONE, (Increment(1, 1, 1, 0, ("a",)), Increment(2, 1, 1, 0, ("a",)))),
        TextWrite(1, "x"),
        ShopperWrite(NAME, b"wrong", head(1), b""),
        ShopperWrite(NAME, b"", head(1), b""),
        CountWrite(7, OTHER, (Increment(1, 1, 1, 0, ("a",)),)),
    ]
    edge = pack_edge([(1, 2, 0)])
    assert store.apply(writes) == [[("a", edge)], True, False, True, [("a", pack_edge([(1, 3, 0)]))]]
    assert store.apply([]) == []


def test_connect_opens_a_new_session_over_the_same_state(new_store: NewStore) -> None:
    store = new_store()
    count(store, (1, 1, 1, 0, "a"))
    before = store.session
    store.connect()
    assert store.session > before
    assert rows(store) == [(1, 1, 0)]


def test_marks_are_settled_in_the_end(new_store: NewStore) -> None:
    store = new_store()
    first = store.mark()
    second = store.mark()
    assert first <= second
    assert store.settled(wait_ms=5_000) >= second


# --- any store is the store in memory --------------------------------------------------------------------------------

increments = st.tuples(
    st.integers(0, 6),
    st.integers(100, 106),
    st.sampled_from([(1, 0), (0, 1), (1, 1)]),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
)
count_writes = st.builds(
    lambda query, source_, made: CountWrite(
        query, source_, tuple(Increment(o, day, e, c, tuple(items)) for o, day, (e, c), items in sorted(made))
    ),
    st.integers(1, 2),
    st.sampled_from([ONE, OTHER]),
    st.lists(increments, min_size=1, max_size=4),
)
edge_writes = st.builds(
    lambda item, query, days: EdgeWrite(item, ((query, pack_edge(sorted(days.items_))),)),
    st.sampled_from("abcd"),
    st.integers(1, 3),
    st.dictionaries(st.integers(100, 104), st.integers(1, 3), min_size=1, max_size=3).map(
        lambda days: type("Days", (), {"items_": [(day, e, e // 2) for day, e in days.items()]})
    ),
)
shopper_writes = st.builds(
    lambda shopper, before, after, records, whole: ShopperWrite(
        bytes([shopper]) * 16, prefix(head(before)) if before >= 0 else b"", head(after), records * 25, whole
    ),
    st.integers(1, 2),
    st.integers(-1, 3),
    st.integers(0, 3),
    st.sampled_from([b"", b"x", b"yz"]),
    st.booleans(),
)
text_writes = st.builds(TextWrite, st.integers(1, 2), st.sampled_from(["one", "two"]))
write_lists = st.lists(st.one_of(count_writes, edge_writes, shopper_writes, text_writes), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(write_lists, max_size=4))
def test_any_writes_leave_what_they_leave_in_memory(new_store: NewStore, calls: list[list[Write]]) -> None:
    store, memory = new_store(), MemoryStore(BOUNDS)
    for writes in calls:
        assert store.apply(writes) == memory.apply(writes)
    assert facts_of(store) == facts_of(memory)


def facts_of(store: Store) -> object:
    facts = store.facts()
    known = {fact.item_id for fact in facts.edges}  # Redis knows an item's id from an edge only
    return (
        sorted((fact.query, fact.item_id, fact.rows, fact.capped) for fact in facts.edges),
        sorted((fact.query, fact.item_id, fact.rows) for fact in facts.copies if fact.item_id in known),
        sorted((fact.name, encode_shopper(fact.shopper), fact.log) for fact in facts.shoppers),
        facts.texts,
        facts.capped_items & known,
    )


def test_no_cut_into_batches_changes_the_dump(new_store: NewStore) -> None:
    for seed in range(25):
        random = Random(seed)
        logs = make_log(random, LogShape(events=80, partitions=random.choice((1, 2, 3))))
        expected = ingest(MemoryStore(SMALL), logs, Random(0), largest=10_000)
        store = new_store(SMALL)
        assert ingest(store, logs, random, largest=random.choice((1, 3, 9, 40))) == expected, f"seed {seed}"


def ingest(store: Store, logs: list[Any], random: Random, largest: int) -> tuple[bytes, dict[str, int]]:
    """Cuts logs into batches, partitions in any order; (dump, outcomes)."""
    rejected: list[Rejected] = []
    ingestion = Ingestion(store, source(len(logs)), SMALL, LIMITS, rejected.extend)
    at = [0] * len(logs)
    while any(place < len(log) for place, log in zip(at, logs, strict=True)):
        taken = []
        for partition in random.sample(range(len(logs)), random.randint(1, len(logs))):
            size = random.randint(1, largest)
            taken.append(logs[partition][at[partition] : at[partition] + size])
            at[partition] += size
        ingestion.take(list(chain(*taken)))
        assert ingestion.advance(), ingestion.last_failure
        if random.random() < 0.5:
            ingestion.committed(ingestion.acknowledged())
    facts: Facts = store.facts()
    return dump(facts, newest_day(facts), SMALL), dict(ingestion.outcomes)


def test_edges_and_copies_are_read_with_the_formats_that_are_written(new_store: NewStore) -> None:
    """The store's own reading of what it wrote is the fold in memory, day by day."""
    store, expected = new_store(), list[Row]()
    random = Random(3)
    for offset in range(200):
        day = random.randrange(100, 112)
        e, c = random.choice([(1, 0), (0, 1), (1, 1)])
        edges = count(store, (offset, day, e, c, "a"))
        expected = neighbours.add(expected, day, e, c, BOUNDS.window_days)
        store.apply([EdgeWrite(item, ((7, edge),)) for item, edge in edges])
        assert rows(store) == expected
        if edges:
            assert copy(store) == expected
