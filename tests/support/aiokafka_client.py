"""aiokafka as a client of the broker contracts."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from broker_clients import PLAIN, USUAL, WAIT_S, Described, Got, Group, Loop, Reading, Refused, Sending, Sent

SET_ON_TOPIC = 1
"""Where a setting's value comes from, as DescribeConfigs numbers it."""


class AioKafka:
    """See `broker_clients.Client`."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._loop = Loop()
        self._admin: Any = self._run(self._connect())

    def close(self) -> None:
        self._run(self._admin.close())
        self._loop.close()

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        made = NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))
        for told in self._run(self._admin.create_topics([made])).topic_errors:
            self._check(told[1], str(told))
        until_s = time.monotonic() + WAIT_S
        while topic not in self.topics() and time.monotonic() < until_s:
            time.sleep(0.02)

    def delete(self, topic: str) -> None:
        for _, code in self._run(self._admin.delete_topics([topic])).topic_error_codes:
            self._check(code, topic)

    def topics(self) -> set[str]:
        return set(self._run(self._admin.list_topics()))

    def describe(self, topic: str) -> Described:
        (found,) = self._run(self._admin.describe_topics([topic]))
        self._check(found["error_code"], topic)
        return Described(tuple(sorted(part["partition"] for part in found["partitions"])), None)

    def grow(self, topic: str, partitions: int) -> None:
        self._run(self._admin.create_partitions({topic: NewPartitions(partitions)}))

    def configs(self, topic: str) -> dict[str, str]:
        return {told[0]: told[1] for told in self._entries(topic)}

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        # aiokafka knows the older AlterConfigs only: it names every setting, and what is not named is reset
        kept = {told[0]: told[1] for told in self._entries(topic) if told[3] == SET_ON_TOPIC}
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, kept | dict(settings))]
        for response in self._run(self._admin.alter_configs(asked)):
            for code, text, *_ in response.resources:
                self._check(code, text)

    def send(self, topic: str, records: Iterable[Sent], how: Sending = PLAIN) -> list[int]:
        offsets: list[int] = self._run(self._send(topic, records, how), 3 * how.patience_s)
        return offsets

    def read(self, topic: str, count: int, start: int = 0, partition: int = 0, how: Reading = USUAL) -> list[Got]:
        got: list[Got] = self._run(self._read(topic, count, start, partition, how))
        return got

    def ends(self, topic: str, partition: int = 0) -> tuple[int, int]:
        place = TopicPartition(topic, partition)

        async def ask() -> tuple[int, int]:
            async with self._consumer() as consumer:
                return (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]

        found: tuple[int, int] = self._run(ask())
        return found

    def offset_at(self, topic: str, timestamp_ms: int, partition: int = 0) -> int | None:
        place = TopicPartition(topic, partition)

        async def ask() -> int | None:
            async with self._consumer() as consumer:
                found = (await consumer.offsets_for_times({place: timestamp_ms}))[place]
                return None if found is None else found.offset

        found: int | None = self._run(ask())
        return found

    def forget(self, topic: str, before: int, partition: int = 0) -> int:
        place = TopicPartition(topic, partition)
        left: dict[Any, int] = self._run(self._admin.delete_records({place: RecordsToDelete(before)}))
        return left[place]

    def commit(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        async def act() -> None:
            async with self._consumer(group) as consumer:
                places = {TopicPartition(topic, part): to for part, to in offsets.items()}
                consumer.assign(list(places))
                await consumer.commit(places)

        self._run(act())

    def committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
        async def ask() -> dict[int, int | None]:
            async with self._consumer(group) as consumer:
                places = {part: TopicPartition(topic, part) for part in partitions}
                consumer.assign(list(places.values()))
                return {part: await consumer.committed(place) for part, place in places.items()}

        found: dict[int, int | None] = self._run(ask())
        return found

    def groups(self) -> set[str]:
        return {name for name, *_ in self._run(self._admin.list_consumer_groups())}

    def group(self, name: str) -> Group:
        (response,) = self._run(self._admin.describe_consumer_groups([name]))
        ((code, _, state, _, _, members, *_),) = response.groups
        self._check(code, name)
        return Group(state.lower(), len(members))

    def _entries(self, topic: str) -> list[tuple[Any, ...]]:
        """(name, value, read only, where it comes from, ...) of each setting."""
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        (response,) = self._run(self._admin.describe_configs(asked))
        ((code, text, _, _, entries, *_),) = response.resources
        self._check(code, text)
        return list(entries)

    async def _connect(self) -> Any:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        return admin

    async def _send(self, topic: str, records: Iterable[Sent], how: Sending) -> list[int]:
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            compression_type=how.compression,
            max_request_size=how.largest_bytes,
            max_batch_size=1 << 20,
            enable_idempotence=how.idempotent or how.transaction is not None,
            transactional_id=how.transaction,
            request_timeout_ms=int(min(how.answer_s, how.patience_s) * 1000),
            linger_ms=5,
        )
        # a start that fails leaves the producer's connections open
        try:
            await asyncio.wait_for(producer.start(), how.patience_s)
            if how.transaction is not None:
                await producer.begin_transaction()
            futures = [
                await producer.send(
                    topic,
                    value=one.value,
                    key=one.key,
                    partition=one.partition,
                    timestamp_ms=one.timestamp_ms,
                    headers=list(one.headers),
                )
                for one in records
            ]
            offsets = [(await future).offset for future in futures]
            if how.transaction is not None:
                await producer.commit_transaction()
            return offsets
        finally:
            await producer.stop()

    async def _read(self, topic: str, count: int, start: int, partition: int, how: Reading) -> list[Got]:
        got: list[Got] = []
        async with self._consumer(reading=how) as consumer:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek(place, start)
            until_s = time.monotonic() + how.patience_s
            while len(got) < count and time.monotonic() < until_s:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    got += [Got(one.offset, one.value, one.key, one.timestamp, tuple(one.headers)) for one in records]
        return got

    @asynccontextmanager
    async def _consumer(self, group: str | None = None, reading: Reading = USUAL) -> AsyncIterator[Any]:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=reading.partition_bytes,
            fetch_max_bytes=reading.answer_bytes,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    def _run(self, work: "Coroutine[Any, Any, Any]", within_s: float = 2 * WAIT_S) -> Any:
        """What a coroutine gives; aiokafka's errors as `Refused`."""
        try:
            return self._loop.run(work, within_s)
        except KafkaError as error:
            raise Refused(getattr(error, "errno", -1), repr(error)) from error

    def _check(self, code: int, text: str) -> None:
        if code:
            raise Refused(code, text)


def make(bootstrap: str) -> AioKafka:
    """A client of a broker."""
    return AioKafka(bootstrap)
