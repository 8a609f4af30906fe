"""List, show and put back the records that could not be used."""

import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, TypeVar, cast

import click

from headrace import BadEvent
from headrace.commands.brokers import speaking_to
from headrace.commands.options import bootstrap_servers
from headrace.streams.dead_letters import (
    NOTE_PARTITION,
    Content,
    Letter,
    Note,
    Redriven,
    escaped,
    escaped_text,
    way_back,
)
from headrace.streams.events import REASONS, EventLimits
from headrace.streams.letter_box import BATCH, Census, LetterBox
from headrace.streams.partitioners import Partitioner
from headrace.streams.topics import DEAD, EVENTS, ITEMS, LATE

_SHOWN_BYTES: Final = 60
_HOUR_MS: Final = 3_600_000

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Place:
    """Which topic of letters is meant, and on which brokers."""

    servers: str
    topic: str
    late: bool

    @contextmanager
    def opened(self) -> Iterator[LetterBox]:
        """The letters.

        Raises:
            click.ClickException: there is no such topic, or Kafka does not answer.
        """
        with (
            speaking_to(self.servers),
            LetterBox(self.servers, self.topic + (LATE if self.late else DEAD), self.topic) as box,
        ):
            for name in (box.topic, box.target):
                if not box.partitions(name):
                    raise click.ClickException(f"There is no topic {name}. `headrace topics create` makes it.")
            yield box


def _place(function: Decorated) -> Decorated:
    """Adds the flags that say which letters, passed as ``place: Place``."""

    @wraps(function)
    def call(*, bootstrap_servers: str, topic: str, late: bool, **others: Any) -> Any:
        return function(place=Place(bootstrap_servers, topic, late), **others)

    for option in (
        click.option("--late", is_flag=True, help="Those that came too late (.late), not the bad ones (.dlq)."),
        click.option("--topic", default=EVENTS, help="The topic whose records were refused."),
        bootstrap_servers,
    ):
        call = option(call)
    return cast(Decorated, call)


def _reasons(function: Decorated) -> Decorated:
    return click.option(
        "--reason",
        "reasons",
        multiple=True,
        metavar="CODE",
        help=f"Only these reasons; may be given again. Of events: {', '.join(sorted(REASONS))}.",
    )(function)


@click.group
def command() -> None:
    """List, show and put back the records that could not be used.

    Example:
      headrace dlq list --reason misrouted
    """


@command.command(name="list")
@_place
@_reasons
@click.option("--limit", type=click.IntRange(0), default=50, help="Letters to print; all of them are counted.")
@click.option("--all", "every", is_flag=True, help="Those that were put back already, too.")
def list_(place: Place, reasons: tuple[str, ...], limit: int, every: bool) -> None:
    """List the letters that are still to be dealt with, and count them by reason.

    Example:
      headrace dlq list --reason misrouted --limit 5
      headrace dlq list --late
    """
    counts: Counter[tuple[str, str]] = Counter()
    printed = 0
    with place.opened() as box:
        census = box.census()
        for letter in box.letters(census.ends):
            back = letter.identity in census.ledger.done
            if not _chosen(letter, reasons) or (back and not every):
                continue
            counts[letter.reason, letter.field] += 1
            if printed < limit:
                printed += 1
                click.echo(_line(letter, back))
    for (reason, field), count in counts.most_common():
        click.echo(f"{count:>9}  {escaped_text(reason)}{'  ' + escaped_text(field) if field else ''}")
    click.echo(
        f"{counts.total()} letters in {box.topic}, {printed} printed; {len(census.ledger.done)} put back before"
        f"{f'; {census.strangers} records that are no letters' if census.strangers else ''}."
    )


@command.command
@_place
@click.argument("at", metavar="PARTITION:OFFSET")
def show(place: Place, at: str) -> None:
    """Show one letter whole: where it came from, why it is here, its key and bytes, safely escaped.

    Example:
      headrace dlq show 3:17
    """
    partition, _, offset = at.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise click.UsageError(f"{at!r} is not PARTITION:OFFSET, as `headrace dlq list` prints it")
    with place.opened() as box:
        letter = box.letter(int(partition), int(offset))
    if not isinstance(letter, Letter):
        what = "a note of a redrive" if isinstance(letter, Note) else "no letter"
        raise click.ClickException(f"At {at} of {box.topic} lies {what}: `headrace dlq list` names those that do.")
    for name, text in (
        ("letter", f"{box.topic} {letter.partition}:{letter.offset}, written {_time(letter.written_ms)}"),
        ("origin", f"{letter.origin_topic} {letter.origin_partition}:{letter.origin_offset}"),
        ("timestamp", f"{_time(letter.origin_timestamp_ms)} ({letter.origin_timestamp_ms} ms)"),
        ("error", letter.error),
        ("reason", letter.reason),
        ("field", letter.field or "(the record as a whole)"),
        ("detail", letter.detail),
    ):
        click.echo(f"{name:<10} {escaped_text(text)}")
    click.echo(f"{'key':<10} {escaped(letter.key)}")
    click.echo(f"{'bytes':<10} {len(letter.value or b'')}")
    click.echo(escaped(letter.value))


@command.command
@_place
@_reasons
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--partitioner",
    type=click.Choice(["murmur2", "crc32"]),
    default="murmur2",
    help="Where the topic's producers put a key: murmur2 (Java, kafka-python) or crc32 (librdkafka). "
    "With the wrong one every letter comes back as misrouted.",
)
@click.option(
    "--late-hours",
    type=click.FloatRange(0),
    default=24.0,
    help="What the topic's consumers accept. A letter that is later still would come back, and is not sent.",
)
@click.option(
    "--at-event-time",
    is_flag=True,
    help="Give each record its event time as Kafka timestamp, as an import does: then none is too late.",
)
def redrive(
    place: Place,
    reasons: tuple[str, ...],
    dry_run: bool,
    partitioner: Partitioner,
    late_hours: float,
    at_event_time: bool,
) -> None:
    """Put letters back into their topic: the same bytes, where their key belongs, with their timestamp.

    Each goes back once, however often this is called. A letter that would be refused again stays, and is counted. A
    misrouted event gets its shopper as key and so reaches its partition. One that came too late is too late again
    whenever it is sent, since its age is measured against its own timestamp: raise the limit of the consumers and say
    so with --late-hours, or use --at-event-time.

    Example:
      headrace dlq redrive --reason misrouted --dry-run
      headrace dlq redrive --late --at-event-time
    """
    limits = EventLimits(late_ms=round(late_hours * _HOUR_MS))
    content: Content = (
        "events" if place.topic.startswith(EVENTS) else "items" if place.topic.startswith(ITEMS) else "other"
    )
    refused: Counter[str] = Counter()
    with place.opened() as box:
        partitions = box.partitions(place.topic)
        census = box.census()

        def ready() -> Iterator[Redriven]:
            for letter in _with_progress(box, census):
                if _chosen(letter, reasons) and letter.identity not in census.ledger.done:
                    try:
                        yield way_back(letter, content, partitions, partitioner, limits, at_event_time)
                    except BadEvent as error:
                        refused[error.reason] += 1

        sent = sum(1 for _ in ready()) if dry_run else _put_all_back(box, census, ready())
    click.echo(f"{sent} {'would be put' if dry_run else 'put'} back into {place.topic}.")
    for reason, count in refused.most_common():
        click.echo(f"{count} stay: they would be refused again ({reason}).{_advice(reason)}")


def _put_all_back(box: LetterBox, census: Census, ready: Iterator[Redriven]) -> int:
    run = uuid.uuid4().hex
    since, sent = census.ends[NOTE_PARTITION], 0
    box.settle(census.arrived, run)
    batch: list[Redriven] = []

    def put() -> None:
        nonlocal since, sent
        now = box.put_back(batch, run, since)
        if now is None:
            raise click.ClickException(
                f"Another redrive of {box.topic} is running; {sent} were put back here. Wait for its end, then start"
                " this one again: nothing goes out twice."
            )
        since, sent = now, sent + len(batch)
        batch.clear()

    for one in ready:
        batch.append(one)
        if len(batch) == BATCH:
            put()
    if batch:
        put()
    return sent


def _content(topic: str) -> Content:
    if topic.startswith(EVENTS):
        return "events"
    return "items" if topic.startswith(ITEMS) else "other"


def _chosen(letter: Letter, reasons: tuple[str, ...]) -> bool:
    return not reasons or letter.reason in reasons


def _with_progress(box: LetterBox, census: Census) -> Iterator[Letter]:
    with click.progressbar(
        box.letters(census.ends), length=census.letters, label=box.topic, file=sys.stderr
    ) as letters:
        yield from letters


def _advice(reason: str) -> str:
    if reason == "late":
        return " Raise the consumers' limit and say so with --late-hours, or use --at-event-time."
    return ""


def _line(letter: Letter, back: bool) -> str:
    return (
        f"{letter.partition}:{letter.offset}  {letter.origin_partition}:{letter.origin_offset}"
        f"  {_time(letter.origin_timestamp_ms)}  {escaped_text(letter.reason)}"
        f"  {escaped_text(letter.field) or '-'}  {escaped(letter.value, _SHOWN_BYTES)}{'  (put back)' if back else ''}"
    )


def _time(at_ms: int) -> str:
    if not 0 <= at_ms < 253_402_300_800_000:
        return "no time"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
