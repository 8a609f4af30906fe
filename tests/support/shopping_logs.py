"""Seeded logs of search events, made so that every bound of the state is met: what the law tests replay.

A log is what Kafka would hold: for each partition records in offset order. Shoppers come in short sessions, days apart;
their logs hold late and early events (a little and a lot), events that were sent again under another offset (alone and
as runs), clicks without a search, views without a query, and records that cannot be used.
``tests/laws/test_logs_meet_every_bound.py`` holds that all of it really happens.
"""

from dataclasses import dataclass
from random import Random

from headrace.streams.events import (
    Cart,
    Click,
    EventLimits,
    Impression,
    Purchase,
    Query,
    ShopperEvent,
    Touch,
    View,
    encode,
)
from headrace.streams.identity import DAY_MS
from headrace.streams.ingestion import Record, Source
from headrace.streams.keys import source_token
from headrace.streams.searches import StateBounds

START_MS = 20_000 * DAY_MS + 11 * 3_600_000
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS

SMALL = StateBounds(
    search_ms=30 * MINUTE_MS,
    searches=3,
    search_items=4,
    search_touches=3,
    sequence=6,
    sequence_slack=3,
    window_days=4,
    floor=2,
)
"""Bounds so small that a short log meets each of them; items of a query and bytes of an item stay large."""

LIMITS = EventLimits()

KINDS = ("query", "impression", "click", "cart", "purchase", "view")
TOUCHES: dict[str, type[Touch]] = {"click": Click, "cart": Cart, "purchase": Purchase, "view": View}

UNREADABLE = (b"{", b"", b'{"user_query":1}', None)


def partition_of(client_id: str, partitions: int) -> int:
    """A partitioner whose result can be read off the name."""
    return int(client_id.rsplit("-", 1)[1]) % partitions


def source(partitions: int) -> Source:
    """The topic that the logs stand for."""
    tokens = tuple(source_token("cluster", "topic", partition) for partition in range(partitions))
    return Source("search.events.v1", tokens, lambda client_id: partition_of(client_id, partitions))


@dataclass(frozen=True)
class LogShape:
    """How large and how untidy logs are; shares are probabilities for each event."""

    events: int = 60
    partitions: int = 2
    shoppers: int = 4
    queries: int = 2
    items: int = 5
    days: int = 7
    pause: float = 0.06
    late: float = 0.15
    resent: float = 0.08
    resent_run: float = 0.05
    bad: float = 0.04


class _Author:
    """Writes logs, one record after the other."""

    def __init__(self, random: Random, shape: LogShape) -> None:
        self.random, self.shape = random, shape
        self.now_ms = START_MS
        self.number = 0
        self.client_id, self.hasty = "shopper-0", False
        self.searches: dict[str, list[tuple[str, int]]] = {}
        self.logs: list[list[Record]] = [[] for _ in range(shape.partitions)]

    def append(self, partition: int, key: str, value: bytes | None, timestamp_ms: int) -> None:
        log = self.logs[partition]
        log.append(Record(partition, len(log), key.encode(), value, timestamp_ms))

    def step(self) -> None:
        """Time goes on, and something happens to one shopper."""
        random, shape = self.random, self.shape
        if random.random() < shape.pause:
            self.now_ms += random.randrange(HOUR_MS, shape.days * DAY_MS // 3)
        self.now_ms += random.randrange(0, 2 * MINUTE_MS)
        if random.random() < 0.4:  # else the same shopper goes on
            self.client_id = f"shopper-{random.randrange(shape.shoppers)}"
            self.hasty = random.random() < 0.15
        client_id = self.client_id
        partition = partition_of(client_id, shape.partitions)
        draw = random.random()
        if draw < shape.bad:
            self._unusable(client_id, partition)
        elif draw < shape.bad + shape.resent + shape.resent_run and self.logs[partition]:
            self._again(partition, run=draw >= shape.bad + shape.resent)
        else:
            self.append(partition, client_id, encode(self._event(client_id, self._time_ms())), self.now_ms)

    def _unusable(self, client_id: str, partition: int) -> None:
        """A record that nobody can read, from the future, or in a partition to which its key does not belong."""
        random = self.random
        kind = random.randrange(3)
        if kind == 0:
            self.append(partition, client_id, random.choice(UNREADABLE), self.now_ms)
        elif kind == 1:
            ahead_ms = LIMITS.future_ms + random.randrange(1, DAY_MS)
            self.append(partition, client_id, encode(self._event(client_id, self.now_ms + ahead_ms)), self.now_ms)
        else:
            event = encode(self._event(client_id, self.now_ms))
            self.append((partition + 1) % self.shape.partitions, client_id, event, self.now_ms)

    def _again(self, partition: int, run: bool) -> None:
        """A producer sends again what it sent: one record, or the newest ones in a row."""
        log = self.logs[partition]
        count = self.random.randrange(1, min(len(log), 10) + 1)
        for again in log[-count:] if run else log[-count : len(log) - count + 1]:
            stamp_ms = max(again.timestamp_ms, self.now_ms)
            log.append(Record(partition, len(log), again.key, again.value, stamp_ms))

    def _time_ms(self) -> int:
        """The event's own time: now, a little late or early, hours late, or beyond what the topic allows."""
        random = self.random
        if random.random() >= self.shape.late:
            return self.now_ms
        kind = random.random()
        if kind < 0.6:
            return self.now_ms - random.randrange(0, 30 * MINUTE_MS)
        if kind < 0.7:
            return self.now_ms + random.randrange(0, LIMITS.future_ms)
        return self.now_ms - random.randrange(0, LIMITS.late_ms + 3 * HOUR_MS)

    def _event(self, client_id: str, at_ms: int) -> ShopperEvent:
        random, shape = self.random, self.shape
        self.number += 1
        name, searches = f"event-{self.number}", self.searches.setdefault(client_id, [])
        kind = random.choices(KINDS, [20 if self.hasty else 3, 6, 7, 1, 1, 1])[0]
        stale = not searches or self.now_ms - searches[-1][1] > 25 * MINUTE_MS
        if kind == "query" or (stale and random.random() < 0.8):
            query_id = f"{client_id}/{len(searches)}"
            searches.append((query_id, self.now_ms))
            text = f"{random.choice(['Red', 'red', 'BLUE'])}  shoe {random.randrange(shape.queries)}"
            return Query(name, client_id, query_id, at_ms, text)
        recent = searches[-1:] if random.random() < 0.6 else searches[-4:]
        query_id = random.choice(recent)[0] if searches and random.random() < 0.95 else "unknown"
        if kind == "impression":
            shown = [f"item-{random.randrange(shape.items)}" for _ in range(random.randrange(1, 5))]
            return Impression(name, client_id, query_id, at_ms, tuple(shown), tuple(range(1, len(shown) + 1)))
        if kind == "view" and random.random() < 0.5:
            query_id = ""
        return TOUCHES[kind](name, client_id, query_id, at_ms, f"item-{random.randrange(shape.items)}", None)


def make_log(random: Random, shape: LogShape) -> list[list[Record]]:
    """Records of each partition, in offset order: ``shape.events`` steps, of which a resent run is one."""
    author = _Author(random, shape)
    for _ in range(shape.events):
        author.step()
    return author.logs
