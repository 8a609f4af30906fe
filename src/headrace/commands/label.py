"""Let a teacher label pairs of query and item: find candidates, label them, collect the labels, fill the cache."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import Stopped
from headrace.commands.inspect import generation_flag, opening
from headrace.commands.label_cache import catalogue_items, file_pairs, fill, shown_pairs, stale, with_neighbours
from headrace.commands.label_candidates import Tally, candidate_pairs
from headrace.commands.label_collection import collected, write_lines
from headrace.commands.label_neighbours import Behaviour
from headrace.commands.label_sources import FileOrHomeDepot
from headrace.commands.label_teachers import open_teacher, teacher_flags
from headrace.commands.label_topics import Place, send_pairs, topic_labels, work
from headrace.commands.options import (
    bootstrap_servers,
    data_folder,
    namespace,
    redis_url,
    repository,
    show_configuration,
)
from headrace.commands.progress import ProgressLine
from headrace.models.candidates import FEWEST, MOST, ORIGINS
from headrace.streams import topics
from headrace.streams.events import ItemChanged
from headrace.streams.identity import DAY_MS
from headrace.streams.label_files import LabelFile, label_file, labels_of
from headrace.streams.pairs import LabelledPair, encode
from headrace.streams.redis_scores import ScoreCache
from headrace.streams.score_cache import part_name

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_HOUR_MS: Final = 3_600_000


_pairs_topic = click.option("--pairs-topic", default=topics.PAIRS, help="Where pairs without a label lie.")
_labels_topic = click.option("--labels-topic", default=topics.LABELLED_PAIRS, help="Where a teacher's labels lie.")
_partitioner = click.option(
    "--partitioner",
    type=click.Choice(["murmur2", "crc32"]),
    default="murmur2",
    help="That of whoever sends pairs; a pair in another partition than its key's is dead-lettered.",
)


def _place(given: dict[str, Any]) -> Place:
    return Place(
        given["bootstrap_servers"],
        given.get("pairs_topic", topics.PAIRS),
        given.get("labels_topic", topics.LABELLED_PAIRS),
        given.get("partitioner", "murmur2"),
    )


@click.group
def command() -> None:
    """Let a teacher label pairs of query and item, for a student to learn from, and fill the score cache with them.

    Pairs and labels lie in files or in topics; either way a pair is labelled once, whoever is killed meanwhile.

    Example:
      headrace label candidates items.jsonl queries.tsv pairs.jsonl
      headrace label run pairs.jsonl labels.jsonl --teacher teachers/both
      headrace label collect training.jsonl --labels labels.jsonl
    """


@command.command
@click.argument("catalogue", type=FileOrHomeDepot())
@click.argument("queries", type=FileOrHomeDepot())
@click.argument("out", required=False, type=_NEW_FILE)
@click.option("--to-topic", is_flag=True, help="Send the pairs to --pairs-topic instead of writing OUT.")
@click.option("--per-query", type=click.IntRange(FEWEST, MOST), default=24, help="Candidates of a query.")
@click.option(
    "--most-queries",
    type=click.IntRange(1),
    default=None,
    help="Draw so many of the queries, the rare ones more often than their share.  [default: all]",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, help="Of what is left to chance; the same gives the same pairs."
)
@click.option(
    "--vectors/--no-vectors", default=True, help="Also by meaning, where the repository has a student for it."
)
@click.option(
    "--part", default="", metavar="DIGEST", help="That student.  [default: the champion's, else any that fits]"
)
@click.option("--threads", type=click.IntRange(1, 256), default=2, help="Batches of texts encoded at a time.")
@click.option(
    "--neighbours/--no-neighbours",
    default=False,
    help="Pairs carry the behaviour neighbours that the state in Redis knows now: for teachers and students that read"
    " them.",
)
@redis_url
@namespace
@generation_flag
@repository
@data_folder
@bootstrap_servers
@_pairs_topic
@_partitioner
def candidates(catalogue: Path, queries: Path, out: Path | None, **given: Any) -> None:
    """Propose pairs of QUERIES and items of a CATALOGUE that are worth a teacher's time.

    Several retrievers propose, and disagree: by words (BM25), by meaning (vectors), middle ranks of both, items that
    share the query's head word, any. A CATALOGUE is JSON lines with item_id and title, and details for the teacher;
    what `headrace import --items` takes will do. QUERIES are JSON lines with query and frequency, or lines of text, a
    tab before the frequency. `homedepot` stands for either: all its titles, the queries that may be learned from.

    Example:
      headrace label candidates items.jsonl queries.tsv pairs.jsonl --per-query 24
      headrace label candidates homedepot homedepot pairs.jsonl
    """
    if (out is None) != given["to_topic"]:
        raise click.UsageError("give OUT, a file, or --to-topic, one of them")
    tally = Tally()
    with ExitStack() as held:
        behaviour = None
        if given["neighbours"]:
            there = held.enter_context(opening(given["redis_url"], given["namespace"], given["generation"]))
            behaviour = Behaviour(there, time.time_ns() // 1_000_000 // DAY_MS)
        pairs = candidate_pairs(catalogue, queries, tally, given, behaviour)
        if out is None:
            send_pairs(_place(given), pairs)
        else:
            try:
                write_lines(out, map(encode, pairs))
            except OSError as error:
                raise click.ClickException(str(error)) from error
    click.echo(
        f"{tally.pairs:,} pairs of {tally.queries:,} queries: {out if out is not None else given['pairs_topic']}"
    )
    click.echo(", ".join(f"{tally.origins[origin]:,} {origin}" for origin in ORIGINS if tally.origins[origin]))
    if not np.isnan(tally.agreement):
        click.echo(f"BM25 and vectors agree on {tally.agreement:.0%} of their first ten")


@command.command
@click.argument("pairs", required=False, type=_FILE)
@click.argument("labels", required=False, type=_NEW_FILE)
@teacher_flags
@click.option("--from-topic", is_flag=True, help="Take pairs from --pairs-topic, write labels to --labels-topic.")
@click.option("--until-end", is_flag=True, help="With --from-topic: end once all is labelled that was there.")
@bootstrap_servers
@_pairs_topic
@_labels_topic
@_partitioner
def run(pairs: Path | None, labels: Path | None, **given: Any) -> None:
    """Label PAIRS, a file, into LABELS, a file, or those of a topic as one of a group of workers.

    Killed and started again it goes on, and labels nothing twice: in files by the lines of LABELS, in topics by the
    labels that lie there. Any number of workers may share the topics, one file belongs to one process. Records that are
    no pairs go to the dead letters (`headrace dlq list --topic search.pairs.unlabelled.v1`).

    Example:
      headrace label run pairs.jsonl labels.jsonl --teacher teachers/both
      headrace label run --from-topic --teacher teachers/both
    """
    if given["from_topic"] == (pairs is not None) or (pairs is None) != (labels is None):
        raise click.UsageError("give PAIRS and LABELS, two files, or --from-topic, one of them")
    if given["until_end"] and not given["from_topic"]:
        raise click.UsageError("--until-end belongs to --from-topic: a file has an end")
    show_configuration()
    teacher = open_teacher(given)
    if pairs is None or labels is None:
        done = work(_place(given), teacher, given["batch"], given["until_end"]).counts
        click.echo(_said(done.labelled, done.passed, done.rejected))
        return
    line = ProgressLine(labels.name, "pairs")
    try:
        with LabelFile(labels, teacher) as into:
            found = label_file(pairs, into, teacher, given["batch"], Stopped(), line)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    line.end(found.done, found.lines)
    for number, fault in found.faults:
        click.echo(f"{pairs.name}, line {number}: {fault}", err=True)
    click.echo(_said(found.labelled, found.passed, found.rejected))
    if not (found.labelled or found.passed):
        raise click.ClickException(f"{pairs} holds no pair: `headrace label candidates` makes some.")


def _said(labelled: int, passed: int, rejected: int) -> str:
    return f"{labelled:,} pairs labelled, {passed:,} had their label, {rejected:,} are no pairs"


@command.command
@click.argument("out", type=_NEW_FILE)
@click.option("--labels", "files", multiple=True, type=_FILE, help="Labels of a file; may be given again.")
@click.option("--from-topic", is_flag=True, help="Labels of --labels-topic.")
@click.option("--teacher-id", default="", metavar="ID", help="Only this teacher's; the beginning of its id will do.")
@click.option(
    "--least-spread",
    type=click.FloatRange(0, 1),
    default=0.05,
    help="Leave out queries whose probabilities differ by less: a student learns nothing from them.",
)
@bootstrap_servers
@_labels_topic
def collect(out: Path, files: tuple[Path, ...], **given: Any) -> None:
    """Put the labels of files or of a topic together in OUT, as `headrace train student --labels` takes them.

    Each label once, without those of queries whose labels hardly differ.

    Example:
      headrace label collect training.jsonl --from-topic --least-spread 0.05
    """
    if given["from_topic"] == bool(files):
        raise click.UsageError("give --labels, once or more, or --from-topic, one of them")

    def labels() -> Iterator[LabelledPair]:
        return topic_labels(_place(given)) if given["from_topic"] else chain.from_iterable(map(labels_of, files))

    counts: Counter[str] = Counter()
    try:
        write_lines(out, map(encode, collected(labels, given["teacher_id"], given["least_spread"], counts)))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    left = ", ".join(f"{count:,} {what}" for what, count in counts.items() if what not in ("labels", "kept") and count)
    click.echo(f"{counts['kept']:,} of {counts['labels']:,} labels: {out}" + (f" (left out: {left})" if left else ""))


@command.command
@teacher_flags
@redis_url
@namespace
@generation_flag
@bootstrap_servers
@click.option("--items-topic", default=topics.ITEMS, help="Where the catalogue lies.")
@click.option("--pairs", "file", type=_FILE, default=None, help="These pairs, instead of those that shoppers see most.")
@click.option(
    "--most", type=click.IntRange(1, 10_000_000), default=20_000, help="At most so many pairs, most shown first."
)
@click.option("--fresh-hours", type=click.FloatRange(0), default=72.0, help="A score that is younger is left as it is.")
@click.option(
    "--neighbours/--no-neighbours",
    default=False,
    help="Tell the teacher the behaviour neighbours too: for one that was trained with them.",
)
def cache(file: Path | None, **given: Any) -> None:
    """Fill the score cache in Redis with the teacher's scores of the pairs that shoppers see most.

    Which pairs those are tells the state that `consume` fills; their texts, the items topic. `serve` answers them with
    the teacher's score as long as the item's text is the same and the student's part names this teacher. Killed and
    started again it goes on: what is fresh is passed over. Run it every night.

    Example:
      headrace label cache --teacher teachers/both --most 20000
    """
    show_configuration()
    teacher, now_ms, stopped = open_teacher(given), time.time_ns() // 1_000_000, Stopped()

    def items(ids: set[str]) -> dict[str, ItemChanged]:
        with speaking_to(given["bootstrap_servers"]):
            return catalogue_items(given["bootstrap_servers"], given["items_topic"], ids)

    with opening(given["redis_url"], given["namespace"], given["generation"]) as there:
        day, most = now_ms // DAY_MS, given["most"]
        pairs = shown_pairs(there, items, most, day) if file is None else file_pairs(file, most)
        if given["neighbours"]:
            pairs = with_neighbours(there, pairs, items, day)
        keys = there.generations.keys(there.generation.name)
        oldest_ms = now_ms - int(given["fresh_hours"] * _HOUR_MS)
        due = stale(there.wire, keys, pairs, part_name(teacher.id), oldest_ms)
    if not pairs:
        raise click.ClickException(
            f"no pair that was shown within the window has its texts in {given['items_topic']}: consume searches first"
            " (`headrace consume`), or name a file with --pairs."
        )
    click.echo(f"{len(pairs):,} pairs, {len(pairs) - len(due):,} of them fresh", err=True)
    line = ProgressLine("teacher's scores", "pairs")
    with closing(ScoreCache(given["redis_url"], given["namespace"])) as scores:
        kept = fill(scores, teacher, due, given["batch"], line, stopped)
    line.end(kept, len(due))
    click.echo(f"{kept:,} scores of teacher {teacher.id} kept, {len(pairs) - len(due):,} were fresh")
