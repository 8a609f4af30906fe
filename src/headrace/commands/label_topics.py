"""The topics of pairs and of labels, as `headrace label` uses them: filled, worked off, read out."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import click

from headrace import BadEvent
from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import Stopped, quieten_kafka
from headrace.commands.progress import ProgressLine
from headrace.streams.labelling import LabellingSettings, LabelWorker
from headrace.streams.log_extent import committed_offsets, log_extent
from headrace.streams.pairs import LabelledPair, UnlabelledPair, decode_label, encode
from headrace.streams.partitioners import Partitioner
from headrace.streams.rejections import Rejections
from headrace.streams.replay import replay
from headrace.streams.teachers import Teacher
from headrace.streams.topic_writer import TopicWriter
from headrace.streams.topics import source_of

_FLUSH: Final = 5_000
_ASK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where pairs and labels lie."""

    servers: str
    pairs: str
    labels: str
    partitioner: Partitioner


def send_pairs(place: Place, pairs: Iterable[UnlabelledPair]) -> int:
    """Sends pairs to their topic; how many. Sent again they do no harm: a pair is labelled once.

    Raises:
        SourceChanged: there is no such topic.
        click.ClickException: no broker answers, or one refuses.
    """
    count, now_ms = 0, time.time_ns() // 1_000_000
    with speaking_to(place.servers):
        partitions = source_of(place.servers, place.pairs).partitions
        with TopicWriter(place.servers, place.pairs, partitions, place.partitioner) as writer:
            for pair in pairs:
                writer.send(pair.pair_id.encode(), encode(pair), now_ms)
                count += 1
                if count % _FLUSH == 0:
                    writer.flush()
            writer.flush()
    return count


def work(place: Place, teacher: Teacher, batch: int, until_end: bool) -> LabelWorker:
    """Labels as a member of the teacher's group until it is stopped, or until all is labelled that was there.

    Raises:
        SourceChanged: a topic is not there, or they do not fit.
        click.ClickException: no broker answers, or one refuses.
    """
    stopped = Stopped()
    quieten_kafka()
    with speaking_to(place.servers):
        pairs, labels = source_of(place.servers, place.pairs), source_of(place.servers, place.labels)
        extent = log_extent(place.servers, place.pairs, pairs.partitions)
        ends = {part: end for part, (begin, end) in extent.items() if begin < end}
        settings = LabellingSettings(place.servers, pairs, labels, batch, place.partitioner)
        with closing(Rejections(place.servers, place.pairs)) as reject:
            asked_s = 0.0

            def ended() -> bool:
                nonlocal asked_s
                if stopped() or not until_end:
                    return stopped()
                if not worker.idle or time.monotonic() - asked_s < _ASK_S:
                    return False
                asked_s = time.monotonic()
                there = committed_offsets(place.servers, worker.group, place.pairs, pairs.partitions)
                return all(there.get(part, 0) >= end for part, end in ends.items())

            worker = LabelWorker(settings, teacher, reject, ended, _shown(place.pairs))
            worker.run()
    return worker


def topic_labels(place: Place) -> Iterator[LabelledPair]:
    """The labels that their topic holds now; those that cannot be read are counted on standard error.

    Raises:
        SourceChanged: there is no such topic.
        click.ClickException: no broker answers, or one refuses.
    """
    bad, done = 0, 0
    with speaking_to(place.servers):
        extent = log_extent(place.servers, place.labels, source_of(place.servers, place.labels).partitions)
        line, total = ProgressLine(place.labels), sum(end - begin for begin, end in extent.values())
        for records in replay(place.servers, place.labels, extent):
            for record in records:
                try:
                    yield decode_label(record.value)
                except BadEvent:
                    bad += 1
            done += len(records)
            line(done, total)
    if bad:
        click.echo(f"{bad} records of {place.labels} are no labels", err=True)


def _shown(topic: str) -> Callable[[LabelWorker], None]:
    """Shows how far a worker is with its partitions."""
    line = ProgressLine(topic, "pairs of this worker's partitions")

    def show(worker: LabelWorker) -> None:
        if worker.ends:
            line(sum(worker.committed.values()), sum(worker.ends.values()))

    return show
