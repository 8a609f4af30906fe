"""Messages a second of the embedded broker and of Apache Kafka: `python tests/bench/brokers.py [--json FILE]`.

Messages of 1,000 bytes, one topic of four partitions, acknowledged by all replicas (one), read back from the beginning
outside every group; each of three clients with its own usual settings, each direction in a process of its own. The two
brokers run at the same time and take turns, round after round; what to compare between machines is the ratio,
embedded / Apache, of the same round. The table has medians over the rounds.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from headrace.local.broker.process import LocalBroker
from headrace.local.kafka import LocalKafka
from headrace.streams.topics import Topic, admin_of, create_topics

ROOT = Path(__file__).parents[2]
JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")
PARTITIONS, SIZE_BYTES = 4, 1_000
VALUE = os.urandom(SIZE_BYTES)
BATCH_BYTES, LINGER_MS = 1 << 18, 20
CLIENTS = ("confluent-kafka", "aiokafka", "kafka-python")
DIRECTIONS = ("produce", "consume")


def produce_confluent(bootstrap: str, topic: str, count: int) -> None:
    """librdkafka's producer."""
    settings = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": LINGER_MS, "batch.size": BATCH_BYTES}
    producer: Any = ck.Producer(settings | {"queue.buffering.max.messages": 1_000_000})
    for number in range(count):
        while True:
            try:
                producer.produce(topic, VALUE, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1_000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise SystemExit("not everything was acknowledged within two minutes")


def consume_confluent(bootstrap: str, topic: str, count: int) -> None:
    """librdkafka's consumer."""
    consumer: Any = ck.Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([ck.TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
    seen = 0
    while seen < count:
        seen += len(consumer.consume(10_000, timeout=1.0))
    consumer.close()


def produce_aiokafka(bootstrap: str, topic: str, count: int) -> None:
    """aiokafka's producer."""

    async def run() -> None:
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", linger_ms=LINGER_MS, max_batch_size=BATCH_BYTES
        )
        await producer.start()
        sent = [await producer.send(topic, VALUE, partition=number % PARTITIONS) for number in range(count)]
        await asyncio.gather(*sent)
        await producer.stop()

    asyncio.run(run())


def consume_aiokafka(bootstrap: str, topic: str, count: int) -> None:
    """aiokafka's consumer."""

    async def run() -> None:
        consumer: Any = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([AioPartition(topic, part) for part in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        seen = 0
        while seen < count:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1_000)).values()))
        await consumer.stop()

    asyncio.run(run())


def produce_kafka_python(bootstrap: str, topic: str, count: int) -> None:
    """kafka-python's producer."""
    producer: Any = KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=LINGER_MS, batch_size=BATCH_BYTES, enable_idempotence=False
    )
    sent = [producer.send(topic, VALUE, partition=number % PARTITIONS) for number in range(count)]
    for future in sent:
        future.get(timeout=120)
    producer.close()


def consume_kafka_python(bootstrap: str, topic: str, count: int) -> None:
    """kafka-python's consumer."""
    consumer: Any = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, max_poll_records=4_000)
    consumer.assign([TopicPartition(topic, part) for part in range(PARTITIONS)])
    consumer.seek_to_beginning()
    seen = 0
    while seen < count:
        seen += sum(map(len, consumer.poll(timeout_ms=1_000).values()))
    consumer.close()


PARTS: dict[tuple[str, str], Callable[[str, str, int], None]] = {
    ("confluent-kafka", "produce"): produce_confluent,
    ("confluent-kafka", "consume"): consume_confluent,
    ("aiokafka", "produce"): produce_aiokafka,
    ("aiokafka", "consume"): consume_aiokafka,
    ("kafka-python", "produce"): produce_kafka_python,
    ("kafka-python", "consume"): consume_kafka_python,
}


@contextmanager
def brokers(folder: Path) -> Iterator[dict[str, str]]:
    """Both brokers, by name: their addresses."""
    running: dict[str, LocalBroker | LocalKafka] = {
        "embedded": LocalBroker(folder / "e"),
        "apache": LocalKafka(folder / "a", JARS, heap_mb=1024),
    }
    try:
        for broker in running.values():
            broker.start()
        yield {name: broker.bootstrap for name, broker in running.items()}
    finally:
        for broker in running.values():
            broker.kill()


def rate(bootstrap: str, topic: str, client: str, direction: str, count: int) -> int:
    """Messages a second of one part in a process of its own, from its first line to its last."""
    part = [client, direction, bootstrap, topic, str(count)]
    done = subprocess.run([sys.executable, __file__, "--part", *part], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{client} {direction}:\n{done.stdout}{done.stderr}")
    return round(count / float(done.stdout.splitlines()[-1]))


def measure(count: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Every client and direction on both brokers: rates of each round, their medians and the median ratio."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="hr-") as folder, brokers(Path(folder)) as addresses:
        for client in CLIENTS:
            rates: dict[tuple[str, str], list[int]] = {(one, name): [] for one in DIRECTIONS for name in addresses}
            for turn in range(rounds):
                topic = f"bench.{client}.{turn}"
                for name, bootstrap in sorted(addresses.items(), reverse=turn % 2 == 1):
                    with admin_of(bootstrap) as admin:
                        create_topics(admin, [Topic(topic, PARTITIONS)])
                        for direction in DIRECTIONS:
                            rates[direction, name].append(rate(bootstrap, topic, client, direction, count))
                        admin.delete_topics([topic])
            for direction in DIRECTIONS:
                ours, theirs = rates[direction, "embedded"], rates[direction, "apache"]
                found[f"{client} {direction}"] = line = {
                    "embedded_per_s": round(statistics.median(ours)),
                    "apache_per_s": round(statistics.median(theirs)),
                    "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
                    "rounds": {"embedded": ours, "apache": theirs},
                }
                told = f"{line['embedded_per_s']:>9,}/s embedded {line['apache_per_s']:>9,}/s Apache"
                print(f"{client:>16} {direction}: {told}  ratio {line['ratio']}", flush=True)
    return found


def main() -> None:
    """Everything, or one part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000, help="of 1,000 bytes, in each part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", nargs=5, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part:
        client, direction, bootstrap, topic, count = told.part
        began_s = time.perf_counter()
        PARTS[client, direction](bootstrap, topic, int(count))
        print(time.perf_counter() - began_s)
        return
    found = {"messages": told.messages, "bytes": SIZE_BYTES, "parts": measure(told.messages, told.rounds)}
    if told.json:
        told.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
