"""The score cache on a real server: what was written is read, its bounds hold, and state goes before it."""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from headrace import StoreUnavailable
from headrace.local.valkey import LocalValkey
from headrace.streams import score_cache
from headrace.streams.identity import query_hash
from headrace.streams.keys import Keys
from headrace.streams.redis_scores import CacheBounds, ScoreCache
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.redis_wire import Wire
from headrace.streams.score_cache import Cached, part_name
from shopping_logs import SMALL

NOW_MS = 1_800_000_000_000
STUDENT, OTHER, TEACHER = part_name("student"), part_name("other student"), part_name("teacher")
QUERY = query_hash("red shoe")


@pytest.fixture
def wire(valkey: LocalValkey) -> Iterator[Wire]:
    wire = Wire(valkey.url)
    yield wire
    wire.close()


@pytest.fixture
def cache(valkey: LocalValkey, namespace: str) -> Iterator[ScoreCache]:
    cache = ScoreCache(valkey.url, namespace, CacheBounds(items=5), now_ms=lambda: NOW_MS)
    yield cache
    cache.close()


def kept(wire: Wire, namespace: str, *items: str) -> list[tuple[Cached, ...]]:
    [values] = wire.call([score_cache.read_command(Keys(namespace, "g1"), QUERY, items)])
    assert isinstance(values, list)
    return [score_cache.decode(value or b"") for value in values]


def test_what_was_written_is_read_whoever_typed_the_query(cache: ScoreCache, wire: Wire, namespace: str) -> None:
    assert cache.put("  Red  SHOE ", [("a", 1, 0.5), ("b", 2, 0.25)], STUDENT, "student") == 2
    [of_a], [of_b], none = kept(wire, namespace, "a", "b", "c")
    assert of_a == Cached(STUDENT, 1, 0, "student", 0.5, NOW_MS)
    assert (of_b.content, of_b.score, none) == (2, 0.25, ())


def test_a_score_says_which_neighbours_were_read(cache: ScoreCache, wire: Wire, namespace: str) -> None:
    cache.put(QUERY, [("a", 1, 0.5, 2**64 - 1), ("b", 2, 0.25)], STUDENT, "student")
    assert [one.neighbours for [one] in kept(wire, namespace, "a", "b")] == [2**64 - 1, 0]
    cache.put(QUERY, [("a", 1, 0.75, 7)], STUDENT, "student")
    assert kept(wire, namespace, "a") == [(Cached(STUDENT, 1, 7, "student", 0.75, NOW_MS),)]


def test_a_write_replaces_its_own_source_and_leaves_the_other(cache: ScoreCache, wire: Wire, namespace: str) -> None:
    cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student")
    cache.put(QUERY, [("a", 1, 0.75)], TEACHER, "teacher")
    cache.put(QUERY, [("a", 2, 0.125)], OTHER, "student")
    cache.put(QUERY, [("a", 2, 0.25)], OTHER, "student")
    [records] = kept(wire, namespace, "a")
    assert {(one.source, one.part, one.score) for one in records} == {
        ("teacher", TEACHER, 0.75),
        ("student", OTHER, 0.25),
    }


def test_a_value_of_another_format_is_replaced(cache: ScoreCache, wire: Wire, namespace: str) -> None:
    for junk in (b"x", b"\7" * score_cache.RECORD_BYTES, b""):
        wire.call([("HSET", Keys(namespace, "g1").scores(QUERY), "a", junk)])
        cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student")
        assert [one.score for one in kept(wire, namespace, "a")[0]] == [0.5]


def test_a_query_never_keeps_more_items_than_its_bound(cache: ScoreCache, wire: Wire, namespace: str) -> None:
    random, key = Random(3), Keys(namespace, "g1").scores(QUERY)
    for _ in range(30):
        items = [f"i{random.randrange(40)}" for _ in range(random.randrange(1, 12))]
        cache.put(QUERY, [(item, 1, 0.5) for item in items], STUDENT, "student")
        [size] = wire.call([("HLEN", key)])
        assert isinstance(size, int) and size <= 5
        assert kept(wire, namespace, items[-1]) != [()]
    assert wire.call([("HLEN", key)]) == [5]


def test_a_querys_scores_leave_a_while_after_the_last_was_written(
    valkey: LocalValkey, wire: Wire, namespace: str
) -> None:
    cache = ScoreCache(valkey.url, namespace, CacheBounds(ttl_ms=50_000))
    cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student")
    key = Keys(namespace, "g1").scores(QUERY)
    [left_ms] = wire.call([("PTTL", key)])
    assert isinstance(left_ms, int) and 40_000 < left_ms <= 50_000
    wire.call([("PEXPIRE", key, 10_000)])
    cache.put(QUERY, [("b", 1, 0.5)], STUDENT, "student")
    [left_ms] = wire.call([("PTTL", key)])
    assert isinstance(left_ms, int) and left_ms > 40_000
    cache.close()


def test_nothing_is_written_while_memory_is_short(valkey: LocalValkey, wire: Wire, namespace: str) -> None:
    full = ScoreCache(valkey.url, namespace, CacheBounds(memory_share=0.0))
    assert full.put(QUERY, [("a", 1, 0.5)], STUDENT, "student") == 0
    assert kept(wire, namespace, "a") == [()]
    full.close()


def test_a_cache_comes_back_when_redis_does(new_valkey: Callable[..., LocalValkey], namespace: str) -> None:
    server = new_valkey()
    cache = ScoreCache(server.url, namespace)
    assert cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student") == 1
    server.kill()
    with pytest.raises(StoreUnavailable):
        cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student")
    server.start()
    assert cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student") == 1
    cache.close()


def test_the_canonical_dump_holds_no_score(valkey: LocalValkey, cache: ScoreCache, wire: Wire, namespace: str) -> None:
    """Law 1, also for a generation that somebody named after the cache."""
    for name in ("g1", "scores"):
        store = RedisStore(Keys(namespace, name), SMALL, RedisSettings(valkey.url, durability="memory"))
        store.connect()
        before = store.facts()
        cache.put(QUERY, [("a", 1, 0.5)], STUDENT, "student")
        assert store.facts() == before
        store.close()
    assert kept(wire, namespace, "a") != [()]
