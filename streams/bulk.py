"""The bulk driver: thousands of records at a time from kafka-python into an `Ingestion`.

While one micro-batch waits for Redis on a thread, the next one is read and decoded. One consumer group fills one
generation. Offsets are committed by hand, and only those that `Ingestion.acknowledged`
names. While the store is away the partitions are paused and polled on, so that the group keeps this member. A member
that lost its partitions without noticing does no harm: the fences drop what it repeats, Kafka refuses its commits.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import (
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import OffsetAndMetadata

from headrace import SourceChanged
from headrace.streams.generations import Generation, check_positions, group_of
from headrace.streams.ingestion import Ingestion, Record, pause_s
from headrace.streams.kafka_access import METADATA_MS, clients, poll_ms
from headrace.streams.topics import BOOTSTRAP_MS, check_source, source_of

log = logging.getLogger(__name__)

_FETCH_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BulkSettings:
    """How the driver reads.

    Attributes:
        bootstrap: brokers, HOST:PORT separated by commas.
        namespace: names the consumer group, with the generation.
        batch: records of one micro-batch, at most.
        pending: records that may wait to be durable; above it nothing more is read.
        commit_ms: between two commits.
        idle_ms: how long to wait for records.
        settle_ms: how long a partition that is taken away may take to settle.
        drain_ms: how long the end may take.
        session_ms: after which silence the group gives this member's partitions to others.
    """

    bootstrap: str
    namespace: str
    batch: int = 4_000
    pending: int = 80_000
    commit_ms: int = 500
    idle_ms: int = 100
    settle_ms: int = 1_000
    drain_ms: int = 10_000
    session_ms: int = 10_000


class Progress(Protocol):
    """Is told, between two batches, how far the driver is."""

    def __call__(self, driver: "BulkDriver") -> None:
        """Looks at the driver; must not block."""


@dataclass(slots=True)
class _Membership:
    """What the group said and the loop has not yet looked at."""

    assigned: set[Any] = field(default_factory=set)
    fresh: bool = False


class BulkDriver:
    """Reads a topic into an ingestion until it is told to stop.

    Attributes:
        taken: records that were read.
        committed: partition -> the offset that Kafka holds for this group, as far as this member knows.
        ends: partition -> the end of the log, as the last fetch told.
        store_away: why the store does not answer; "" while it does.
        ages_ms: for the last micro-batches the age of their oldest record once it was applied.

    Args:
        settings: how to read.
        generation: what is filled; names the topic.
        ingestion: applies the records.
        stop: asked between two batches; True ends the run in order.
        progress: told between two batches.
    """

    def __init__(
        self,
        settings: BulkSettings,
        generation: Generation,
        ingestion: Ingestion,
        stop: Callable[[], bool],
        progress: Progress | None = None,
    ) -> None:
        self.taken = 0
        self.committed: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.store_away = ""
        self.ages_ms: deque[int] = deque(maxlen=1_000)
        self._oldest_ms: deque[int] = deque(maxlen=1_000)
        self.group = group_of(settings.namespace, generation.name)
        self.outcomes: Counter[str] = ingestion.outcomes
        self._settings, self._generation, self._ingestion = settings, generation, ingestion
        self._stop, self._progress = stop, progress
        self._topic = generation.source.topic
        self._membership = _Membership()
        self._paused = False
        self._failed = False
        self._failures = 0
        self._commit_at = 0.0
        self._consumer: Any = None
        self._thread = ThreadPoolExecutor(1, "headrace-advance")
        self._step: Future[bool] | None = None

    def run(self) -> None:
        """Reads until `stop` says so; then settles, commits and leaves the group.

        Raises:
            SourceChanged: the topic is not the one the generation was built from, or the log lost what was not read.
            kafka.errors.KafkaError: no broker answers at the start.
        """
        self._consumer = KafkaConsumer(
            **clients(self._settings.bootstrap),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            client_id="headrace-bulk",
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset="none",  # a place that is not there is an error, never a jump
            allow_auto_create_topics=False,
            session_timeout_ms=self._settings.session_ms,
            heartbeat_interval_ms=self._settings.session_ms // 4,
            metadata_max_age_ms=METADATA_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=100,
            max_poll_records=self._settings.batch,
            metrics_enabled=False,
        )
        try:
            self._consumer.subscribe([self._topic], listener=_Listener(self))
            while not self._stop():
                self._turn()
            self._drain()
        except BaseException:
            self._failed = True
            raise
        finally:
            self._consumer.close(autocommit=False, timeout_ms=self._settings.drain_ms)
            self._thread.shutdown()

    @property
    def lag(self) -> dict[int, int]:
        """For each partition of this member the records that are not acknowledged yet."""
        return {part: max(0, end - self.committed.get(part, 0)) for part, end in self.ends.items()}

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions of this member, once their positions are known."""
        return frozenset(self.committed)

    def _turn(self) -> None:
        """One poll and what follows from it, while the step before goes on."""
        ingestion = self._ingestion
        waiting = self._step is not None and not self._step.done()
        records = self._poll(0 if waiting else self._settings.idle_ms)
        if self._membership.fresh:
            self._welcome()
            records = [record for record in records if record.partition in self.committed]
        decoded = ingestion.decoded(records) if records else None
        self._join()
        if decoded is not None:
            ingestion.queue(decoded)
            self.taken += len(records)
            self._oldest_ms.append(min(record.timestamp_ms for record in records))
        if time.monotonic() >= self._commit_at:
            self._commit()
            self._commit_at = time.monotonic() + self._settings.commit_ms / 1000
        if self._progress is not None:
            self._progress(self)
        if self.store_away:
            self._wait_for_store()
        if ingestion.pending:
            self._step = self._thread.submit(ingestion.advance)
        self._bound(ingestion.pending + self._uncommitted())

    def _join(self) -> None:
        """Waits for the step that is under way: before anything else touches the ingestion."""
        step, self._step = self._step, None
        if step is None:
            return
        if step.result():
            if self.store_away:
                log.info("the store is back")
            self.store_away, self._failures = "", 0
            now_ms = time.time_ns() // 1_000_000
            self.ages_ms.extend(now_ms - oldest_ms for oldest_ms in self._oldest_ms)
            self._oldest_ms.clear()
            return
        failure = self._ingestion.last_failure
        if failure != self.store_away:
            log.warning("nothing is acknowledged: %s", failure)
        self.store_away = failure
        self._failures += 1

    def _wait_for_store(self) -> None:
        """Lets some time pass without giving up the membership, longer each time; takes what comes."""
        self._pause()
        until = time.monotonic() + pause_s(self._failures)
        while time.monotonic() < until and not self._stop() and not self._membership.fresh:
            late = self._poll(50)  # a paused partition gives what was fetched before
            if late and not self._membership.fresh:
                self._ingestion.take(late)
                self.taken += len(late)

    def _poll(self, wait_ms: int) -> list[Record]:
        try:
            polled = self._consumer.poll(timeout_ms=poll_ms(self._consumer, wait_ms), max_records=self._settings.batch)
        except NoOffsetForPartitionError:
            return []  # a new group: `_welcome` seeks
        except (OffsetOutOfRangeError, LogTruncationError, UnknownTopicOrPartitionError) as error:
            log.warning("%s: %s", self._topic, error)
            check_source(self._generation.source, source_of(self._settings.bootstrap, self._topic))
            self._membership.fresh = True  # `_welcome` looks at where the log begins and ends now
            return []
        if polled:
            self._check_topic()
        return [
            Record(found.partition, found.offset, found.key, found.value, found.timestamp)
            for records in polled.values()
            for found in records
        ]

    def _check_topic(self) -> None:
        """The topic's id as the consumer's last metadata told: costs nothing, so it is looked at with every batch."""
        topic_id = self._consumer._client.cluster.topic_id(self._topic)
        if topic_id is not None and str(topic_id) != self._generation.source.topic_id:
            raise SourceChanged(
                f"{self._topic} was deleted and made again (topic id {self._generation.source.topic_id}, now"
                f" {topic_id}). The state cannot go on from it: fill a new generation with `headrace rebuild`."
            )

    def _welcome(self) -> None:
        """Finds the positions of the partitions that the group gave this member."""
        self._join()
        self._check_topic()
        places = sorted(self._membership.assigned)
        if not places:
            self._ingestion.assigned({})
            self.committed, self.ends = {}, {}
            self._membership.fresh = False
            return
        begins, ends = self._consumer.beginning_offsets(places), self._consumer.end_offsets(places)
        committed = {place.partition: self._consumer.committed(place) for place in places}
        if max(committed) >= self._generation.source.partitions:
            raise SourceChanged(
                f"{self._topic} has more than the {self._generation.source.partitions} partitions that generation"
                f" {self._generation.name} was built from: shoppers' records now lie in two places. Fill a new"
                " generation with `headrace rebuild`."
            )
        log_of = {place.partition: (begins[place], ends[place]) for place in places}
        positions = check_positions(self._generation, committed, log_of)
        for place in places:
            self._consumer.seek(place, positions[place.partition])
        self._consumer.resume(*places)
        self._paused = False
        self._ingestion.assigned(positions)
        self.committed = positions
        self.ends = {place.partition: ends[place] for place in places}
        self._membership.fresh = False
        log.info("reading %s from %s", self._topic, positions)

    def _bound(self, pending: int) -> None:
        if pending > self._settings.pending or self.store_away:
            self._pause()
        elif self._paused and pending <= self._settings.pending // 2:
            self._consumer.resume(*self._consumer.assignment())
            self._paused = False

    def _pause(self) -> None:
        if not self._paused:
            self._consumer.pause(*self._consumer.assignment())
            self._paused = True

    def _uncommitted(self) -> int:
        """Records that are durable and not committed: shoppers keep their increments until they are."""
        return sum(offset - self.committed[part] for part, offset in self._due().items())

    def _due(self) -> dict[int, int]:
        """What is durable and not committed yet."""
        return {
            part: offset
            for part, offset in self._ingestion.acknowledged().items()
            if part in self.committed and offset > self.committed[part]
        }

    def _behind_markers(self) -> dict[int, int]:
        """Where the reader stands beyond the last record: a transaction's end takes an offset and is no record.

        Nobody acknowledges such an offset, and a partition that ends with one would look as if it stood still.
        """
        if self._ingestion.pending or self._membership.fresh:
            return {}
        stands = {
            place.partition: self._consumer.position(place)
            for place in self._consumer.assignment()
            if place.partition in self.committed
        }
        return {part: offset for part, offset in stands.items() if offset and offset > self.committed[part]}

    def _offsets(self, due: Mapping[int, int]) -> dict[Any, Any]:
        return {TopicPartition(self._topic, part): OffsetAndMetadata(offset, "", -1) for part, offset in due.items()}

    def _commit(self) -> None:
        due = self._due()
        for place in self._consumer.assignment():
            if (end := self._consumer.highwater(place)) is not None:
                self.ends[place.partition] = end
        due |= self._behind_markers()
        if not due:
            return
        try:
            self._consumer.commit(self._offsets(due), timeout_ms=self._settings.session_ms)
        except KafkaError as error:
            log.info("offsets were not committed, again soon: %r", error)
            return
        self._was_committed(due)

    def _was_committed(self, due: Mapping[int, int]) -> None:
        self.committed.update(due)
        self._ingestion.committed(due)

    def _drain(self) -> None:
        """Settles what was taken, within a bound, and commits it."""
        self._join()
        until = time.monotonic() + self._settings.drain_ms / 1000
        while self._ingestion.pending and time.monotonic() < until and not self.store_away:
            if not self._ingestion.advance(200):  # the store went away just now: what is not settled comes again
                break
        self._commit()

    async def leave(self, places: set[Any]) -> None:
        """Settles what can be settled shortly, commits it, and forgets the partitions; runs inside a poll."""
        del places  # this protocol takes all of them away
        if self._failed:
            return
        self._join()
        until = time.monotonic() + self._settings.settle_ms / 1000
        while self._ingestion.pending and not self.store_away and time.monotonic() < until:
            if not self._ingestion.advance(100):
                break
        if due := self._due():
            try:
                await self._consumer.commit_async(self._offsets(due))
                self._was_committed(due)
            except KafkaError as error:
                log.info("offsets were not committed before the rebalance: %r", error)
        self.forget()

    def forget(self) -> None:
        """Forgets every partition: whoever owns them reads again from what is committed."""
        self._join()
        self._ingestion.assigned({})
        self.committed, self.ends = {}, {}

    def arrive(self, places: set[Any]) -> None:
        """Holds new partitions until `_welcome` knows where to begin."""
        self._consumer.pause(*places)
        self._membership = _Membership(set(places), fresh=True)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Hands the group's calls, made on the consumer's own thread while `poll` waits for them, to the driver."""

    def __init__(self, driver: BulkDriver) -> None:
        self._driver = driver

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await self._driver.leave(revoked)

    async def on_partitions_lost(self, lost: set[Any]) -> None:
        self._driver.forget()

    async def on_partitions_assigned(self, assigned: set[Any]) -> None:
        self._driver.arrive(assigned)
