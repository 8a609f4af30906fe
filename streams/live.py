"""The live driver: a faust-streaming application that feeds an `Ingestion`, some hundred events at a time.

faust does the consumer group and the fetching. What must hold does not rest on it (docs/decisions/0011):

- Nothing is ever raised out of the agent: faust acknowledges what raised. A store that is away is waited for; a bug
  ends the whole worker, and nothing that was not durable is acknowledged.
- Offsets are committed here, and only those that `Ingestion.acknowledged` names; faust is told of no event that it is
  done, so it commits nothing of its own.
- What faust delivers is compared with what must come next in each partition. What it skips (around rebalances it does)
  is read from Kafka by hand before anything behind it is taken; what comes twice is left out.
- A place that is not in the log is an error, never a jump to either end of it.
- The worker is run from here, not by faust's command line, which turns a web server on and takes over the logging.
"""

import asyncio
import logging
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import faust
from faust.types import TP
from kafka.errors import KafkaError

from headrace import SourceChanged
from headrace.streams.generations import Generation, check_positions, group_of
from headrace.streams.ingestion import Ingestion, Record, pause_s
from headrace.streams.kafka_access import METADATA_MS, access
from headrace.streams.log_extent import committed_offsets, log_extent, seed_offsets
from headrace.streams.replay import replay
from headrace.streams.topics import check_source, source_of

log = logging.getLogger(__name__)

_TICK_S: Final = 0.02
_QUIET_S: Final = 3.0
_MARKERS: Final = 1_000
"""Between the last record and the end of a partition: more than so many offsets are lag, not ends of transactions."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How the driver reads.

    Attributes:
        bootstrap: brokers, HOST:PORT separated by commas.
        namespace: names the consumer group, with the generation.
        batch: events of one micro-batch, at most.
        within_s: how long a micro-batch may fill.
        pending: events that may wait to be durable; above it no more are taken.
        commit_s: between two commits.
        session_s: after which silence the group gives this worker's partitions to others.
        drain_s: how long the end may take.
    """

    bootstrap: str
    namespace: str
    batch: int = 500
    within_s: float = 0.05
    pending: int = 30_000
    commit_s: float = 0.5
    session_s: float = 6.0
    drain_s: float = 10.0


class LiveDriver:
    """Reads a topic into an ingestion until it is told to stop.

    Attributes:
        taken: events that were read.
        committed: partition -> the offset that Kafka holds for this group, as far as this worker knows.
        ends: partition -> the end of the log, as far as faust knows it.
        store_away: why the store does not answer; "" while it does.
        ages_ms: for the last micro-batches the age of their oldest event once it was applied.
        mended: events that faust skipped and that were read by hand.

    Args:
        settings: how to read.
        generation: what is filled; names the topic.
        ingestion: applies the events.
        stop: asked fifty times a second; True ends the run in order.
        progress: told as often.
    """

    def __init__(
        self,
        settings: LiveSettings,
        generation: Generation,
        ingestion: Ingestion,
        stop: Callable[[], bool],
        progress: Callable[["LiveDriver"], None] | None = None,
    ) -> None:
        self.taken = 0
        self.mended = 0
        self.committed: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.store_away = ""
        self.ages_ms: deque[int] = deque(maxlen=1_000)
        self.group = group_of(settings.namespace, generation.name)
        self.outcomes = ingestion.outcomes
        self._settings, self._generation, self._ingestion = settings, generation, ingestion
        self._topic = generation.source.topic
        self._stop, self._progress = stop, progress
        self._next: dict[int, int] = {}
        self._turn = asyncio.Lock()  # one touch of the ingestion at a time: a batch, a tick or a rebalance
        self._stopping = False
        self._fault: BaseException | None = None
        self._failures = 0
        self._again_s = self._commit_s = 0.0
        self._taken_s = time.monotonic()

    def run(self) -> None:
        """Reads until `stop` says so; then settles, commits and leaves the group.

        Raises:
            SourceChanged: the topic is not the one the generation was built from, or the log lost what was not read.
            kafka.errors.KafkaError: no broker answers at the start or at a rebalance.
        """
        positions = self._positions(range(self._generation.source.partitions))
        seed_offsets(self._settings.bootstrap, self.group, self._topic, positions)
        with (
            tempfile.TemporaryDirectory(prefix="headrace-faust-") as folder,  # else faust leaves one where it runs
            asyncio.Runner(loop_factory=loop_factory()) as runner,
        ):
            runner.run(self._run(Path(folder)))
        if self._fault is not None:
            raise self._fault

    @property
    def lag(self) -> dict[int, int]:
        """For each partition of this worker the records that are not acknowledged yet."""
        return {part: max(0, end - self.committed.get(part, 0)) for part, end in self.ends.items()}

    async def _run(self, folder: Path) -> None:
        app = self.application(self._consume, folder)
        started = asyncio.create_task(app.start())
        try:
            while not self._stop() and self._fault is None:
                if app.crashed or (started.done() and started.exception() is not None):
                    crash = app.crash_reason or started.exception() or RuntimeError("faust stopped by itself")
                    self._fault = await asyncio.to_thread(self._cause, crash)
                    break
                await self._tick(app)
                await asyncio.sleep(_TICK_S)
            self._stopping = True
            if self._fault is None:
                await self._drain(app)
        finally:
            self._stopping = True
            try:
                await asyncio.wait_for(app.stop(), timeout=self._settings.drain_s)
            except TimeoutError:
                log.warning("faust did not stop within %s s", self._settings.drain_s)
            started.cancel()

    def application(self, consume: Callable[[Any], Awaitable[None]], folder: Path, rebalances: bool = True) -> Any:
        """The application: one agent on one topic, and everything off that would act by itself.

        Args:
            consume: what the agent does with its stream; must never raise.
            folder: where faust may make its folders; nothing of ours lies there.
            rebalances: whether this driver hears of them.
        """
        settings = self._settings
        app = faust.App(
            self.group,
            broker=[f"kafka://{address}" for address in settings.bootstrap.split(",")],
            broker_credentials=_credentials(),
            autodiscover=False,
            store="memory://",
            datadir=folder,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="none",
            broker_session_timeout=settings.session_s,
            broker_heartbeat_interval=settings.session_s / 4,
            broker_commit_interval=settings.commit_s,
            consumer_metadata_max_age_ms=METADATA_MS,
            stream_wait_empty=False,
            web_enabled=False,
            worker_redirect_stdouts=False,
        )
        topic = app.topic(
            self._topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            allow_empty=True,
        )
        if rebalances:
            app.on_partitions_revoked.connect(cast(Any, self._revoked), weak=False)
            app.on_partitions_assigned.connect(cast(Any, self._assigned), weak=False)

        async def shopping(stream: Any) -> None:
            await consume(stream)

        app.agent(topic, name="headrace.shopping")(shopping)
        app.finalize()
        return app

    async def _consume(self, stream: Any) -> None:
        """The agent: never raises, never returns."""
        try:
            async for events in stream.noack_take(self._settings.batch, within=self._settings.within_s):
                if self._stopping:
                    break
                await self._take([_record(event.message) for event in events])
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a bug: the supervisor restarts the worker, what was not durable comes again
            self._fault = error
        await asyncio.Event().wait()  # never: the worker ends the agent

    async def _take(self, records: Sequence[Record]) -> None:
        async with self._turn:
            following = self._following(records)
            if isinstance(following, list):
                taken = following
            else:
                taken = await asyncio.to_thread(self._mended, records)
            if taken:
                self.taken += len(taken)
                self._taken_s = time.monotonic()
                await asyncio.to_thread(self._ingestion.take, taken)
                await self._advance(0)
                if not self.store_away:
                    self.ages_ms.append(time.time_ns() // 1_000_000 - min(record.timestamp_ms for record in taken))
        # `_tick` goes on with it, and its thread cannot set an asyncio.Event
        while (self.store_away or self._waiting() > self._settings.pending) and not self._stopping:  # noqa: ASYNC110
            await asyncio.sleep(_TICK_S)

    def _cause(self, crash: BaseException) -> BaseException:
        """Why faust gave up: an offset out of range is what a log looks like that was cut or made again."""
        source, bootstrap = self._generation.source, self._settings.bootstrap
        try:
            check_source(source, source_of(bootstrap, self._topic))
            check_positions(self._generation, self._next, log_extent(bootstrap, self._topic, source.partitions))
        except SourceChanged as changed:
            return changed
        except KafkaError as error:
            log.info("the topic was not looked at after faust gave up: %r", error)
        return crash

    def _following(self, records: Sequence[Record]) -> list[Record] | None:
        """The records that come next in their partitions, without those that were taken; None when some are missing."""
        coming, taken = self._next.copy(), []
        for record in records:
            due = coming.get(record.partition)
            if due is None or record.offset < due:
                continue
            if record.offset > due:
                return None
            coming[record.partition] = due + 1
            taken.append(record)
        self._next = coming
        return taken

    def _mended(self, records: Sequence[Record]) -> list[Record]:
        """The same with what is missing read by hand: skipped records, or places that hold none (transactions)."""
        taken: list[Record] = []
        for record in records:
            due = self._next.get(record.partition)
            if due is None or record.offset < due:
                continue
            if record.offset > due:
                log.info("partition %s: reading %s to %s by hand", record.partition, due, record.offset)
                missing = self._between(record.partition, due, record.offset)
                taken += missing
                self.mended += len(missing)
            taken.append(record)
            self._next[record.partition] = record.offset + 1
        return taken

    def _waiting(self) -> int:
        """Records that are not durable, or not committed: shoppers keep their increments until they are."""
        return self._ingestion.pending + sum(offset - self.committed[part] for part, offset in self._due().items())

    def _due(self) -> dict[int, int]:
        """What is durable and not committed yet."""
        return {
            part: offset
            for part, offset in self._ingestion.acknowledged().items()
            if offset > self.committed.get(part, offset)
        }

    async def _behind_markers(self, now_s: float) -> dict[int, int]:
        """Where the log goes on beyond the last record: a transaction's end takes an offset and is no record.

        Nobody acknowledges such an offset, and a partition that ends with one would look as if it stood still. So what
        lies between the last record and the end is read by hand once nothing has come for a while.
        """
        if self._ingestion.pending or now_s - self._taken_s < _QUIET_S:
            return {}
        self._taken_s = now_s  # not at every tick
        found: dict[int, int] = {}
        for part, end in self.ends.items():
            due = self._next.get(part)
            if due is None or end - due > _MARKERS or self.committed.get(part, end) >= end:
                continue
            try:
                missing = await asyncio.to_thread(self._between, part, due, end) if due < end else []
            except KafkaError as error:
                log.info("partition %s: what lies before its end was not read, again soon: %r", part, error)
                continue
            if missing:
                await asyncio.to_thread(self._ingestion.take, missing)
                self.taken += len(missing)
                self.mended += len(missing)
                self._next[part] = missing[-1].offset + 1  # what is behind it is looked at once this is durable
            else:
                found[part] = self._next[part] = end
        return found

    def _between(self, partition: int, first: int, end: int) -> list[Record]:
        """The records of a stretch of this log, read by hand."""
        # a gap is also what a topic that was made again looks like: its records are not those that are missing
        check_source(self._generation.source, source_of(self._settings.bootstrap, self._topic))
        stretch = replay(self._settings.bootstrap, self._topic, {partition: (first, end)})
        return [record for records in stretch for record in records]

    async def _advance(self, wait_ms: int) -> None:
        """One step of the ingestion, on a thread; the caller holds the turn."""
        if await asyncio.to_thread(self._ingestion.advance, wait_ms):
            if self.store_away:
                log.info("the store is back")
            self.store_away, self._failures, self._again_s = "", 0, 0.0
            return
        failure = self._ingestion.last_failure
        if failure != self.store_away:
            log.warning("nothing is acknowledged: %s", failure)
        self.store_away = failure
        self._failures += 1
        self._again_s = time.monotonic() + pause_s(self._failures)

    async def _tick(self, app: Any) -> None:
        """What must go on when no event comes: durability, a store that comes back, commits."""
        now = time.monotonic()
        try:
            if self._ingestion.pending and now >= self._again_s and not self._turn.locked():
                async with self._turn:
                    await self._advance(0)
            if now >= self._commit_s:
                self._commit_s = now + self._settings.commit_s
                await self._commit(app)
        except Exception as error:  # the store's generation is gone, or a bug: neither may go unnoticed
            self._fault = error
        if self._progress is not None:
            self._progress(self)

    async def _commit(self, app: Any) -> None:
        async with self._turn:
            for partition in self.committed:
                if (end := app.consumer.highwater(_place(self._topic, partition))) is not None:
                    self.ends[partition] = end
            due = self._due() or await self._behind_markers(time.monotonic())
            if not due:
                return
            places = {_place(self._topic, partition): offset for partition, offset in due.items()}
            try:
                done = await asyncio.wait_for(app.consumer._commit(places), timeout=self._settings.session_s)
            except Exception as error:  # aiokafka's errors, many kinds: what is not committed comes again
                log.info("offsets were not committed, again soon: %r", error)
                return
            if done:
                self.committed.update(due)
                self._ingestion.committed(due)

    async def _drain(self, app: Any) -> None:
        """Settles what was taken, within a bound, and commits it."""
        until = time.monotonic() + self._settings.drain_s
        while self._ingestion.pending and not self.store_away and time.monotonic() < until:
            async with self._turn:
                await self._advance(200)
        await self._commit(app)

    async def _revoked(self, app: Any, revoked: Any, **_: Any) -> None:
        """Forgets every partition: whoever owns them reads again from what is committed."""
        async with self._turn:
            self._forget()

    async def _assigned(self, app: Any, assigned: Any, **_: Any) -> None:
        """Finds out where each partition goes on."""
        mine = sorted(place.partition for place in assigned if place.topic == self._topic)
        async with self._turn:
            self._forget()
            try:
                positions = await asyncio.to_thread(self._positions, mine)
            except Exception as error:  # raised here it would only be logged
                self._fault = error
                return
            self._ingestion.assigned(positions)
            self.committed, self._next = dict(positions), dict(positions)
            log.info("reading %s from %s", self._topic, positions)

    def _forget(self) -> None:
        self._ingestion.assigned({})
        self.committed, self.ends, self._next = {}, {}, {}

    def _positions(self, partitions: Sequence[int]) -> dict[int, int]:
        """Where each partition goes on, checked against the log.

        Raises:
            SourceChanged: the topic is not the one the generation was built from, or the log lost what was not read.
            kafka.errors.KafkaError: no broker answers.
        """
        source, bootstrap = self._generation.source, self._settings.bootstrap
        check_source(source, source_of(bootstrap, self._topic))
        committed = committed_offsets(bootstrap, self.group, self._topic, source.partitions)
        extent = log_extent(bootstrap, self._topic, source.partitions)
        return check_positions(self._generation, {part: committed.get(part) for part in partitions}, extent)


def _record(message: Any) -> Record:
    timestamp = message.timestamp
    at_ms = -1 if timestamp is None else round(timestamp * 1000)  # faust made seconds of Kafka's milliseconds
    return Record(message.partition, message.offset, message.key, message.value, at_ms)


def _credentials() -> faust.SASLCredentials | faust.SSLCredentials | None:
    """How faust enters Kafka; None where brokers ask for nothing."""
    entry = access()
    context = entry.tls()
    if entry.by_name:
        return faust.SASLCredentials(
            username=entry.user, password=entry.password, ssl_context=context, mechanism=entry.mechanism
        )
    return None if context is None else faust.SSLCredentials(context)


def _place(topic: str, partition: int) -> Any:
    return TP(topic, partition)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop of uvloop where that is installed: a fifth faster."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
