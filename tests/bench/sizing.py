"""How many bytes a shop takes in Redis and in Kafka: `python tests/bench/sizing.py [--scale N] [--json FILE]`.

A real Valkey is filled with some thousands of shoppers, edges and texts, and asked what each key takes; the sum is
scaled up linearly to a million. Shoppers go through the real ingestion, visit after visit; edges and texts through the
store's own writes. Events go to a real broker, in the batches that Headrace's own producers make.

A visit is a search and three touches, so a sequence of 100 records is 25 visits. Lists of 25 items are shown in a
shopper's last two searches only: of earlier ones nothing is left in its state.
"""

import argparse
import json
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaProducer

from headrace.local.broker.process import LocalBroker
from headrace.local.valkey import LocalValkey
from headrace.models.features import FEATURES
from headrace.streams.events import Cart, Click, EventLimits, Impression, Query, ShopperEvent, View, encode
from headrace.streams.feature_log import Served
from headrace.streams.feature_log import encode as encode_served
from headrace.streams.identity import hash_of
from headrace.streams.ingestion import Ingestion, Record, Rejected, Source
from headrace.streams.keys import Keys, source_token
from headrace.streams.neighbours import pack_edge
from headrace.streams.redis_store import RedisSettings, RedisStore
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import StateBounds
from headrace.streams.topics import Topic, admin_of, create_topics
from headrace.streams.writes import CountWrite, EdgeWrite, Increment, TextWrite

KEYS, BOUNDS = Keys("bench", "g1"), StateBounds()
TOKEN = source_token("cluster", "topic", 0)
START_MS, VISIT_MS, DAY = 1_790_000_000_000, 36 * 3_600_000, 20_700
SHOPPERS = {10: 10_000, 100: 2_000, 1_000: 200}
QUERIES, ITEMS_OF_A_QUERY, QUERIES_OF_AN_ITEM = 200, 100, 5
DAYS = (1, 5, 30)
TEXTS, EVENTS, REQUESTS, LISTED = 20_000, 20_000, 2_000, 25
MILLION = 1_000_000
EXAMPLE = {
    "shoppers with 10 records": 800_000,
    "shoppers with 100 records": 180_000,
    "shoppers with 1,000 records": 20_000,
    "edges of 1 day": 4_000_000,
    "edges of 5 days": 800_000,
    "edges of 30 days": 200_000,
    "copies of 5 days": 200_000,
    "copies of 30 days": 100_000,
    "texts of queries": 500_000,
    "texts of items": 100_000,
}
"""A shop with a million shoppers: how often each line of the table is taken."""


class Server:
    """A Valkey that can be emptied, and says what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.valkey = LocalValkey(folder)
        self.valkey.start()
        self.wire = Wire(self.valkey.socket_url, 60.0)
        self.store = self._store()
        self.rest: list[float] = []

    def _store(self) -> RedisStore:
        store = RedisStore(KEYS, BOUNDS, RedisSettings(self.valkey.socket_url, durability="memory"))
        store.connect()
        return store

    def bytes_by_kind(self) -> Counter[str]:
        """What the keys of each kind take, their names and places in Redis' own table included; empties it."""
        used, found, keys, cursor = self._used(), Counter[str](), list[bytes](), b"0"
        while True:
            answer = self.wire.call([("SCAN", cursor, "COUNT", 5_000)])[0]
            assert isinstance(answer, list)
            cursor = answer[0]
            keys += answer[1]
            if cursor == b"0":
                break
        sizes = self.wire.call([("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])
        for key, size in zip(keys, sizes, strict=True):
            assert isinstance(size, int)
            found[key.decode().removeprefix(KEYS.stem)[0]] += size
        self.wire.call([("FLUSHALL", "SYNC")])
        self.rest.append((used - self._used()) / found.total())
        return found

    def close(self) -> None:
        """Ends it."""
        self.store.close()
        self.wire.close()
        self.valkey.kill()

    def _used(self) -> int:
        info = self.wire.call([("INFO", "memory")])[0]
        assert isinstance(info, bytes)
        return int(info.split(b"used_memory:")[1].split(b"\r\n")[0])


def visits(shoppers: int, records: int) -> Iterator[ShopperEvent]:
    """Every shopper comes once, then every shopper again, until each has so many records (about)."""
    chance, rounds = random.Random(1), max(1, round(records / 4))
    for turn in range(rounds):
        for shopper in range(shoppers):
            client, query_id = f"shopper-{shopper:09}", f"q-{turn}-{shopper}"
            at_ms, item = START_MS + turn * VISIT_MS + shopper, f"item-{chance.randrange(50_000):06}"
            yield Query("", client, query_id, at_ms, f"some query {chance.randrange(2_000)}")
            if turn >= rounds - 2:
                shown = tuple(f"item-{chance.randrange(50_000):06}" for _ in range(LISTED - 1))
                items = tuple(dict.fromkeys((item, *shown)))
                yield Impression("", client, query_id, at_ms + 1, items, tuple(range(1, len(items) + 1)))
            yield Click("", client, query_id, at_ms + 2, item, 1)
            yield View("", client, query_id, at_ms + 3, item, 1)
            yield Cart("", client, query_id, at_ms + 4, item, 1)


def shoppers(server: Server, count: int, records: int) -> float:
    """Bytes of a shopper with so many records, from the real ingestion."""
    ingestion = Ingestion(server.store, Source("bench", (TOKEN,), lambda client: 0), BOUNDS, EventLimits(), refuse)
    events = enumerate(visits(count, records))
    while batch := [
        Record(0, offset, event.client_id.encode(), encode(event), event.at_ms)
        for offset, event in islice(events, 4_000)
    ]:
        ingestion.take(batch)
        assert ingestion.advance()
        ingestion.committed(ingestion.acknowledged())
    found = server.bytes_by_kind()
    return (found["s"] + found["l"]) / count


def refuse(rejected: Sequence[Rejected]) -> None:
    """Nothing is refused here."""
    raise AssertionError(rejected[0])


def edges(server: Server, queries: int, days: int) -> float:
    """Bytes of an edge with counts on so many days, a hundred of them on a query."""
    items = tuple(f"item-{number:06}" for number in range(ITEMS_OF_A_QUERY))
    for query in range(queries):
        increments = tuple(Increment(day, DAY + day, 1, 0, items) for day in range(days))
        server.store.apply([CountWrite(hash_of(f"query {query}"), TOKEN, increments)])
    return server.bytes_by_kind()["q"] / (queries * ITEMS_OF_A_QUERY)


def copies(server: Server, count: int, days: int) -> float:
    """Bytes of an edge's copy on its item, five of them on an item."""
    edge = pack_edge([(DAY + day, 40, 9) for day in range(days)])
    for start in range(0, count, 1_000):
        server.store.apply(
            [
                EdgeWrite(
                    f"item-{number:06}",
                    tuple((hash_of(f"query {number} {query}"), edge) for query in range(QUERIES_OF_AN_ITEM)),
                )
                for number in range(start, min(start + 1_000, count))
            ]
        )
    return server.bytes_by_kind()["i"] / (count * QUERIES_OF_AN_ITEM)


def texts(server: Server, count: int, form: str) -> float:
    """Bytes of a text that a sequence names."""
    names = [form.format(number) for number in range(count)]
    server.store.apply([TextWrite(hash_of(name), name) for name in names])
    return server.bytes_by_kind()["t"] / count


def shopping(count: int) -> list[tuple[bytes, bytes, int]]:
    """(key, value, time) of events: a search, its list of 25 items, a click on most of them, a cart on some."""
    chance, found = random.Random(2), list[ShopperEvent]()
    words = ["".join(chance.choices("aeioubcdfglmnprst", k=chance.randint(3, 9))) for _ in range(2_000)]
    while len(found) < count:
        client, query_id = str(uuid.UUID(int=chance.getrandbits(128))), str(uuid.UUID(int=chance.getrandbits(128)))
        at_ms = START_MS + 20 * len(found)
        items = tuple(f"item-{number:06}" for number in chance.sample(range(50_000), LISTED))
        found += [
            Query(
                str(uuid.UUID(int=chance.getrandbits(128))),
                client,
                query_id,
                at_ms,
                " ".join(chance.choices(words, k=3)),
            ),
            Impression(query_id + "i", client, query_id, at_ms, items, tuple(range(1, LISTED + 1))),
        ]
        if chance.random() < 0.8:
            found.append(Click(query_id + "c", client, query_id, at_ms, items[0], 1))
        if chance.random() < 0.2:
            found.append(Cart(query_id + "b", client, query_id, at_ms, items[0], 1))
    return [(event.client_id.encode(), encode(event), event.at_ms) for event in found[:count]]


def requests(count: int) -> list[tuple[bytes, bytes, int]]:
    """(key, value, time) of the feature log: requests for 25 items."""
    draw, found = np.random.default_rng(3), []
    for number in range(count):
        served = Served(
            str(uuid.UUID(int=number)),
            f"shopper-{number:09}",
            f"q-{number}",
            START_MS + number,
            hash_of(f"query {number}"),
            tuple(f"item-{one:06}" for one in draw.choice(50_000, LISTED, replace=False)),
            draw.normal(size=(LISTED, len(FEATURES))).astype("<f2").tobytes(),
            1,
            draw.normal(size=LISTED).astype("<f4").tobytes(),
            "0" * 64,
        )
        found.append((served.client_id.encode(), encode_served(served), served.at_ms))
    return found


def kafka_bytes(broker: LocalBroker, records: Sequence[tuple[bytes, bytes, int]], compression: str | None) -> float:
    """Bytes of a record in the log of a partition."""
    name = f"sizing.{uuid.uuid4().hex}"
    before = _size(broker.data)
    with admin_of(broker.bootstrap) as admin:
        create_topics(admin, [Topic(name, 1)])
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap, linger_ms=20, batch_size=128 * 1024, compression_type=compression
    )
    for key, value, at_ms in records:
        producer.send(name, key=key, value=value, timestamp_ms=at_ms)
    producer.flush(timeout=60)
    producer.close()
    return (_size(broker.data) - before) / len(records)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.log"))


def measure(folder: Path, scale: float) -> dict[str, Any]:
    """Bytes in Redis and in Kafka per million."""
    found: dict[str, float] = {}
    server = Server(folder / "v")
    try:
        for records, count in SHOPPERS.items():
            found[f"shoppers with {records:,} records"] = shoppers(server, max(20, int(count * scale)), records)
        for days in DAYS:
            name = f"{days} day{'s' if days > 1 else ''}"
            found[f"edges of {name}"] = edges(server, max(5, int(QUERIES * scale)), days)
        for days in DAYS:
            name = f"{days} day{'s' if days > 1 else ''}"
            found[f"copies of {name}"] = copies(server, max(50, int(4_000 * scale)), days)
        found["texts of queries"] = texts(server, max(500, int(TEXTS * scale)), "wireless mouse {}")
        found["texts of items"] = texts(server, max(500, int(TEXTS * scale)), "item-{:06}")
        rest = server.rest
    finally:
        server.close()
    broker = LocalBroker(folder / "k")
    broker.start()
    try:
        events = shopping(max(2_000, int(EVENTS * scale)))
        log = {name: kafka_bytes(broker, events, None if name == "none" else name) for name in ("none", "lz4", "zstd")}
        features = kafka_bytes(broker, requests(max(500, int(REQUESTS * scale))), None)
    finally:
        broker.kill()
    megabytes = {name: value * MILLION / 1e6 for name, value in found.items()}
    return {
        "redis_mb_per_million": megabytes,
        "redis_whole_over_keys": max(rest),
        "kafka_events_mb_per_million": {name: value * MILLION / 1e6 for name, value in log.items()},
        "kafka_features_mb_per_million": features * MILLION / 1e6,
        "example_mb": {name: megabytes[name] * count / MILLION for name, count in EXAMPLE.items()},
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of how much is filled in")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        found = measure(Path(folder), given.scale)
    print("Redis, MB per million")
    for name, megabytes in found["redis_mb_per_million"].items():
        print(f"  {name:30} {megabytes:10,.0f}")
    print(f"  Redis as a whole takes up to {found['redis_whole_over_keys']:.2f} times what its keys say")
    print("Kafka, MB per million")
    for name, megabytes in found["kafka_events_mb_per_million"].items():
        print(f"  events, compression {name:10} {megabytes:10,.0f}")
    print(f"  {'requests in the feature log':30} {found['kafka_features_mb_per_million']:10,.0f}")
    print("A shop with a million shoppers, MB in Redis")
    for name, megabytes in found["example_mb"].items():
        print(f"  {EXAMPLE[name]:>9,} {name:30} {megabytes:10,.0f}")
    print(f"  {'':9} {'in all':30} {sum(found['example_mb'].values()):10,.0f}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
