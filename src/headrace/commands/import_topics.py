"""The other half of `headrace import`: UBI that lies in other topics, copied once and in the order of its times."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import click

from headrace import BadEvent, SourceChanged
from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import Stopped
from headrace.commands.import_target import import_target
from headrace.commands.progress import ProgressLine
from headrace.streams.columns import Columns, Content
from headrace.streams.dead_letters import DEAD, escaped_text
from headrace.streams.imports import LIMITS, placed, record_of
from headrace.streams.ingestion import Record
from headrace.streams.merging import Merge, Place, Waiting
from headrace.streams.origins import Landed, origin
from headrace.streams.other_topics import OtherTopics, Target, account_of, ended, is_ended, running
from headrace.streams.partitioners import Partitioner
from headrace.streams.rejections import Rejections
from headrace.streams.topic_writer import TopicWriter
from headrace.streams.topics import source_of

_ACCOUNT_RECORDS: Final = 5_000
_ACCOUNT_S: Final = 1.0
_SILENT_S = 5.0
"""An import that writes no account for so long is not running."""

_HOLD_S: Final = 2.0
"""While it follows, a record waits so long for an earlier one of another log."""

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be imported, and where from.

    Attributes:
        names: the other topics; of events at the same time those of the topic named first go first.
        servers: the brokers of the other topics.
        follow: go on until stopped.
        topic: of ours.
        bootstrap: our brokers.
    """

    names: tuple[str, ...]
    servers: str
    follow: bool
    content: Content
    columns: Columns
    topic: str
    bootstrap: str
    partitioner: Partitioner
    dry_run: bool


def import_topics(asked: Asked) -> bool:
    """Copies them; whether all of it is there now, and nothing was refused.

    Raises:
        click.ClickException: a topic is not there, Kafka does not answer, or the same import runs already.
    """
    stopped = Stopped()
    found = import_target(asked.bootstrap, asked.topic, asked.topic + DEAD)
    with speaking_to(asked.bootstrap):
        ours = source_of(asked.bootstrap, asked.topic)
    with ExitStack() as ending:
        with speaking_to(asked.servers):
            sources = [_source(asked.servers, name) for name in dict.fromkeys(asked.names)]
            if ours.topic_id in {source.topic_id for source in sources}:
                raise click.UsageError(f"{asked.topic} is where the records go: it cannot be where they come from.")
            account = account_of(ours, sources)
            others = ending.enter_context(closing(OtherTopics(asked.servers, sources, account, asked.follow)))
        for (topic, part), first, end in others.lost:
            click.echo(f"Warning: {topic}, partition {part}: {first} to {end - 1} were deleted before they were taken.")
        copy = Copy(asked, others, Merge(others.places))
        if not asked.dry_run:
            _wait_for_silence(asked, others, stopped)
            with speaking_to(asked.bootstrap):
                copy.target = ending.enter_context(closing(Target(asked.bootstrap, ours, account)))
                copy.writer = ending.enter_context(
                    TopicWriter(asked.bootstrap, asked.topic, found.partitions, asked.partitioner)
                )
            for name in asked.names:
                copy.letters[name] = Rejections(asked.bootstrap, name, asked.topic)
                ending.callback(copy.letters[name].close)
        ending.callback(_report, copy)
        copy.run(stopped)
    return copy.whole and not copy.refused


@dataclass(slots=True)
class Copy:
    """One import under way.

    Attributes:
        target: where records go, and ...
        writer: ... what writes them; None: nowhere, it is a dry run.
        letters: for records of each other topic that cannot be used.
        there: records that an earlier run had sent already.
        whole: everything up to the ends of the start is safe.
    """

    asked: Asked
    others: OtherTopics
    merge: Merge
    target: Target | None = None
    writer: TopicWriter | None = None
    letters: dict[str, Rejections] = field(default_factory=dict)
    sent: int = 0
    there: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    whole: bool = False
    _landed: Landed = field(default_factory=lambda: Landed({}, {}))
    _bad: list[tuple[Place, Record, BadEvent]] = field(default_factory=list)
    _run: str = field(default_factory=lambda: uuid4().hex)
    _since: int = 0
    _accounted_s: float = 0.0

    def run(self, stopped: Stopped) -> None:
        """Copies until the end, or until it is told to stop."""
        others, line = self.others, ProgressLine(self.asked.topic)
        self._landed = others.landed()
        self._search(stopped)
        begin, total = sum(others.begins.values()), sum(others.ends.values()) - sum(others.begins.values())
        on = False
        while not (stopped() or (self.whole and not self.asked.follow)):
            with speaking_to(self.asked.servers):
                polled = others.poll(self.merge.bytes)
            for place, records in polled.items():
                for record in records:
                    self.merge.add(self._judged(place, record))
            quiet, until_s = (set(others.places), time.monotonic() - _HOLD_S) if on else (others.at_end, float("inf"))
            for waiting in self.merge.take(quiet, until_s):
                self._take(waiting)
                if self._since >= _ACCOUNT_RECORDS:
                    self._account()
                if stopped():
                    break
            line(sum(self._positions().values()) - begin, total)
            self.whole = self.whole or (len(others.at_end) == len(others.places) and self.merge.is_empty)
            on = self.whole and self.asked.follow
            if time.monotonic() - self._accounted_s >= _ACCOUNT_S:
                self._account()
        self._account(last=True)
        line.end(sum(self._positions().values()) - begin, total)

    def _judged(self, place: Place, found: Any) -> Waiting:
        """A record with what becomes of it."""
        timestamp_ms = -1 if found.timestamp is None else found.timestamp
        content, made = self.asked.content, found.value
        where: Any
        try:
            if made is not None:
                if len(made) > LIMITS.record_bytes:
                    raise BadEvent("", "too_large", f"{len(made)} bytes, at most {LIMITS.record_bytes}")
                made = record_of(made, self.asked.columns)
            now_ms = timestamp_ms if timestamp_ms >= 0 else time.time_ns() // 1_000_000
            where = placed(content, made, now_ms, found.key)
        except BadEvent as error:
            where = error
        return Waiting(place, found.offset, found.key, found.value, timestamp_ms, made, where, time.monotonic())

    def _take(self, waiting: Waiting) -> None:
        """Sends a record, or refuses it."""
        self._since += 1
        token, where = self.others.token(waiting.place), waiting.placed
        if isinstance(where, BadEvent):
            self._refuse(waiting, where)
        elif self._landed.has(token, waiting.offset):
            self.there += 1
        else:
            self.sent += 1
            if self.writer:
                self.writer.send(where.key, waiting.made, where.at_ms, origin(token, waiting.offset))

    def _refuse(self, waiting: Waiting, error: BadEvent) -> None:
        self.refused[error.reason, error.field] += 1
        topic, part = waiting.place
        if self.asked.dry_run and self.refused.total() <= _SHOWN:
            click.echo(f"{topic} {part}:{waiting.offset}: {escaped_text(str(error))}", err=True)
        value = waiting.value and waiting.value[: LIMITS.record_bytes]
        record = Record(part, waiting.offset, waiting.key, value, waiting.timestamp_ms)
        self._bad.append((waiting.place, record, error))

    def _account(self, first: bool = False, last: bool = False) -> None:
        """Waits until all that was taken is safe, and writes down how far that is.

        Raises:
            click.ClickException: another import of the same topics took over.
        """
        bad, self._bad, self._since = self._bad, [], 0
        if self.target is None or self.writer is None:
            return
        with speaking_to(self.asked.bootstrap):
            self.writer.flush()
            for name, reject in self.letters.items():
                if letters := [(record, error) for place, record, error in bad if place[0] == name]:
                    reject(letters)
        with speaking_to(self.asked.servers):
            if not first and not self.others.note().startswith(self._run):
                raise click.ClickException("Another import of the same topics has begun; this one ends.")
            self.others.commit(self._positions(), ended(self._run) if last else running(self._run))
        if not first:  # before the search nobody knows what lies there
            with speaking_to(self.asked.bootstrap):
                self.target.commit(self.target.ends())
        self._accounted_s = time.monotonic()

    def _search(self, stopped: Stopped) -> None:
        """Finds out what of these topics lies in the target already."""
        if self.target is None:
            return
        line = ProgressLine(f"looking through {self.asked.topic}")

        def progress(done: int, total: int) -> None:
            line(done, total)
            if stopped():
                raise click.Abort
            if time.monotonic() - self._accounted_s >= _ACCOUNT_S:
                self._account(first=True)

        with speaking_to(self.asked.bootstrap):
            if self.others.is_new:
                self.target.begin()
        self._account(first=True)
        with speaking_to(self.asked.bootstrap):
            self.target.search(self._landed, progress)

    def _positions(self) -> dict[Place, int]:
        """How far each log was taken."""
        found = {}
        for place in self.others.places:
            waits = self.merge.first(place)
            found[place] = self.others.position(place) if waits is None else waits
        return found


def _source(servers: str, name: str) -> Any:
    try:
        return source_of(servers, name)
    except SourceChanged as error:
        raise click.ClickException(f"There is no topic {name} on {servers}.") from error


def _wait_for_silence(asked: Asked, others: OtherTopics, stopped: Stopped) -> None:
    """Returns once it is sure that no other import of the same topics is at work.

    Raises:
        click.ClickException: one is.
    """
    with speaking_to(asked.servers):
        before = others.note()
        if is_ended(before):
            return
        click.echo(f"The last import broke off, or runs still: looking at it for {_SILENT_S:.0f} s.", err=True)
        until_s = time.monotonic() + _SILENT_S
        while time.monotonic() < until_s:
            time.sleep(0.5)
            if stopped():
                raise click.Abort
            if others.note() != before:
                raise click.ClickException(
                    f"An import from {' and '.join(asked.names)} into {asked.topic} is running already."
                )


def _report(copy: Copy) -> None:
    asked = copy.asked
    names: Sequence[str] = tuple(dict.fromkeys(asked.names))
    if asked.dry_run:
        click.echo(f"{copy.sent} records would go to {asked.topic}, {copy.refused.total()} are refused.")
    else:
        before = f", {copy.there} were there already" if copy.there else ""
        click.echo(f"{copy.sent} records sent to {asked.topic}{before}, {copy.refused.total()} refused.")
    for (reason, where), count in copy.refused.most_common():
        click.echo(f"{count:>9}  {reason}{'  ' + escaped_text(where) if where else ''}")
    if asked.dry_run:
        return
    if copy.refused:
        click.echo(f"Refused records are in {asked.topic}{DEAD}: `headrace dlq list` shows them.")
    if not copy.whole:
        click.echo(f"Stopped before the end of {' and '.join(names)}: the same command goes on.")
