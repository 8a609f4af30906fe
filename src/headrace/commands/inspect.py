"""Show what lies in the state: a query, an item, a shopper, or all of it as one digest."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import click

from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import quieten_kafka, source_for
from headrace.commands.options import bootstrap_servers, json_file, namespace, redis_url
from headrace.commands.progress import ProgressLine
from headrace.commands.recipes import redis_settings
from headrace.streams.dump import Facts, digest, dump, newest_day
from headrace.streams.generations import Generation, group_of
from headrace.streams.identity import DAY_MS
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.inspection import item_facts, query_facts, shopper_facts
from headrace.streams.log_extent import committed_offsets, log_extent
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import read_facts
from headrace.streams.redis_wire import Wire
from headrace.streams.replay import replay
from headrace.streams.store import MemoryStore

_SHOWN: Final = 20


@click.group
def command() -> None:
    """Show what lies in the state: a query, an item, a shopper, or all of it as one digest.

    Example:
      headrace inspect query 'red shoe'
    """


generation_flag = click.option(
    "--generation", default=None, metavar="NAME", help="Another generation than the one that is read."
)
as_of = click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="The UTC day as of which neighbours are ranked.  [default: today]",
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A generation and a connection to read it."""

    wire: Wire
    generations: Generations
    generation: Generation


@contextmanager
def opening(redis_url: str, namespace: str, name: str | None) -> Iterator[Opened]:
    """The generation asked for, or the one that is read."""
    settings = redis_settings(redis_url, "memory", 1, "inspect")
    with Generations(settings, namespace) as generations:
        found = name or generations.current()
        generation = generations.find(found) if found is not None else None
        if generation is None:
            raise click.ClickException(
                f"There is no generation{f' {found}' if found else ''} in namespace {namespace}:"
                " `headrace generations list` shows those that there are, `headrace consume` makes the first."
            )
        wire = Wire(redis_url, settings.timeout_s)
        try:
            yield Opened(wire, generations, generation)
        finally:
            wire.close()


@command.command
@redis_url
@namespace
@generation_flag
@as_of
@json_file
@click.argument("text")
def query(
    redis_url: str, namespace: str, generation: str | None, as_of: Any, json_file: Path | None, text: str
) -> None:
    """Show the items that query TEXT leads to.

    Example:
      headrace inspect query 'red shoe' --as-of 2026-11-21
    """
    with opening(redis_url, namespace, generation) as there:
        keys, rule = there.generations.keys(there.generation.name), _rule(there.generation)
        facts = query_facts(there.wire, keys, text, _day(as_of), rule)
    _write(json_file, facts)
    _edges("query", facts)


@command.command
@redis_url
@namespace
@generation_flag
@as_of
@json_file
@click.argument("item_id")
def item(
    redis_url: str, namespace: str, generation: str | None, as_of: Any, json_file: Path | None, item_id: str
) -> None:
    """Show the queries that lead to item ITEM_ID.

    Example:
      headrace inspect item sku-1
    """
    with opening(redis_url, namespace, generation) as there:
        keys, rule = there.generations.keys(there.generation.name), _rule(there.generation)
        facts = item_facts(there.wire, keys, item_id, _day(as_of), rule)
    _write(json_file, facts)
    _edges("item", facts)


@command.command
@redis_url
@namespace
@generation_flag
@click.option("--newest", type=click.IntRange(0, 100_000), default=_SHOWN, help="Records of the sequence to show.")
@json_file
@click.argument("client_id")
def shopper(
    redis_url: str, namespace: str, generation: str | None, newest: int, json_file: Path | None, client_id: str
) -> None:
    """Show the open searches and the newest records of shopper CLIENT_ID.

    Example:
      headrace inspect shopper c1 --newest 5
    """
    with opening(redis_url, namespace, generation) as there:
        keys, bounds = there.generations.keys(there.generation.name), there.generation.recipe.bounds
        facts = shopper_facts(there.wire, keys, client_id, bounds, newest)
    _write(json_file, facts)
    if not facts["known"]:
        click.echo(f"shopper {client_id}: nothing is known")
        return
    click.echo(f"shopper {client_id}: {facts['records']:,} records, clock {facts['clock']}, fence {facts['fence']}")
    for search in facts["searches"]:
        click.echo(f"  open   {search['at']}  {search['query']!r}, {search['items']} items ({search['query_id']})")
    for record in facts["newest"]:
        what = " -> ".join(repr(part) for part in (record["query"], record["item"]) if part is not None)
        click.echo(f"  {record['at']}  {record['action']:<8}  {what}")


@command.command(name="digest")
@bootstrap_servers
@redis_url
@namespace
@generation_flag
@click.option(
    "--memory",
    is_flag=True,
    help="Fold the log again in memory, up to what the consumers have committed, and compare. Needs as much memory as"
    " the state; exact when no consumer is running, or none has anything to read.",
)
@click.option("--dump", "dump_file", type=click.Path(path_type=Path), default=None, help="Write the dump here too.")
@json_file
def digest_(
    bootstrap_servers: str,
    redis_url: str,
    namespace: str,
    generation: str | None,
    memory: bool,
    dump_file: Path | None,
    json_file: Path | None,
) -> None:
    """Print the SHA-256 of the canonical dump: equal states have equal digests.

    With --memory it ends with 1 when the two differ.

    Example:
      headrace inspect digest --memory
    """
    quieten_kafka()
    with opening(redis_url, namespace, generation) as there:
        built = there.generation
        facts = read_facts(there.wire, there.generations.keys(built.name))
    expected = None
    if memory:
        with speaking_to(bootstrap_servers):
            expected = _folded(built, bootstrap_servers, namespace)
    day = max(newest_day(facts), newest_day(expected) if expected else 0)
    capped = facts.capped_items | (expected.capped_items if expected else set())
    ours = dump(facts, day, built.recipe.bounds, capped)
    if dump_file is not None:
        dump_file.write_bytes(ours)
    told: dict[str, Any] = {
        "generation": built.name,
        "as_of_day": day,
        "digest": digest(ours),
        "lines": ours.count(b"\n"),
        "bytes": len(ours),
        "capped_items": len(capped),
    }
    click.echo(f"{told['digest']}  generation {built.name}, as of day {day}, {told['lines']:,} lines")
    if capped:
        click.echo(f"left out: the copies of {len(capped):,} items that met their bound of bytes")
    if expected is None:
        _write(json_file, told)
        return
    newline = b"\n"
    theirs = dump(expected, day, built.recipe.bounds, capped)
    told |= {"memory": digest(theirs), "equal": ours == theirs}
    _write(json_file, told)
    click.echo(f"{told['memory']}  the same log folded in memory, {theirs.count(newline):,} lines")
    if ours == theirs:
        click.echo("equal")
        return
    click.echo("they differ; < is Redis, > is memory:")
    for line in _differing(ours, theirs):
        click.echo(f"  {line}")
    sys.exit(1)


def _folded(generation: Generation, bootstrap: str, namespace: str) -> Facts:
    """The facts of the same stretch of the log, folded in memory."""
    source = generation.source
    committed = committed_offsets(bootstrap, group_of(namespace, generation.name), source.topic, source.partitions)
    extent = log_extent(bootstrap, source.topic, source.partitions)
    stretch = {partition: (begin, committed.get(partition, begin)) for partition, begin in enumerate(generation.begins)}
    behind = sum(extent[partition][1] - end for partition, (_, end) in stretch.items())
    if behind:
        click.echo(
            f"the log holds {behind:,} records that no consumer has acknowledged: if one is running, or was killed, the"
            " state may be ahead of what is compared",
            err=True,
        )
    store, rejected = MemoryStore(generation.recipe.bounds), list[Rejected]()
    recipe = generation.recipe
    ingestion = Ingestion(store, source_for(generation), recipe.bounds, recipe.limits, rejected.extend)
    line, done, total = ProgressLine("folding"), 0, sum(end - begin for begin, end in stretch.values())
    for records in replay(bootstrap, source.topic, stretch):
        ingestion.take(records)
        ingestion.advance()
        ingestion.committed(ingestion.acknowledged())
        rejected.clear()
        done += len(records)
        line(done, total)
    line.end(done, total)
    return store.facts()


def _differing(ours: bytes, theirs: bytes) -> list[str]:
    """The first differing lines, as ``diff`` marks them."""
    a, b = set(ours.decode().splitlines()), set(theirs.decode().splitlines())
    lines = sorted([(line, "<") for line in a - b] + [(line, ">") for line in b - a])
    shown = [f"{sign} {line}" for line, sign in lines[:_SHOWN]]
    if len(lines) > _SHOWN:
        shown.append(f"... and {len(lines) - _SHOWN:,} more")
    return shown


def _rule(generation: Generation) -> NeighbourRule:
    return replace(NeighbourRule(), window_days=generation.recipe.bounds.window_days)


def _day(as_of: Any) -> int:
    return int((time.time() if as_of is None else as_of.replace(tzinfo=UTC).timestamp()) * 1000) // DAY_MS


def _edges(kind: str, facts: dict[str, Any]) -> None:
    name = facts[kind]
    if not facts["known"]:
        click.echo(f"{kind} {name!r}: nothing is known")
        return
    capped = ", capped" if facts["capped"] else ""
    click.echo(f"{kind} {name!r}: {len(facts['edges']):,} edges{capped}, neighbours as of {facts['as_of']}:")
    for one in facts["neighbours"]:
        click.echo(f"  {one['name']!r}: {one['clicks']:,} clicks of {one['exposures']:,}, Wilson {one['wilson']:.3f}")
    if not facts["neighbours"]:
        click.echo("  none")
    click.echo("edges with most exposures:")
    for edge in facts["edges"][:_SHOWN]:
        click.echo(
            f"  {edge['name']!r}: {edge['clicks']:,} clicks of {edge['exposures']:,} on {edge['days']} days, newest"
            f" {edge['newest_day']}"
        )


def _write(file: Path | None, facts: dict[str, Any]) -> None:
    if file is not None:
        file.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
