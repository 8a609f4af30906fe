"""A topic of dead letters on Kafka: read from its beginning, and emptied back into the topic the letters came from."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from headrace.streams.dead_letters import (
    NOTE_PARTITION,
    REDRIVEN,
    Ledger,
    Letter,
    Note,
    Redriven,
    note_record,
    overtaken,
    read,
    scan_from,
)
from headrace.streams.ingestion import Record
from headrace.streams.kafka_access import clients
from headrace.streams.topics import BOOTSTRAP_MS, DEAD_LETTER_BYTES

BATCH: Final = 500
"""Letters between two notes: what a crash leaves in doubt, and what lies in memory."""

_STALLED_S: Final = 30
_SEND_S: Final = 60


@dataclass(slots=True)
class Census:
    """What lies in a topic of letters.

    Attributes:
        ledger: what the notes say.
        ends: partition -> the offset up to which this was counted.
        letters: letters, copies counted once.
        strangers: records that are neither letters nor notes.
        arrived: of the letters in doubt those that did go out; the ledger counts them as done.
    """

    ledger: Ledger = field(default_factory=Ledger)
    ends: dict[int, int] = field(default_factory=dict)
    letters: int = 0
    strangers: int = 0
    arrived: set[str] = field(default_factory=set)


class LetterBox:
    """The letters of one topic, e.g. ``search.events.v1.dlq``. Closed at the end of a ``with``.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: the topic of letters.
        target: the topic they came from.

    Raises:
        kafka.errors.KafkaError: from every method, when brokers do not answer or refuse.
    """

    def __init__(self, bootstrap: str, topic: str, target: str) -> None:
        self.topic, self.target = topic, target
        self._bootstrap = bootstrap
        self._consumer = self._reader()
        self._producer: KafkaProducer | None = None

    def __enter__(self) -> Self:
        """The box itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends its connections."""
        self._consumer.close()
        if self._producer is not None:
            self._producer.close(timeout=_SEND_S)

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 when it is not there."""
        return len(self._consumer.partitions_for_topic(topic) or ())

    def census(self) -> Census:
        """Reads the whole topic once, and in the topic they go to what tells of letters in doubt."""
        found = Census(ends=self._ends(self.topic))
        seen: set[str] = set()
        for _, entry in self._entries({}, found.ends):
            if isinstance(entry, Note):
                found.ledger.take(entry)
            elif entry is None:
                found.strangers += 1
            else:
                seen.add(entry.identity)
        found.letters = len(seen)
        found.arrived = self._arrived(found.ledger.doubtful)
        found.ledger.done |= found.arrived
        return found

    def settle(self, arrived: Collection[str], run: str) -> None:
        """Notes as done what a run that crashed had put back, so that nobody has to look for it again."""
        for start in range(0, len(arrived), BATCH):
            self._note(Note("done", run, tuple(sorted(arrived)[start : start + BATCH])))

    def letters(self, ends: Mapping[int, int]) -> Iterator[Letter]:
        """The letters before the given ends, each once; those of one partition in their order."""
        seen: set[str] = set()
        for _, entry in self._entries({}, ends):
            if isinstance(entry, Letter) and entry.identity not in seen:
                seen.add(entry.identity)
                yield entry

    def letter(self, partition: int, offset: int) -> Letter | Note | None:
        """What lies at one place; None when there is nothing, or something that is no letter."""
        if offset >= self._ends(self.topic).get(partition, 0):
            return None
        for record, entry in self._entries({partition: offset}, {partition: offset + 1}):
            if (record.partition, record.offset) == (partition, offset):
                return entry
        return None

    def put_back(self, batch: Sequence[Redriven], run: str, since: int) -> int | None:
        """Puts a batch back: notes the intent, sends, waits until all are safe, notes that it is done.

        Args:
            batch: what to put back; at most ``BATCH``.
            run: this redrive's name.
            since: the end of the notes' partition when they were last read.

        Returns:
            The end of the notes' partition now, for the next batch; None when another run wrote a note since: nothing
            was sent.
        """
        letters = tuple(dict(one.headers)[REDRIVEN].decode() for one in batch)
        intent = Note("intent", run, letters, self._ends(self.target))
        at = self._note(intent)
        if at > since:
            read_again = [entry for _, entry in self._entries({NOTE_PARTITION: since}, {NOTE_PARTITION: at})]
            if overtaken(intent, [entry for entry in read_again if isinstance(entry, Note)]):
                return None
        futures = [
            self._sender().send(
                self.target,
                key=one.key,
                value=one.value,
                headers=list(one.headers),
                partition=one.partition,
                timestamp_ms=one.timestamp_ms if one.timestamp_ms >= 0 else None,
            )
            for one in batch
        ]
        for future in futures:
            future.get(timeout=_SEND_S)
        return self._note(Note("done", run, letters)) + 1

    def _reader(self) -> KafkaConsumer:
        return KafkaConsumer(
            **clients(self._bootstrap),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            client_id="headrace-dlq",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=2 * DEAD_LETTER_BYTES,
        )

    def _sender(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(
                **clients(self._bootstrap),
                bootstrap_timeout_ms=BOOTSTRAP_MS,
                client_id="headrace-dlq",
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_request_size=DEAD_LETTER_BYTES,
                allow_auto_create_topics=False,
            )
        return self._producer

    def _note(self, note: Note) -> int:
        key, value, headers = note_record(note)
        sent = self._sender().send(self.topic, key=key, value=value, headers=list(headers), partition=NOTE_PARTITION)
        return int(sent.get(timeout=_SEND_S).offset)

    def _ends(self, topic: str) -> dict[int, int]:
        places = [TopicPartition(topic, one) for one in sorted(self._consumer.partitions_for_topic(topic) or ())]
        return {place.partition: end for place, end in self._consumer.end_offsets(places).items()}

    def _entries(
        self, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> Iterator[tuple[Record, Letter | Note | None]]:
        for found in self._records(self.topic, starts, ends):
            record = Record(found.partition, found.offset, found.key, found.value, found.timestamp)
            yield record, read(record, found.headers)

    def _arrived(self, doubtful: Mapping[str, Mapping[int, int]]) -> set[str]:
        """Those letters in doubt that did go out."""
        arrived: set[str] = set()
        starts = scan_from(doubtful)
        if not starts:
            return arrived
        ends = {partition: end for partition, end in self._ends(self.target).items() if partition in starts}
        for found in self._records(self.target, starts, ends):
            for name, value in found.headers:
                if name == REDRIVEN:
                    arrived.add(value.decode("ascii", "replace"))
        return arrived & doubtful.keys()

    def _records(self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Any]:
        """Every record from the starts (else the beginning) to before the ends."""
        places = [TopicPartition(topic, partition) for partition in ends]
        if not places:
            return
        consumer = self._reader()  # its own: a scan may be under way while something else is asked
        try:
            consumer.assign(places)
            beginnings = consumer.beginning_offsets(places)
            for place in places:
                consumer.seek(place, max(starts.get(place.partition, 0), beginnings[place]))
            moved = time.monotonic()
            while unread := [place for place in places if consumer.position(place) < ends[place.partition]]:
                polled = consumer.poll(timeout_ms=500)
                if polled:
                    moved = time.monotonic()
                elif time.monotonic() - moved > _STALLED_S:
                    raise KafkaTimeoutError(f"no record of {unread[0]} within {_STALLED_S} s")
                for place, records in polled.items():
                    yield from (record for record in records if record.offset < ends[place.partition])
        finally:
            consumer.close()
