"""What a broker promises of records, to each client."""

import time

import pytest

from broker_clients import CLIENTS, Broker, Client, Reading, Refused, Sending, Sent, make_client
from broker_waits import eventually, refused_with

OUT_OF_RANGE, TOO_LARGE, NOT_ALLOWED = 1, 10, 53
START_MS = 1_700_000_000_000
HUNDRED = [Sent(b"value %d" % number, b"key %d" % number) for number in range(100)]


def values(client: Client, topic: str, count: int, start: int = 0) -> list[bytes | None]:
    return [one.value for one in client.read(topic, count, start)]


def test_a_record_comes_back_as_it_was_sent(client: Client, topic: str) -> None:
    client.create(topic, 2)
    sent = [
        Sent(b"value", b"key", 0, START_MS, (("one", b"1"), ("two", b"2"))),
        Sent(b"\x00\xff" * 50, b"\xff\x00", 0, START_MS + 5, ()),
        Sent(None, b"a tombstone", 0, START_MS + 1, (("why", b"gone"),)),
        Sent(b"no key", None, 0, START_MS + 2, (("twice", b"a"), ("twice", b"b"), ("empty", b""))),
        Sent(b"", b"", 0, 1, ()),
        Sent("größer".encode(), "schlüssel".encode(), 0, START_MS, (("ключ", b"value"),)),
    ]
    assert client.send(topic, sent) == [0, 1, 2, 3, 4, 5]
    got = client.read(topic, len(sent))
    assert [one.offset for one in got] == [0, 1, 2, 3, 4, 5]
    assert [(one.value, one.key, one.timestamp_ms, one.headers) for one in got] == [
        (one.value, one.key, one.timestamp_ms, one.headers) for one in sent
    ]
    assert client.ends(topic, 1) == (0, 0)


def test_a_record_without_a_time_has_that_of_its_sending(client: Client, topic: str) -> None:
    client.create(topic)
    before_ms = int(time.time() * 1000)
    client.send(topic, [Sent(b"now")])
    after_ms = int(time.time() * 1000)
    assert before_ms <= client.read(topic, 1)[0].timestamp_ms <= after_ms


def test_each_partition_counts_for_itself(client: Client, topic: str) -> None:
    client.create(topic, 3)
    sent = [Sent(b"%d" % number, partition=number % 3) for number in range(30)]
    assert client.send(topic, sent) == [number // 3 for number in range(30)]
    for part in range(3):
        assert client.ends(topic, part) == (0, 10)
        got = [one.value for one in client.read(topic, 10, partition=part)]
        assert got == [one.value for one in sent if one.partition == part]


def test_an_empty_topic_is_empty(client: Client, topic: str) -> None:
    client.create(topic)
    assert client.ends(topic) == (0, 0)
    assert client.offset_at(topic, 0) is None
    assert client.read(topic, 1, how=Reading(patience_s=1.0)) == []


def test_a_reader_begins_where_it_says(client: Client, topic: str) -> None:
    client.create(topic)
    client.send(topic, HUNDRED)
    got = client.read(topic, 40, start=60)
    assert [one.offset for one in got] == list(range(60, 100))
    assert [one.value for one in got] == [one.value for one in HUNDRED[60:]]


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records_come_back(client: Client, kafka: Broker, topic: str, compression: str) -> None:
    client.create(topic)
    client.send(topic, HUNDRED, Sending(compression=compression))
    assert client.ends(topic) == (0, 100)
    for name in CLIENTS:
        other = make_client(name, kafka.bootstrap)
        assert values(other, topic, 100) == [one.value for one in HUNDRED], name
        assert values(other, topic, 3, start=97) == [one.value for one in HUNDRED[97:]], name
        other.close()


def test_an_idempotent_producer_sends_each_record_once(client: Client, topic: str) -> None:
    client.create(topic)
    many = [Sent(b"%d" % number) for number in range(3_000)]
    for _ in range(2):  # two producers, two producer ids
        client.send(topic, many, Sending(idempotent=True))
    assert client.ends(topic) == (0, 6_000)
    assert values(client, topic, 6_000) == [one.value for one in many] * 2


def test_large_records_are_taken_and_read(client: Client, topic: str) -> None:
    client.create(topic)
    large = [Sent(bytes([number]) * 1_000_000) for number in range(3)]
    client.send(topic, large)
    assert values(client, topic, 3) == [one.value for one in large]


def test_too_large_ones_are_refused_and_nothing_else_is_harmed(client: Client, topic: str) -> None:
    client.create(topic)
    client.send(topic, [Sent(b"before")])
    refused_with(TOO_LARGE, lambda: client.send(topic, [Sent(b"x" * 1_100_000)]))
    client.send(topic, [Sent(b"after")])
    assert values(client, topic, 2) == [b"before", b"after"]


def test_how_large_is_a_setting_of_the_topic(client: Client, topic: str) -> None:
    client.create(topic, 1, {"max.message.bytes": "10000"})
    refused_with(TOO_LARGE, lambda: client.send(topic, [Sent(b"x" * 12_000)]))
    client.configure(topic, {"max.message.bytes": "3000000"})
    client.send(topic, [Sent(b"x" * 2_000_000)])
    # larger than what the reader asks for at once: it still comes, or the reader would stand still for ever
    assert len(client.read(topic, 1)[0].value or b"") == 2_000_000


def test_a_reader_with_small_limits_reads_all(client: Client, topic: str) -> None:
    client.create(topic)
    for number in range(0, 40, 4):
        client.send(topic, [Sent(bytes([number + more]) * 50_000) for more in range(4)])
    got = client.read(topic, 40, how=Reading(partition_bytes=60_000, answer_bytes=120_000))
    assert [one.offset for one in got] == list(range(40))
    assert [(one.value or b" ")[0] for one in got] == list(range(40))


def test_offsets_are_found_by_time(client: Client, topic: str) -> None:
    client.create(topic)
    times = [10, 20, 30, 25, 40, 40, 15]
    for at in times[:4], times[4:]:  # two batches
        client.send(topic, [Sent(b"x", timestamp_ms=START_MS + time_ms) for time_ms in at])
    asked = [0, START_MS, START_MS + 10, START_MS + 11, START_MS + 26, START_MS + 40, START_MS + 41]
    assert [client.offset_at(topic, time_ms) for time_ms in asked] == [0, 0, 0, 1, 2, 4, None]


def test_offsets_are_found_by_time_when_batches_are_out_of_order(client: Client, topic: str) -> None:
    client.create(topic)
    for at_ms in (10, 50, 20, 30, 60, 15):
        client.send(topic, [Sent(b"x", timestamp_ms=START_MS + at_ms)])
    found = [client.offset_at(topic, START_MS + at_ms) for at_ms in (5, 11, 40, 50, 51, 60, 61)]
    assert found == [0, 1, 1, 1, 4, 4, None]


def test_deleted_records_are_gone_and_offsets_go_on(client: Client, topic: str) -> None:
    client.create(topic)
    client.send(topic, HUNDRED[:10])
    assert client.forget(topic, 4) == 4
    assert client.ends(topic) == (4, 10)
    assert values(client, topic, 6, start=4) == [one.value for one in HUNDRED[4:10]]
    assert client.offset_at(topic, 0) == 4
    with pytest.raises(Refused) as refusal:
        client.read(topic, 1, start=0)
    assert refusal.value.code in (OUT_OF_RANGE, -140)  # librdkafka has a number of its own for "no reset wanted"
    refused_with(OUT_OF_RANGE, lambda: client.forget(topic, 11))
    assert client.forget(topic, 2) == 4
    assert client.forget(topic, 10) == 10
    assert client.ends(topic) == (10, 10)
    assert client.send(topic, [Sent(b"next")]) == [10]
    assert values(client, topic, 1, start=10) == [b"next"]


def test_a_topic_that_is_not_there_takes_nothing_and_does_not_appear(client: Client, topic: str) -> None:
    with pytest.raises(Refused):
        client.send(topic, [Sent(b"x")], Sending(patience_s=1.5))
    assert topic not in client.topics()


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)
def test_the_embedded_broker_refuses_transactions_at_once(client: Client, topic: str) -> None:
    client.create(topic)
    refused_with(NOT_ALLOWED, lambda: client.send(topic, [Sent(b"x")], Sending(transaction="t", patience_s=10.0)))
    assert client.ends(topic) == (0, 0)


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_apache_kafka_has_transactions(client: Client, topic: str) -> None:
    client.create(topic)
    assert client.send(topic, [Sent(b"x")], Sending(transaction=topic)) == [0]
    # the record, and a moment after the answer the transaction's end
    assert eventually(lambda: client.ends(topic) == (0, 2))
