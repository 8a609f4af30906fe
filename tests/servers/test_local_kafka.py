from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaTimeoutError

from broker_clients import Broker
from headrace.local.child import StartFailed
from headrace.local.kafka import LocalKafka, missing


def make_topic(kafka: Broker, topic: str, partitions: int = 1) -> None:
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        admin.close()


def send(kafka: Broker, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    try:
        for future in [producer.send(topic, value) for value in values]:
            future.get(timeout=10)
    finally:
        producer.close()


def read(kafka: Broker, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        values: list[bytes] = []
        for _ in range(20):
            for records in consumer.poll(timeout_ms=500).values():
                values.extend(record.value for record in records)
            if len(values) >= count:
                break
        return values
    finally:
        consumer.close()


def test_what_is_sent_is_read(kafka: Broker, topic_suffix: str) -> None:
    topic = f"local.{topic_suffix}"
    make_topic(kafka, topic)
    send(kafka, topic, [b"a", b"b"])
    assert read(kafka, topic, 2) == [b"a", b"b"]


def test_no_topic_appears_by_itself(kafka: Broker, topic_suffix: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, max_block_ms=1500)
    try:
        with pytest.raises(KafkaTimeoutError):
            producer.send(f"never.made.{topic_suffix}", b"a")
    finally:
        producer.close()


def test_keeps_its_log_over_a_kill(new_kafka: Callable[[], Broker]) -> None:
    kafka = new_kafka()
    make_topic(kafka, "kept")
    send(kafka, "kept", [b"a"])
    address = kafka.bootstrap
    kafka.kill()
    assert kafka.pid is None
    kafka.start()
    assert kafka.bootstrap == address
    assert read(kafka, "kept", 1) == [b"a"]


def test_a_folder_without_jars_is_named_with_the_way_out(tmp_path: Path) -> None:
    reason = missing(tmp_path)
    assert str(tmp_path) in reason
    assert "HEADRACE_KAFKA_JARS" in reason
    with pytest.raises(StartFailed, match="HEADRACE_KAFKA_JARS"):
        LocalKafka(tmp_path / "data", tmp_path).start()


def test_a_machine_without_java_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kafka_2.13-4.1.1.jar").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Java" in missing(tmp_path)
