"""What a broker promises of topics, to each client."""

import pytest

from broker_clients import Client, GroupAdmin, Sent
from broker_waits import eventually, refused_with

WITH_TOPIC_IDS = pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"], indirect=True)
UNKNOWN_TOPIC, INVALID_NAME, EXISTS, INVALID_PARTITIONS, INVALID_CONFIG = 3, 17, 36, 37, 40


def test_a_topic_is_made_as_asked_for(client: Client, topic: str) -> None:
    asked = {"retention.ms": "-1", "cleanup.policy": "compact", "message.timestamp.type": "CreateTime"}
    client.create(topic, 3, asked)
    assert topic in client.topics()
    assert client.describe(topic).partitions == (0, 1, 2)
    assert asked.items() <= client.configs(topic).items()


def test_what_was_not_asked_for_has_the_defaults_of_kafka(client: Client, topic: str) -> None:
    client.create(topic)
    told = client.configs(topic)
    expected = {
        "cleanup.policy": "delete",
        "compression.type": "producer",
        "max.message.bytes": "1048588",
        "message.timestamp.type": "CreateTime",
        "min.insync.replicas": "1",
        "retention.bytes": "-1",
        "retention.ms": "604800000",
    }
    assert {name: told.get(name) for name in expected} == expected


def test_a_topic_that_is_there_is_not_made_again(client: Client, topic: str) -> None:
    client.create(topic, 2)
    refused_with(EXISTS, lambda: client.create(topic, 5))
    assert client.describe(topic).partitions == (0, 1)


@pytest.mark.parametrize("name", ["a name with blanks", "a/b", "x" * 250])
def test_names_that_are_no_names_are_refused(client: Client, name: str) -> None:
    refused_with(INVALID_NAME, lambda: client.create(name))
    assert name not in client.topics()


@pytest.mark.parametrize("settings", [{"no.such.setting": "1"}, {"retention.ms": "long"}, {"cleanup.policy": "keep"}])
def test_settings_that_are_none_are_refused(client: Client, topic: str, settings: dict[str, str]) -> None:
    refused_with(INVALID_CONFIG, lambda: client.create(topic, 1, settings))
    assert topic not in client.topics()


def test_a_topic_that_is_not_there_is_named_so(client: Client, topic: str) -> None:
    refused_with(UNKNOWN_TOPIC, lambda: client.describe(topic))
    refused_with(UNKNOWN_TOPIC, lambda: client.delete(topic))
    refused_with(UNKNOWN_TOPIC, lambda: client.grow(topic, 2))
    assert topic not in client.topics()


def test_partitions_are_added_and_what_was_there_stays(client: Client, topic: str) -> None:
    client.create(topic, 1)
    client.send(topic, [Sent(b"before")])
    client.grow(topic, 3)
    assert eventually(lambda: client.describe(topic).partitions == (0, 1, 2))
    client.send(topic, [Sent(b"new", partition=2), Sent(b"after")])
    assert [one.value for one in client.read(topic, 2)] == [b"before", b"after"]
    assert [one.value for one in client.read(topic, 1, partition=2)] == [b"new"]
    refused_with(INVALID_PARTITIONS, lambda: client.grow(topic, 2))
    refused_with(INVALID_PARTITIONS, lambda: client.grow(topic, 3))


def test_a_setting_is_changed_and_the_others_stay(client: Client, topic: str) -> None:
    client.create(topic, 1, {"retention.ms": "1000000", "cleanup.policy": "compact"})
    client.configure(topic, {"retention.ms": "2000000"})
    wished = {"retention.ms": "2000000", "cleanup.policy": "compact"}
    assert eventually(lambda: wished.items() <= client.configs(topic).items())
    refused_with(INVALID_CONFIG, lambda: client.configure(topic, {"retention.ms": "long"}))
    assert wished.items() <= client.configs(topic).items()


def test_a_deleted_topic_is_gone_with_its_records(client: Client, topic: str) -> None:
    client.create(topic, 2)
    client.send(topic, [Sent(b"old"), Sent(b"old", partition=1)])
    client.delete(topic)
    assert eventually(lambda: topic not in client.topics())
    client.create(topic, 1)
    assert client.describe(topic).partitions == (0,)
    assert client.ends(topic) == (0, 0)
    assert client.send(topic, [Sent(b"new")]) == [0]
    assert [one.value for one in client.read(topic, 1)] == [b"new"]


@WITH_TOPIC_IDS
def test_a_topic_made_again_has_another_id(client: GroupAdmin, topic: str) -> None:
    client.create(topic)
    first = client.describe(topic).topic_id
    client.grow(topic, 2)
    client.configure(topic, {"retention.ms": "-1"})
    assert eventually(lambda: client.describe(topic).partitions == (0, 1))
    assert client.describe(topic).topic_id == first
    client.delete(topic)
    assert eventually(lambda: topic not in client.topics())
    client.create(topic)
    second = client.describe(topic).topic_id
    assert first and second and len(first) == len(second) == 32
    assert first != second
