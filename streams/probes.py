"""Asks Kafka and Redis how they are: the facts of a check-up. Reads only; nothing is written, joined or committed."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from headrace.streams.findings import GroupFacts, SampleFacts, TopicFacts
from headrace.streams.generations import Generation, group_of
from headrace.streams.kafka_access import clients
from headrace.streams.log_extent import committed_offsets
from headrace.streams.partitioners import Partitioner, partition_of
from headrace.streams.redis_wire import Wire
from headrace.streams.store_findings import StoreFacts
from headrace.streams.topics import (
    BOOTSTRAP_MS,
    DEAD,
    EVENTS,
    FEATURES,
    LABELLED_PAIRS,
    LABELS,
    LATE,
    PAIRS,
    FoundTopic,
    Topic,
    all_topics,
    differences,
    find_topics,
)

_AHEAD_MS: Final = 60_000
_KEYS: Final = 50
_POLLS: Final = 20
_LOCAL: Final = frozenset({"127.0.0.1", "::1", "localhost", None})
# Somebody may have had a reason; records that vanish or move are another matter.
_ODD: Final = ("max.message.bytes", "min.insync.replicas", "message.timestamp.after.max.ms")


def topics_of(admin: KafkaAdminClient, suffix: str) -> tuple[list[TopicFacts], dict[str, FoundTopic]]:
    """How the topics of an installation differ from what `headrace topics create` makes; the events' one is the first.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    asked = all_topics(suffix=suffix)
    found = find_topics(admin, [topic.name for topic in asked])
    events = found.get(asked[0].name)
    if events is not None:
        asked = all_topics(events.partitions, events.replicas, suffix=suffix)
    return [facts_of(topic, found.get(topic.name)) for topic in asked], found


def facts_of(asked: Topic, found: FoundTopic | None) -> TopicFacts:
    """A topic compared with what it should be.

    Args:
        asked: as it should be.
        found: as it is; None: it is not there.
    """
    if found is None:
        return TopicFacts(asked.name, None)
    events, aged = asked.name.startswith(EVENTS), asked.name.startswith((FEATURES, LABELS))
    letters = DEAD in asked.name or LATE in asked.name
    pairs = asked.name.startswith((PAIRS, LABELLED_PAIRS))
    broken: dict[str, str] = {}
    odd: dict[str, str] = {}
    for name, value in asked.settings.items():
        if name.startswith("retention.") and aged and not letters:
            continue  # how long features and labels stay is a choice
        harmless = name in _ODD or ((letters or pairs) and name.startswith("retention."))
        (odd if harmless else broken)[name] = value
    # What a shopper did, was shown and taught must lie side by side; where letters and items lie matters to
    # nobody, and that pairs and their labels have as many partitions `headrace label run` looks to.
    side_by_side = (events or aged) and not letters
    partitions = (asked.partitions, found.partitions) if side_by_side else (found.partitions, asked.partitions)
    return TopicFacts(
        found.name,
        found.partitions,
        found.replicas,
        differences(Topic(asked.name, partitions[0], -1, broken), found),
        differences(Topic(asked.name, partitions[1], -1, odd), found),
    )


def broker_settings(admin: KafkaAdminClient) -> dict[str, str]:
    """The settings of one broker; {} where this user may not see them."""
    node = str(admin.describe_cluster()["brokers"][0]["broker_id"])
    try:
        told = admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, node)], config_filter="all")
    except KafkaError:
        return {}
    return {name: str(setting["value"]) for name, setting in told.get("broker", {}).get(node, {}).items()}


def nodes_of(admin: KafkaAdminClient) -> tuple[str, int]:
    """The cluster's id, and how many brokers it has now."""
    told = admin.describe_cluster()
    return str(told["cluster_id"]), len(told["brokers"])


def sample_of(bootstrap: str, topic: str, partitions: int, wanted: Partitioner) -> tuple[SampleFacts, int]:
    """Where the newest keys of a topic lie, and how many of these records are stamped ahead of our clock.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    consumer = KafkaConsumer(
        **clients(bootstrap),
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        client_id="headrace-doctor",
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        return _sampled(consumer, topic, partitions, wanted)
    finally:
        consumer.close()


def _sampled(consumer: Any, topic: str, partitions: int, wanted: Partitioner) -> tuple[SampleFacts, int]:
    places = [TopicPartition(topic, number) for number in range(partitions)]
    begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    left = {place: ends[place] for place in places if begins[place] < ends[place]}
    consumer.assign(list(left))
    for place in left:
        consumer.seek(place, max(begins[place], ends[place] - _KEYS))
    keys, ahead = 0, 0
    fits: dict[str, int] = {"murmur2": 0, "crc32": 0}
    limit_ms = time.time_ns() // 1_000_000 + _AHEAD_MS
    for _ in range(_POLLS):  # compacted or transactional ends may hold no record: never wait for one
        if not left:
            break
        for place, records in consumer.poll(timeout_ms=250).items():
            for record in records:
                ahead += record.timestamp > limit_ms
                if record.key:
                    keys += 1
                    fits["murmur2"] += partition_of(record.key, partitions, "murmur2") == place.partition
                    fits["crc32"] += partition_of(record.key, partitions, "crc32") == place.partition
        left = {place: end for place, end in left.items() if consumer.position(place) < end}
    return SampleFacts(keys, fits, wanted), ahead


def group_facts(
    admin: KafkaAdminClient, bootstrap: str, namespace: str, generation: Generation, extent: Mapping[int, Any]
) -> tuple[GroupFacts, dict[int, int | None]]:
    """The consumer group that fills a generation, and what it has committed of each partition.

    Args:
        admin: of the brokers.
        bootstrap: their addresses.
        namespace: of the state.
        generation: that is filled.
        extent: for each partition the first offset and the one behind the last.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    name, topic = group_of(namespace, generation.name), generation.source.topic
    found = committed_offsets(bootstrap, name, topic, len(extent))
    committed = {partition: found.get(partition) for partition in extent}
    lag = {
        partition: max(0, end - (at if (at := committed[partition]) is not None else generation.begins[partition]))
        for partition, (_, end) in extent.items()
    }
    told = admin.describe_groups([name])[name]
    return GroupFacts(name, len(told.get("members") or ()), lag), committed


def store_of(url: str) -> StoreFacts:
    """What Redis tells of itself.

    Raises:
        StoreUnavailable: it cannot be reached.
    """
    wire = Wire(url)
    try:
        names = ("maxmemory-policy", "appendonly", "appendfsync", "maxmemory")
        wire.send([*(("CONFIG", "GET", name) for name in names), ("INFO",)])
        *settings, info = wire.receive(len(names) + 1)
        clock_ms = _clock_ms(wire)
    finally:
        wire.close()
    return read_store(settings, info, clock_ms, _open_door(url))


def read_store(settings: Sequence[object], info: object, clock_ms: int, open_door: bool) -> StoreFacts:
    """The facts in what Redis answered to CONFIG GET of four settings and to INFO."""
    told = _told(info)
    policy, appendonly, appendfsync, limit = (_value(answer) for answer in settings)
    valkey = "valkey_version" in told
    return StoreFacts(
        server="Valkey" if valkey else "Redis",
        version=told.get("valkey_version" if valkey else "redis_version", "0.0"),
        policy=policy or told.get("maxmemory_policy"),
        appendonly=appendonly or {"1": "yes", "0": "no"}.get(told.get("aof_enabled", "")),
        appendfsync=appendfsync,
        writes_ok=None if "aof_last_write_status" not in told else told["aof_last_write_status"] == "ok",
        role=told.get("role"),
        replicas=_number(told.get("connected_slaves")),
        used_bytes=_number(told.get("used_memory")),
        max_bytes=_number(limit if limit is not None else told.get("maxmemory")),
        cluster=told.get("cluster_enabled") == "1",
        clock_ms=clock_ms,
        open_door=open_door,
    )


def _clock_ms(wire: Wire) -> int:
    """How far Redis' clock is ahead of ours, to half the time that asking takes."""
    before_ns = time.time_ns()
    (answer,) = wire.call([("TIME",)])
    after_ns = time.time_ns()
    assert isinstance(answer, list)
    theirs_us = int(answer[0]) * 1_000_000 + int(answer[1])
    return (theirs_us - (before_ns + after_ns) // 2_000) // 1_000


def _open_door(url: str) -> bool:
    parts = urlsplit(url)
    asked = parts.password or "password=" in parts.query
    return parts.scheme != "unix" and not asked and parts.hostname not in _LOCAL


def _told(info: object) -> dict[str, str]:
    if not isinstance(info, bytes):
        return {}
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value.strip() for name, colon, value in lines if colon}


def _value(answer: object) -> str | None:
    """The value in an answer to CONFIG GET; None where it is not allowed or the setting is not known."""
    if not isinstance(answer, list) or len(answer) != 2:
        return None
    value = answer[1]
    return value.decode() if isinstance(value, bytes) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
