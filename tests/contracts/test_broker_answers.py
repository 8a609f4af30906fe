"""The same requests to the embedded broker and to Apache Kafka, and the two answers side by side, field by field.

What differs on purpose is left out: addresses, ids that a broker makes up, and the wording of errors.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from kafka.protocol.admin import (
    AlterConfigsRequest,
    CreatePartitionsRequest,
    CreateTopicsRequest,
    DeleteGroupsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    IncrementalAlterConfigsRequest,
)
from kafka.protocol.consumer import (
    FetchRequest,
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListOffsetsRequest,
    OffsetCommitRequest,
    OffsetDeleteRequest,
    OffsetFetchRequest,
    OffsetForLeaderEpochRequest,
    SyncGroupRequest,
)
from kafka.protocol.metadata import FindCoordinatorRequest, MetadataRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest

from broker_clients import Broker
from broker_waits import eventually
from broker_wire import Wire, batch, records

MADE_UP = {
    "throttle_time_ms", "error_message", "topic_id", "cluster_id", "host", "port", "producer_id", "member_id", "leader",
    "member_assignment", "member_metadata", "node_endpoints", "client_id", "client_host", "documentation",
    "current_leader", "aborted_transactions", "log_append_time_ms",
}  # fmt: skip
NOWHERE = UUID(int=0x1234_5678_9ABC_4DEF_8000_0000_0000_0001)

PARTLY_MADE_UP = {"min.insync.replicas": {"config_source"}}  # one and the same value, from another place

Answers = Iterator[tuple[str, Any]]


@dataclass
class Talk:
    """One broker, spoken to in given versions of the protocol."""

    wire: Wire
    choose: Callable[[int, int], int]
    common: Mapping[int, tuple[int, int]]
    topic: str
    topic_id: UUID = NOWHERE

    def ask(self, kind: Any, told: Mapping[str, Any], least: int = 0, most: int = 99) -> Any:
        """An answer without what brokers make up."""
        return plain(self.ask_whole(kind, told, least, most))

    def ask_whole(self, kind: Any, told: Mapping[str, Any], least: int = 0, most: int = 99) -> dict[str, Any]:
        """An answer; `least` and `most` bound the version, fields that a version does not have are left out."""
        low, high = self.common[kind.API_KEY]
        version = self.choose(max(low, least), min(high, most))
        fields = kind._struct.fields
        known = {name: value for name, value in told.items() if fields[name].for_version_q(version)}
        return self.wire.ask(kind, version, known)

    def make(self, **more: Any) -> Any:
        """Creates the topic, unless told otherwise."""
        told = {"name": self.topic, "num_partitions": 2, "replication_factor": 1, "assignments": [], "configs": []}
        told |= {name: value for name, value in more.items() if name != "validate_only"}
        return self.ask(
            CreateTopicsRequest,
            {"topics": [told], "timeout_ms": 10_000, "validate_only": more.get("validate_only", False)},
            least=1,
        )

    def made(self) -> None:
        """Creates the topic, waits until it is there, and knows its id."""
        self.make()
        assert eventually(lambda: self.describe()["topics"][0]["error_code"] == 0)
        asked = {"topics": [{"name": self.topic}], "allow_auto_topic_creation": False}
        self.topic_id = self.wire.ask(MetadataRequest, 12, asked)["topics"][0]["topic_id"]
        for part in range(2):  # Apache Kafka knows of a topic before it serves it
            assert eventually(lambda part=part: "'error_code': 6," not in str(self.fetch(0, part)))  # type: ignore[misc]

    def describe(self) -> Any:
        return self.ask(MetadataRequest, {"topics": [{"name": self.topic}], "allow_auto_topic_creation": False}, 4)

    def coordinate(self, group: str) -> None:
        """Waits until the broker answers for a group: Apache Kafka makes a topic for that first."""
        told = {"key_type": 0, "coordinator_keys": [group]}
        asked = {"groups": [{"group_id": group, "topics": [{"name": self.topic, "partition_indexes": [0]}]}]}
        assert eventually(
            lambda: (
                self.wire.ask(FindCoordinatorRequest, 4, told)["coordinators"][0]["error_code"] == 0
                and self.wire.ask(OffsetFetchRequest, 8, asked)["groups"][0]["error_code"] == 0
            )
        )

    def produce(self, data: bytes, partition: int = 0, acks: int = -1, topic: str = "") -> Any:
        parts = [{"index": partition, "records": data}]
        named = {"name": topic or self.topic, "topic_id": NOWHERE if topic else self.topic_id}
        told = {"acks": acks, "timeout_ms": 5_000, "topic_data": [named | {"partition_data": parts}]}
        return self.ask(ProduceRequest, told, least=3)

    def fetch(self, offset: int, partition: int = 0, most_bytes: int = 1 << 20, topic: str = "") -> Any:
        part = {"partition": partition, "fetch_offset": offset, "partition_max_bytes": most_bytes}
        part |= {"current_leader_epoch": -1, "last_fetched_epoch": -1, "log_start_offset": -1}
        named = {"topic": topic or self.topic, "topic_id": NOWHERE if topic else self.topic_id}
        told = {"max_wait_ms": 50, "min_bytes": 1, "max_bytes": most_bytes, "session_id": 0, "session_epoch": -1}
        return self.ask(FetchRequest, told | {"replica_id": -1, "topics": [named | {"partitions": [part]}]})

    def offset(self, at_ms: int, partition: int = 0, topic: str = "") -> Any:
        part = {"partition_index": partition, "timestamp": at_ms, "current_leader_epoch": -1}
        told = {"replica_id": -1, "topics": [{"name": topic or self.topic, "partitions": [part]}]}
        return self.ask(ListOffsetsRequest, told, least=1 if at_ms > -3 else 7)


def plain(answer: Any) -> Any:
    """An answer without what brokers make up; lists in one order, records as pairs of offset and value."""
    if isinstance(answer, list):
        return sorted(map(plain, answer), key=str)
    if not isinstance(answer, dict):
        return answer
    left_out = MADE_UP | PARTLY_MADE_UP.get(str(answer.get("name")), set())
    if "base_offset" in answer and answer["error_code"]:
        left_out |= {"log_start_offset"}  # Apache Kafka tells it with some errors and not with others
    kept = {name: value for name, value in answer.items() if name not in left_out}
    return {name: records(value) if name == "records" else plain(value) for name, value in kept.items()}


def topics(talk: Talk) -> Answers:
    yield "unknown topic", talk.describe()
    yield "only asked", talk.make(validate_only=True)
    yield "made", talk.make()
    assert eventually(lambda: talk.describe()["topics"][0]["error_code"] == 0)
    yield "described", talk.describe()
    yield "twice", talk.make()
    yield "no partitions", talk.make(name=f"{talk.topic}.0", num_partitions=0)
    yield "more replicas than brokers", talk.make(name=f"{talk.topic}.0", replication_factor=3)
    yield "no replica", talk.make(name=f"{talk.topic}.0", replication_factor=0)
    yield "no name", talk.make(name="")
    yield "a name of dots", talk.make(name="..")
    yield "unknown setting", talk.make(name=f"{talk.topic}.0", configs=[{"name": "no.such", "value": "1"}])
    yield "no value", talk.make(name=f"{talk.topic}.0", configs=[{"name": "retention.ms", "value": "x"}])
    for count in (1, 2, 3):
        asked = {"topics": [{"name": talk.topic, "count": count, "assignments": None}]}
        yield f"{count} partitions", talk.ask(CreatePartitionsRequest, asked | {"timeout_ms": 9_000})
    asked = {"topics": [{"name": f"{talk.topic}.0", "count": 3, "assignments": None}]}
    yield "more partitions of nothing", talk.ask(CreatePartitionsRequest, asked | {"timeout_ms": 9_000})
    assert eventually(lambda: len(talk.describe()["topics"][0]["partitions"]) == 3)
    yield "grown", talk.describe()
    for name in (f"{talk.topic}.0", talk.topic):
        gone: dict[str, Any] = {"topics": [{"name": name}], "topic_names": [name], "timeout_ms": 9_000}
        yield f"deleted {name}", talk.ask(DeleteTopicsRequest, gone)
    gone = {"topics": [{"name": None, "topic_id": NOWHERE}], "timeout_ms": 9_000}
    yield "deleted by an unknown id", talk.ask(DeleteTopicsRequest, gone, least=6)


def settings(talk: Talk) -> Answers:
    talk.made()
    names = ["retention.ms", "cleanup.policy", "max.message.bytes", "no.such"]

    def told(name: str) -> Any:
        asked = [{"resource_type": 2, "resource_name": name, "configuration_keys": names}]
        return talk.ask(DescribeConfigsRequest, {"resources": asked, "include_synonyms": False})

    def changed(name: str, value: str | None, operation: int) -> Any:
        asked = {"resource_type": 2, "resource_name": talk.topic}
        asked |= {"configs": [{"name": name, "config_operation": operation, "value": value}]}
        return talk.ask(IncrementalAlterConfigsRequest, {"resources": [asked], "validate_only": False})

    yield "defaults", told(talk.topic)
    yield "of nothing", told(f"{talk.topic}.0")
    yield "set", changed("retention.ms", "123456", 0)
    yield "set to nonsense", changed("retention.ms", "x", 0)
    yield "an unknown one", changed("no.such", "1", 0)
    assert eventually(lambda: "123456" in str(told(talk.topic)))
    yield "after", told(talk.topic)
    yield "reset", changed("retention.ms", None, 1)
    assert eventually(lambda: "123456" not in str(told(talk.topic)))
    yield "as before", told(talk.topic)
    resource = {"resource_type": 2, "resource_name": talk.topic, "configs": [{"name": "cleanup.policy", "value": "x"}]}
    yield "the old way, nonsense", talk.ask(AlterConfigsRequest, {"resources": [resource], "validate_only": False})


def log(talk: Talk) -> Answers:
    talk.made()
    yield "nothing to read", talk.fetch(0)
    for name, at_ms in (("first", -2), ("end", -1), ("by time", 0)):
        yield f"empty: {name}", talk.offset(at_ms)
    yield "three", talk.produce(batch([b"a", b"b", b"c"]))
    yield "two by the leader alone", talk.produce(batch([b"d", b"e"], at_ms=1_700_000_001_000), acks=1)
    yield "two acknowledgements", talk.produce(batch([b"x"]), acks=2)
    bad = bytearray(batch([b"x"]))
    bad[-1] ^= 1
    yield "a bit is wrong", talk.produce(bytes(bad))
    yield "too large", talk.produce(batch([b"x" * 1_100_000]))
    yield "unknown partition", talk.produce(batch([b"x"]), partition=7)
    yield "unknown topic", talk.produce(batch([b"x"]), topic="nowhere")
    for offset in (0, 2, 3, 4, 5, 6, -1):
        yield f"from {offset}", talk.fetch(offset)
    yield "with a limit below one batch", talk.fetch(0, most_bytes=10)
    for number in range(6):
        talk.produce(batch([bytes([number]) * 50_000] * 2), partition=1)
    for most_bytes in (1, 100_000, 250_000, 350_000, 10_000_000):
        # (a last batch may be cut off at the limit, and is left out)
        yield f"at most {most_bytes} bytes", talk.fetch(2, partition=1, most_bytes=most_bytes)
    yield "fetch of an unknown partition", talk.fetch(0, partition=7)
    yield "fetch of an unknown topic", talk.fetch(0, topic="nowhere")
    times = (-2, -1, -3, 0, 1_700_000_000_002, 1_700_000_000_500, 1_700_000_001_001, 1_700_000_001_002)
    for at_ms in times:
        yield f"offset at {at_ms}", talk.offset(at_ms)
    yield "offset of an unknown partition", talk.offset(-1, partition=7)
    yield "offset of an unknown topic", talk.offset(-1, topic="nowhere")
    for before in (9, 4, 2, -1):
        part = {"partition_index": 0, "offset": before}
        asked = {"topics": [{"name": talk.topic, "partitions": [part]}], "timeout_ms": 9_000}
        yield f"deleted before {before}", talk.ask(DeleteRecordsRequest, asked)
        yield f"first offset after {before}", talk.offset(-2)
        yield f"by time after {before}", talk.offset(0)
        yield f"read at 0 after {before}", talk.fetch(0)
    for epoch in (0, 1, -1):
        place = {"partition": 0, "current_leader_epoch": -1, "leader_epoch": epoch}
        told = {"replica_id": -1, "topics": [{"topic": talk.topic, "partitions": [place]}]}
        yield f"where epoch {epoch} ends", talk.ask(OffsetForLeaderEpochRequest, told)
    asked = {"topics": [{"name": "nowhere", "partitions": [{"partition_index": 0, "offset": 1}]}], "timeout_ms": 9_000}
    yield "deleted records of nothing", talk.ask(DeleteRecordsRequest, asked)


def idempotence(talk: Talk) -> Answers:
    talk.made()
    asked = {"transactional_id": None, "transaction_timeout_ms": 1_000, "producer_id": -1, "producer_epoch": -1}
    # Apache Kafka begins to hand out producer ids a moment after its start
    assert eventually(lambda: talk.ask_whole(InitProducerIdRequest, asked)["error_code"] == 0)
    producer = talk.ask_whole(InitProducerIdRequest, asked)
    yield "a producer id", plain(producer)
    me = producer["producer_id"]
    yield "first", talk.produce(batch([b"a", b"b"], (me, 0, 0)))
    yield "the same again", talk.produce(batch([b"a", b"b"], (me, 0, 0)))
    yield "next", talk.produce(batch([b"c"], (me, 0, 2)))
    yield "a gap", talk.produce(batch([b"x"], (me, 0, 9)))
    yield "older ones again", talk.produce(batch([b"a", b"b"], (me, 0, 0)))
    for number in range(6):
        yield f"number {number}", talk.produce(batch([b"%d" % number], (me, 0, 3 + number)))
    yield "one that is forgotten", talk.produce(batch([b"a", b"b"], (me, 0, 0)))
    yield "another partition", talk.produce(batch([b"z"], (me, 0, 0)), partition=1)
    yield "another partition, not from the beginning", talk.produce(batch([b"z"], (me + 1_000, 0, 5)), partition=1)
    yield "the next epoch", talk.produce(batch([b"y"], (me, 1, 0)))
    yield "the epoch before", talk.produce(batch([b"x"], (me, 0, 9)))
    yield "an epoch that does not begin at 0", talk.produce(batch([b"x"], (me, 2, 4)))
    yield "what is there", talk.fetch(0)


def offsets(talk: Talk) -> Answers:
    talk.made()
    group = f"group.{talk.topic}"
    talk.coordinate(group)

    def commit(generation: int, member: str, to: int, topic: str = "", group: str = group) -> Any:
        part = {"partition_index": 0, "committed_offset": to, "committed_metadata": "note"}
        part |= {"committed_leader_epoch": -1}
        named = {"name": topic or talk.topic, "topic_id": NOWHERE if topic else talk.topic_id, "partitions": [part]}
        told = {"group_id": group, "generation_id_or_member_epoch": generation, "member_id": member}
        return talk.ask(OffsetCommitRequest, told | {"topics": [named]}, least=2)

    def fetch(group: str = group) -> Any:
        asked = [{"name": talk.topic, "partition_indexes": [0, 1]}]
        if talk.choose(*talk.common[OffsetFetchRequest.API_KEY]) < 8:
            return talk.ask(OffsetFetchRequest, {"group_id": group, "topics": asked}, most=7)
        return talk.ask(OffsetFetchRequest, {"groups": [{"group_id": group, "topics": asked}]}, least=8)

    yield "coordinator", talk.ask(FindCoordinatorRequest, {"key": group, "key_type": 0, "coordinator_keys": [group]})
    yield "nothing committed", fetch()
    yield "committed", commit(-1, "", 5)
    yield "found", fetch()
    yield "by an unknown member", commit(3, "nobody", 6)
    yield "of an unknown topic", commit(-1, "", 6, topic="nowhere")
    yield "without a group", commit(-1, "", 6, group="")
    yield "with a generation and no member", commit(1, "", 6, group=f"{group}.other")
    yield "as it was", fetch()
    asked = {"group_id": group, "topics": [{"name": talk.topic, "partitions": [{"partition_index": 0}]}]}
    yield "forgotten", talk.ask(OffsetDeleteRequest, asked)
    yield "gone", fetch()
    for name in (group, "nobody's"):
        yield f"deleted {name}", talk.ask(DeleteGroupsRequest, {"groups_names": [name]})


def membership(talk: Talk) -> Answers:
    talk.made()
    group = f"group.{talk.topic}"
    talk.coordinate(group)

    def join(member: str, session_ms: int = 6_000, protocol: str = "range", group: str = group) -> dict[str, Any]:
        told = {"group_id": group, "session_timeout_ms": session_ms, "rebalance_timeout_ms": 6_000}
        told |= {"member_id": member, "protocol_type": "consumer"}
        return talk.ask_whole(JoinGroupRequest, told | {"protocols": [{"name": protocol, "metadata": b"\0\0"}]})

    def sync(generation: int, member: str) -> Any:
        told = {"group_id": group, "generation_id": generation, "member_id": member}
        told |= {"protocol_type": "consumer", "protocol_name": "range"}
        return talk.ask(SyncGroupRequest, told | {"assignments": [{"member_id": member, "assignment": b"mine"}]})

    def beat(generation: int, member: str) -> Any:
        return talk.ask(HeartbeatRequest, {"group_id": group, "generation_id": generation, "member_id": member})

    def leave(member: str) -> Any:
        told = {"group_id": group, "member_id": member, "members": [{"member_id": member}]}
        return talk.ask(LeaveGroupRequest, told)

    def described(name: str = group) -> Any:
        return talk.ask(DescribeGroupsRequest, {"groups": [name], "include_authorized_operations": False})

    yield "nobody", described()
    yield "an impatient one", plain(join("", session_ms=1))
    yield "a very patient one", plain(join("", session_ms=100_000_000))
    yield "no group", plain(join("", group=""))
    yield "a member nobody knows", plain(join("nobody"))
    first = join("")
    yield "the first", plain(first)
    if first["error_code"] == 79:  # newer versions: ask once more, with the id that was given
        first = join(first["member_id"])
        yield "the first, by its id", plain(first)
    me, generation = first["member_id"], first["generation_id"]
    yield "a beat in a rebalance", beat(generation, me)
    yield "another generation", sync(generation + 1, me)
    yield "synchronised", sync(generation, me)
    yield "synchronised again", sync(generation, me)
    yield "stable", described()
    yield "a beat", beat(generation, me)
    yield "a beat of another generation", beat(generation + 1, me)
    yield "a beat of nobody", beat(generation, "nobody")
    yield "another protocol", plain(join("", protocol="roundrobin"))
    yield "cannot be deleted", talk.ask(DeleteGroupsRequest, {"groups_names": [group]})
    yield "nobody leaves", leave("nobody")
    yield "left", leave(me)
    yield "left again", leave(me)
    yield "empty", described()


SCRIPTS = [topics, settings, log, idempotence, offsets, membership]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("choose", [min, max], ids=["oldest", "newest"])
def test_both_brokers_give_the_same_answers(
    embedded_broker: Broker,
    apache_broker: Broker,
    script: Callable[[Talk], Answers],
    choose: Callable[[int, int], int],
    topic: str,
) -> None:
    ours, theirs = Wire(embedded_broker.bootstrap), Wire(apache_broker.bootstrap)
    common = {
        key: (max(low, theirs.versions[key][0]), min(high, theirs.versions[key][1]))
        for key, (low, high) in ours.versions.items()
    }
    given = []
    for wire in (ours, theirs):
        given.append(dict(script(Talk(wire, choose, common, topic))))
        wire.close()
    assert len(given[0]) > 5
    assert not (told := differences(*given)), told


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """The answers that are not equal."""
    unequal = [name for name, answer in theirs.items() if ours.get(name) != answer]
    return "\n".join(f"{name}:\n  embedded {ours.get(name)}\n  Apache   {theirs[name]}" for name in unequal)


def test_the_embedded_broker_knows_no_version_that_kafka_does_not(
    embedded_broker: Broker, apache_broker: Broker
) -> None:
    ours, theirs = Wire(embedded_broker.bootstrap), Wire(apache_broker.bootstrap)
    ours.close()
    theirs.close()
    for key, (low, high) in ours.versions.items():
        assert key in theirs.versions
        assert theirs.versions[key][0] <= low <= high <= theirs.versions[key][1], key
