"""What a topic may be called, and which settings it may have."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.topics import (
    SETTINGS,
    Topic,
    checked_name,
    checked_partitions,
    checked_replication,
    checked_settings,
)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ä", "x" * 250])
def test_a_name_that_kafka_refuses(name: str) -> None:
    with pytest.raises(Refusal) as refused:
        checked_name(name)
    assert refused.value.code == Code.INVALID_TOPIC


@pytest.mark.parametrize("name", ["search.events.v1", "...", "A_b-9", "x" * 249])
def test_a_name_that_kafka_takes(name: str) -> None:
    assert checked_name(name) == name


@given(st.sampled_from(sorted(SETTINGS)))
def test_every_default_is_allowed(name: str) -> None:
    default = SETTINGS[name].default
    assert checked_settings({name: default}) == {name: default}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retention.msec", "1"),
        ("retention.ms", "-2"),
        ("retention.ms", "a week"),
        ("retention.ms", str(2**63)),
        ("retention.ms", None),
        ("max.message.bytes", str(2**31)),
        ("cleanup.policy", "forget"),
        ("cleanup.policy", "delete,forget"),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("preallocate", "perhaps"),
    ],
)
def test_a_setting_that_kafka_refuses(name: str, value: str | None) -> None:
    with pytest.raises(Refusal, match=name) as refused:
        checked_settings({name: value})
    assert refused.value.code == Code.INVALID_CONFIG


def test_settings_that_kafka_takes() -> None:
    wanted = {"cleanup.policy": "compact,delete", "retention.ms": "-1", "min.cleanable.dirty.ratio": "0.01"}
    assert checked_settings(wanted) == wanted
    topic = Topic("t", UUID(int=1), 1).with_settings({"retention.ms": "-1"})
    assert (topic.setting("retention.ms"), topic.setting("cleanup.policy")) == ("-1", "delete")


def test_partitions_are_only_added() -> None:
    topic = Topic("t", UUID(int=1), 3)
    assert topic.with_partitions(4).partitions == 4
    for count in (3, 2, 0, 1_001):
        with pytest.raises(Refusal) as refused:
            topic.with_partitions(count)
        assert refused.value.code == Code.INVALID_PARTITIONS
    assert checked_partitions(-1) == 1


@pytest.mark.parametrize("factor", [0, 2, 3, -2])
def test_there_is_one_copy(factor: int) -> None:
    with pytest.raises(Refusal) as refused:
        checked_replication(factor)
    assert refused.value.code == Code.INVALID_REPLICATION_FACTOR
