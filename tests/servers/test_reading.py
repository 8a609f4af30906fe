"""What a request reads in one round trip is what the facts of the store say."""

from random import Random

from headrace.local.valkey import LocalValkey
from headrace.streams import reading, sequences
from headrace.streams.identity import query_hash
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.redis_scores import ScoreCache
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.redis_wire import Wire
from headrace.streams.score_cache import decode
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source


def test_a_reading_equals_the_facts(valkey: LocalValkey, namespace: str) -> None:
    logs = make_log(Random(5), LogShape(events=3_000, shoppers=3, queries=2, items=4))
    keys = Keys(namespace, "g1")
    store = RedisStore(keys, SMALL, RedisSettings(valkey.url, durability="memory"))
    rejected: list[Rejected] = []
    ingestion = Ingestion(store, source(len(logs)), SMALL, LIMITS, rejected.extend)
    for log in logs:
        ingestion.take(log)
        assert ingestion.advance(), ingestion.last_failure
    facts = store.facts()
    items = ("item-0", "item-1", "item-2", "item-3", "never-seen")
    wire = Wire(valkey.url)
    read_edges = read_copies = 0
    for text in ("red shoe 0", "red shoe 1", "blue shoe 0", "blue shoe 1", "nobody asked"):
        query = query_hash(text)
        expected = {(fact.item_id, row) for fact in facts.edges if fact.query == query for row in fact.rows}
        for whole in (True, False):
            question = reading.Question(query, "shopper-0", items, whole_query=whole)
            found = reading.answer(question, wire.call(reading.commands(keys, question)), SMALL.sequence)
            rows = [row.item() for row in found.query_rows]
            assert {(found.query_items[item], tuple(rest)) for item, *rest in rows} == expected
            assert found.query_known == bool(expected)
            assert bool(found.query_fences) == bool(expected)
            read_edges += len(rows)
            copies = {
                (items[owner], query_, tuple(rest)) for owner, query_, *rest in (r.item() for r in found.item_rows)
            }
            assert copies == {(fact.item_id, fact.query, row) for fact in facts.copies for row in fact.rows}
            read_copies += len(copies)
            assert not found.items_known[4]
        assert found.shopper is not None
    assert read_edges > 4
    assert read_copies > 4
    fact = next(fact for fact in facts.shoppers if fact.name == shopper_name("shopper-0"))
    assert found.shopper is not None
    assert found.shopper.fence == fact.shopper.fence
    assert found.sequence.tobytes() == sequences.newest(fact.log, SMALL.sequence).tobytes()
    wire.close()
    store.close()


def test_cached_scores_are_read_in_the_same_round_trip_whatever_the_generation(
    valkey: LocalValkey, namespace: str
) -> None:
    query, items = query_hash("red shoe"), ("a", "b", "c")
    cache = ScoreCache(valkey.url, namespace, now_ms=lambda: 7)
    cache.put("Red shoe", [("a", 1, 0.5), ("c", 2, 0.25)], b"studentA", "student")
    wire = Wire(valkey.url)
    for generation in ("g1", "g2"):
        keys = Keys(namespace, generation)
        for client in (None, "shopper"):
            for whole in (True, False):
                question = reading.Question(query, client, items, whole_query=whole, scores=True)
                found = reading.answer(question, wire.call(reading.commands(keys, question)), 10)
                assert [None if value is None else decode(value)[0].score for value in found.scores] == [
                    0.5,
                    None,
                    0.25,
                ]
        for question in (
            reading.Question(query, "shopper", items),
            reading.Question(None, "shopper", items, scores=True),
            reading.Question(query, "shopper", (), scores=True),
        ):
            assert reading.answer(question, wire.call(reading.commands(keys, question)), 10).scores == ()
    cache.close()
    wire.close()


def test_nothing_is_read_of_what_never_was(valkey: LocalValkey, namespace: str) -> None:
    wire = Wire(valkey.url)
    question = reading.Question(query_hash("nobody"), "nobody", ("a", "b"))
    found = reading.answer(question, wire.call(reading.commands(Keys(namespace, "g1"), question)), 10)
    assert found.generation is None
    assert not found.query_known
    assert found.shopper is None
    assert len(found.query_rows) == len(found.item_rows) == len(found.sequence) == 0
    assert found.items_known.tolist() == [False, False]
    wire.close()
