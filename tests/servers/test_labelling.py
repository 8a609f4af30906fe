"""Teacher workers on real brokers: every pair is labelled once, whoever dies, comes and goes."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kafka import KafkaProducer

from broker_clients import Broker
from consumed_topics import Worker, records_of, running, wait_for
from headrace import SourceChanged
from headrace.local.broker.process import LocalBroker
from headrace.models.prompts import Pair
from headrace.streams.label_log import LabelLog
from headrace.streams.labelling import LabellingSettings, LabelWorker, label_group
from headrace.streams.log_extent import committed_offsets
from headrace.streams.pairs import LabelledPair, UnlabelledPair, decode_label, encode, pair_of
from headrace.streams.partitioners import partition_of
from headrace.streams.teachers import label_of
from headrace.streams.topics import DEAD, Topic, admin_of, create_topics, source_of
from label_worker import HashTeacher

WORKER = Path(__file__).parent.parent / "support" / "label_worker.py"
PARTITIONS = 4


@dataclass
class Place:
    """A topic of pairs and one of labels."""

    kafka: Broker
    pairs: str
    labels: str
    sent: list[UnlabelledPair] = field(default_factory=list)

    def send(self, count: int, values: Sequence[tuple[bytes | None, bytes]] = ()) -> None:
        """Sends that many new pairs, and other records."""
        begin = len(self.sent)
        new = [
            pair_of(f"query {number // 7}", f"i{number}", f"title {number}") for number in range(begin, begin + count)
        ]
        self.sent += new
        self.put([(pair.pair_id.encode(), encode(pair)) for pair in new] + list(values))

    def put(self, records: Sequence[tuple[bytes | None, bytes]]) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap, acks="all", linger_ms=10)
        for key, value in records:
            producer.send(self.pairs, key=key, value=value, partition=partition_of(key or b"", PARTITIONS))
        producer.flush(timeout=30)
        producer.close()

    def worker(self, log: Path, *more: str) -> AbstractContextManager[Worker]:
        where = ("--bootstrap", self.kafka.bootstrap, "--pairs", self.pairs, "--labels", self.labels)
        return running([sys.executable, str(WORKER), *where, *more], log)

    def labelled(self) -> list[tuple[int, LabelledPair]]:
        """Partition and label of every record of the topic of labels."""
        return [(one.partition, decode_label(one.value)) for one in records_of(self.kafka, self.labels)]

    def is_exact(self) -> None:
        """Every pair has its label once, where it lies, and the label is what the teacher says."""
        found, teacher = self.labelled(), HashTeacher()
        assert Counter(label.pair_id for _, label in found) == Counter({pair.pair_id: 1 for pair in self.sent})
        logits = teacher.logits([Pair(label.query, label.title) for _, label in found])
        for (partition, label), logit in zip(found, logits, strict=True):
            assert partition == partition_of(label.pair_id.encode(), PARTITIONS)
            assert (label.logit, label.teacher, label.prompt) == (logit, "hash", "p1")
            assert label.probability == pytest.approx(1 / (1 + 2.718281828459045**-logit))

    def settings(self) -> LabellingSettings:
        pairs, labels = (source_of(self.kafka.bootstrap, name) for name in (self.pairs, self.labels))
        return LabellingSettings(self.kafka.bootstrap, pairs, labels, idle_ms=50)


def made(kafka: Broker, suffix: str) -> Place:
    found = Place(kafka, f"pairs.{suffix}", f"labels.{suffix}")
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(name, PARTITIONS) for name in (found.pairs, found.pairs + DEAD, found.labels)])
    return found


@pytest.fixture
def place(kafka: Broker, topic_suffix: str) -> Place:
    return made(kafka, topic_suffix)


def ended(worker: Worker) -> None:
    assert worker.ends(150) == 0, worker.said()[-3000:]


def test_a_worker_that_dies_again_and_again_labels_nothing_twice_and_leaves_nothing_out(
    place: Place, tmp_path: Path
) -> None:
    for turn, death in enumerate(("ask:2", "half:1", "safe:2", "half:3")):
        place.send(120)
        with place.worker(tmp_path / f"{turn}.log", "--die", death) as worker:
            wait_for(lambda: worker.process.poll() is not None, death)
            assert worker.process.returncode == -signal.SIGKILL, worker.said()[-3000:]
    with place.worker(tmp_path / "last.log", "--until-end") as worker:
        ended(worker)
    place.is_exact()


def test_workers_share_the_partitions_and_one_that_is_killed_is_replaced_by_the_other(
    place: Place, tmp_path: Path
) -> None:
    place.send(600)
    slow = ("--pause", "0.05", "--batch", "10")
    with place.worker(tmp_path / "a.log", *slow) as first, place.worker(tmp_path / "b.log", *slow) as second:
        for worker in (first, second):
            wait_for(lambda: "labelling partitions" in worker.said(), "both have partitions")  # noqa: B023 - called at once
        wait_for(lambda: len(place.labelled()) > 100, "some labels")
        first.kill()
        place.send(100)
        wait_for(lambda: len(place.labelled()) >= len(place.sent), "all labels")
        assert second.terminate() == 0, second.said()[-3000:]
    place.is_exact()


def test_a_worker_that_comes_while_another_is_at_work_doubles_nothing(place: Place, tmp_path: Path) -> None:
    slow = ("--pause", "0.2", "--batch", "20")
    with place.worker(tmp_path / "a.log", *slow) as first, place.worker(tmp_path / "b.log", *slow) as second:

        def both_at_work() -> bool:
            place.send(30)  # whoever is there has something to do while the other one comes
            return all("labelling partitions" in worker.said() for worker in (first, second))

        wait_for(both_at_work, "both have partitions")
        place.send(200)
        wait_for(lambda: len(place.labelled()) >= len(place.sent), "all labels")
        assert (first.terminate(), second.terminate()) == (0, 0)
    place.is_exact()


def test_a_pair_that_is_sent_again_is_passed_over_and_what_is_no_pair_goes_to_the_letters(
    place: Place, tmp_path: Path
) -> None:
    nan = pair_of("q", "i", "a title of NaN")
    place.send(50, [(b"k", b"{"), (None, b"{}"), (nan.pair_id.encode(), encode(nan))])
    with place.worker(tmp_path / "a.log", "--until-end") as worker:
        ended(worker)
    place.put([(pair.pair_id.encode(), encode(pair)) for pair in place.sent])
    place.send(5)
    with place.worker(tmp_path / "b.log", "--until-end") as worker:
        ended(worker)
        assert "labelled=5, passed=50, rejected=0" in worker.said()
    place.is_exact()
    letters = [dict(one.headers)["x-error-reason"].decode() for one in records_of(place.kafka, place.pairs + DEAD)]
    assert sorted(letters) == ["missing", "not_json", "out_of_range"]


def test_labels_of_other_teachers_and_prompts_do_not_count(place: Place, tmp_path: Path) -> None:
    place.send(20)
    labels = source_of(place.kafka.bootstrap, place.labels)
    others = LabelLog(place.kafka.bootstrap, labels, "other", "p1")
    others.send(
        [
            (partition_of(pair.pair_id.encode(), PARTITIONS), label_of(pair, 0.5, teacher, 1_748_779_200_000))
            for pair in place.sent
            for teacher in (HashTeacher("other", "p1"), HashTeacher("hash", "another"))
        ]
    )
    while not others.is_safe():
        time.sleep(0.01)
    others.abandon()
    with place.worker(tmp_path / "a.log", "--until-end") as worker:
        ended(worker)
    found = Counter((label.teacher, label.prompt) for _, label in place.labelled())
    assert found == {("hash", "p1"): 20, ("other", "p1"): 20, ("hash", "another"): 20}


def test_a_worker_ends_in_order_with_what_it_has_begun(place: Place, tmp_path: Path) -> None:
    place.send(100)
    with place.worker(tmp_path / "a.log", "--pause", "2.0", "--batch", "10") as worker:
        wait_for(lambda: len(place.labelled()) >= 10, "a batch")
        time.sleep(0.5)  # the teacher is at the next one
        assert worker.terminate() == 0, worker.said()[-2000:]
    settings = place.settings()
    group = label_group(settings.pairs, settings.labels, HashTeacher())
    committed = committed_offsets(place.kafka.bootstrap, group, place.pairs, PARTITIONS)
    assert sum(committed.values()) == len(place.labelled()) >= 20


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # it is about the worker
def test_a_broker_that_stands_still_costs_time_and_no_label(
    new_kafka: Callable[[], LocalBroker], topic_suffix: str, tmp_path: Path
) -> None:
    kafka = new_kafka()
    place = made(kafka, topic_suffix)
    place.send(300)
    with place.worker(tmp_path / "a.log", "--pause", "0.1", "--batch", "10", "--until-end") as worker:
        wait_for(lambda: len(place.labelled()) > 20, "some labels")
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(kafka.pid, signal.SIGCONT)
        ended(worker)
    place.is_exact()


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_topics_of_different_sizes_are_refused(kafka: Broker, topic_suffix: str) -> None:
    place = made(kafka, topic_suffix)
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(place.labels + ".more", PARTITIONS + 1)])
    settings = place.settings()
    other = LabellingSettings(kafka.bootstrap, settings.pairs, source_of(kafka.bootstrap, place.labels + ".more"))
    with pytest.raises(SourceChanged, match="4 partitions and .* has 5"):
        LabelWorker(other, HashTeacher(), lambda rejected: None, lambda: True)


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_a_worker_that_was_stopped_for_long_writes_nothing_when_it_wakes(
    kafka: Broker, topic_suffix: str, tmp_path: Path
) -> None:
    place = made(kafka, topic_suffix)
    place.send(200)
    with place.worker(tmp_path / "a.log", "--pause", "1.0", "--batch", "20") as first:
        wait_for(lambda: len(place.labelled()) >= 20, "a batch")
        os.kill(first.process.pid, signal.SIGSTOP)
        with place.worker(tmp_path / "b.log", "--until-end") as second:
            ended(second)
        os.kill(first.process.pid, signal.SIGCONT)
        time.sleep(3)
        assert isinstance(first.process, subprocess.Popen) and first.terminate() == 0, first.said()[-2000:]
    place.is_exact()
