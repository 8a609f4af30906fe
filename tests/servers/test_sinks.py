"""What a service sends to Kafka after an outage: kafka-python's producer may not come back by itself."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from headrace import StoreUnavailable
from headrace.local.broker.process import LocalBroker
from headrace.online.label_sink import KafkaLabels
from headrace.online.outbox import EventSink, Record
from headrace.streams.labels import Example
from headrace.streams.topics import Topic, admin_of, create_topics

pytestmark = pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # it is about the client

OUTAGE_S, PATIENCE_S, AGAIN_S = 6.0, 2.0, 30.0


def outage(kafka: LocalBroker, send: Callable[[], None]) -> None:
    """Stops the broker, sends until the client has given up on what it had begun to send, and lets it go on."""
    assert kafka.pid is not None
    os.kill(kafka.pid, signal.SIGSTOP)
    until_s = time.monotonic() + OUTAGE_S
    while time.monotonic() < until_s:
        with pytest.raises(StoreUnavailable):
            send()
    os.kill(kafka.pid, signal.SIGCONT)


def comes_back(send: Callable[[], None]) -> None:
    """Sends until it goes through."""
    until_s = time.monotonic() + AGAIN_S
    while True:
        try:
            return send()
        except StoreUnavailable:
            assert time.monotonic() < until_s, "nothing goes through any more"


def made(kafka: LocalBroker, topic: str) -> str:
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, [Topic(topic, 1)])
    return topic


def test_events_go_through_again_after_an_outage(new_kafka: Callable[[], LocalBroker]) -> None:
    kafka = new_kafka()
    sink = EventSink(kafka.bootstrap, made(kafka, "events"), wait_s=PATIENCE_S)
    try:
        sink.send([Record(b"k", b"before", 1)])
        outage(kafka, lambda: sink.send([Record(b"k", b"while", 2)]))
        comes_back(lambda: sink.send([Record(b"k", b"after", 3)]))
    finally:
        sink.close()


def test_labels_go_through_again_after_an_outage(new_kafka: Callable[[], LocalBroker]) -> None:
    kafka = new_kafka()
    example = Example("0" * 32, "r", "c", "q", 1, 2, "v", "", 7, ("a",), (0,), (1,), b"\0\0", b"\1")
    sink = KafkaLabels(kafka.bootstrap, made(kafka, "labels"), wait_s=PATIENCE_S)
    try:
        sink.send((example,))
        outage(kafka, lambda: sink.send((example,)))
        comes_back(lambda: sink.send((example,)))
    finally:
        sink.close()
