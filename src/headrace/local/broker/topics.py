"""What a topic is: its name, id, partitions and settings, and which of these are allowed. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from uuid import UUID

from headrace.local.broker.codes import Code, Refusal

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_MOST_PARTITIONS = 1_000
_LONG_MAX = str(2**63 - 1)


class Kind(IntEnum):
    """A setting's type, as Kafka's protocol numbers it."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    LONG = 5
    DOUBLE = 6
    LIST = 7


@dataclass(frozen=True)
class Setting:
    """A setting that a topic may have.

    Attributes:
        default: its value where a topic says nothing, Kafka's own.
        least: the smallest number allowed.
        allowed: the words allowed; empty allows any.
    """

    kind: Kind
    default: str
    least: int = 0
    allowed: tuple[str, ...] = ()


# Those that the broker acts upon are max.message.bytes, message.timestamp.type and message.timestamp.after.max.ms.
SETTINGS: Mapping[str, Setting] = {
    "cleanup.policy": Setting(Kind.LIST, "delete", allowed=("delete", "compact")),
    "compression.type": Setting(
        Kind.STRING, "producer", allowed=("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer")
    ),
    "compression.gzip.level": Setting(Kind.INT, "-1", -1),
    "compression.lz4.level": Setting(Kind.INT, "9", 1),
    "compression.zstd.level": Setting(Kind.INT, "3", -131072),
    "delete.retention.ms": Setting(Kind.LONG, "86400000"),
    "file.delete.delay.ms": Setting(Kind.LONG, "60000"),
    "flush.messages": Setting(Kind.LONG, _LONG_MAX, 1),
    "flush.ms": Setting(Kind.LONG, _LONG_MAX),
    "follower.replication.throttled.replicas": Setting(Kind.LIST, ""),
    "index.interval.bytes": Setting(Kind.INT, "4096"),
    "leader.replication.throttled.replicas": Setting(Kind.LIST, ""),
    "local.retention.bytes": Setting(Kind.LONG, "-2", -2),
    "local.retention.ms": Setting(Kind.LONG, "-2", -2),
    "max.compaction.lag.ms": Setting(Kind.LONG, _LONG_MAX, 1),
    "max.message.bytes": Setting(Kind.INT, "1048588"),
    "message.timestamp.after.max.ms": Setting(Kind.LONG, "3600000"),
    "message.timestamp.before.max.ms": Setting(Kind.LONG, _LONG_MAX),
    "message.timestamp.type": Setting(Kind.STRING, "CreateTime", allowed=("CreateTime", "LogAppendTime")),
    "min.cleanable.dirty.ratio": Setting(Kind.DOUBLE, "0.5"),
    "min.compaction.lag.ms": Setting(Kind.LONG, "0"),
    "min.insync.replicas": Setting(Kind.INT, "1", 1),
    "preallocate": Setting(Kind.BOOLEAN, "false"),
    "remote.log.copy.disable": Setting(Kind.BOOLEAN, "false"),
    "remote.log.delete.on.disable": Setting(Kind.BOOLEAN, "false"),
    "remote.storage.enable": Setting(Kind.BOOLEAN, "false"),
    "retention.bytes": Setting(Kind.LONG, "-1", -1),
    "retention.ms": Setting(Kind.LONG, "604800000", -1),
    "segment.bytes": Setting(Kind.INT, "1073741824", 1024 * 1024),
    "segment.index.bytes": Setting(Kind.INT, "10485760", 4),
    "segment.jitter.ms": Setting(Kind.LONG, "0"),
    "segment.ms": Setting(Kind.LONG, "604800000", 1),
    "unclean.leader.election.enable": Setting(Kind.BOOLEAN, "false"),
}


@dataclass(frozen=True)
class Topic:
    """A topic as it was made.

    Attributes:
        settings: those that were given; ``setting`` has the others.
    """

    name: str
    id: UUID
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def setting(self, name: str) -> str:
        """A setting's value, its default where the topic says nothing."""
        return self.settings.get(name, SETTINGS[name].default)

    def with_partitions(self, count: int) -> "Topic":
        """The topic with more partitions.

        Raises:
            Refusal: it has that many, or more.
        """
        if count <= self.partitions:
            than = "the same as" if count == self.partitions else "higher than"
            raise Refusal(
                Code.INVALID_PARTITIONS,
                f"Topic currently has {self.partitions} partition(s), which is {than} the requested {count}.",
            )
        return replace(self, partitions=checked_partitions(count))

    def with_settings(self, settings: Mapping[str, str | None]) -> "Topic":
        """The topic with these settings as all that it has.

        Raises:
            Refusal: one of them is not allowed.
        """
        return replace(self, settings=checked_settings(settings))


def checked_name(name: str) -> str:
    """The name, when a topic may have it.

    Raises:
        Refusal: it may not.
    """
    if name in {".", ".."} or not _NAME.fullmatch(name):
        raise Refusal(
            Code.INVALID_TOPIC,
            f"Topic name is invalid: '{name[:260]}' is not 1 to 249 of the letters a-z, A-Z, 0-9, '.', '_' and '-'",
        )
    return name


def checked_partitions(count: int) -> int:
    """The number of partitions; -1 stands for the broker's default, 1.

    Raises:
        Refusal: there cannot be that many.
    """
    count = 1 if count == -1 else count
    if count < 1:
        raise Refusal(
            Code.INVALID_PARTITIONS, f"Number of partitions was set to an invalid non-positive value: {count}"
        )
    if count > _MOST_PARTITIONS:
        raise Refusal(Code.INVALID_PARTITIONS, f"this broker has at most {_MOST_PARTITIONS} partitions a topic")
    return count


def checked_replication(factor: int) -> None:
    """Takes 1, and -1 for the broker's default.

    Raises:
        Refusal: one broker holds each record once.
    """
    if factor in (1, -1):
        return
    if factor < 1:
        raise Refusal(Code.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0.")
    raise Refusal(
        Code.INVALID_REPLICATION_FACTOR,
        f"Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be "
        "reached because only 1 broker(s) are registered.",
    )


def checked_settings(settings: Mapping[str, str | None]) -> dict[str, str]:
    """The settings, when a topic may have them.

    Raises:
        Refusal: a name is unknown, or a value is not of its kind.
    """
    for name, value in settings.items():
        if name not in SETTINGS:
            raise Refusal(Code.INVALID_CONFIG, f"Unknown topic config name: {name}")
        if value is None:
            raise Refusal(Code.INVALID_CONFIG, f"Null value not supported for topic configs: {name}")
        if not _fits(SETTINGS[name], value):
            raise Refusal(Code.INVALID_CONFIG, f"Invalid value {value} for configuration {name}")
    return {name: value for name, value in settings.items() if value is not None}


def _fits(setting: Setting, value: str) -> bool:
    if setting.kind in (Kind.INT, Kind.LONG):
        bits = 31 if setting.kind == Kind.INT else 63
        return re.fullmatch(r"\s*[+-]?\d{1,19}\s*", value) is not None and setting.least <= int(value) < 2**bits
    if setting.kind == Kind.DOUBLE:
        return re.fullmatch(r"0(\.\d{1,9})?|1(\.0{1,9})?", value) is not None
    if setting.kind == Kind.BOOLEAN:
        return value in {"true", "false"}
    if setting.kind == Kind.LIST and setting.allowed:
        return all(word.strip() in setting.allowed for word in value.split(",")) if value else False
    return not setting.allowed or value in setting.allowed
