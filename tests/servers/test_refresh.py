"""The learner on real Kafka: what it learns and shows, SIGKILL at every moment, replays, and that only one writes."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaConsumer, TopicPartition

from broker_clients import Broker
from headrace.models.bundle import champion, read_bundle, replay
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.online.checkpoint import Checkpoint
from headrace.streams import labels
from headrace.streams.labels import Example
from headrace.streams.topics import Topic, admin_of, create_topics
from refresh_killed import MOMENTS
from served_logs import Wire, searches, send, wire

KILLED = Path(__file__).parent.parent / "support" / "refresh_killed.py"
PARTITIONS = 2
DEADLINE_S = 60.0


def new_topic(name: str) -> Topic:
    """A topic that forgets nothing: the records of these tests are years old."""
    return Topic(name, PARTITIONS, 1, {"retention.ms": "-1"})


class Learner:
    """A ``headrace refresh`` of one test, its topics, and its folders."""

    def __init__(self, bootstrap: str, suffix: str, folder: Path, ending: ExitStack) -> None:
        self.bootstrap, self.folder, self._ending = bootstrap, folder, ending
        self.events, self.features, self.labels = f"events.{suffix}", f"features.{suffix}", f"labels.{suffix}"
        self.repository, self.state = folder / "models", folder / "state"
        self.sent: dict[str, int] = {}
        with admin_of(bootstrap) as admin:
            create_topics(admin, [new_topic(name) for name in (self.events, self.features, self.labels)])

    def send(self, records: list[Wire]) -> None:
        send(self.bootstrap, self.events, self.features, records)

    def command(self, *flags: str, killed: tuple[str, int] | None = None) -> list[str]:
        program = [str(KILLED), killed[0], str(killed[1])] if killed else ["-m", "headrace.commands.main"]
        return [
            *(sys.executable, *program, "refresh", "--bootstrap-servers", self.bootstrap),
            *("--repository", str(self.repository), "--state", str(self.state), "--port", "0"),
            *("--events-topic", self.events, "--features-topic", self.features, "--labels-topic", self.labels),
            *("--click-window-s", "60", "--hold-s", "100", "--every-seconds", "0", "--every-examples", "20"),
            *("--round-records", "40", *flags),
        ]

    def start(self, *flags: str, killed: tuple[str, int] | None = None) -> "Running":
        told = self.folder / f"told-{time.monotonic_ns()}"
        with told.open("wb") as file:
            process = subprocess.Popen(self.command(*flags, killed=killed), stdout=file, stderr=file)
        self._ending.callback(process.wait)
        self._ending.callback(process.kill)
        return Running(process, told)

    def replays(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("--replay"), capture_output=True, text=True, timeout=60, check=False)

    def ends(self) -> str:
        """Where both topics end, as ``until`` asks for it."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        try:
            partitions = [TopicPartition(t, p) for t in (self.events, self.features) for p in range(PARTITIONS)]
            return ",".join(f"{tp.topic}/{tp.partition}:{end}" for tp, end in consumer.end_offsets(partitions).items())
        finally:
            consumer.close()


class Running:
    """A learner's process."""

    def __init__(self, process: "subprocess.Popen[bytes]", told: Path) -> None:
        self.process, self._told = process, told

    def text(self) -> str:
        return self._told.read_text()

    def url(self) -> str:
        deadline_s = time.monotonic() + DEADLINE_S
        while "status: " not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline_s, self.text()
            time.sleep(0.02)
        return self.text().split("status: ")[1].split("/status")[0]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url() + path, timeout=3 * DEADLINE_S) as answer:
            body: bytes = answer.read()
        return body

    def until(self, ends: str) -> dict[str, Any]:
        """The status once everything up to these offsets was seen."""
        try:
            status: dict[str, Any] = msgspec.json.decode(self.get(f"/status?until={ends}&timeout_ms=60000"))
        except urllib.error.HTTPError as late:
            raise AssertionError(late.read().decode() + self.text()) from late
        return status

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


@pytest.fixture
def learner(kafka: Broker, topic_suffix: str, tmp_path: Path) -> Iterator[Learner]:
    with ExitStack() as ending:
        yield Learner(kafka.bootstrap, topic_suffix, tmp_path, ending)


def test_it_learns_publishes_shows_what_it_does_and_can_be_replayed(learner: Learner) -> None:
    running = learner.start("--labels")
    assert running.until("")["examples"] == 0
    first = champion(learner.repository)
    assert first is not None, "a worker finds the head that learning begins with"

    noise = [Wire(True, b"x", b"\x07", 0), Wire(False, b"x", b"{", 0)]
    learner.send([wire(record) for record in searches(0, 50)] + noise)
    status = running.until(learner.ends())
    # The last search that can be over began 60 s of window and 5 s of hold before the last click.
    assert status["examples"] == 33
    assert status["published"] == 1
    assert status["pending"]["lists"] == 17
    refused = status["counts"]["refused_records"]
    assert refused == {f"{learner.events}:not_json": 1, f"{learner.features}:codec": 1}

    learner.send([wire(record) for record in searches(50, 150)])
    status = running.until(learner.ends())
    assert status["examples"] == 183
    assert status["published"] == 9
    measures = status["progressive"]["total"]
    assert measures["mrr"] > measures["frozen_mrr"] > 0.3
    metrics = running.get("/metrics").decode()
    assert "headrace_refresh_examples_total 183.0" in metrics
    assert f'headrace_refresh_refused_records_total{{outcome="{learner.events}:not_json"}} 1.0' in metrics
    with pytest.raises(urllib.error.HTTPError) as late:
        running.get(f"/status?until={learner.events}/0:999999&timeout_ms=50")
    assert late.value.code == 408
    late.value.close()

    assert running.end() == 0, running.text()
    now = champion(learner.repository)
    assert now is not None
    assert now.version == status["version"] != first.version
    bundle = read_bundle(learner.repository, now.version)
    head = Head.from_bytes(bundle.parts["head"].read("head.bin"))
    assert replay(bundle.golden, {"head": lambda request: head.score(matrix_of(request)).tolist()}, 1e-6) == 4
    assert bundle.manifest.metadata["examples"] == 180
    assert abs(head.weights - Head.cold().weights)[FEATURES.index("item_rate")] > 0.1

    replayed = learner.replays()
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "183 examples: the same weights" in replayed.stdout
    assert labels_in(learner) == 183


def matrix_of(request: Any) -> Any:
    return np.array(request["features"], np.float32)


def labels_in(learner: Learner) -> int:
    consumer = KafkaConsumer(
        bootstrap_servers=learner.bootstrap, consumer_timeout_ms=5_000, auto_offset_reset="earliest"
    )
    partitions = [TopicPartition(learner.labels, partition) for partition in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    wanted = sum(consumer.end_offsets(partitions).values())
    ids = set()
    for _ in range(wanted):
        record = next(consumer)
        label = labels.decode(record.value)
        assert isinstance(label, Example)
        assert label.id.encode() == record.key
        ids.add(label.id)
    consumer.close()
    return len(ids)


@pytest.mark.timeout(300)
def test_a_learner_killed_at_every_moment_ends_with_the_bytes_of_one_that_was_not(learner: Learner) -> None:
    more = {"reading": (3, 50), "learning": (1, 7)}
    killed = [(moment, times) for moment in MOMENTS for times in more.get(moment, (1,))]
    share = 90
    records = [wire(record) for record in searches(0, 30 * len(killed))]
    for at, (moment, times) in enumerate(killed):
        running = learner.start("--labels", killed=(moment, times))
        learner.send(records[at * share : (at + 1) * share])
        assert running.process.wait(DEADLINE_S) == -signal.SIGKILL, (moment, running.text())
    running = learner.start("--labels")
    learner.send([wire(record) for record in searches(300, 10)])
    status = running.until(learner.ends())
    assert running.end() == 0
    assert status["examples"] == 293
    replayed = learner.replays()
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert labels_in(learner) == 293


def test_a_second_learner_is_refused_and_a_zombie_can_neither_publish_nor_write(
    learner: Learner, tmp_path: Path
) -> None:
    first = learner.start()
    first.until("")
    for folders in ((), ("--state", str(tmp_path / "elsewhere"))):
        second = subprocess.run(learner.command(*folders), capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 1
        assert f"has a learner already (process {first.process.pid})" in second.stderr
        assert "Traceback" not in second.stderr

    os.kill(first.process.pid, signal.SIGSTOP)
    second_state = tmp_path / "elsewhere"
    other = learner.start("--state", str(second_state), "--take-over")
    learner.send([wire(record) for record in searches(0, 60)])
    assert other.until(learner.ends())["published"] == 2
    taken = champion(learner.repository)
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.process.wait(DEADLINE_S) == 1
    assert "another publisher took over" in first.text()
    assert champion(learner.repository) == taken

    third = learner.start("--state", str(second_state), "--take-over")
    third.until("")
    learner.send([wire(record) for record in searches(60, 10)])
    assert other.process.wait(DEADLINE_S) == 1
    assert "another learner took over" in other.text()
    third.until(learner.ends())
    assert third.end() == 0
    checkpoint = Checkpoint(second_state, read_only=True)
    assert checkpoint.planned() is None
    assert checkpoint.state().course.learned == 53
    checkpoint.close()


def test_heads_come_by_time_too_and_a_replay_decides_at_the_same_places(learner: Learner) -> None:
    running = learner.start("--every-seconds", "0.3", "--every-examples", "0")
    for at in range(0, 90, 30):
        learner.send([wire(record) for record in searches(at, 30)])
        status = running.until(learner.ends())
        deadline_s = time.monotonic() + DEADLINE_S
        while status["progressive"]["since_decision"]["examples"] or not status["published"]:
            assert time.monotonic() < deadline_s, running.text()
            time.sleep(0.05)
            status = running.until("")
    assert 3 <= status["published"] <= 9
    time.sleep(0.7)
    assert running.until("")["published"] == status["published"], "without a new example nothing new is published"
    assert running.end() == 0
    replayed = learner.replays()
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


@pytest.mark.timeout(180)
def test_a_kafka_that_dies_and_comes_back_costs_time_and_nothing_else(
    new_kafka: Callable[[], Broker], topic_suffix: str, tmp_path: Path
) -> None:
    kafka = new_kafka()
    with ExitStack() as ending:
        learner = Learner(kafka.bootstrap, topic_suffix, tmp_path, ending)
        running = learner.start("--labels")
        learner.send([wire(record) for record in searches(0, 30)])
        assert running.until(learner.ends())["examples"] == 13
        kafka.kill()
        time.sleep(1.0)
        kafka.start()
        learner.send([wire(record) for record in searches(30, 30)])
        assert running.until(learner.ends())["examples"] == 43
        assert running.end() == 0, running.text()
        replayed = learner.replays()
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_other_settings_and_another_log_are_refused_with_a_sentence(learner: Learner) -> None:
    running = learner.start()
    running.until("")
    assert running.end() == 0
    other = subprocess.run(learner.command("--hold-s", "7"), capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 1
    assert "hold_ms: 100000 there, 7000 now" in other.stderr
    with admin_of(learner.bootstrap) as admin:
        admin.delete_topics([learner.events])
        deadline_s = time.monotonic() + DEADLINE_S
        while not create_topics(admin, [new_topic(learner.events)]):
            assert time.monotonic() < deadline_s
    other = subprocess.run(learner.command(), capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode == 1
    assert "is not the log this learner began with" in other.stderr
