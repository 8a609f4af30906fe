"""Seeded logs of search events, made so that every bound of the state is met: what the law tests replay.

A log is what Kafka would hold: for each partition records in offset order. It contains late and early events, events
that were sent again under another offset (alone and as runs), clicks without a search, views without a query, and
records that cannot be read.
"""

from dataclasses import dataclass
from random import Random

from headrace.streams.events import Cart, Click, EventLimits, Impression, Purchase, Query, ShopperEvent, View, encode
from headrace.streams.identity import DAY_MS
from headrace.streams.ingestion import Record, Source
from headrace.streams.keys import source_token
from headrace.streams.searches import StateBounds

START_MS = 20_000 * DAY_MS + 11 * 3_600_000
MINUTE_MS = 60_000

SMALL = StateBounds(
    search_ms=30 * MINUTE_MS,
    searches=3,
    search_items=6,
    search_touches=3,
    sequence=6,
    sequence_slack=3,
    window_days=4,
    floor=2,
)
"""Bounds so small that a short log meets each of them."""

LIMITS = EventLimits()


def partition_of(client_id: str, partitions: int) -> int:
    """A partitioner whose result can be read off the name."""
    return int(client_id.rsplit("-", 1)[1]) % partitions


def source(partitions: int) -> Source:
    """The topic that the logs stand for."""
    tokens = tuple(source_token("cluster", "topic", partition) for partition in range(partitions))
    return Source("search.events.v1", tokens, lambda client_id: partition_of(client_id, partitions))


@dataclass(frozen=True)
class LogShape:
    """How large and how untidy a log is; shares are probabilities for each event."""

    events: int = 60
    partitions: int = 2
    shoppers: int = 4
    queries: int = 3
    items: int = 5
    days: int = 7
    late: float = 0.1
    resent: float = 0.1
    resent_run: float = 0.05
    bad: float = 0.03


def make_log(random: Random, shape: LogShape) -> list[list[Record]]:
    """Records of each partition, in offset order."""
    logs: list[list[Record]] = [[] for _ in range(shape.partitions)]
    now_ms = START_MS
    open_searches: dict[str, list[str]] = {}
    for number in range(shape.events):
        if random.random() < 0.08:
            now_ms += random.randrange(1, shape.days * 24 * 60) * MINUTE_MS // 3
        now_ms += random.randrange(0, 12) * MINUTE_MS // 2
        client_id = f"shopper-{random.randrange(shape.shoppers)}"
        log = logs[partition_of(client_id, shape.partitions)]
        draw = random.random()
        if draw < shape.bad:
            log.append(Record(0, len(log), client_id.encode(), random.choice([b"{", b"", b'{"user_query":1}']), now_ms))
            continue
        if draw < shape.bad + shape.resent and log:
            again = log[-1 - random.randrange(min(len(log), 12))]
            log.append(Record(0, len(log), again.key, again.value, max(again.timestamp_ms, now_ms)))
            continue
        if draw < shape.bad + shape.resent + shape.resent_run and log:
            length = random.randrange(1, min(len(log), 10) + 1)
            for again in log[-length:]:
                log.append(Record(0, len(log), again.key, again.value, max(again.timestamp_ms, now_ms)))
            continue
        at_ms = now_ms
        if random.random() < shape.late:
            at_ms -= random.randrange(0, 30 * 60) * MINUTE_MS  # some beyond the 24 hours that a topic allows
        event = _event(random, shape, client_id, number, at_ms, open_searches.setdefault(client_id, []))
        log.append(Record(0, len(log), client_id.encode(), encode(event), now_ms))
    return [
        [Record(part, record.offset, record.key, record.value, record.timestamp_ms) for record in log]
        for part, log in enumerate(logs)
    ]


def _event(
    random: Random, shape: LogShape, client_id: str, number: int, at_ms: int, searches: list[str]
) -> ShopperEvent:
    kind = random.choices(["query", "impression", "click", "cart", "purchase", "view"], [3, 4, 5, 1, 1, 1])[0]
    name = f"event-{number}"
    if kind == "query" or not searches:
        query_id = f"{client_id}/{len(searches)}"
        searches.append(query_id)
        text = f"{random.choice(['Red', 'red', 'BLUE'])}  shoe {random.randrange(shape.queries)}"
        return Query(name, client_id, query_id, at_ms, text)
    query_id = random.choice(searches[-5:]) if random.random() < 0.95 else "unknown"
    if kind == "impression":
        items = tuple(f"item-{random.randrange(shape.items)}" for _ in range(random.randrange(1, 5)))
        return Impression(name, client_id, query_id, at_ms, items, tuple(range(1, len(items) + 1)))
    item_id = f"item-{random.randrange(shape.items)}"
    if kind == "view" and random.random() < 0.5:
        query_id = ""
    touch = {"click": Click, "cart": Cart, "purchase": Purchase, "view": View}[kind]
    return touch(name, client_id, query_id, at_ms, item_id, None)
