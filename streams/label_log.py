"""The topic of labels as one teacher's worker sees it: what lies there already, and more of it.

Labels lie in the partition of their pair, and whoever owns that partition of the pairs is the only one who writes there
for this teacher. So what it has read once stays true, and it reads only what came since.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headrace.streams.kafka_access import clients
from headrace.streams.log_extent import log_extent
from headrace.streams.pairs import LabelledPair, encode, label_key, label_name
from headrace.streams.replay import replay
from headrace.streams.topics import BOOTSTRAP_MS, Source

_SEND_MS: Final = 30_000


@dataclass(slots=True)
class _Known:
    """Pairs of a partition that have their label, and up to where the labels were read."""

    pairs: set[str] = field(default_factory=set)
    position: int = 0


class LabelLog:
    """Labels of one teacher and prompt.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: of labels.
        teacher: its id.
        prompt: hash of the wording.
    """

    def __init__(self, bootstrap: str, topic: Source, teacher: str, prompt: str) -> None:
        self._bootstrap, self._topic, self._ours = bootstrap, topic, (teacher, prompt)
        self._known: dict[int, _Known] = {}
        self._producer: Any = None
        self._sent: list[Any] = []

    def learn(self, partitions: Iterable[int]) -> None:
        """Reads which pairs of these partitions have their label, and forgets all other partitions.

        A label takes 130 bytes of memory and 10 us of a core. Nothing else may be called meanwhile.

        Raises:
            kafka.errors.KafkaError: no broker answers, or one refuses.
            SourceChanged: the topic does not hold what it held before.
        """
        self._known = {partition: self._known.get(partition) or _Known() for partition in partitions}
        if not self._known:
            return
        extent = log_extent(self._bootstrap, self._topic.topic, self._topic.partitions)
        stretch = {part: (max(one.position, extent[part][0]), extent[part][1]) for part, one in self._known.items()}
        for records in replay(self._bootstrap, self._topic.topic, stretch):
            for record in records:
                name = label_name(record.value)
                if name is not None and (name.teacher, name.prompt) == self._ours:
                    self._known[record.partition].pairs.add(name.pair_id)
        for partition, (_, end) in stretch.items():
            self._known[partition].position = end

    def labelled(self) -> dict[int, set[str]]:
        """The pairs of each partition that have their label, as it was learned; whoever writes labels adds to them."""
        return {partition: known.pairs for partition, known in self._known.items()}

    def send(self, labels: Sequence[tuple[int, LabelledPair]]) -> None:
        """Begins to write labels, each into its partition.

        Raises:
            kafka.errors.KafkaError: no broker answers.
        """
        if self._producer is None:
            self._producer = self._opened()
        for partition, label in labels:
            sent = self._producer.send(
                self._topic.topic,
                key=label_key(label),
                value=encode(label),
                partition=partition,
                timestamp_ms=label.at_ms,
            )
            self._sent.append(sent)

    def is_safe(self) -> bool:
        """Whether all that was sent lies in every in-sync replica.

        Raises:
            kafka.errors.KafkaError: some of it was not taken.
        """
        if not all(one.is_done for one in self._sent):
            return False
        for one in self._sent:
            one.get(timeout=0.1)
        self._sent.clear()
        return True

    def abandon(self) -> None:
        """Ends the producer: what it did not send yet it never will.

        Called after a failure too: kafka-python's sends nothing more once a batch expired in a retry.
        """
        if self._producer is not None:
            with suppress(KafkaError):  # it waits for what it cannot send
                self._producer.close(timeout=0)
        self._producer = None
        self._sent.clear()

    def _opened(self) -> Any:
        return KafkaProducer(
            **clients(self._bootstrap),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            client_id="headrace-label",
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_block_ms=_SEND_MS,
            request_timeout_ms=_SEND_MS // 2,
            delivery_timeout_ms=_SEND_MS,
            reconnect_backoff_max_ms=1_000,
            allow_auto_create_topics=False,
        )
