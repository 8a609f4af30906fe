"""Compare the features that were served with the same features recomputed from the log."""

import heapq
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from headrace import BadEvent, SourceChanged
from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import quieten_kafka, source_for
from headrace.commands.inspect import generation_flag, opening
from headrace.commands.options import bootstrap_servers, json_file, namespace, redis_url
from headrace.commands.progress import ProgressLine
from headrace.online.differences import SkewReport
from headrace.online.skew import Skew
from headrace.streams import feature_log, topics
from headrace.streams.feature_log import FeatureLogLimits, Served
from headrace.streams.generations import Generation
from headrace.streams.identity import hash64
from headrace.streams.ingestion import Record
from headrace.streams.log_extent import log_extent
from headrace.streams.replay import replay
from headrace.streams.topics import source_of

_HASHES: Final = 1 << 64


@click.command
@bootstrap_servers
@redis_url
@namespace
@generation_flag
@click.option("--features-topic", default=topics.FEATURES, help="What requests were answered with.")
@click.option(
    "--lists", "most", type=click.IntRange(1, 1_000_000), default=1_000, help="Compare at most so many, the newest."
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=None,
    help="Of the whole log take this share, by hash of the request id; then the newest of them.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="End with 1 when a recomputed feature differs in more than this share of the rows.",
)
@click.option("--window-days", type=click.IntRange(1, 3_650), default=30, help="As `serve` has it.")
@json_file
def command(
    bootstrap_servers: str,
    redis_url: str,
    namespace: str,
    generation: str | None,
    features_topic: str,
    most: int,
    sample: float | None,
    tolerance: float,
    window_days: int,
    json_file: Path | None,
) -> None:
    """Compare the features that were served with the same features recomputed from the log.

    Reads the events from the generation's beginning up to now, folds them in memory, and rebuilds each list's features
    as of the fences that its record names. Ends with 1 when a recomputed feature differs.

    Example:
      headrace skew --lists 500 --json skew.json
    """
    quieten_kafka()
    with opening(redis_url, namespace, generation) as there:
        built = there.generation
    with speaking_to(bootstrap_servers):
        if source_of(bootstrap_servers, built.source.topic) != built.source:
            raise SourceChanged(
                f"{built.source.topic} on {bootstrap_servers} is not the log that generation {built.name} was built"
                " from: it was made again, has other partitions, or these are other brokers. Name the generation that"
                " was built from it with --generation."
            )
        lists, unreadable = _served(bootstrap_servers, features_topic, most, sample)
        if not lists:
            raise click.ClickException(
                f"{features_topic} holds no list to compare ({unreadable:,} records could not be read):"
                " `headrace serve` writes one for every request that names client_id and query_id."
            )
        recipe = built.recipe
        skew = Skew(lists, source_for(built), recipe.bounds, recipe.limits, window_days)
        _fold(skew, built, bootstrap_servers)
    report = skew.report()
    exceeding = report.exceeding(tolerance)
    if json_file is not None:
        told = msgspec.to_builtins(report) | {"unreadable": unreadable, "exceeding": exceeding, "tolerance": tolerance}
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    _say(report, unreadable, features_topic)
    if not report.lists and not exceeding:
        raise click.ClickException(f"None of the {len(lists):,} lists could be compared with generation {built.name}.")
    if exceeding:
        click.echo(f"differs in more than {tolerance:.2%}: {', '.join(exceeding)}")
        sys.exit(1)


def _served(bootstrap: str, topic: str, most: int, sample: float | None) -> tuple[list[Served], int]:
    """The lists to compare, and how many records could not be read."""
    extent = log_extent(bootstrap, topic, source_of(bootstrap, topic).partitions)
    stretch = {
        partition: (begin if sample is not None else max(begin, end - most), end)
        for partition, (begin, end) in extent.items()
    }
    kept: list[tuple[int, int, Served]] = []  # a heap, the oldest first
    unreadable, limits, number = 0, FeatureLogLimits(), itertools.count()
    for record in _told(replay(bootstrap, topic, stretch), "reading lists", stretch):
        try:
            served = feature_log.decode(record.value, limits)
        except BadEvent:
            unreadable += 1
            continue
        if sample is not None and hash64(served.request_id) >= sample * _HASHES:
            continue
        heapq.heappush(kept, (served.at_ms, next(number), served))
        if len(kept) > most:
            heapq.heappop(kept)
    return [served for _, _, served in sorted(kept)], unreadable


def _fold(skew: Skew, built: Generation, bootstrap: str) -> None:
    """Gives the log to the comparison, from the generation's beginning up to its end now."""
    source = built.source
    extent = log_extent(bootstrap, source.topic, source.partitions)
    stretch = {partition: (begin, extent[partition][1]) for partition, begin in enumerate(built.begins)}
    line, done, total = ProgressLine("folding"), 0, sum(end - begin for begin, end in stretch.values())
    for records in replay(bootstrap, source.topic, stretch):
        skew.take(records)
        done += len(records)
        line(done, total)
    line.end(done, total)


def _told(batches: Iterator[list[Record]], label: str, stretch: dict[int, tuple[int, int]]) -> Iterator[Record]:
    """The records one by one, with a line that says how far it is."""
    line, done, total = ProgressLine(label), 0, sum(end - begin for begin, end in stretch.values())
    for records in batches:
        yield from records
        done += len(records)
        line(done, total)
    line.end(done, total)


def _say(report: SkewReport, unreadable: int, topic: str) -> None:
    click.echo(f"{report.lists:,} lists of {topic} compared, {report.rows:,} rows")
    for why, count in {"unreadable": unreadable, **report.skipped}.items():
        if count:
            click.echo(f"  left out: {count:,} {why.replace('_', ' ')}")
    for why, count in report.partly.items():
        click.echo(f"  left out for some features: {count:,} {why.replace('_', ' ')}")
    click.echo(f"{'feature':<20} {'rows':>9} {'differ':>9} {'share':>8} {'mean |d|':>10} {'max |d|':>10}")
    for feature in report.features:
        if feature.standing != "recomputed":
            click.echo(f"{feature.name:<20} {feature.standing}: {feature.why}")
            continue
        numbers: tuple[Any, ...] = (feature.rows, feature.differing, feature.share, feature.mean_abs, feature.max_abs)
        click.echo("{:<20} {:>9,} {:>9,} {:>8.2%} {:>10.3g} {:>10.3g}".format(feature.name, *numbers))
    sequence = report.sequence
    click.echo(
        f"sequences: {sequence.stale:,} of {sequence.lists:,} were behind what had happened;"
        f" missing records {sequence.missing_mean:.3g} on average, {sequence.missing_max:,} at most;"
        f" edit distance {sequence.distance_mean:.3g} on average, {sequence.distance_max:,} at most"
    )
