"""Put the events (or the catalogue items) of a file, or of other topics, into their topic."""

import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec

from headrace import BadEvent
from headrace.commands.brokers import speaking_to
from headrace.commands.import_target import import_target
from headrace.commands.import_topics import Asked, import_topics
from headrace.commands.options import bootstrap_servers, servers_of
from headrace.streams.columns import EVENT_FIELDS, ITEM_FIELDS, UNITS, Columns, Content, columns_of
from headrace.streams.dead_letters import escaped_text
from headrace.streams.files import lines_of, parquet_columns, parquet_rows
from headrace.streams.imports import LIMITS, placed, record_of
from headrace.streams.topic_writer import TopicWriter
from headrace.streams.topics import EVENTS, ITEMS

_FLUSH_ROWS: Final = 5_000
_SHOWN: Final = 10
_KEPT_BYTES: Final = 1_000
"""Of a line that is too long, this much is kept beside the reason."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file: the record it makes, or why it makes none.

    Attributes:
        number: from 1; of JSON the line.
        made: the record's value.
        said: the row as it was, or its beginning.
        grown: how much of the file it took: bytes; of Parquet, rows.
    """

    number: int
    made: bytes | BadEvent
    said: bytes
    grown: int


@dataclass(slots=True)
class Import:
    """One import under way.

    Attributes:
        writer: where records go; None: nowhere, it is a dry run.
        rejected: the file of refused rows; None in a dry run.
        safe: the last row up to which nothing has to be sent again.
        whole: whether the file was read to its end.
    """

    content: Content
    now_ms: int
    writer: TopicWriter | None
    rejected: BinaryIO | None
    safe: int
    whole: bool = False
    sent: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, row: Row) -> None:
        """Sends a row or refuses it."""
        try:
            if isinstance(row.made, BadEvent):
                raise row.made
            # An import's Kafka timestamp is the event's own time, so nothing is late; a future is one to our clock.
            where = placed(self.content, row.made, self.now_ms)
        except BadEvent as error:
            self._refuse(row, error)
        else:
            self.sent += 1
            if self.writer:
                self.writer.send(where.key, row.made, where.at_ms)
        if row.number - self.safe >= _FLUSH_ROWS:
            self.settle(row.number)

    def settle(self, number: int) -> None:
        """Waits until all rows up to this one are safe."""
        if self.writer:
            self.writer.flush()
        if self.rejected:
            self.rejected.flush()
        self.safe = number

    def _refuse(self, row: Row, error: BadEvent) -> None:
        self.refused[error.reason, error.field] += 1
        if self.rejected:
            line = {"row": row.number, "field": error.field, "reason": error.reason, "detail": error.detail}
            said = row.said.decode("utf-8", "backslashreplace")
            self.rejected.write(msgspec.json.encode({**line, "record": said}) + b"\n")
        elif self.refused.total() <= _SHOWN:
            click.echo(f"\nrow {row.number}: {escaped_text(str(error))}", err=True)


@click.command
@bootstrap_servers
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--from-topic",
    "names",
    multiple=True,
    metavar="TOPIC",
    help="Copy this topic instead of a file; may be given again: UBI queries and events in two topics are read as one.",
)
@click.option(
    "--from-bootstrap-servers",
    "servers",
    default=None,
    callback=lambda ctx, parameter, value: value and servers_of(ctx, parameter, value),
    metavar="HOST:PORT,...",
    help="The brokers of --from-topic, if they are others; they are entered in the same way.",
)
@click.option("--follow", is_flag=True, help="With --from-topic: go on at the end until stopped.")
@click.option("--items", is_flag=True, help="The rows are catalogue items, not events.")
@click.option("--topic", default=None, help=f"Where they go; if not given, {EVENTS}, with --items {ITEMS}.")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Where a field is found; may be given again. Without any, each row is a UBI record (or an item) as it stands. "
    f"Fields of events: {', '.join(EVENT_FIELDS)}; of items: {', '.join(ITEM_FIELDS)}, attributes.NAME.",
)
@click.option("--set", "constants", multiple=True, metavar="FIELD=VALUE", help="A field that is the same in all rows.")
@click.option("--timestamp-unit", type=click.Choice(list(UNITS)), default="ms", help="Of timestamps that are numbers.")
@click.option(
    "--partitioner",
    type=click.Choice(["murmur2", "crc32"]),
    default="murmur2",
    help="That of the topic's other producers; with another one shoppers lie in two places and are dead-lettered.",
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Rows to leave out: those of an import that broke off.")
@click.option("--dry-run", is_flag=True, help="Read and judge everything, send nothing.")
def command(
    file: Path | None, names: tuple[str, ...], servers: str | None, bootstrap_servers: str, **flags: Any
) -> None:
    r"""Put the events (or the catalogue items) of a FILE or of other topics into their topic.

    A FILE holds JSON lines, also .gz, or is .parquet. Each record is keyed by its shopper (an item by its id), and its
    Kafka timestamp is the time of the event: however old it is, it is not too late. The command ends with 1 when a row
    or record makes none: of a file these go to FILE.rejected.jsonl with the reason, of topics to the dead letters
    (`headrace dlq list`).

    Other topics hold UBI records as JSON, under any key and in any number of partitions. They are copied up to their
    end, in the order of the events' times, each record once: whenever the command breaks off, the same command goes
    on, and when it is called again later it takes what came since.

    Example:
      headrace import --items items.jsonl
      headrace import clicks.parquet --map client_id=user --map object_id=sku --map timestamp=ts \
          --set action_name=click --timestamp-unit s
      headrace import --from-topic ubi_queries --from-topic ubi_events
    """
    content: Content = "items" if flags["items"] else "events"
    topic = flags["topic"] or (ITEMS if content == "items" else EVENTS)
    try:
        columns = columns_of(content, flags["maps"], flags["constants"], flags["timestamp_unit"])
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    partitioner, dry_run = flags["partitioner"], flags["dry_run"]
    _check_usage(file, names, servers, flags)
    if file is None:
        asked = Asked(
            names,
            servers or bootstrap_servers,
            flags["follow"],
            content,
            columns,
            topic,
            bootstrap_servers,
            partitioner,
            dry_run,
        )
        done = import_topics(asked)
    else:
        done = not _import_file(file, columns, content, topic, None if dry_run else bootstrap_servers, flags)
    if not done:
        sys.exit(1)


def _check_usage(file: Path | None, names: tuple[str, ...], servers: str | None, flags: Mapping[str, Any]) -> None:
    """Raises click.UsageError for flags that say two things, or nothing."""
    if (file is None) == (not names):
        raise click.UsageError("give a FILE or --from-topic, one of them")
    if file is not None and (servers or flags["follow"]):
        raise click.UsageError("--from-bootstrap-servers and --follow belong to --from-topic")
    if file is None and flags["skip"]:
        raise click.UsageError("--skip belongs to a FILE: an import from topics goes on by itself")
    if flags["follow"] and flags["dry_run"]:
        raise click.UsageError("--dry-run looks at what is there: it follows nothing")


def _import_file(
    file: Path, columns: Columns, content: Content, topic: str, bootstrap: str | None, flags: Mapping[str, Any]
) -> bool:
    """Imports a file, or only looks at it where no brokers are given; whether some rows were refused."""
    skip, now_ms = flags["skip"], time.time_ns() // 1_000_000
    try:
        rows, size = _rows(file, columns)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from error
    kept = file.with_name(file.name + ".rejected.jsonl")
    if kept.exists() and not skip and bootstrap is not None:
        raise click.ClickException(f"{kept} is there from an earlier import: move it away first.")
    with ExitStack() as ending:
        if bootstrap is None:
            going = Import(content, now_ms, None, None, skip)
        else:
            ending.enter_context(speaking_to(bootstrap))
            found = import_target(bootstrap, topic)
            writer = ending.enter_context(TopicWriter(bootstrap, topic, found.partitions, flags["partitioner"]))
            going = Import(content, now_ms, writer, ending.enter_context(kept.open("ab")), skip)
        ending.callback(_report, going, topic, kept)
        _run(going, _readable(rows, file.name), size, file.name)
    return bool(going.refused)


def _run(going: Import, rows: Iterator[Row], size: int, name: str) -> None:
    """Takes every row, with a progress bar."""
    number = skip = going.safe
    with click.progressbar(length=size, label=name, file=sys.stderr) as bar:
        for row in rows:
            if row.number > skip:
                number = row.number
                going.take(row)
            bar.update(row.grown)
        going.settle(number)
    going.whole = True


def _readable(rows: Iterator[Row], name: str) -> Iterator[Row]:
    """The rows.

    Raises:
        click.ClickException: the file breaks off, or cannot be read.
    """
    number = 0
    try:
        for row in rows:
            number = row.number
            yield row
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise click.ClickException(f"{name} cannot be read behind row {number}: {error}") from error


def _rows(file: Path, columns: Columns) -> tuple[Iterator[Row], int]:
    """The rows of a file and its size, in what ``Row.grown`` counts.

    Raises:
        ValueError: the file has no column of a name that is asked for, or is no Parquet.
    """
    if file.suffix != ".parquet":
        return _json_rows(file, columns), file.stat().st_size
    names, count = parquet_columns(file)
    if absent := columns.absent(names):
        raise ValueError(f"{file.name} has no column {absent[0]!r}; it has {', '.join(names)}")
    wanted = {".".join(one.column) if ".".join(one.column) in names else one.column[0] for one in columns.columns}
    return _parquet_rows(file, columns, sorted(wanted) or None), count


def _parquet_rows(file: Path, columns: Columns, wanted: list[str] | None) -> Iterator[Row]:
    for number, values in parquet_rows(file, wanted):
        try:
            made: bytes | BadEvent = columns.record(values)
        except BadEvent as error:
            made = error
        yield Row(number, made, repr(values).encode() if isinstance(made, BadEvent) else made, 1)


def _json_rows(file: Path, columns: Columns) -> Iterator[Row]:
    before = 0
    for line in lines_of(file, LIMITS.record_bytes):
        grown, before = line.at - before, line.at
        if line.size > len(line.data):
            error = BadEvent("", "too_large", f"{line.size} bytes, at most {LIMITS.record_bytes}")
            yield Row(line.number, error, line.data[:_KEPT_BYTES], grown)
        else:
            yield Row(line.number, _record(line.data, columns), line.data, grown)


def _record(data: bytes, columns: Columns) -> bytes | BadEvent:
    """The record that one line of JSON makes."""
    try:
        return record_of(data, columns)
    except BadEvent as error:
        return error


def _report(going: Import, topic: str, kept: Path) -> None:
    if going.writer is None:
        click.echo(f"{going.sent} rows would go to {topic}, {going.refused.total()} are refused.")
    else:
        click.echo(f"{going.sent} rows sent to {topic}, {going.refused.total()} refused.")
        if not going.whole:
            click.echo(f"All rows up to {going.safe} are safe: go on with --skip {going.safe}.")
    for (reason, where), count in going.refused.most_common():
        click.echo(f"{count:>9}  {reason}{'  ' + escaped_text(where) if where else ''}")
    if going.rejected is not None:
        going.rejected.flush()
        if kept.stat().st_size == 0:
            kept.unlink()
        else:
            click.echo(f"Refused rows are in {kept}.")
