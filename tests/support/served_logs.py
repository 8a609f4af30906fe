"""Searches as both topics of the learner hold them: what was served, what was shown, what was clicked. Seeded."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from kafka import KafkaProducer

from headrace.models.features import FEATURES
from headrace.streams import events, feature_log
from headrace.streams.events import Click, Impression, ShopperEvent
from headrace.streams.feature_log import Served, names_digest, pack_features, pack_scores

START_MS = 1_700_000_000_000
INFORMS = FEATURES.index("item_rate")
"""The feature that tells where the click will be; an untouched head does not use it."""


class Wire(NamedTuple):
    """A record as it goes to Kafka."""

    features: bool
    key: bytes
    value: bytes
    timestamp_ms: int


def search(number: int, at_ms: int, items: int = 8, seed: int = 0, clicked: bool = True) -> list[Served | ShopperEvent]:
    """One search of one shopper: a list, its impression, and a click on the item that ``item_rate`` points at."""
    random = np.random.default_rng((seed, number))
    client, query = f"client-{number % 17}", f"query-{number}"
    names = tuple(f"item-{place}" for place in range(items))
    features = random.normal(size=(items, len(FEATURES))).astype(np.float32) * 0.1
    features[:, INFORMS] = random.normal(size=items)
    scores = pack_scores(np.zeros(items, np.float32))
    matrix, digest = pack_features(features), names_digest(FEATURES)
    served = Served(f"request-{number}", client, query, at_ms, number, names, matrix, digest, scores, "v0")
    shown = Impression(f"i{number}", client, query, at_ms + 100, names, tuple(range(1, items + 1)))
    item = names[int(np.argmax(features[:, INFORMS]))]
    click = Click(f"c{number}", client, query, at_ms + 2_000, item, None)
    return [served, shown, click] if clicked else [served, shown]


def searches(first: int, count: int, every_ms: int = 10_000, **how: Any) -> list[Served | ShopperEvent]:
    """So many searches from this number on, one every ten seconds, in the order of time."""
    found = [record for n in range(first, first + count) for record in search(n, START_MS + n * every_ms, **how)]
    return sorted(found, key=lambda record: record.at_ms)


def wire(record: Served | ShopperEvent) -> Wire:
    """The record as its producer sends it."""
    value = feature_log.encode(record) if isinstance(record, Served) else events.encode(record)
    return Wire(isinstance(record, Served), record.client_id.encode(), value, record.at_ms)


def minute_of(record: Wire) -> int:
    """The minute of event time."""
    return record.timestamp_ms // 60_000


def send(bootstrap: str, events_topic: str, features_topic: str, records: Sequence[Wire]) -> None:
    """All records are in Kafka when this returns, never more than a minute of event time out of order.

    What takes minutes elsewhere goes out in a moment here, and partitions fill as the producer likes; so a learner
    needs a hold of more than a minute, as it does for any log that is written faster than it happened.
    """
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2)
    try:
        for _, minute in groupby(sorted(records, key=lambda record: record.timestamp_ms), key=minute_of):
            for record in minute:
                topic = features_topic if record.features else events_topic
                producer.send(topic, key=record.key, value=record.value, timestamp_ms=record.timestamp_ms)
            producer.flush(timeout=30)
    finally:
        producer.close(timeout=5)
