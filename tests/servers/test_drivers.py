"""Both drivers, on real servers: equal dumps, whatever happens to the workers in between."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewPartitions

from broker_clients import Broker
from consumed_topics import (
    Stage,
    Worker,
    environment,
    headrace_command,
    make_topics,
    publish,
    running,
    shopping,
    wait_for,
    worker_command,
)
from headrace.local.valkey import LocalValkey
from headrace.streams.generations import Generation
from headrace.streams.partitioners import partition_of

DRIVERS = ["bulk", "live"]
PARTITIONS = 3


@pytest.fixture
def stage(kafka: Broker, valkey: LocalValkey, topic_suffix: str, namespace: str) -> Stage:
    topic = f"events.{topic_suffix}"
    make_topics(kafka, topic, PARTITIONS)
    return Stage(kafka, valkey, topic, PARTITIONS, namespace)


def verb(stage: Stage, *words: str, within_s: float = 60) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        headrace_command(stage, *words),
        env=os.environ | environment(stage),
        capture_output=True,
        text=True,
        timeout=within_s,
    )


def following(stage: Stage, generation: Generation) -> bool:
    ends = stage.ends()
    return all(stage.committed(generation).get(part, 0) == end for part, end in ends.items())


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_leaves_what_the_fold_in_memory_leaves(stage: Stage, driver: str, tmp_path: Path) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=11, events=1_500))
    generation = stage.generation()
    with running(worker_command(stage, generation, driver, "--until-end", "--batch", "70"), tmp_path / "log") as worker:
        assert worker.ends() == 0, worker.said()
    assert stage.differences(generation) == []
    _, outcomes = stage.memory(generation)
    rejected = {name: count for name, count in outcomes.items() if name == "late" or name.startswith("bad.")}
    assert {"late", "bad.misrouted", "bad.not_json", "bad.empty"} <= rejected.keys()
    assert stage.letters() == rejected
    assert sum(outcomes.values()) == sum(stage.ends().values())


@pytest.mark.parametrize("driver", DRIVERS)
def test_workers_come_and_go(stage: Stage, driver: str, tmp_path: Path) -> None:
    records = shopping(seed=12, events=1_800)
    third = len(records) // 3
    publish(stage.kafka, stage.topic, PARTITIONS, records[:third])
    generation = stage.generation()
    command = worker_command(stage, generation, driver, "--batch", "40")
    with running(command, tmp_path / "first") as first, running(command, tmp_path / "second") as second:
        wait_for(lambda: sum(stage.committed(generation).values()) > 0, "a commit")
        publish(stage.kafka, stage.topic, PARTITIONS, records[third : 2 * third])
        wait_for(lambda: has_partitions(first) and has_partitions(second), "both own partitions")
        first.kill()
        publish(stage.kafka, stage.topic, PARTITIONS, records[2 * third :])
        wait_for(lambda: following(stage, generation), "the second has caught up")
        assert second.terminate() == 0, second.said()
    assert stage.differences(generation) == []


def has_partitions(worker: Worker) -> bool:
    last = [line for line in worker.said().splitlines() if "reading events." in line][-1:]
    return bool(last) and "{}" not in last[0]


@pytest.mark.parametrize("broker", ["apache"], indirect=True)  # the embedded one has no transactions
@pytest.mark.parametrize("driver", DRIVERS)
def test_the_ends_of_transactions_are_no_lag(stage: Stage, driver: str, tmp_path: Path) -> None:
    producer = KafkaProducer(bootstrap_servers=stage.kafka.bootstrap, transactional_id=stage.namespace)
    producer.init_transactions()
    for part in range(0, 120, 40):
        producer.begin_transaction()
        for record, _ in shopping(seed=17, events=120, misrouted=0.0)[part : part + 40]:
            place = partition_of(record.key or b"", PARTITIONS)
            producer.send(stage.topic, record.value, key=record.key, partition=place, timestamp_ms=record.timestamp_ms)
        producer.commit_transaction()
    producer.close()
    generation = stage.generation()
    with running(worker_command(stage, generation, driver, "--batch", "40"), tmp_path / "log") as worker:
        wait_for(lambda: following(stage, generation), "it has committed up to the ends")
        assert worker.terminate() == 0, worker.said()
    assert stage.differences(generation) == []


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # it is about the client, not the broker
def test_a_join_that_outlasts_a_poll_is_not_forgotten(stage: Stage, tmp_path: Path) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=18, events=120))
    generation = stage.generation()
    with running(worker_command(stage, generation, "bulk", "--idle", "5"), tmp_path / "log") as worker:
        wait_for(lambda: following(stage, generation), "it owns partitions and has read them")
        assert worker.terminate() == 0, worker.said()


@pytest.mark.parametrize("driver", DRIVERS)
def test_sigterm_settles_commits_and_leaves(stage: Stage, driver: str, tmp_path: Path) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=13, events=600))
    command = headrace_command(stage, "consume", "--driver", driver)
    with running(command, tmp_path / "log", environment(stage)) as worker:
        wait_for(lambda: "reading" in worker.said(), f"it reads: {worker.said()}")
        assert worker.terminate() == 0, worker.said()
    admin = KafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    try:
        groups = [group for group in admin.list_groups() if stage.namespace in group["group_id"]]
    finally:
        admin.close()
    assert [group["group_state"] for group in groups] == ["Empty"]
    assert not list(Path.cwd().glob("headrace.*-data")), "faust makes folders where it runs"
    done = verb(stage, "inspect", "digest", "--memory")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal" in done.stdout


def test_the_store_goes_away_and_comes_back(
    kafka: Broker, new_valkey: Callable[..., LocalValkey], topic_suffix: str, namespace: str, tmp_path: Path
) -> None:
    topic, valkey = f"events.{topic_suffix}", new_valkey()
    make_topics(kafka, topic, PARTITIONS)
    stage = Stage(kafka, valkey, topic, PARTITIONS, namespace)
    records = shopping(seed=14, events=1_000)
    publish(kafka, topic, PARTITIONS, records[:500])
    generation = stage.generation()
    with running(worker_command(stage, generation, "bulk"), tmp_path / "log") as worker:
        wait_for(lambda: following(stage, generation), "the first half")
        valkey.kill()
        publish(kafka, topic, PARTITIONS, records[500:])
        wait_for(lambda: "nothing is acknowledged" in worker.said(), "it noticed")
        valkey.start()
        wait_for(lambda: following(stage, generation), "the second half")
        assert worker.said().count("reading events") == 1, "it kept its membership"
        assert worker.terminate() == 0
    assert stage.differences(generation) == []


@pytest.mark.parametrize("events_since", [0, 200])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_topic_made_again_ends_the_worker_with_the_way_out(
    stage: Stage, driver: str, events_since: int, tmp_path: Path
) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=15, events=200))
    command = headrace_command(stage, "consume", "--driver", driver)
    with running(command, tmp_path / "log", environment(stage)) as worker:
        wait_for(lambda: "reading" in worker.said(), "it reads")
        make_again(stage)
        publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=16, events=200)[:events_since])
        assert worker.ends() == 1, worker.said()
        assert "SourceChanged" in worker.said()
        assert "headrace rebuild" in worker.said() or "headrace topics create" in worker.said()
        assert worker.said().splitlines()[-1].startswith("Error: SourceChanged: "), "the last word is the sentence"
    done = verb(stage, "consume", "--driver", driver)
    assert done.returncode == 1
    assert "deleted and made again" in done.stderr


def make_again(stage: Stage) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    try:
        admin.delete_topics([stage.topic])
        wait_for(lambda: stage.topic not in admin.list_topics(), "the topic is gone")
    finally:
        admin.close()
    make_topics(stage.kafka, stage.topic, PARTITIONS)


def test_more_partitions_end_the_worker_with_the_way_out(stage: Stage, tmp_path: Path) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=17, events=200))
    with running(
        headrace_command(stage, "consume", "--driver", "bulk"), tmp_path / "log", environment(stage)
    ) as worker:
        wait_for(lambda: "reading" in worker.said(), "it reads")
        assert worker.terminate() == 0
    admin = KafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    try:
        admin.create_partitions({stage.topic: NewPartitions(PARTITIONS + 1)})
    finally:
        admin.close()
    done = verb(stage, "consume", "--driver", "bulk")
    assert done.returncode == 1
    assert f"had {PARTITIONS} partitions and has {PARTITIONS + 1}" in done.stderr
    assert "headrace rebuild" in done.stderr


def test_a_rebuild_is_read_once_it_is_whole_and_consumers_follow(stage: Stage, tmp_path: Path) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=18, events=600))
    with running(
        headrace_command(stage, "consume", "--driver", "bulk"), tmp_path / "log", environment(stage)
    ) as worker:
        wait_for(lambda: "reading" in worker.said(), "it reads")
        done = verb(stage, "rebuild", "--floor", "2", "--searches", "3")
        assert done.returncode == 0, done.stderr
        wait_for(lambda: "going on with it" in worker.said(), "it follows the alias")
        wait_for(lambda: worker.said().count("reading") == 2, "it reads on")
        publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=19, events=300))
        wait_for(lambda: "equal" in verb(stage, "inspect", "digest", "--memory").stdout, "all is in")
        assert worker.terminate() == 0
    listed = verb(stage, "generations", "list").stdout.splitlines()[1:]
    assert [line[0] for line in listed] == [" ", "*"]
    old = listed[0].split()[0]
    assert "bounds.floor is 2 there and 50 here" in verb(stage, "consume", "--floor", "50").stderr
    assert verb(stage, "generations", "drop", "--yes", old).returncode == 0
    assert len(verb(stage, "generations", "list").stdout.splitlines()) == 2


def test_a_log_without_its_beginning_is_refused_unless_a_part_is_wanted(stage: Stage) -> None:
    publish(stage.kafka, stage.topic, PARTITIONS, shopping(seed=20, events=300))
    admin = KafkaAdminClient(bootstrap_servers=stage.kafka.bootstrap)
    try:
        admin.delete_records({TopicPartition(stage.topic, 1): 5})
    finally:
        admin.close()
    for words in (("rebuild",), ("consume", "--driver", "bulk")):
        done = verb(stage, *words)
        assert done.returncode == 1
        assert "no longer holds its beginning (partition 1 begins at 5)" in done.stderr
        assert "--partial" in done.stderr
    done = verb(stage, "rebuild", "--partial")
    assert done.returncode == 0, done.stderr
    assert "partial" in verb(stage, "generations", "list").stdout
    assert "equal" in verb(stage, "inspect", "digest", "--memory").stdout
