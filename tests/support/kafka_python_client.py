"""kafka-python as a client of the broker contracts."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, for_code
from kafka.protocol.consumer import OffsetSpec, OffsetTimestamp
from kafka.structs import OffsetAndMetadata

from broker_clients import PLAIN, USUAL, Described, Got, Group, Reading, Refused, Sending, Sent


@contextmanager
def refusals() -> Iterator[None]:
    """kafka-python's errors as `Refused`."""
    try:
        yield
    except KafkaError as error:
        raise Refused(getattr(error, "errno", -1), repr(error)) from error


class KafkaPython:
    """See `broker_clients.GroupAdmin`."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin: Any = KafkaAdminClient(bootstrap_servers=bootstrap)

    def close(self) -> None:
        self._admin.close()

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        made = {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": dict(configs or {})}}
        with refusals():
            self._admin.create_topics(made)
            self._admin.wait_for_topics([topic])

    def delete(self, topic: str) -> None:
        with refusals():
            self._admin.delete_topics([topic])

    def topics(self) -> set[str]:
        return set(self._admin.list_topics())

    def describe(self, topic: str) -> Described:
        with refusals():
            (found,) = self._admin.describe_topics([topic])
            if found["error_code"]:
                raise for_code(found["error_code"])(topic)
        parts = tuple(sorted(part["partition_index"] for part in found["partitions"]))
        return Described(parts, str(found["topic_id"]).replace("-", ""))

    def grow(self, topic: str, partitions: int) -> None:
        with refusals():
            self._admin.create_partitions({topic: partitions})

    def configs(self, topic: str) -> dict[str, str]:
        with refusals():
            asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
            found = self._admin.describe_configs(asked, config_filter="all")["topic"][topic]
        return {name: told["value"] for name, told in found.items()}

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        with refusals():
            asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))]
            said = self._admin.alter_configs(asked, raise_on_unknown=False)["topic"][topic]
        if said != "OK":
            raise Refused(int(said.split("]")[0].removeprefix("[Error ")), said)

    def send(self, topic: str, records: Iterable[Sent], how: Sending = PLAIN) -> list[int]:
        settings: dict[str, Any] = {"enable_idempotence": how.idempotent}
        if how.transaction is not None:
            settings = {"transactional_id": how.transaction}
        patience_ms = int(how.patience_s * 1000)
        with refusals():
            producer: Any = KafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks="all",
                compression_type=how.compression,
                max_request_size=how.largest_bytes,
                delivery_timeout_ms=patience_ms,
                max_block_ms=patience_ms,
                linger_ms=5,
                request_timeout_ms=min(int(how.answer_s * 1000), patience_ms - 100),
                **settings,
            )
            with closing(producer):
                if how.transaction is not None:
                    producer.init_transactions()
                    producer.begin_transaction()
                futures = [
                    producer.send(
                        topic,
                        value=one.value,
                        key=one.key,
                        partition=one.partition,
                        timestamp_ms=one.timestamp_ms,
                        headers=list(one.headers),
                    )
                    for one in records
                ]
                offsets = [future.get(timeout=2 * how.patience_s).offset for future in futures]
                if how.transaction is not None:
                    producer.commit_transaction()
                return offsets

    def read(self, topic: str, count: int, start: int = 0, partition: int = 0, how: Reading = USUAL) -> list[Got]:
        got: list[Got] = []
        consumer: Any = KafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=how.partition_bytes,
            fetch_max_bytes=how.answer_bytes,
        )
        with refusals(), closing(consumer):
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek(place, start)
            until_s = time.monotonic() + how.patience_s
            while len(got) < count and time.monotonic() < until_s:
                for records in consumer.poll(timeout_ms=500).values():
                    got += [
                        Got(one.offset, one.value, one.key, one.timestamp, tuple(map(tuple, one.headers)))
                        for one in records
                    ]
        return got

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        place = TopicPartition(topic, partition)
        with refusals():
            first = self._admin.list_partition_offsets({place: OffsetSpec.EARLIEST})[place].offset
            return first, self._admin.list_partition_offsets({place: OffsetSpec.LATEST})[place].offset

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        place = TopicPartition(topic, partition)
        with refusals():
            found = self._admin.list_partition_offsets({place: OffsetTimestamp(timestamp_ms)})[place]
        return None if found is None or found.offset < 0 else int(found.offset)

    def forget(self, topic: str, before: int, partition: int = 0) -> int:
        place = TopicPartition(topic, partition)
        with refusals():
            return int(self._admin.delete_records({place: before})[place]["low_watermark"])

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        with self._member(group) as consumer:
            consumer.assign([TopicPartition(topic, part) for part in offsets])
            consumer.commit(
                {TopicPartition(topic, part): OffsetAndMetadata(to, "", -1) for part, to in offsets.items()}
            )

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
        with self._member(group) as consumer:
            return {part: consumer.committed(TopicPartition(topic, part)) for part in partitions}

    def groups(self) -> set[str]:
        with refusals():
            return {told["group_id"] for told in self._admin.list_groups()}

    def group(self, name: str) -> Group:
        with refusals():
            told = self._admin.describe_groups([name])[name]
        return Group(told["group_state"].lower(), len(told["members"]))

    def delete_group(self, name: str) -> None:
        said = self._admin.delete_groups([name])[name]
        if said != "OK":
            kind: Any = getattr(__import__("kafka.errors").errors, said)
            raise Refused(kind.errno, said)

    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        asked = {TopicPartition(topic, part): OffsetAndMetadata(to, "", -1) for part, to in offsets.items()}
        with refusals():
            for kind in self._admin.alter_group_offsets(group, asked).values():
                if kind.errno:
                    raise kind(group)

    @contextmanager
    def _member(self, group: str) -> Iterator[Any]:
        consumer: Any = KafkaConsumer(bootstrap_servers=self._bootstrap, group_id=group, enable_auto_commit=False)
        with refusals(), closing(consumer):
            yield consumer


def make(bootstrap: str) -> KafkaPython:
    """A client of a broker."""
    return KafkaPython(bootstrap)
