"""Topics with shopping logs on a real broker, and the state that consumers must leave of them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from broker_clients import Broker
from headrace.commands.consumption import source_for
from headrace.commands.recipes import made, redis_settings
from headrace.local.valkey import LocalValkey
from headrace.streams.dump import Facts, dump, newest_day
from headrace.streams.generations import Generation, Recipe, group_of
from headrace.streams.ingestion import Ingestion, Record, Rejected
from headrace.streams.keys import Keys
from headrace.streams.log_extent import committed_offsets, log_extent
from headrace.streams.partitioners import partition_of
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import read_facts
from headrace.streams.redis_wire import Wire
from headrace.streams.replay import replay
from headrace.streams.store import MemoryStore
from headrace.streams.topics import DEAD, LATE, Topic, admin_of, create_topics, source_of
from shopping_logs import SMALL, LogShape, make_log

WORKER = Path(__file__).with_name("consumer_worker.py")
SETTINGS = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}


def make_topics(kafka: Broker, topic: str, partitions: int) -> None:
    """The topic, and those of its letters."""
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(topic + end, partitions, 1, SETTINGS) for end in ("", DEAD, LATE)])


def records_of(kafka: Broker, topic: str) -> list[Any]:
    """All records that a topic holds now, as kafka-python gives them."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    places = [TopicPartition(topic, one) for one in sorted(consumer.partitions_for_topic(topic) or ())]
    assert places, f"there is no topic {topic}"
    consumer.assign(places)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(places)
    found: list[Any] = []
    while any(consumer.position(place) < ends[place] for place in places):
        found += [one for part in consumer.poll(timeout_ms=200).values() for one in part]
    consumer.close()
    return found


def shopping(seed: int, events: int, misrouted: float = 0.01) -> list[tuple[Record, bool]]:
    """(record, whether it goes where it does not belong) in an order that keeps each shopper's."""
    random = Random(seed)
    logs = make_log(random, LogShape(events=events, shoppers=40, queries=4, items=6))
    heads = [iter(log) for log in logs]
    found = []
    while heads:
        head = random.choice(heads)
        for record in head:
            found.append((record, random.random() < misrouted))
            break
        else:
            heads.remove(head)
    return found


def publish(kafka: Broker, topic: str, partitions: int, records: Sequence[tuple[Record, bool]]) -> None:
    """Sends records to the partitions of their keys, but for those that shall be misrouted."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", linger_ms=20)
    try:
        for record, misrouted in records:
            place = partition_of(record.key or b"", partitions)
            producer.send(
                topic,
                value=record.value,
                key=record.key,
                partition=(place + misrouted) % partitions,
                timestamp_ms=record.timestamp_ms,
            )
        producer.flush(timeout=30)
    finally:
        producer.close()


@dataclass(frozen=True)
class Stage:
    """A topic, and a place in Redis for the state made of it."""

    kafka: Broker
    valkey: LocalValkey
    topic: str
    partitions: int
    namespace: str

    def generation(self, recipe: Recipe | None = None) -> Generation:
        """A new, empty generation."""
        source = source_of(self.kafka.bootstrap, self.topic)
        recipe = recipe or Recipe(bounds=SMALL)
        generation = made(source, (0,) * source.partitions, recipe, "ready")
        with Generations(redis_settings(self.valkey.socket_url, "disk", 1, "test"), self.namespace) as generations:
            generations.write(generation)
        return generation

    def ends(self) -> dict[int, int]:
        """The end of each partition."""
        return {part: end for part, (_, end) in log_extent(self.kafka.bootstrap, self.topic, self.partitions).items()}

    def committed(self, generation: Generation) -> dict[int, int]:
        """How far the generation's group has committed."""
        group = group_of(self.namespace, generation.name)
        return committed_offsets(self.kafka.bootstrap, group, self.topic, self.partitions)

    def redis_facts(self, generation: Generation) -> Facts:
        """What lies in Redis."""
        wire = Wire(self.valkey.socket_url)
        try:
            return read_facts(wire, Keys(self.namespace, generation.name))
        finally:
            wire.close()

    def memory(self, generation: Generation) -> tuple[Facts, Counter[str]]:
        """What the log leads to in memory, and what became of its records."""
        recipe, store, rejected = generation.recipe, MemoryStore(generation.recipe.bounds), list[Rejected]()
        ingestion = Ingestion(store, source_for(generation), recipe.bounds, recipe.limits, rejected.extend)
        for records in replay(self.kafka.bootstrap, self.topic, {part: (0, end) for part, end in self.ends().items()}):
            ingestion.take(records)
            assert ingestion.advance()
            ingestion.committed(ingestion.acknowledged())
        return store.facts(), ingestion.outcomes

    def differences(self, generation: Generation) -> list[str]:
        """The first lines in which Redis differs from memory; none when their dumps are equal."""
        ours, (theirs, _) = self.redis_facts(generation), self.memory(generation)
        day = max(newest_day(ours), newest_day(theirs))
        dumps = [dump(facts, day, generation.recipe.bounds) for facts in (ours, theirs)]
        if dumps[0] == dumps[1]:
            assert dumps[0], "an empty state proves nothing"
            return []
        lines = [set(one.decode().splitlines()) for one in dumps]
        missing, extra = sorted(lines[1] - lines[0]), sorted(lines[0] - lines[1])
        return [f"missing {line}" for line in missing[:5]] + [f"extra {line}" for line in extra[:5]]

    def letters(self) -> Counter[str]:
        """Distinct letters by reason, in both topics of letters."""
        found: Counter[str] = Counter()
        seen = set()
        for end in (DEAD, LATE):
            extent = log_extent(self.kafka.bootstrap, self.topic + end, self.partitions)
            for records in headers_of(self.kafka, self.topic + end, extent):
                origin = (records["x-origin-partition"], records["x-origin-offset"])
                if origin not in seen:
                    seen.add(origin)
                    found["late" if end == LATE else f"bad.{records['x-error-reason']}"] += 1
        return found


def headers_of(kafka: Broker, topic: str, extent: dict[int, tuple[int, int]]) -> Iterator[dict[str, str]]:
    """The headers of each record of a topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, part) for part in extent]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        left, until = sum(end - begin for begin, end in extent.values()), time.monotonic() + 20
        while left and time.monotonic() < until:
            for records in consumer.poll(timeout_ms=200).values():
                left -= len(records)
                for record in records:
                    yield {name: value.decode() for name, value in record.headers}
        assert not left
    finally:
        consumer.close()


@dataclass
class Worker:
    """A consumer process."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """What it wrote."""
        return self.log.read_text(errors="replace")

    def ends(self, within_s: float = 60) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s} s:\n{self.said()[-3000:]}") from None

    def terminate(self, within_s: float = 30) -> int:
        """Asks it to end; its exit code."""
        self.process.terminate()
        return self.ends(within_s)

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(command: Sequence[str], log: Path, more: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """A process that does not outlive the block, with more environment variables."""
    with log.open("ab") as out:
        worker = Worker(subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | dict(more or {})), log)
    try:
        yield worker
    finally:
        worker.kill()


def worker_command(stage: Stage, generation: Generation, driver: str, *more: str) -> list[str]:
    """The command of a worker that fills a generation."""
    where = ("--bootstrap", stage.kafka.bootstrap, "--redis", stage.valkey.socket_url, "--namespace", stage.namespace)
    return [sys.executable, str(WORKER), "--driver", driver, *where, "--generation", generation.name, *more]


def headrace_command(stage: Stage, *verb: str) -> list[str]:
    """A headrace verb with the stage's addresses."""
    return [sys.executable, "-m", "headrace.commands.main", *verb]


def environment(stage: Stage) -> dict[str, str]:
    """The addresses as environment variables, for verbs."""
    return {
        "HEADRACE_BOOTSTRAP_SERVERS": stage.kafka.bootstrap,
        "HEADRACE_REDIS_URL": stage.valkey.socket_url,
        "HEADRACE_NAMESPACE": stage.namespace,
        "HEADRACE_TOPIC": stage.topic,
    }


def wait_for(holds: Callable[[], bool], what: str, within_s: float = 100) -> None:
    """Returns once something holds."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, f"not within {within_s} s: {what}"
        time.sleep(0.1)
