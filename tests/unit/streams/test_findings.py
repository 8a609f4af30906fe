"""Every finding of the doctor: which facts lead to it, and that each one that is not ok says what to do."""

from typing import Any

import msgspec
import pytest

from headrace.streams import findings as of
from headrace.streams.findings import Finding, GroupFacts, PackageFacts, SampleFacts, TopicFacts
from headrace.streams.probes import facts_of, read_store
from headrace.streams.store_findings import StoreFacts, of_store
from headrace.streams.topics import (
    DEAD,
    EVENTS,
    FEATURES,
    ITEMS,
    LABELLED_PAIRS,
    LABELS,
    PAIRS,
    FoundTopic,
    Topic,
    all_topics,
)

WELL = StoreFacts(
    server="Valkey",
    version="8.1.4",
    policy="noeviction",
    appendonly="yes",
    appendfsync="everysec",
    writes_ok=True,
    role="master",
    replicas=1,
    used_bytes=100 << 20,
    max_bytes=1 << 30,
    cluster=False,
)
TOPIC = TopicFacts(EVENTS, 8, 3)


def levels(found: list[Finding]) -> dict[str, str]:
    for one in found:
        assert bool(one.do) == (one.level != "ok"), f"{one}: what is not ok says what to do"
    return {one.check: one.level for one in found}


def only(found: list[Finding]) -> Finding:
    (one,) = [one for one in found if one.level != "ok"]
    assert one.do
    return one


def test_a_server_that_is_well() -> None:
    assert set(levels(of_store(WELL)).values()) == {"ok"}
    assert of_store(WELL)[0].says == "Valkey 8.1.4"


@pytest.mark.parametrize(
    ("facts", "check", "level", "do"),
    [
        ({"server": "Redis", "version": "6.0.9"}, "redis version", "fail", "upgrade"),
        ({"server": "Redis", "version": "7.0.15"}, "redis version", "fail", "--durability memory"),
        ({"policy": "allkeys-lru"}, "redis eviction", "fail", "noeviction"),
        ({"policy": None}, "redis eviction", "warn", "noeviction"),
        ({"appendonly": "no"}, "redis append-only file", "fail", "appendonly yes"),
        ({"appendonly": None}, "redis append-only file", "warn", "appendonly"),
        ({"appendfsync": "no"}, "redis append-only file", "fail", "everysec"),
        ({"writes_ok": False}, "redis append-only file", "fail", "disk"),
        ({"role": "slave"}, "redis replication", "fail", "primary"),
        ({"role": None}, "redis replication", "warn", "primary"),
        ({"replicas": 0}, "redis replication", "warn", "add a replica"),
        ({"max_bytes": 0}, "redis memory", "warn", "set maxmemory"),
        ({"max_bytes": None}, "redis memory", "warn", "maxmemory"),
        ({"used_bytes": 850 << 20}, "redis memory", "warn", "raise maxmemory"),
        ({"used_bytes": 1000 << 20}, "redis memory", "fail", "raise maxmemory"),
        ({"cluster": True}, "redis cluster", "fail", "one primary"),
        ({"open_door": True}, "redis access", "warn", "password"),
    ],
)
def test_what_is_wrong_with_a_server_is_one_finding(facts: dict[str, Any], check: str, level: str, do: str) -> None:
    found = only(of_store(msgspec.structs.replace(WELL, **facts)))
    assert (found.check, found.level) == (check, level)
    assert do in found.do


@pytest.mark.parametrize("version", ["7.2.0", "8.0.1", "10.0"])
def test_a_redis_that_knows_its_disk_is_well(version: str) -> None:
    facts = msgspec.structs.replace(WELL, server="Redis", version=version)
    assert set(levels(of_store(facts)).values()) == {"ok"}


def test_topics_that_are_not_there_are_named() -> None:
    found = only(of.of_topics([TOPIC, TopicFacts(ITEMS, None)], 3))
    assert found == Finding("kafka topics", "fail", f"is not there: {ITEMS}", "`headrace topics create` makes them")


def test_differences_of_topics_keep_their_way_out() -> None:
    topic = TopicFacts(EVENTS, 8, 3, broken=("retention.ms=1 instead of -1: set it with x: y",), odd=("a=1: do b",))
    found = of.of_topics([topic], 3)
    assert Finding(f"topic {EVENTS}", "fail", "retention.ms=1 instead of -1", "set it with x: y") in found
    assert Finding(f"topic {EVENTS}", "warn", "a=1", "do b") in found


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, {}),
        ({"auto.create.topics.enable": "false", "offsets.retention.minutes": "5256000"}, {"kafka groups": "ok"}),
        ({"offsets.retention.minutes": "10080"}, {"kafka groups": "warn"}),
        ({"auto.create.topics.enable": "true"}, {"kafka new topics": "warn"}),
    ],
)
def test_settings_of_brokers(settings: dict[str, str], found: dict[str, str]) -> None:
    assert levels(of.of_brokers(settings)) == found


@pytest.mark.parametrize(("replicas", "level"), [(1, "warn"), (2, "warn"), (3, "ok")])
def test_few_copies_are_a_warning(replicas: int, level: str) -> None:
    assert levels(of.of_topics([msgspec.structs.replace(TOPIC, replicas=replicas)], 3))["kafka copies"] == level


def made(topic: Topic, **otherwise: Any) -> FoundTopic:
    settings = {**topic.settings, **otherwise.pop("settings", {})}
    return FoundTopic(topic.name, "id", otherwise.pop("partitions", topic.partitions), 1, settings)


@pytest.mark.parametrize("topic", all_topics(), ids=lambda topic: topic.name)
def test_a_topic_as_it_is_made_is_well(topic: Topic) -> None:
    facts = facts_of(topic, made(topic))
    assert (facts.broken, facts.odd) == ((), ())


@pytest.mark.parametrize(
    ("name", "otherwise", "broken", "odd"),
    [
        (EVENTS, {"settings": {"retention.ms": "604800000"}}, 1, 0),
        (EVENTS, {"settings": {"cleanup.policy": "compact"}}, 1, 0),
        (EVENTS, {"settings": {"message.timestamp.after.max.ms": "1"}}, 0, 1),
        (FEATURES, {"settings": {"retention.ms": "604800000"}}, 0, 0),
        (FEATURES, {"partitions": 4}, 1, 0),
        (LABELS, {"partitions": 4}, 1, 0),
        (ITEMS, {"settings": {"cleanup.policy": "delete"}}, 1, 0),
        (ITEMS, {"partitions": 4}, 0, 1),
        (PAIRS, {"settings": {"retention.ms": "604800000"}}, 0, 1),
        (PAIRS, {"settings": {"cleanup.policy": "compact"}}, 1, 0),
        (PAIRS, {"partitions": 4}, 0, 1),
        (LABELLED_PAIRS, {"settings": {"retention.ms": "604800000"}}, 0, 1),
        (LABELLED_PAIRS, {"partitions": 4}, 0, 1),
        (PAIRS + DEAD, {"settings": {"max.message.bytes": "1000"}}, 0, 1),
        (EVENTS + DEAD, {"settings": {"retention.ms": "604800000"}}, 0, 1),
        (EVENTS + DEAD, {"settings": {"max.message.bytes": "1000"}}, 0, 1),
        (EVENTS + DEAD, {"partitions": 1}, 0, 1),
    ],
)
def test_what_loses_records_is_told_from_what_is_odd(name: str, otherwise: Any, broken: int, odd: int) -> None:
    topic = next(topic for topic in all_topics() if topic.name == name)
    facts = facts_of(topic, made(topic, **otherwise))
    assert (len(facts.broken), len(facts.odd)) == (broken, odd)


def test_a_topic_that_is_not_there() -> None:
    assert facts_of(all_topics()[0], None).partitions is None


@pytest.mark.parametrize(
    ("sample", "level", "do"),
    [
        (SampleFacts(10, {"murmur2": 0, "crc32": 10}, "murmur2"), "ok", ""),
        (SampleFacts(100, {"murmur2": 100, "crc32": 12}, "murmur2"), "ok", ""),
        (SampleFacts(100, {"murmur2": 12, "crc32": 100}, "murmur2"), "fail", "--partitioner crc32"),
        (SampleFacts(100, {"murmur2": 12, "crc32": 100}, "crc32"), "ok", ""),
        (SampleFacts(100, {"murmur2": 60, "crc32": 50}, "murmur2"), "warn", "client_id"),
        (SampleFacts(100, {"murmur2": 98, "crc32": 50}, "murmur2"), "warn", "misrouted"),
    ],
)
def test_a_sample_says_which_partitioner_fits(sample: SampleFacts, level: str, do: str) -> None:
    found = of.of_sample(sample)
    assert found.level == level
    assert do in found.do


@pytest.mark.parametrize(
    ("ahead_ms", "level"), [(0, "ok"), (-900, "ok"), (1_000, "warn"), (-200_000, "warn"), (300_000, "fail")]
)
def test_a_clock_that_is_wrong(ahead_ms: int, level: str) -> None:
    assert levels(of.of_clocks(ahead_ms, None)) == {"clock": level}


def test_a_clock_says_which_way() -> None:
    assert of.of_clocks(2_000, None)[0].says == "2.0 s behind that of Redis"
    assert of.of_clocks(-2_000, None)[0].says == "2.0 s ahead of that of Redis"


def test_records_ahead_of_the_clock() -> None:
    assert levels(of.of_clocks(None, 3)) == {"clock of the log": "warn"}
    assert levels(of.of_clocks(None, 0)) == {"clock of the log": "ok"}
    assert of.of_clocks(None, None) == []


@pytest.mark.parametrize(
    ("facts", "level", "do"),
    [
        (GroupFacts("g", 0, {0: 0}), "ok", ""),
        (GroupFacts("g", 2, {0: 5, 1: 7}), "ok", ""),
        (GroupFacts("g", 0, {0: 5}), "warn", "headrace consume"),
        (GroupFacts("g", 2, {0: 5, 1: 20_000}), "warn", "add consumers"),
    ],
)
def test_lag(facts: GroupFacts, level: str, do: str) -> None:
    found = of.of_group(facts)
    assert found.level == level
    assert do in found.do
    assert "20,005" in found.says or sum(facts.lag.values()) < 20_000


def test_packages() -> None:
    fine = PackageFacts("numpy", "2.4.6", ">=2.0", True, "2.4.6")
    assert levels(of.of_packages([fine], (3, 12))) == {"python": "ok", "packages": "ok"}
    old = PackageFacts("numpy", "1.26", ">=2.0", False)
    gone = PackageFacts("click", None, ">=8.1", False)
    other = PackageFacts("redis", "8.2.0", ">=6.0", True, "8.1.0")
    found = of.of_packages([fine, old, gone, other], (3, 10))
    assert levels(found) == {
        "python": "fail",
        "package numpy": "fail",
        "package click": "fail",
        "package redis": "warn",
    }
    assert "pip install 'numpy>=2.0'" in {one.do for one in found}
    assert "not installed, wanted >=8.1" in {one.says for one in found}


INFO = (
    b"redis_version:7.4.1\r\nrole:master\r\nconnected_slaves:2\r\nused_memory:1024\r\nmaxmemory:2048\r\n"
    b"cluster_enabled:0\r\n"
)


def test_what_redis_answers_is_read() -> None:
    asked = [
        [name, value] for name, value in ((b"a", b"noeviction"), (b"b", b"yes"), (b"c", b"always"), (b"d", b"4096"))
    ]
    facts = read_store(asked, INFO + b"aof_last_write_status:err\r\n", 5, False)
    assert facts == StoreFacts(
        server="Redis",
        version="7.4.1",
        policy="noeviction",
        appendonly="yes",
        appendfsync="always",
        writes_ok=False,
        role="master",
        replicas=2,
        used_bytes=1024,
        max_bytes=4096,
        cluster=False,
        clock_ms=5,
    )


def test_a_redis_without_config_tells_what_info_holds() -> None:
    denied = [Exception("NOPERM")] * 4
    facts = read_store(denied, INFO + b"maxmemory_policy:noeviction\r\naof_enabled:1\r\n", 0, True)
    assert (facts.policy, facts.appendonly, facts.appendfsync, facts.max_bytes) == ("noeviction", "yes", None, 2048)
    assert facts.open_door


def test_a_redis_that_tells_nothing_is_not_called_well() -> None:
    found = levels(of_store(read_store([Exception()] * 4, Exception(), 0, False)))
    assert found["redis eviction"] == found["redis memory"] == found["redis replication"] == "warn"
