"""What a broker promises of consumer groups, to each client. Members are processes, which can be killed."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_clients import Broker, Client, Group, GroupAdmin
from broker_members import PARTITIONS, Member, send
from broker_waits import eventually, refused_with

GROUP_ADMINS = pytest.mark.parametrize("client", ["kafka-python", "confluent-kafka"], indirect=True)
UNKNOWN_MEMBER, NOT_EMPTY, UNKNOWN_GROUP = 25, 68, 69


NewMember = Callable[[], Member]


@pytest.fixture
def new_member(
    request: pytest.FixtureRequest, client: Client, kafka: Broker, topic: str, group: str, tmp_path: Path
) -> Iterator[NewMember]:
    """A factory of members of one group on one topic of `PARTITIONS` partitions."""
    client.create(topic, PARTITIONS)
    started: list[Member] = []

    def new() -> Member:
        name = request.node.callspec.params["client"]
        started.append(Member(tmp_path / f"{len(started)}", name, kafka.bootstrap, topic, group))
        return started[-1]

    yield new
    for member in started:
        member.ends(signal.SIGKILL)


def test_members_share_the_partitions_and_a_killed_one_is_replaced(
    client: Client, topic: str, group: str, new_member: NewMember
) -> None:
    everything = send(client, topic, 0)
    first = new_member()
    assert eventually(lambda: first.assigned == [0, 1, 2, 3])
    assert eventually(lambda: sorted(first.read, key=int) == everything)
    second = new_member()
    assert eventually(lambda: sorted(first.assigned + second.assigned) == [0, 1, 2, 3] and len(second.assigned) == 2)
    assert client.group(group) == Group("stable", 2)
    everything += send(client, topic, 40)
    assert eventually(lambda: sorted(first.read + second.read, key=int) == everything)
    assert len(second.read) == 20  # half of what came after it: the commits of the first were kept to
    assert eventually(lambda: client.committed(group, topic, range(4)) == {0: 20, 1: 20, 2: 20, 3: 20})
    assert second.ends(signal.SIGKILL) == -signal.SIGKILL
    everything += send(client, topic, 80)
    assert eventually(lambda: first.assigned == [0, 1, 2, 3])
    assert eventually(lambda: sorted(first.read + second.read, key=int) == everything)
    assert client.group(group) == Group("stable", 1)


def test_members_that_leave_are_gone_at_once_and_others_go_on_behind_them(
    client: Client, topic: str, group: str, new_member: NewMember
) -> None:
    sent = send(client, topic, 0)
    first = new_member()
    assert eventually(lambda: sorted(first.read, key=int) == sent)
    assert first.ends(signal.SIGTERM) == 0
    assert client.group(group) == Group("empty", 0)
    more = send(client, topic, 40)
    second = new_member()
    assert eventually(lambda: sorted(second.read, key=int) == more)
    assert second.ends(signal.SIGTERM) == 0
    assert client.committed(group, topic, range(4)) == {0: 20, 1: 20, 2: 20, 3: 20}


def test_offsets_are_committed_and_found_again(client: Client, topic: str, group: str) -> None:
    client.create(topic, 3)
    assert client.committed(group, topic, range(3)) == {0: None, 1: None, 2: None}
    client.commit(group, topic, {0: 5, 2: 7})
    client.commit(group, topic, {0: 6})
    client.commit(f"{group}.other", topic, {0: 1})
    assert client.committed(group, topic, range(3)) == {0: 6, 1: None, 2: 7}
    client.commit(group, topic, {0: 2})
    assert client.committed(group, topic, [0]) == {0: 2}
    assert client.committed(f"{group}.other", topic, [0]) == {0: 1}


def test_groups_are_listed_and_described(client: Client, topic: str, group: str) -> None:
    client.create(topic)
    assert group not in client.groups()
    assert client.group(group) == Group("dead", 0)
    client.commit(group, topic, {0: 0})
    assert group in client.groups()
    assert client.group(group) == Group("empty", 0)


def test_offsets_of_a_topic_go_with_it(client: Client, topic: str, group: str) -> None:
    client.create(topic, 2)
    client.create(f"{topic}.other")
    client.commit(group, topic, {0: 5, 1: 6})
    client.commit(group, f"{topic}.other", {0: 7})
    client.delete(topic)
    assert eventually(lambda: topic not in client.topics())
    client.create(topic, 2)
    assert eventually(lambda: client.committed(group, topic, range(2)) == {0: None, 1: None})
    assert client.committed(group, f"{topic}.other", [0]) == {0: 7}


@GROUP_ADMINS
def test_an_empty_group_is_deleted_with_its_offsets(client: GroupAdmin, topic: str, group: str) -> None:
    client.create(topic)
    refused_with(UNKNOWN_GROUP, lambda: client.delete_group(group))
    client.commit(group, topic, {0: 3})
    client.delete_group(group)
    assert group not in client.groups()
    assert client.committed(group, topic, [0]) == {0: None}


@GROUP_ADMINS
def test_offsets_are_altered_from_outside_while_nobody_reads(
    client: GroupAdmin, topic: str, group: str, new_member: NewMember
) -> None:
    sent = send(client, topic, 0)
    first = new_member()
    assert eventually(lambda: sorted(first.read, key=int) == sent)
    refused_with(UNKNOWN_MEMBER, lambda: client.set_offsets(group, topic, {0: 0}))
    refused_with(NOT_EMPTY, lambda: client.delete_group(group))
    assert first.ends(signal.SIGTERM) == 0
    client.set_offsets(group, topic, {0: 0, 1: 5})
    assert client.committed(group, topic, range(4)) == {0: 0, 1: 5, 2: 10, 3: 10}
    second = new_member()
    again = sorted([name for name in sent if int(name) % 4 == 0 or (int(name) % 4 == 1 and int(name) >= 20)], key=int)
    assert eventually(lambda: sorted(second.read, key=int) == again)
