"""What a worker sends to Kafka: features in the background, events only answered for once Kafka has them.

Neither blocks the event loop. Features that find their bounded buffer full are dropped and counted, never silently: an
answer is worth more than its training example. Events are sent with acks=all and waited for.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from headrace import StoreUnavailable
from headrace.streams import feature_log
from headrace.streams.feature_log import Served
from headrace.streams.kafka_access import clients
from headrace.streams.partitioners import Partitioner, partition_of

log = logging.getLogger(__name__)

Count = Callable[[str], None]
CLOSE_S = 3.0
IMPATIENT = {"max_block_ms": 3_000, "bootstrap_timeout_ms": 3_000}
"""A broker that is away is heard of in seconds, also by who wants to end."""


class FeatureLog(Protocol):
    """Where served features go."""

    def offer(self, served: Served) -> bool:
        """Takes a record without waiting; False when it was dropped (and counted)."""

    def close(self) -> None:
        """Sends what is left, within a bounded time."""


class NoFeatureLog:
    """A worker without Kafka: nothing is logged, and every answer says so."""

    def offer(self, served: Served) -> bool:
        """Drops the record."""
        return False

    def close(self) -> None:
        """Nothing to send."""


def new_producer(bootstrap_servers: str, partitioner: Partitioner, **settings: Any) -> Any:
    """A kafka-python producer that puts a key where the topic's other producers put it.

    Raises:
        StoreUnavailable: no broker answers.
    """
    from kafka import KafkaProducer
    from kafka.errors import KafkaError
    from kafka.partitioner.abc import Partitioner as KafkaPartitioner

    class Keyed(KafkaPartitioner):  # type: ignore[misc]
        def partition(self, topic: str, key: bytes, serialized_key: bytes, *rest: Any) -> int:
            return partition_of(serialized_key, len(rest[-1].partitions_for_topic(topic)), partitioner)

    try:
        return KafkaProducer(
            **clients(bootstrap_servers),
            partitioner=Keyed(),
            **settings,
        )
    except KafkaError as error:
        raise StoreUnavailable(f"Kafka at {bootstrap_servers} does not answer: {error}") from error


def abandon(producer: Any) -> None:
    """Ends a producer that did not deliver; what it still holds was told as not sent."""
    from kafka.errors import KafkaError

    with contextlib.suppress(KafkaError):  # it waits for what it cannot send
        producer.close(timeout=0)


@dataclass(slots=True)
class KafkaFeatureLog:
    """Served features to Kafka, by a thread with a bounded buffer.

    Attributes:
        bootstrap_servers: where to begin.
        topic: of the feature log.
        count: told "sent", "dropped" or "failed" for each record.
        buffer: records that may wait.
        partitioner: that of the events topic: what was served to a shopper lies beside what the shopper did.
    """

    bootstrap_servers: str
    topic: str
    count: Count
    buffer: int = 1_000
    partitioner: Partitioner = "murmur2"
    _waiting: "queue.Queue[Served | None]" = field(init=False)
    _thread: threading.Thread = field(init=False)
    _closing: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        """Starts the thread."""
        self._waiting = queue.Queue(self.buffer)
        self._thread = threading.Thread(target=self._run, name="feature-log", daemon=True)
        self._thread.start()

    def offer(self, served: Served) -> bool:
        """Takes a record without waiting; False when it was dropped (and counted)."""
        try:
            self._waiting.put_nowait(served)
        except queue.Full:
            self.count("dropped")
            return False
        return True

    def close(self) -> None:
        """Sends what is left, for at most a few seconds; what is then left is counted as dropped."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # a thread that is busy looks at the event instead
            self._waiting.put_nowait(None)
        self._thread.join(2 * CLOSE_S)
        if left := self._waiting.qsize():
            log.warning("feature log: %d records were dropped at the end", left)

    def _run(self) -> None:
        producer = None
        while (served := self._next()) is not None:
            if producer is None and not self._closing.is_set():
                producer = self._connect()
            if producer is None:
                self.count("failed")
                continue
            self._send(producer, served)
        if producer is not None:
            producer.close(timeout=CLOSE_S)

    def _next(self) -> Served | None:
        """The next record; None once there is none left and the end was asked for."""
        while True:
            try:
                return self._waiting.get(timeout=1.0)
            except queue.Empty:
                if self._closing.is_set():
                    return None

    def _connect(self) -> Any:
        try:
            return new_producer(
                self.bootstrap_servers, self.partitioner, acks=1, enable_idempotence=False, linger_ms=20, **IMPATIENT
            )
        except StoreUnavailable as error:
            log.warning("feature log: %s; answers go on, nothing is learned from them", error)
            self._closing.wait(1.0)  # while it sleeps the buffer fills, and what does not fit is counted as dropped
            return None

    def _send(self, producer: Any, served: Served) -> None:
        try:
            future = producer.send(
                self.topic,
                key=served.client_id.encode(),
                value=feature_log.encode(served),
                timestamp_ms=served.at_ms,
            )
        except Exception as error:  # the record is lost, the next may go through; the metric says how many
            log.warning("feature log: a record of request %s was not sent: %s", served.request_id, error)
            self.count("failed")
            return
        future.add_callback(self._sent)
        future.add_errback(partial(self._failed, served.request_id))

    def _sent(self, _: object) -> None:
        self.count("sent")

    def _failed(self, request_id: str, error: object) -> None:
        log.warning("feature log: a record of request %s was not taken: %s", request_id, error)
        self.count("failed")


@dataclass(frozen=True, slots=True)
class Record:
    """A record to send: key, value, Kafka timestamp in milliseconds."""

    key: bytes
    value: bytes
    timestamp_ms: int


@dataclass(slots=True)
class EventSink:
    """Events to Kafka, acknowledged by all in-sync replicas before the call returns; from any thread but the loop's.

    Attributes:
        bootstrap_servers: where to begin.
        topic: of the events.
        wait_s: how long to wait for the acknowledgements.
        partitioner: that of the topic's other producers.
    """

    bootstrap_servers: str
    topic: str
    wait_s: float = 10.0
    partitioner: Partitioner = "murmur2"
    _producer: Any = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def send(self, records: Sequence[Record]) -> None:
        """All records are in Kafka when this returns.

        Raises:
            StoreUnavailable: not all of them are; sending all again is safe, events have ids.
        """
        from kafka.errors import KafkaError

        producer = self._connected()
        until_s = time.monotonic() + self.wait_s
        try:
            futures = [
                producer.send(self.topic, key=record.key, value=record.value, timestamp_ms=record.timestamp_ms)
                for record in records
            ]
            producer.flush(timeout=self.wait_s)
            for future in futures:
                future.get(timeout=max(0.0, until_s - time.monotonic()))
        except KafkaError as error:
            self._forget(producer)
            raise StoreUnavailable(f"Kafka did not take the events: {error}; send them again") from error

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            if self._producer is not None:
                self._producer.close(timeout=CLOSE_S)

    def _forget(self, producer: Any) -> None:
        """The next events get a new producer: kafka-python's sends nothing more once a batch expired in a retry."""
        with self._lock:
            if self._producer is not producer:
                return  # another thread was here first
            self._producer = None
        abandon(producer)

    def _connected(self) -> Any:
        with self._lock:
            if self._producer is None:
                wait_ms = int(self.wait_s * 1000)
                self._producer = new_producer(
                    self.bootstrap_servers,
                    self.partitioner,
                    acks="all",
                    linger_ms=1,
                    **IMPATIENT,
                    request_timeout_ms=wait_ms // 2,
                    delivery_timeout_ms=wait_ms,
                )
            return self._producer
