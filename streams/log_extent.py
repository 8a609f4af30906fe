"""What a topic holds now: for each partition the first offset and the one behind the last."""

from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import NoError, UnknownMemberIdError
from kafka.structs import OffsetAndMetadata

from headrace.streams.kafka_access import clients
from headrace.streams.topics import BOOTSTRAP_MS, admin_of


def log_extent(bootstrap: str, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """(first offset, offset behind the last) of each partition.

    Args:
        bootstrap: brokers, HOST:PORT separated by commas.
        topic: its name; it must be there.
        partitions: how many it has.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    consumer = _asker(bootstrap)
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        return {place.partition: (begins[place], ends[place]) for place in places}
    finally:
        consumer.close()


def committed_offsets(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """How far a consumer group has committed; partitions of which it has not are left out.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    consumer = _asker(bootstrap, group)
    try:
        found = {partition: consumer.committed(TopicPartition(topic, partition)) for partition in range(partitions)}
        return {partition: offset for partition, offset in found.items() if offset is not None}
    finally:
        consumer.close(autocommit=False)


def seed_offsets(bootstrap: str, group: str, topic: str, positions: Mapping[int, int]) -> None:
    """Commits where a new group begins, so that no client chooses for itself; a group that is alive is left alone.

    Raises:
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    there = committed_offsets(bootstrap, group, topic, max(positions, default=-1) + 1)
    missing = {
        TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
        for partition, offset in positions.items()
        if partition not in there
    }
    if not missing:
        return
    with admin_of(bootstrap) as admin:
        for place, error in admin.alter_group_offsets(group, missing).items():
            if error is not NoError and not issubclass(error, UnknownMemberIdError):
                raise error(f"{place}: the first offset of group {group} cannot be written")


def _asker(bootstrap: str, group: str | None = None) -> KafkaConsumer:
    """A consumer that only asks for offsets; the caller closes it."""
    return KafkaConsumer(
        **clients(bootstrap),
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        client_id="headrace-extent",
        group_id=group,
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
