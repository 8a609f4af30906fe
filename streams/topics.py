"""The topics, what they are made with, and which log a name stands for.

The first half is what should be (pure); the second asks the brokers (kafka-python's admin client). Why the settings are
what they are: docs/decisions/0003-topics-keep-everything.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import for_code

from headrace import SourceChanged
from headrace.streams.dead_letters import DEAD as DEAD
from headrace.streams.dead_letters import LATE as LATE
from headrace.streams.kafka_access import clients

EVENTS: Final = "search.events.v1"
ITEMS: Final = "search.items.v1"
FEATURES: Final = "search.features.v1"
LABELS: Final = "search.labels.v1"
PAIRS: Final = "search.pairs.unlabelled.v1"
LABELLED_PAIRS: Final = "search.pairs.labelled.v1"

PARTITIONS: Final = 8
DEAD_LETTER_BYTES: Final = 2 * 1024 * 1024
"""A dead letter is the record as it came, up to the broker's 1 MiB, and its headers."""
BOOTSTRAP_MS: Final = 10_000
"""How long the first answer of a broker may take; the client's own 30 s is long for someone who mistyped a port."""

_EXISTS: Final = 36
_UNKNOWN: Final = 3
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be.

    Attributes:
        replicas: copies of each partition; -1: as many as the brokers make by default.
        settings: Kafka's settings of a topic, by name, as text.
    """

    name: str
    partitions: int
    replicas: int = -1
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it is; ``settings`` holds all that the brokers tell."""

    name: str
    topic_id: str
    partitions: int
    replicas: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """The log that a name stands for: a topic that was deleted and made again is another one."""

    topic: str
    cluster_id: str
    topic_id: str
    partitions: int


def all_topics(
    partitions: int = PARTITIONS,
    replicas: int = -1,
    retention_days: int | None = None,
    suffix: str = "",
) -> tuple[Topic, ...]:
    """The topics of one installation.

    Args:
        partitions: of every topic; events, features and labels of a shopper must lie side by side, and so must pairs
            and what a teacher said of them.
        replicas: copies of each partition; -1: the brokers' default.
        retention_days: how long features and labels stay; None: for ever. Events always stay for ever.
        suffix: put behind every name, for a second installation on the same brokers.
    """
    safe = {"min.insync.replicas": str(replicas - 1)} if replicas >= 3 else {}
    # A clock that runs ahead must not move windows and shoppers' clocks. Kafka 4's own default, said to Kafka 3 too.
    ahead = {"message.timestamp.after.max.ms": str(_HOUR_MS)}
    created = {"message.timestamp.type": "CreateTime", **ahead, **safe}
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", **created}
    aged = kept if retention_days is None else {**kept, "retention.ms": str(retention_days * _DAY_MS)}
    compacted = {"cleanup.policy": "compact", **created}
    letters = {**kept, "max.message.bytes": str(DEAD_LETTER_BYTES)}
    made = [
        (EVENTS + suffix, kept),
        (EVENTS + suffix + DEAD, letters),
        (EVENTS + suffix + LATE, letters),
        (ITEMS + suffix, compacted),
        (ITEMS + suffix + DEAD, letters),
        (FEATURES + suffix, aged),
        (FEATURES + suffix + DEAD, letters),
        (LABELS + suffix, aged),
        (PAIRS + suffix, kept),
        (PAIRS + suffix + DEAD, letters),
        (LABELLED_PAIRS + suffix, kept),
    ]
    return tuple(Topic(name, partitions, replicas, settings) for name, settings in made)


def differences(asked: Topic, found: FoundTopic) -> tuple[str, ...]:
    """What is otherwise than asked, a sentence each with the way out; () when nothing is."""
    found_out = []
    if found.partitions != asked.partitions:
        found_out.append(
            f"{found.partitions} partitions instead of {asked.partitions}: ask for {found.partitions}, or copy the"
            " topic to a new one and rebuild; adding partitions would tear shoppers apart"
        )
    if asked.replicas > 0 and found.replicas != asked.replicas:
        found_out.append(
            f"{found.replicas} replicas instead of {asked.replicas}: change them with kafka-reassign-partitions"
        )
    for name, value in sorted(asked.settings.items()):
        there = found.settings.get(name)
        if there != value:
            found_out.append(
                f"{name}={there} instead of {value}: set it with kafka-configs --alter --entity-type topics"
                f" --entity-name {found.name} --add-config {name}={value}"
            )
    return tuple(found_out)


def check_source(built_from: Source, found: Source) -> None:
    """Whether the log is still the one that the state was built from.

    Raises:
        SourceChanged: it is not; the text says what changed and the way out.
    """
    way_out = "The state cannot go on from it: fill a new generation with `headrace rebuild`."
    for name, before, now in (
        ("cluster", built_from.cluster_id, found.cluster_id),
        ("topic id", built_from.topic_id, found.topic_id),
    ):
        if before != now:
            raise SourceChanged(
                f"{found.topic} is not the log this state was built from ({name} {before}, now {now}:"
                f" it was deleted and made again, or these are other brokers). {way_out}"
            )
    if built_from.partitions != found.partitions:
        raise SourceChanged(
            f"{found.topic} had {built_from.partitions} partitions and has {found.partitions}:"
            f" shoppers' records now lie in two places. {way_out}"
        )


@contextmanager
def admin_of(bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end.

    Raises:
        kafka.errors.KafkaError: no broker answers.
    """
    admin = KafkaAdminClient(**clients(bootstrap), bootstrap_timeout_ms=BOOTSTRAP_MS, client_id="headrace-topics")
    try:
        yield admin
    finally:
        admin.close()


def find_topics(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, FoundTopic]:
    """The topics of these names that are there, by name.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    described: list[dict[str, Any]] = []
    for topic in admin.describe_topics(list(names)):
        if topic["error_code"] == 0:
            described.append(topic)
        elif topic["error_code"] != _UNKNOWN:
            raise for_code(topic["error_code"])(topic["name"])
    if not described:
        return {}
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic["name"]) for topic in described]
    settings = admin.describe_configs(asked, config_filter="all")["topic"]
    return {
        topic["name"]: FoundTopic(
            topic["name"],
            str(topic["topic_id"]),
            len(topic["partitions"]),
            min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0),
            {name: str(setting["value"]) for name, setting in settings.get(topic["name"], {}).items()},
        )
        for topic in described
    }


def create_topics(admin: KafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    """Makes those that are not there, waits until they can be used, and leaves the others as they are.

    Returns:
        The names of those that were made.

    Raises:
        kafka.errors.KafkaError: a topic could not be made.
    """
    there = find_topics(admin, [topic.name for topic in topics])
    wanted = {
        topic.name: {
            "num_partitions": topic.partitions,
            "replication_factor": topic.replicas,
            "configs": dict(topic.settings),
        }
        for topic in topics
        if topic.name not in there
    }
    if not wanted:
        return []
    made = []
    for answer in admin.create_topics(wanted, raise_errors=False)["topics"]:
        if answer["error_code"] == 0:
            made.append(str(answer["name"]))
        elif answer["error_code"] != _EXISTS:  # someone else was faster
            raise for_code(answer["error_code"])(f"{answer['name']}: {answer['error_message']}")
    admin.wait_for_topics(list(wanted))
    return made


def source_of(bootstrap: str, topic: str) -> Source:
    """The log that a name stands for now: ask at the start, at a rebuild, and now and then.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: its name.

    Raises:
        SourceChanged: there is no such topic.
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    with admin_of(bootstrap) as admin:
        cluster_id = str(admin.describe_cluster()["cluster_id"])
        found = admin.describe_topics([topic])[0]
    if found["error_code"] == _UNKNOWN:
        raise SourceChanged(f"There is no topic {topic} on {bootstrap}. `headrace topics create` makes it.")
    if found["error_code"] != 0:
        raise for_code(found["error_code"])(topic)
    return Source(topic, cluster_id, str(found["topic_id"]), len(found["partitions"]))
