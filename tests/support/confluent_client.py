"""confluent-kafka (librdkafka) as a client of the broker contracts."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any

import confluent_kafka as ck

from broker_clients import PLAIN, USUAL, WAIT_S, Described, Got, Group, Reading, Refused, Sending, Sent

ck_admin: Any = import_module("confluent_kafka.admin")


def refused(error: Any) -> Refused:
    """librdkafka's error as `Refused`."""
    return Refused(error.code(), error.str())


@contextmanager
def refusals() -> Iterator[None]:
    """confluent-kafka's exceptions as `Refused`."""
    try:
        yield
    except ck.KafkaException as error:
        raise refused(error.args[0]) from error


def identity(topic_id: Any) -> str:
    """A topic's id as 32 hexadecimal digits."""
    halves = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return "".join(f"{half % (1 << 64):016x}" for half in halves)


def done(futures: Mapping[Any, Any]) -> Any:
    """What the only future of a map gives."""
    (future,) = futures.values()
    with refusals():
        return future.result(WAIT_S)


class Confluent:
    """See `broker_clients.GroupAdmin`."""

    def __init__(self, bootstrap: str) -> None:
        self._base: dict[str, Any] = {"bootstrap.servers": bootstrap, "log_level": 0}
        self._admin: Any = ck_admin.AdminClient(self._base)

    def close(self) -> None:
        del self._admin

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        done(self._admin.create_topics([ck_admin.NewTopic(topic, partitions, 1, config=dict(configs or {}))]))
        until_s = time.monotonic() + WAIT_S
        while topic not in self.topics() and time.monotonic() < until_s:
            time.sleep(0.02)

    def delete(self, topic: str) -> None:
        done(self._admin.delete_topics([topic]))

    def topics(self) -> set[str]:
        with refusals():
            return set(self._admin.list_topics(timeout=WAIT_S).topics)

    def describe(self, topic: str) -> Described:
        told = done(self._admin.describe_topics(ck.TopicCollection([topic])))
        parts = tuple(sorted(part.id for part in told.partitions))
        return Described(parts, identity(told.topic_id))

    def grow(self, topic: str, partitions: int) -> None:
        done(self._admin.create_partitions([ck_admin.NewPartitions(topic, partitions)]))

    def configs(self, topic: str) -> dict[str, str]:
        asked = ck_admin.ConfigResource(ck_admin.ConfigResource.Type.TOPIC, topic)
        return {name: told.value for name, told in done(self._admin.describe_configs([asked])).items()}

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        wished = [
            ck_admin.ConfigEntry(name, value, incremental_operation=ck_admin.AlterConfigOpType.SET)
            for name, value in settings.items()
        ]
        asked = ck_admin.ConfigResource(ck_admin.ConfigResource.Type.TOPIC, topic, incremental_configs=wished)
        done(self._admin.incremental_alter_configs([asked]))

    def send(self, topic: str, records: Iterable[Sent], how: Sending = PLAIN) -> list[int]:
        settings: dict[str, Any] = {
            "acks": "all",
            "compression.type": how.compression or "none",
            "enable.idempotence": how.idempotent or how.transaction is not None,
            "message.max.bytes": how.largest_bytes,
            "message.timeout.ms": int(how.patience_s * 1000),
            "request.timeout.ms": int(how.answer_s * 1000),
            "socket.timeout.ms": int(how.answer_s * 1000) + 500,
            "linger.ms": 5,
        }
        if how.transaction is not None:
            settings |= {"transactional.id": how.transaction}
        offsets: list[int] = []
        errors: list[Any] = []
        with refusals():
            producer: Any = ck.Producer(self._base | settings)
            if how.transaction is not None:
                producer.init_transactions(how.patience_s)
                producer.begin_transaction()
            for place, one in enumerate(records):
                offsets.append(-1)
                producer.produce(
                    topic,
                    value=one.value,
                    key=one.key,
                    partition=one.partition,
                    timestamp=one.timestamp_ms or 0,
                    headers=list(one.headers),
                    on_delivery=self._put(offsets, errors, place),
                )
                producer.poll(0)
            producer.flush(2 * how.patience_s)
            if how.transaction is not None:
                producer.commit_transaction(how.patience_s)
        if errors:
            raise refused(errors[0])
        if -1 in offsets:
            raise Refused(-1, "no word of some records")
        return offsets

    def read(self, topic: str, count: int, start: int = 0, partition: int = 0, how: Reading = USUAL) -> list[Got]:
        settings = {
            "fetch.message.max.bytes": how.partition_bytes,
            "fetch.max.bytes": how.answer_bytes,
            "message.max.bytes": min(how.answer_bytes, 1_000_000),
            "auto.offset.reset": "error",
        }
        got: list[Got] = []
        with self._consumer("reader", settings) as consumer:
            consumer.assign([ck.TopicPartition(topic, partition, start)])
            until_s = time.monotonic() + how.patience_s
            while len(got) < count and time.monotonic() < until_s:
                for one in consumer.consume(1000, timeout=0.2):
                    if one.error():
                        raise refused(one.error())
                    headers = tuple(one.headers() or ())
                    got.append(Got(one.offset(), one.value(), one.key(), one.timestamp()[1], headers))
        return got

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        with self._consumer("reader") as consumer:
            found: tuple[int, int] = consumer.get_watermark_offsets(ck.TopicPartition(topic, partition), WAIT_S)
        return found

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        asked = {ck.TopicPartition(topic, partition): ck_admin.OffsetSpec.for_timestamp(timestamp_ms)}
        offset = done(self._admin.list_offsets(asked)).offset
        return None if offset < 0 else int(offset)

    def forget(self, topic: str, before: int, partition: int = 0) -> int:
        told = done(self._admin.delete_records([ck.TopicPartition(topic, partition, before)]))
        return int(told.low_watermark)

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        with self._consumer(group) as consumer:
            places = [ck.TopicPartition(topic, part, to) for part, to in offsets.items()]
            for told in consumer.commit(offsets=places, asynchronous=False):
                if told.error is not None:
                    raise refused(told.error)

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
        with self._consumer(group) as consumer:
            found = consumer.committed([ck.TopicPartition(topic, part) for part in partitions], WAIT_S)
        return {told.partition: None if told.offset < 0 else told.offset for told in found}

    def groups(self) -> set[str]:
        with refusals():
            return {told.group_id for told in self._admin.list_consumer_groups().result(WAIT_S).valid}

    def group(self, name: str) -> Group:
        told = done(self._admin.describe_consumer_groups([name]))
        return Group(told.state.name.lower(), len(told.members))

    def delete_group(self, name: str) -> None:
        done(self._admin.delete_consumer_groups([name]))

    def set_offsets(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        places = [ck.TopicPartition(topic, part, to) for part, to in offsets.items()]
        told = done(self._admin.alter_consumer_group_offsets([ck.ConsumerGroupTopicPartitions(group, places)]))
        for place in told.topic_partitions:
            if place.error is not None:
                raise refused(place.error)

    @contextmanager
    def _consumer(self, group: str, settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
        told = self._base | {"group.id": group, "enable.auto.commit": False} | dict(settings or {})
        consumer: Any = ck.Consumer(told)
        with refusals(), closing(consumer):
            yield consumer

    @staticmethod
    def _put(offsets: list[int], errors: list[Any], place: int) -> Callable[[Any, Any], None]:
        """Notes where a record went, or why it went nowhere."""

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                offsets[place] = message.offset()
            else:
                errors.append(error)

        return delivered


def make(bootstrap: str) -> Confluent:
    """A client of a broker."""
    return Confluent(bootstrap)
