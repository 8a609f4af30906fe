"""The embedded broker as a process: what a kill leaves, one broker a folder, and what strangers may send it."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Refusal
from headrace.local.broker.process import LocalBroker
from headrace.local.broker.topics import Topic
from headrace.local.child import StartFailed, free_port


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    running = LocalBroker(tmp_path)
    running.start()
    yield running
    running.kill()


def said(tmp_path: Path) -> str:
    return (tmp_path / "broker.log").read_text()


def wait_for(what: Callable[[], bool], reason: str) -> None:
    deadline_s = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline_s, reason
        time.sleep(0.02)


def facts(admin: KafkaAdminClient) -> tuple[object, ...]:
    (topic,) = admin.describe_topics(["t"])
    return admin.describe_cluster()["cluster_id"], topic["topic_id"], admin.list_group_offsets("g")


def test_a_kill_loses_nothing_that_was_acknowledged_and_writes_nothing_twice(broker: LocalBroker) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([NewTopic("t", 1, 1)])
    admin.alter_group_offsets("g", {TopicPartition("t", 0): OffsetAndMetadata(7, "note", -1)})
    before = facts(admin)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, batch_size=200)  # idempotent: it sends again
    sent = [producer.send("t", b"%d" % number) for number in range(1_500)]
    sent[500].get(timeout=20)
    broker.kill()
    sent += [producer.send("t", b"%d" % number) for number in range(1_500, 3_000)]
    broker.start()
    producer.flush(timeout=30)
    assert all(future.succeeded() for future in sent)
    producer.close()
    assert facts(admin) == before
    admin.close()
    assert read(broker, 3_000) == list(range(3_000))


def read(broker: LocalBroker, count: int) -> list[int]:
    """All that is in the topic, once there is that much."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    place = TopicPartition("t", 0)
    consumer.assign([place])
    values: list[int] = []

    def more() -> bool:
        values.extend(int(one.value) for few in consumer.poll(200).values() for one in few)
        return len(values) >= count and consumer.position(place) == consumer.end_offsets([place])[place]

    wait_for(more, "all is read")
    consumer.close()
    return values


def test_says_that_it_is_never_for_production(broker: LocalBroker, tmp_path: Path) -> None:
    assert "never for production" in said(tmp_path).splitlines()[0]


def test_listens_on_loopback_only(broker: LocalBroker) -> None:
    port = int(broker.bootstrap.split(":")[1])
    listening = re.findall(rf"\s([0-9A-F]+):{port:04X} 0+:0000 0A ", Path("/proc/net/tcp").read_text())
    listening += re.findall(rf"\s([0-9A-F]+):{port:04X} 0+:0000 0A ", Path("/proc/net/tcp6").read_text())
    assert listening == ["0100007F"]


def test_a_second_broker_on_the_folder_is_refused(broker: LocalBroker, tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="another broker runs on"):
        LocalBroker(tmp_path).start()
    assert broker.pid is not None


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StartFailed, match=str(port)) as failed:
            LocalBroker(tmp_path, port).start()
        assert "Traceback" not in str(failed.value)


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x"])
def test_what_is_no_port_is_refused_in_a_sentence(tmp_path: Path, port: str) -> None:
    command = [sys.executable, "-P", "-m", "headrace.local.broker", "--dir", str(tmp_path), f"--port={port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith(f"argument --port: {port!r} is no port: 1 to 65535")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: signal.Signals, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-P", "-m", "headrace.local.broker", "--dir", str(tmp_path / "d"), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "listening on" not in process.stdout.readline():
            assert process.poll() is None
        with socket.create_connection(("127.0.0.1", port)):
            os.kill(process.pid, number)
            assert process.wait(20) == 0
        assert process.stdout.read().splitlines()[-1].endswith("ended")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x7f\xff\xff\xff", "no request"),
        (b"\xff\xff\xff\xff", "no request"),
        (b"\x00\x00\x00\x0a" + b"\x00\x00\x00\x0b" + b"\x00" * 6, "cannot be read"),  # Produce cut off
        (b"\x00\x00\x00\x0a" + b"\x03\xe7\x00\x00" + b"\x00" * 6, "no answer to requests of kind 999"),
        (b"GET / HTTP/1.1\r\n\r\n", "no request"),
        (b"\x00\x50\x00\x00" + b"\x00\x03\x00\x0c" + b"\x00" * 6, "MetadataRequest of 5242880 bytes is too large"),
    ],
)
def test_what_is_no_request_costs_its_connection_and_one_line(
    broker: LocalBroker, tmp_path: Path, frame: bytes, reason: str
) -> None:
    before = len(said(tmp_path).splitlines())
    host, port = broker.bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(frame)
        assert stranger.recv(1) == b"", "it is closed"
    (line,) = said(tmp_path).splitlines()[before:]
    assert reason in line
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    assert admin.list_topics() == []
    admin.close()


def test_a_newer_client_is_told_which_versions_there_are(broker: LocalBroker) -> None:
    host, port = broker.bootstrap.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(b"\x00\x00\x00\x0b" + b"\x00\x12\x00\x63" + b"\x00\x00\x00\x07" + b"\x00\x00" + b"\x00")
        answer = client.recv(1 << 16)
    assert answer[4:8] == b"\x00\x00\x00\x07"
    assert answer[8:10] == b"\x00\x23", "unsupported version, in the oldest form"
    assert len(answer) > 100, "and the versions there are"


def test_transactions_are_refused_at_once(broker: LocalBroker, tmp_path: Path) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="t")
    with pytest.raises(KafkaError):
        producer.init_transactions()
    producer.close(timeout=0)
    assert "has no transactions, use Apache Kafka" in said(tmp_path)


def test_a_folder_of_somebody_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "topics.json").write_text("[]")
    with pytest.raises(StartFailed, match="not a list of topics that this broker wrote") as failed:
        LocalBroker(tmp_path).start()
    assert "Traceback" not in str(failed.value)
    assert "put a copy of it back, or take a new folder" in str(failed.value)


def test_more_partitions_than_files_are_refused(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path, most_partitions=5)
    catalogue.put(Topic("t", uuid4(), 4))
    with pytest.raises(Refusal, match="at most 5 partitions in all topics"):
        catalogue.put(Topic("u", uuid4(), 2))
    assert [topic.name for topic in catalogue] == ["t"]
    catalogue.close()
