"""The doctor at real servers: a line that is well, and one wrong setting at a time."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from broker_clients import Broker
from broker_waits import eventually
from headrace.commands import main
from headrace.commands.recipes import made, redis_settings
from headrace.local.valkey import LocalValkey
from headrace.streams.generations import Generation, Recipe
from headrace.streams.redis_generations import Generations
from headrace.streams.topics import EVENTS, admin_of, all_topics, create_topics, find_topics, source_of

Finding = dict[str, str]


@dataclass(frozen=True)
class Line:
    """A broker with topics of its own, and a store."""

    kafka: Broker
    valkey: LocalValkey
    suffix: str
    namespace: str
    folder: Path

    @property
    def events(self) -> str:
        return EVENTS + self.suffix

    def examined(self, *flags: str) -> tuple[int, dict[str, Finding]]:
        """The exit code and the findings by their names."""
        file = self.folder / "found.json"
        where = ["--bootstrap-servers", self.kafka.bootstrap, "--redis-url", self.valkey.url]
        where += ["--namespace", self.namespace, "--suffix", self.suffix, "--repository", str(self.folder / "none")]
        result = CliRunner().invoke(main.main, ["doctor", *where, "--json", str(file), *flags])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        found: list[Finding] = json.loads(file.read_text())
        for one in found:
            assert f"{one['check']}: {one['says']}" in result.output
            assert one["do"] or one["level"] == "ok", one
        return result.exit_code, {one["check"]: one for one in found}

    def level(self, check: str) -> str:
        return self.examined()[1][check]["level"]

    def generation(self, recipe: Recipe | None = None) -> Generation:
        """A generation of this topic that is read."""
        source = source_of(self.kafka.bootstrap, self.events)
        generation = made(source, (0,) * source.partitions, recipe or Recipe(), "ready")
        with Generations(redis_settings(self.valkey.url, "memory", 1, "test"), self.namespace) as generations:
            generations.write(generation)
            assert generations.move(generation.name, generations.current())
        return generation

    def send(self, partition: int | None = None, ahead_ms: int = 0, keys: int = 40) -> None:
        """Records with keys of their own, where murmur2 puts them or in one partition."""
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        for number in range(keys):
            at_ms = time.time_ns() // 1_000_000 + ahead_ms
            producer.send(self.events, b"x", key=b"shopper-%d" % number, partition=partition, timestamp_ms=at_ms)
        producer.flush(timeout=30)
        producer.close()

    def alter(self, topic: str, **settings: str) -> None:
        """Changes settings of a topic, with _ for a dot."""
        configs = {name.replace("_", "."): value for name, value in settings.items()}
        with admin_of(self.kafka.bootstrap) as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
            # what Apache Kafka's controller has taken, its broker knows a moment later
            assert eventually(lambda: configs.items() <= find_topics(admin, [topic])[topic].settings.items())


@pytest.fixture
def line(
    kafka: Broker, new_valkey: Callable[..., LocalValkey], namespace: str, topic_suffix: str, tmp_path: Path
) -> Line:
    """A line whose topics are as they should be."""
    found = Line(kafka, new_valkey(maxmemory="512mb"), f".{topic_suffix}", namespace, tmp_path)
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, all_topics(4, 1, suffix=found.suffix))
    return found


def test_a_line_that_is_well(line: Line) -> None:
    code, found = line.examined()
    assert code == 0
    warned = {check for check, one in found.items() if one["level"] != "ok"} - {"kafka groups"}  # Kafka's own: 7 days
    assert warned == {"models", "redis replication", "kafka copies", "state"}, "one node each, and nothing built"
    line.generation()
    line.send()
    code, found = line.examined()
    assert code == 0
    assert found["state"]["level"] == "ok"
    assert found["kafka partitioner"]["says"] == "murmur2: 40 keys lie where they belong"
    assert found["consumer lag"]["says"] == "40 records wait and nobody consumes them"
    assert found["clock"]["level"] == found["clock of the log"]["level"] == "ok"


# What is not the broker's is asked on one of them.
on_one_broker = pytest.mark.parametrize("broker", ["embedded"], indirect=True)


@on_one_broker
@pytest.mark.parametrize(
    ("setting", "value", "check"),
    [
        ("maxmemory-policy", "allkeys-lru", "redis eviction"),
        ("appendonly", "no", "redis append-only file"),
        ("appendfsync", "no", "redis append-only file"),
        ("maxmemory", "1", "redis memory"),
    ],
)
def test_a_wrong_setting_of_the_store(line: Line, setting: str, value: str, check: str) -> None:
    with redis.Redis.from_url(line.valkey.url) as client:
        client.config_set(setting, value)
    code, found = line.examined()
    assert code == 1
    assert [name for name, one in found.items() if one["level"] == "fail"] == [check]


@on_one_broker
def test_a_replica_takes_no_writes(line: Line, new_valkey: Callable[..., LocalValkey]) -> None:
    primary = new_valkey()
    with redis.Redis.from_url(line.valkey.url) as client:
        client.replicaof("127.0.0.1", int(primary.url.rpartition(":")[2].partition("/")[0]))
    assert line.level("redis replication") == "fail"


def test_topics_that_are_not_as_they_should_be(line: Line) -> None:
    line.alter(line.events, retention_ms="604800000")
    with admin_of(line.kafka.bootstrap) as admin:
        admin.delete_topics([line.events + ".late"])
        assert eventually(lambda: not find_topics(admin, [line.events + ".late"]))
    code, found = line.examined()
    assert code == 1
    assert "kafka-configs --alter" in found[f"topic {line.events}"]["do"]
    assert found["kafka topics"]["says"] == f"is not there: {line.events}.late"


def test_producers_that_put_keys_elsewhere(line: Line) -> None:
    line.send(partition=0)
    assert line.level("kafka partitioner") == "warn"


@on_one_broker
def test_a_state_that_was_built_for_another_partitioner(line: Line) -> None:
    line.generation(Recipe(partitioner="crc32"))
    line.send()
    found = line.examined()[1]["kafka partitioner"]
    assert (found["level"], "--partitioner murmur2" in found["do"]) == ("fail", True)


def test_records_from_the_future(line: Line) -> None:
    line.send(ahead_ms=600_000, keys=2)
    assert line.level("clock of the log") == "warn"


def test_a_topic_that_was_made_again(line: Line) -> None:
    line.generation()
    with admin_of(line.kafka.bootstrap) as admin:
        admin.delete_topics([line.events])
        until = time.monotonic() + 20
        while line.events in admin.list_topics():
            assert time.monotonic() < until
        create_topics(admin, all_topics(4, 1, suffix=line.suffix))
    code, found = line.examined()
    assert code == 1
    assert "topic id" in found["state and log"]["says"]


@on_one_broker
def test_a_state_that_was_lost(line: Line) -> None:
    generation = line.generation()
    with redis.Redis.from_url(line.valkey.url) as client:
        client.delete(f"hr:{line.namespace}:{generation.name}:meta")
    assert line.level("state") == "fail"
