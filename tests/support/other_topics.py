"""Events as other people keep them: in two topics, under other keys, in many partitions."""

from collections.abc import Sequence

from kafka import KafkaProducer

from headrace.commands.consumption import source_for
from headrace.commands.recipes import made
from headrace.local.line import Broker
from headrace.streams.dump import dump, newest_day
from headrace.streams.events import Click, EventLimits, Impression, Query, ShopperEvent, View, encode
from headrace.streams.generations import Recipe
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.log_extent import log_extent
from headrace.streams.replay import replay
from headrace.streams.store import MemoryStore
from headrace.streams.topics import source_of
from shopping_logs import SMALL
from ubi_records import AT_MS

LIMITS = EventLimits()


def visits(count: int) -> list[ShopperEvent]:
    """So many events of interleaved visits, in the order of their times; several at the same time."""
    found: list[ShopperEvent] = []
    for number in range(count // 4 + 1):
        client, query_id = f"c{number % 17}", f"q{number}"
        at_ms = AT_MS + number * 1_000
        item, shown = f"i{number % 5}", tuple(f"i{one}" for one in range(5))
        found += [
            Query(f"{number}a", client, query_id, at_ms, f"text {number % 3}"),
            Impression(f"{number}b", client, query_id, at_ms, shown, (1, 2, 3, 4, 5)),
            Click(f"{number}c", client, query_id, at_ms + 500, item, 1),
            View(f"{number}d", f"c{(number + 5) % 17}", "", at_ms + 700, item),
        ]
    return found[:count]


def send(kafka: Broker, topic: str, records: Sequence[tuple[bytes | None, bytes | None, int]]) -> None:
    """(key, value, timestamp) into a topic, wherever the producer puts them."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", linger_ms=20)
    try:
        for key, value, timestamp_ms in records:
            producer.send(topic, key=key, value=value, timestamp_ms=timestamp_ms)
        producer.flush(timeout=30)
    finally:
        producer.close()


def send_apart(kafka: Broker, queries: str, events: str, found: Sequence[ShopperEvent], late_ms: int = 0) -> None:
    """Queries into one topic under their own ids, all else into another without a key."""
    apart: dict[str, list[tuple[bytes | None, bytes | None, int]]] = {queries: [], events: []}
    for event in found:
        name, key = (queries, event.query_id.encode()) if isinstance(event, Query) else (events, None)
        apart[name].append((key, encode(event), event.at_ms + late_ms))
    for name, records in apart.items():
        send(kafka, name, records)


def state_of(kafka: Broker, topic: str) -> bytes:
    """The dump of the state that a topic leads to, every record of which must be usable."""
    source = source_of(kafka.bootstrap, topic)
    generation = made(source, (0,) * source.partitions, Recipe(bounds=SMALL), "ready")
    store, rejected = MemoryStore(SMALL), list[Rejected]()
    ingestion = Ingestion(store, source_for(generation), SMALL, LIMITS, rejected.extend)
    for records in replay(kafka.bootstrap, topic, log_extent(kafka.bootstrap, topic, source.partitions)):
        ingestion.take(records)
        assert ingestion.advance()
        ingestion.committed(ingestion.acknowledged())
    assert not rejected
    facts = store.facts()
    return dump(facts, newest_day(facts), SMALL)
