"""A member of a consumer group as a process of its own: `broker_member.py CLIENT BOOTSTRAP TOPIC GROUP`.

It says on stdout, a line of JSON each, what was assigned to it ({"assigned": [0, 1]}) and what it read
({"read": [partition, offset, value]}), commits after each batch, and leaves at SIGTERM.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import closing, suppress
from typing import Any

import confluent_kafka as ck
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError as AioKafkaError
from kafka import ConsumerRebalanceListener as KafkaPythonListener
from kafka import KafkaConsumer
from kafka.errors import KafkaError

SESSION_MS = 3_000
HEARTBEAT_MS = 500


class Running:
    """On until SIGTERM, or until the process that started this one is gone."""

    def __init__(self) -> None:
        self._asked_to_end = False
        self._parent = os.getppid()
        signal.signal(signal.SIGTERM, self._end)

    @property
    def on(self) -> bool:
        """Whether to go on."""
        return not self._asked_to_end and os.getppid() == self._parent

    def _end(self, *_: Any) -> None:
        self._asked_to_end = True


def say(**told: Any) -> None:
    """A line."""
    print(json.dumps(told), flush=True)


def say_read(partition: int, offset: int, value: bytes) -> None:
    """A record was read."""
    say(read=[partition, offset, value.decode()])


def kafka_python(bootstrap: str, topic: str, group: str, running: Running) -> None:
    """A member by kafka-python."""

    class Listener(KafkaPythonListener):  # type: ignore[misc]
        def on_partitions_assigned(self, assigned: Any) -> None:
            say(assigned=sorted(place.partition for place in assigned))

        def on_partitions_revoked(self, revoked: Any) -> None:
            pass

    consumer: Any = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    with closing(consumer):
        consumer.subscribe([topic], listener=Listener())
        while running.on:
            if consumer._coordinator.rejoining:
                # kafka-python 3.0.12 forgets a join when a poll ends between its two answers: ask again, give it time
                consumer._coordinator.request_rejoin()
            polled = consumer.poll(timeout_ms=1_000 if consumer._coordinator.rejoining else 200)
            for records in polled.values():
                for one in records:
                    say_read(one.partition, one.offset, one.value)
            if polled:
                with suppress(KafkaError):  # no longer a member: whoever owns the partitions next reads this again
                    consumer.commit()


async def aiokafka(bootstrap: str, topic: str, group: str, running: Running) -> None:
    """A member by aiokafka."""

    class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
        async def on_partitions_assigned(self, assigned: Any) -> None:
            say(assigned=sorted(place.partition for place in assigned))

        async def on_partitions_revoked(self, revoked: Any) -> None:
            pass

    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    consumer.subscribe([topic], listener=Listener())
    await consumer.start()
    try:
        while running.on:
            polled = await consumer.getmany(timeout_ms=200)
            for records in polled.values():
                for one in records:
                    say_read(one.partition, one.offset, one.value)
            if polled:
                with suppress(AioKafkaError):
                    await consumer.commit()
    finally:
        await consumer.stop()


def confluent(bootstrap: str, topic: str, group: str, running: Running) -> None:
    """A member by confluent-kafka."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
    }
    consumer: Any = ck.Consumer(settings)
    with closing(consumer):
        consumer.subscribe(
            [topic], on_assign=lambda _, places: say(assigned=sorted(place.partition for place in places))
        )
        while running.on:
            polled = [one for one in consumer.consume(500, timeout=0.2) if not one.error()]
            for one in polled:
                say_read(one.partition(), one.offset(), one.value())
            if polled:
                with suppress(ck.KafkaException):
                    consumer.commit(asynchronous=False)


def main(client: str, bootstrap: str, topic: str, group: str) -> None:
    """Runs until SIGTERM."""
    running = Running()
    if client == "aiokafka":
        asyncio.run(aiokafka(bootstrap, topic, group, running))
    else:
        {"kafka-python": kafka_python, "confluent-kafka": confluent}[client](bootstrap, topic, group, running)


if __name__ == "__main__":
    main(*sys.argv[1:])
