"""Teacher workers: pairs of a topic in, their labels into another topic, as a consumer group over kafka-python.

A worker polls, asks the teacher on a thread of its own, writes the labels, waits until they are safe, and only then
commits. What it died between is asked again, and must not be written again. So labels lie in the partition that their
pair lies in, and a worker that is given a partition first reads which labels of this teacher and prompt lie there: it
needs no transaction to label nothing twice, and a pair that somebody sends again is passed over too.

The teacher may take minutes for a batch. Meanwhile the worker polls on, its partitions paused, so that the group keeps
it. Before it writes it commits where it stands once more: who is no longer a member is refused, and writes nothing. A
machine that is stopped between that answer and the write, and goes on when another worker has the partition, is what is
left: readers take the first label of a name (``pairs.FirstLabels``).
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from headrace import SourceChanged, StoreUnavailable
from headrace.streams.ingestion import Record, Rejected, pause_s
from headrace.streams.kafka_access import METADATA_MS, clients, poll_ms
from headrace.streams.label_log import LabelLog
from headrace.streams.label_queue import Due, LabelQueue
from headrace.streams.pairs import prompt_pair
from headrace.streams.partitioners import Partitioner, partition_of
from headrace.streams.teachers import Teacher, label_of
from headrace.streams.topics import BOOTSTRAP_MS, Source

log = logging.getLogger(__name__)

_FETCH_BYTES: Final = 512 * 1024
_POLL_RECORDS: Final = 1_000_000
"""All that was fetched: kafka-python never hands out the rest of what is paused half-way."""
_BUSY_MS: Final = 50
_SENDING_MS: Final = 5


@dataclass(frozen=True, slots=True)
class LabellingSettings:
    """How a worker reads and writes.

    Attributes:
        bootstrap: brokers, HOST:PORT separated by commas.
        pairs: the topic of pairs.
        labels: the topic of labels, with as many partitions.
        batch: pairs that the teacher is asked about at a time: what a kill costs.
        partitioner: that of whoever sends pairs.
        idle_ms: how long to wait for pairs.
        session_ms: after which silence the group gives this worker's partitions to others.
        drain_ms: how long the end may wait for Kafka.
    """

    bootstrap: str
    pairs: Source
    labels: Source
    batch: int = 256
    partitioner: Partitioner = "murmur2"
    idle_ms: int = 200
    session_ms: int = 10_000
    drain_ms: int = 10_000


@dataclass(slots=True)
class Counts:
    """What a worker did.

    Attributes:
        labelled: pairs. passed: records whose pair had its label. rejected: records that are none.
    """

    labelled: int = 0
    passed: int = 0
    rejected: int = 0


def label_group(pairs: Source, labels: Source, teacher: Teacher) -> str:
    """The consumer group of one teacher's workers; topics that were made again have another one."""
    named = "/".join((pairs.cluster_id, pairs.topic_id, labels.topic_id, teacher.id, teacher.prompt))
    return f"headrace.label.{pairs.topic}.{blake2b(named.encode(), digest_size=6).hexdigest()}"


class LabelWorker:
    """One member of a teacher's group: labels until it is told to stop.

    Attributes:
        counts: what was done.
        committed: partition -> the offset behind what is labelled and safe, of this worker's partitions.
        ends: partition -> the end of the pairs, as the last fetch told.
        away: why Kafka takes nothing; "" while it does.

    Args:
        settings: how to read and write.
        teacher: who is asked.
        reject: takes records that cannot be used; when it returns they are safe elsewhere.
        stop: asked between two steps; True ends the run in order.
        progress: is shown the worker between two steps; must not block.

    Raises:
        SourceChanged: the topics differ in their number of partitions.
    """

    def __init__(
        self,
        settings: LabellingSettings,
        teacher: Teacher,
        reject: Callable[[Sequence[Rejected]], None],
        stop: Callable[[], bool],
        progress: Callable[["LabelWorker"], None] | None = None,
    ) -> None:
        there, here = settings.pairs, settings.labels
        if there.partitions != here.partitions:
            raise SourceChanged(
                f"{there.topic} has {there.partitions} partitions and {here.topic} has {here.partitions}: a label lies"
                " where its pair lies, so make the topic of labels again, with as many (`headrace topics create`)"
            )
        self.counts, self.away = Counts(), ""
        self.committed: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.group = label_group(there, here, teacher)
        self._settings, self._teacher, self._reject = settings, teacher, reject
        self._stop, self._progress = stop, progress
        self._queue = LabelQueue(lambda key: partition_of(key, there.partitions, settings.partitioner))
        self._labels = LabelLog(settings.bootstrap, here, teacher.id, teacher.prompt)
        self._assigned: frozenset[int] = frozenset()
        self._fresh = False
        self._paused = False
        self._due: Due | None = None
        self._scored: dict[str, float] = {}
        self._sending = False
        self._work: Future[None] | None = None
        self._calls = 0
        self._learning: int | None = None
        self._failures, self._not_before = 0, 0.0
        self._consumer: Any = None
        self._thread = ThreadPoolExecutor(1, "headrace-teacher")

    @property
    def idle(self) -> bool:
        """Whether nothing that was read waits for its label, as far as this worker knows."""
        waiting = self._fresh or self._due is not None or len(self._queue) > 0
        return not waiting and all(self.committed.get(part, 0) >= end for part, end in self.ends.items())

    def run(self) -> None:
        """Labels until ``stop`` says so; then settles what is under way and leaves the group.

        Raises:
            kafka.errors.KafkaError: no broker answers at the start.
        """
        self._consumer = KafkaConsumer(
            **clients(self._settings.bootstrap),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            client_id="headrace-label",
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # labels that are there are passed over, so reading again does no harm
            allow_auto_create_topics=False,
            session_timeout_ms=self._settings.session_ms,
            heartbeat_interval_ms=self._settings.session_ms // 4,
            metadata_max_age_ms=METADATA_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=100,
            max_poll_records=_POLL_RECORDS,
            metrics_enabled=False,
        )
        try:
            self._consumer.subscribe([self._settings.pairs.topic], listener=_Listener(self))
            while not self._stop():
                self._turn(begin=True)
            self._finish()
        finally:
            self._labels.abandon()
            self._consumer.close(autocommit=False, timeout_ms=self._settings.drain_ms)
            self._thread.shutdown(cancel_futures=True)

    def _finish(self) -> None:
        """Waits for the teacher, whom nothing interrupts, and settles what it says, within a bound."""
        until_s = time.monotonic() + self._settings.drain_ms / 1000
        while self._work is not None or (self._due is not None and not self.away and time.monotonic() < until_s):
            if self._work is not None:
                until_s = time.monotonic() + self._settings.drain_ms / 1000
            self._turn(begin=False)

    def _turn(self, begin: bool) -> None:
        """One poll, and the next step of the batch, once the one before has ended."""
        self._queue.add(self._poll(self._wait_ms()))
        self._bound()
        try:
            self._collect()
            if self._work is None and time.monotonic() >= self._not_before:
                self._step(begin)
        except (KafkaError, StoreUnavailable) as error:
            self._fail(error)
        if self._progress is not None:
            self._progress(self)

    def _wait_ms(self) -> int:
        """How long the next poll may wait for pairs."""
        if self._work is not None or time.monotonic() < self._not_before:
            return _BUSY_MS
        if self._sending:
            return _SENDING_MS
        return 0 if self._fresh or self._due or len(self._queue) else self._settings.idle_ms

    def _step(self, begin: bool) -> None:
        """Begins what comes next: finding out what is labelled, asking the teacher, writing, committing."""
        if self._fresh:
            self._learning = self._calls
            self._work = self._thread.submit(self._labels.learn, self._assigned)
        elif self._due is not None and self._sending:
            if self._labels.is_safe():
                self._settle(self._due)
        elif self._due is not None:
            self._write(self._due)
        elif begin and (due := self._queue.take(self._settings.batch)):
            self._due = due
            self._work = self._thread.submit(self._ask, due)
        else:
            self._commit(self._behind_markers())

    def _collect(self) -> None:
        """Takes what the thread has done, if it has."""
        work = self._work
        if work is None or not work.done():
            return
        self._work, learned, self._learning = None, self._learning, None
        work.result()
        if learned == self._calls and self._fresh:  # else others had the partitions since, and what was learned is old
            self._welcome()

    def _welcome(self) -> None:
        """Begins to read the partitions of this worker, where they are committed."""
        places = [TopicPartition(self._settings.pairs.topic, partition) for partition in sorted(self._assigned)]
        begins, ends = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        for place in places:
            at = self._consumer.committed(place)
            begin = begins[place] if at is None or not begins[place] <= at <= ends[place] else at
            self.committed[place.partition] = begin
            self._consumer.seek(place, begin)
        self.ends = {place.partition: ends[place] for place in places}
        self._queue.own(self._labels.labelled())
        self._fresh, self._due = False, None
        if places:
            self._consumer.resume(*places)
        self._paused = False
        log.info("labelling partitions %s of %s", sorted(self._assigned), self._settings.pairs.topic)

    def _ask(self, due: Due) -> None:
        """Asks, on the thread, for what is not known from a batch that came to nothing; puts away what is no pair."""
        pairs = [pair for _, pair in due.pairs if pair.pair_id not in self._scored]
        if pairs:
            logits = self._teacher.logits([prompt_pair(pair) for pair in pairs])
            self._scored |= {pair.pair_id: float(logit) for pair, logit in zip(pairs, logits, strict=True)}
        due.refuse({pair.pair_id for _, pair in due.pairs if not isfinite(self._scored[pair.pair_id])})
        if due.rejected:
            self._reject(due.rejected)

    def _write(self, due: Due) -> None:
        """Sends the labels of a batch, if the group still counts on this worker."""
        self._commit(self.committed)
        now_ms = time.time_ns() // 1_000_000
        self._labels.send(
            [
                (record.partition, label_of(pair, self._scored[pair.pair_id], self._teacher, now_ms))
                for record, pair in due.pairs
            ]
        )
        self._sending = True

    def _settle(self, due: Due) -> None:
        """Commits a batch whose labels are safe."""
        self._due, self._sending = None, False
        self._queue.settle(due)
        self._commit(due.positions)
        for _, pair in due.pairs:
            self._scored.pop(pair.pair_id, None)
        if len(self._scored) > 4 * self._settings.batch:  # of batches whose partitions others have by now
            self._scored.clear()
        self.counts.labelled += len(due.pairs)
        self.counts.passed += due.passed
        self.counts.rejected += len(due.rejected)
        if self.away:
            log.info("Kafka takes labels again")
        self._failures, self.away = 0, ""

    def _fail(self, error: Exception) -> None:
        """Begins again from what is committed, a while later; what the teacher has said is kept."""
        if str(error) != self.away:
            log.warning("nothing is labelled: %s", error)
        self._labels.abandon()
        self._failures, self.away = self._failures + 1, str(error) or repr(error)
        self._not_before = time.monotonic() + pause_s(self._failures)
        self._queue.own({})
        self._due, self._sending, self._fresh = None, False, bool(self._assigned)

    def _poll(self, wait_ms: int) -> list[Record]:
        try:
            polled = self._consumer.poll(timeout_ms=poll_ms(self._consumer, wait_ms), max_records=_POLL_RECORDS)
        except KafkaError as error:
            self._fail(error)
            return []
        for place in polled:
            self.ends[place.partition] = self._consumer.highwater(place) or self.ends.get(place.partition, 0)
        return [
            Record(found.partition, found.offset, found.key, found.value, found.timestamp)
            for records in polled.values()
            for found in records
        ]

    def _bound(self) -> None:
        """Reads no more while two batches wait, and reads on when fewer do; all partitions alike."""
        full = self._fresh or len(self._queue) >= 2 * self._settings.batch
        if full != self._paused and (places := self._consumer.assignment()):
            (self._consumer.pause if full else self._consumer.resume)(*places)
            self._paused = full

    def _behind_markers(self) -> dict[int, int]:
        """Where the reader stands behind the last record: ends of transactions take offsets and are no records."""
        if self._fresh or len(self._queue):
            return {}
        places = [TopicPartition(self._settings.pairs.topic, partition) for partition in self.committed]
        stands = {place.partition: self._consumer.position(place) for place in places}
        return {part: at for part, at in stands.items() if at is not None and at > self.committed[part]}

    def _commit(self, positions: Mapping[int, int]) -> None:
        """Commits.

        Raises:
            kafka.errors.KafkaError: the group refused, or does not answer.
        """
        if positions:
            topic = self._settings.pairs.topic
            offsets = {TopicPartition(topic, part): OffsetAndMetadata(at, "", -1) for part, at in positions.items()}
            self._consumer.commit(offsets, timeout_ms=self._settings.session_ms)
            self.committed |= positions

    def assigned(self, partitions: frozenset[int]) -> None:
        """The group gave these partitions to this worker, and took all others; nothing is read before it has learned.

        Called inside a poll.
        """
        self._labels.abandon()
        self._queue.own({})
        self._calls += 1
        self._due, self._sending, self._assigned, self._fresh = None, False, partitions, bool(partitions)
        self.committed, self.ends = {}, {}
        if partitions:
            places = [TopicPartition(self._settings.pairs.topic, partition) for partition in partitions]
            self._consumer.pause(*places)
            self._paused = True


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the group's calls, made while ``poll`` waits for them, to the worker."""

    def __init__(self, worker: LabelWorker) -> None:
        self._worker = worker

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        self._worker.assigned(frozenset())

    async def on_partitions_lost(self, lost: set[Any]) -> None:
        self._worker.assigned(frozenset())

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        self._worker.assigned(frozenset(place.partition for place in assigned))
