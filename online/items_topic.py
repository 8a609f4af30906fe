"""Keeps the catalogue as the compacted items topic says: a thread reads it from its beginning and then follows it.

Every worker reads every partition, without a consumer group: each needs all items. A record that cannot be read is
counted and logged once a reason; it changes nothing, and dead-lettering it is not the business of every worker.

What had to leave the catalogue and is asked for is read again from where it lies, on a second connection.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headrace import BadEvent
from headrace.online.catalogue import Catalogue, Place
from headrace.streams.events import CatalogueEvent, EventLimits, decode_item
from headrace.streams.kafka_access import clients

log = logging.getLogger(__name__)

POLL_MS: Final = 200
RECORDS: Final = 500
AGAIN: Final = 100
AGAIN_S: Final = 2.0
BOOTSTRAP_MS: Final = 3_000


@dataclass(slots=True)
class ItemsTopic:
    """The thread that fills the catalogue.

    Attributes:
        count: told "applied" or the reason of a bad record.
        caught_up: set once the end was reached that the topic had at the start.
        settled: set then, or when the topic could not be read for the first time: nothing to wait for.
    """

    bootstrap_servers: str
    topic: str
    catalogue: Catalogue
    count: Callable[[str], None]
    limits: EventLimits = field(default_factory=EventLimits)
    caught_up: threading.Event = field(default_factory=threading.Event, init=False)
    settled: threading.Event = field(default_factory=threading.Event, init=False)
    _ending: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _again: Any = field(default=None, init=False)
    _reasons: set[str] = field(default_factory=set, init=False)

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="items", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; one that still waits for a broker has nothing to lose and ends with the process."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        from kafka.errors import KafkaError

        while not self._ending.is_set():
            try:
                self._follow()
            except (KafkaError, OSError) as error:
                log.warning("items: %s; trying again, known texts stay", error)
                self.settled.set()
                self._ending.wait(AGAIN_S)

    def _consumer(self, records: int) -> Any:
        from kafka import KafkaConsumer

        return KafkaConsumer(
            **clients(self.bootstrap_servers),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            enable_auto_commit=False,
            max_poll_records=records,
        )

    def _follow(self) -> None:
        from kafka import TopicPartition

        consumer = self._consumer(RECORDS)
        try:
            numbers = consumer.partitions_for_topic(self.topic)
            if not numbers:
                log.warning("items: there is no topic %s yet", self.topic)
                self.settled.set()
                self._ending.wait(AGAIN_S)
                return
            partitions = [TopicPartition(self.topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while not self._ending.is_set():
                for batch in consumer.poll(timeout_ms=POLL_MS).values():
                    self.catalogue.apply(filter(None, map(self._event, batch)))
                if not self.caught_up.is_set() and all(consumer.position(p) >= ends[p] for p in partitions):
                    self.caught_up.set()
                    self.settled.set()
                self._read_again(partitions)
        finally:
            consumer.close()
            if self._again is not None:
                self._again.close()
                self._again = None

    def _read_again(self, partitions: Sequence[Any]) -> None:
        """Reads what was missed from where it lies, one record a seek, and then looks at the topic again."""
        for place in self.catalogue.take_missed(AGAIN):
            if self._again is None:
                self._again = self._consumer(1)
                self._again.assign(partitions)
            partition = next(one for one in partitions if one.partition == place.partition)
            self._again.pause(*partitions)
            self._again.resume(partition)
            self._again.seek(partition, place.offset)
            for record in self._again.poll(timeout_ms=POLL_MS, max_records=1).get(partition, ()):
                found = self._event(record) if record.offset == place.offset else None
                if found is not None:
                    self.catalogue.restore(*found)

    def _event(self, record: Any) -> tuple[CatalogueEvent, Place] | None:
        try:
            event = decode_item(record.key, record.value, record.timestamp, self.limits)
        except BadEvent as error:
            self.count(error.reason)
            if error.reason not in self._reasons:
                self._reasons.add(error.reason)
                log.warning("items: partition %d offset %d is not used: %s", record.partition, record.offset, error)
            return None
        self.count("applied")
        return event, Place(record.partition, record.offset)
