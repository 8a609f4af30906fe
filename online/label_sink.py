"""Labels for others: examples and corrections as records of ``search.labels.v1``, by kafka-python."""

from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headrace import StoreUnavailable
from headrace.online.outbox import abandon
from headrace.streams.kafka_access import clients
from headrace.streams.labels import Example, Label, encode


class KafkaLabels:
    """A sink that answers when all in-sync replicas have the records.

    A record's key is the example's id (a correction's: that, the action and the item), so whoever applies records twice
    changes nothing.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: where they go.
        wait_s: how long to wait for the acknowledgements.

    Raises:
        StoreUnavailable: no broker answers.
    """

    def __init__(self, bootstrap: str, topic: str, wait_s: float = 30.0) -> None:
        self._bootstrap, self._topic, self._wait_s = bootstrap, topic, wait_s
        self._producer: Any = None
        self._connect()

    def send(self, labels: tuple[Label, ...]) -> None:
        """All of them are in Kafka when this returns; sending them again is harmless.

        Raises:
            StoreUnavailable: not all of them are.
        """
        if self._producer is None:
            self._connect()
        try:
            sent = [self._send(label) for label in labels]
            self._producer.flush(timeout=self._wait_s)
            for future in sent:
                future.get(timeout=0.1)
        except KafkaError as error:
            # the next labels get a new one: kafka-python's sends nothing more once a batch expired in a retry
            abandoned, self._producer = self._producer, None
            abandon(abandoned)
            raise StoreUnavailable(f"Kafka did not take the labels: {error!r}") from error

    def close(self) -> None:
        """Ends the connection."""
        if self._producer is not None:
            self._producer.close(timeout=5)

    def _connect(self) -> None:
        wait_ms = int(self._wait_s * 1000)
        try:
            self._producer = KafkaProducer(
                **clients(self._bootstrap),
                bootstrap_timeout_ms=10_000,
                client_id="headrace-refresh",
                acks="all",
                reconnect_backoff_max_ms=1_000,
                linger_ms=5,
                max_block_ms=wait_ms,
                request_timeout_ms=wait_ms // 2,
                delivery_timeout_ms=wait_ms,
            )
        except KafkaError as error:
            raise StoreUnavailable(f"Kafka at {self._bootstrap} does not answer: {error!r}") from error

    def _send(self, label: Label) -> Any:
        if isinstance(label, Example):
            key, at_ms = label.id, label.matures_ms
        else:
            # A correction must not take its example's place where the topic is compacted.
            key, at_ms = f"{label.example_id}/{label.action}/{label.item_id}", label.at_ms
        return self._producer.send(self._topic, key=key.encode(), value=encode(label), timestamp_ms=max(0, at_ms))
