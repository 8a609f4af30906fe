"""Writes records into a topic, in their order, each where its key belongs, and says when they are safe."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaProducer

from headrace.streams.kafka_access import clients
from headrace.streams.partitioners import Partitioner, partition_of
from headrace.streams.topics import BOOTSTRAP_MS

_SEND_S: Final = 120


class TopicWriter:
    """An idempotent producer that waits for all replicas. Closed at the end of a ``with``.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: where to write.
        partitions: how many it has.
        partitioner: that of the topic's other producers.

    Raises:
        kafka.errors.KafkaError: from every method, when brokers do not answer or refuse.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, partitioner: Partitioner = "murmur2") -> None:
        self._topic, self._partitions, self._partitioner = topic, partitions, partitioner
        self._waiting: list[Any] = []
        self._producer = KafkaProducer(
            **clients(bootstrap),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            client_id="headrace-writer",
            acks="all",
            enable_idempotence=True,
            linger_ms=20,
            batch_size=128 * 1024,
            allow_auto_create_topics=False,
        )

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends its connection; what was not flushed may or may not be written."""
        self._producer.close(timeout=_SEND_S if kind is None else 1)

    def send(
        self, key: bytes, value: bytes | None, timestamp_ms: int, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Begins to write a record with this Kafka timestamp; ``flush`` says when it is safe."""
        partition = partition_of(key, self._partitions, self._partitioner)
        self._waiting.append(
            self._producer.send(
                self._topic,
                key=key,
                value=value,
                partition=partition,
                timestamp_ms=timestamp_ms,
                headers=list(headers),
            )
        )

    def flush(self) -> None:
        """Waits until everything that was sent is safe."""
        self._producer.flush(timeout=_SEND_S)
        for future in self._waiting:
            future.get(timeout=_SEND_S)
        self._waiting.clear()
