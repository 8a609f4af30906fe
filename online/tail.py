"""Both topics of the learner, read over kafka-python: partitions by hand, no group, offsets kept by the reader.

What was fetched beyond the end of a round waits for the next one. Waiting for news is a long poll at the broker: it
costs nothing while nothing comes, and returns within milliseconds when something does.
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from headrace import SourceChanged, StoreUnavailable
from headrace.online.rounds import LogRecord
from headrace.streams.kafka_access import clients
from headrace.streams.watermark import Source

POLL_RECORDS: Final = 1_000_000
"""All that was fetched, a megabyte a source: kafka-python 3.0 never gives out the rest of what is paused half-way, once
another source was read on."""
WAITING_RECORDS: Final = 10_000
"""A source with so many records waiting is not fetched from until they are read."""
REQUEST_MS: Final = 15_000
RECONNECT_MS: Final = 1_000
"""The client's own 30 s would be a long silence after a broker that is back."""
ASK_S: Final = 1.0
"""Asking costs 3 ms, a fifth of a round: in between, the ends that came with the fetched records do."""


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
        raise SourceChanged(
            f"the log does not hold the offsets this learner must go on from ({error}): it was cut or made again; "
            "begin with a new --state folder (weights go on from the published head)"
        ) from error
    except KafkaError as error:
        raise StoreUnavailable(f"Kafka does not answer: {error!r}") from error


class Tail:
    """Records of some sources, each in its order, up to stated offsets.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        sources: topic and partition of each.

    Raises:
        StoreUnavailable: no broker answers.
    """

    def __init__(self, bootstrap: str, sources: Sequence[Source]) -> None:
        self._partitions = {source: TopicPartition(*source) for source in sources}
        self._waiting: dict[Source, deque[LogRecord]] = {source: deque() for source in sources}
        self._ends: dict[Source, int] = {}
        self._asked_s = -math.inf
        with _faults():
            self._consumer: Any = KafkaConsumer(
                **clients(bootstrap),
                bootstrap_timeout_ms=10_000,
                client_id="headrace-refresh",
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_poll_records=POLL_RECORDS,
                request_timeout_ms=REQUEST_MS,
                reconnect_backoff_max_ms=RECONNECT_MS,
            )
            self._consumer.assign(list(self._partitions.values()))

    def close(self) -> None:
        """Ends the connections."""
        self._consumer.close()

    def first(self) -> dict[Source, int]:
        """The first offset that each source still holds."""
        return self._offsets(self._consumer.beginning_offsets)

    def ends(self) -> dict[Source, int]:
        """The offset after the last record of each source: as the fetches told, and asked for at least every second."""
        if time.monotonic() - self._asked_s > ASK_S:
            self._ends = self._offsets(self._consumer.end_offsets)
            self._asked_s = time.monotonic()
        for source, partition in self._partitions.items():
            self._ends[source] = max(self._ends[source], self._consumer.highwater(partition) or 0)
        return dict(self._ends)

    def seek(self, offsets: Mapping[Source, int]) -> None:
        """The next record of each source is the one at this offset."""
        for source, partition in self._partitions.items():
            self._waiting[source].clear()
            self._consumer.seek(partition, offsets[source])

    def wait(self, timeout_ms: int) -> bool:
        """Whether there are records to read, after waiting for them at most so long."""
        if not any(self._waiting.values()):
            self._fetch(timeout_ms)
        return any(self._waiting.values())

    def fetched(self) -> dict[Source, int]:
        """The offset after the last record that is here already, of sources that have some."""
        return {source: waiting[-1].offset + 1 for source, waiting in self._waiting.items() if waiting}

    def read(self, ends: Mapping[Source, int]) -> Iterator[LogRecord]:
        """The records before these offsets, of all sources; ends when they are all read.

        Raises:
            StoreUnavailable: the brokers do not answer; what was given so far is lost to this object, so `seek` first.
            SourceChanged: the log does not hold them any more.
        """
        quiet = 0
        for source in ends:
            yield from self._ready(source, ends[source])
        while behind := [source for source in ends if not self._reached(source, ends[source])]:
            quiet = 0 if self._fetch(1_000) else quiet + 1
            if quiet > 30:
                raise StoreUnavailable(f"Kafka gives no records of {behind[0]} although there are some")
            for source in ends:
                yield from self._ready(source, ends[source])

    def _ready(self, source: Source, end: int) -> Iterator[LogRecord]:
        waiting = self._waiting[source]
        while waiting and waiting[0].offset < end:
            yield waiting.popleft()

    def _reached(self, source: Source, end: int) -> bool:
        if self._waiting[source]:
            return True  # what waits lies beyond the end
        with _faults():
            # The position passes over what is not a record: marks of transactions, holes of compaction.
            return bool((self._consumer.position(self._partitions[source], timeout_ms=REQUEST_MS) or 0) >= end)

    def _fetch(self, timeout_ms: int) -> bool:
        full = [source for source, waiting in self._waiting.items() if len(waiting) >= WAITING_RECORDS]
        paused = self._consumer.paused()
        wanted = {self._partitions[source] for source in full}
        if paused != wanted:
            self._consumer.resume(*(paused - wanted))
            self._consumer.pause(*(wanted - paused))
        with _faults():
            found = self._consumer.poll(timeout_ms=timeout_ms)
        for partition, records in found.items():
            waiting = self._waiting[partition.topic, partition.partition]
            waiting.extend(
                LogRecord(record.topic, record.partition, record.offset, record.value, record.timestamp)
                for record in records
            )
        return bool(found)

    def _offsets(self, ask: Any) -> dict[Source, int]:
        with _faults():
            found = ask(list(self._partitions.values()), timeout_ms=REQUEST_MS)
        return {source: int(found[partition]) for source, partition in self._partitions.items()}
