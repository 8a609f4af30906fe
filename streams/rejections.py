"""Records that cannot be used, on their way to ``<topic>.dlq`` or ``.late``: safe there before anything goes on."""

from collections.abc import Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headrace import StoreUnavailable
from headrace.streams.dead_letters import DeadLetter, dead_letter
from headrace.streams.ingestion import Rejected
from headrace.streams.kafka_access import clients
from headrace.streams.topics import DEAD_LETTER_BYTES

_TIMEOUT_S: Final = 30.0
_HEADER_BYTES: Final = 64 * 1024


class Rejections:
    """Writes dead letters of one topic; opens its producer with the first one.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: whose records are rejected.
        into: the topic beside whose letters they go; that topic itself if not given.
    """

    def __init__(self, bootstrap: str, topic: str, into: str = "") -> None:
        self._bootstrap, self._topic, self._into = bootstrap, topic, into or topic
        self._producer: Any = None

    def __call__(self, rejected: Sequence[Rejected]) -> None:
        """Writes letters and returns when every in-sync replica has them; may write one twice after a failure.

        Raises:
            StoreUnavailable: Kafka did not take them: nothing may be acknowledged.
        """
        try:
            producer = self._open()
            sent = [
                self._send(producer, dead_letter(self._topic, record, error, self._into)) for record, error in rejected
            ]
            producer.flush(timeout=_TIMEOUT_S)
            for future in sent:
                future.get(timeout=_TIMEOUT_S)
        except KafkaError as error:
            self.close()
            raise StoreUnavailable(
                f"{len(rejected)} records cannot be put into {self._into}.dlq or .late ({error}); is the topic there?"
                " `headrace topics create` makes it."
            ) from error

    def close(self) -> None:
        """Ends the producer; what was not written yet was not acknowledged either."""
        if self._producer is not None:
            self._producer.close(timeout=1.0)
        self._producer = None

    def _send(self, producer: Any, letter: DeadLetter) -> Any:
        # the client takes no record without key and value; both are read alike, as nothing
        value = b"" if letter.key is None and letter.value is None else letter.value
        return producer.send(letter.topic, value=value, key=letter.key, headers=list(letter.headers))

    def _open(self) -> Any:
        if self._producer is None:
            self._producer = KafkaProducer(
                **clients(self._bootstrap),
                client_id="headrace-rejections",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_request_size=DEAD_LETTER_BYTES + _HEADER_BYTES,
                max_block_ms=int(_TIMEOUT_S * 1000),
                delivery_timeout_ms=int(_TIMEOUT_S * 1000),
                request_timeout_ms=int(_TIMEOUT_S * 1000) - 5_000,
                allow_auto_create_topics=False,
            )
        return self._producer
