"""A stretch of a topic read once more, outside every consumer group: what a recomputation and a check read."""

import time
from collections.abc import Iterator, Mapping
from typing import Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from headrace import SourceChanged
from headrace.streams.ingestion import Record
from headrace.streams.kafka_access import clients
from headrace.streams.topics import BOOTSTRAP_MS

_BATCH: Final = 4_000
_STALLED_S: Final = 30.0


def replay(bootstrap: str, topic: str, stretch: Mapping[int, tuple[int, int]]) -> Iterator[list[Record]]:
    """The records of a stretch, a few thousand at a time; each partition in its order.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: its name.
        stretch: for each partition the first offset and the one behind the last.

    Raises:
        SourceChanged: the log does not hold all of them.
        kafka.errors.KafkaError: no broker answers, or none for 30 s.
    """
    left = {partition: ends for partition, ends in stretch.items() if ends[0] < ends[1]}
    consumer = KafkaConsumer(
        **clients(bootstrap),
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        client_id="headrace-replay",
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        places = {partition: TopicPartition(topic, partition) for partition in left}
        consumer.assign(list(places.values()))
        begins, ends = consumer.beginning_offsets(list(places.values())), consumer.end_offsets(list(places.values()))
        for partition, place in places.items():
            if ends[place] < left[partition][1]:
                raise SourceChanged(
                    f"{topic}, partition {partition}: offset {left[partition][1]} is wanted and the log ends at"
                    f" {ends[place]}: it was cut or made again. Fill a new generation with `headrace rebuild`."
                )
            if begins[place] > left[partition][0]:
                raise SourceChanged(
                    f"{topic}, partition {partition}: offset {left[partition][0]} is wanted and the log begins at"
                    f" {begins[place]}. What is gone cannot be read again."
                )
            consumer.seek(place, left[partition][0])
        moved = time.monotonic()
        while left:
            found = []
            for place, records in consumer.poll(timeout_ms=500, max_records=_BATCH).items():
                end = left[place.partition][1] if place.partition in left else 0
                found += [
                    Record(place.partition, one.offset, one.key, one.value, one.timestamp)
                    for one in records
                    if one.offset < end
                ]
            for partition in list(left):
                if consumer.position(places[partition]) >= left[partition][1]:
                    del left[partition]
                    consumer.pause(places[partition])
            if found:
                moved = time.monotonic()
                yield found
            elif left and time.monotonic() - moved > _STALLED_S:
                raise KafkaTimeoutError(f"no record of {topic} within {_STALLED_S:.0f} s")
    finally:
        consumer.close()
