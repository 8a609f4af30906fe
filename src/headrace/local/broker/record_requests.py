"""Records in and out: Produce, Fetch, ListOffsets, DeleteRecords and what belongs to them."""

import asyncio
import logging
import time
from typing import Any

from kafka.protocol.admin import DeleteRecordsRequest, DeleteRecordsResponse
from kafka.protocol.consumer import (
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from kafka.protocol.producer import InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse

from headrace.local.broker import batches
from headrace.local.broker.api import Api, Asked
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.partition_log import PartitionLog
from headrace.local.broker.topics import Topic

log = logging.getLogger(__name__)

_LATEST, _EARLIEST, _NEWEST, _EARLIEST_LOCAL = -1, -2, -3, -4
_MOST_FETCHED_BYTES = 57_671_680  # Kafka's fetch.max.bytes
_MOST_PRODUCED_BYTES = 104_857_600  # Kafka's socket.request.max.bytes
_LONGEST_WAIT_MS = 60_000  # it is not seen before that a client hung up while it waited
_BY_ID_PRODUCE, _BY_ID_FETCH = 13, 13  # from these versions on topics are named by their id
_EPOCH = 0  # of every partition's leader: there is one broker, and it stays the leader


class RecordRequests:
    """Answers what is asked about records."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.apis = (
            # 0 to 2 are refused; librdkafka wants to see them named.
            Api(ProduceRequest, (0, 13), self._produce, _MOST_PRODUCED_BYTES),
            Api(FetchRequest, (4, 17), self._fetch),
            Api(ListOffsetsRequest, (1, 10), self._list_offsets),
            Api(OffsetForLeaderEpochRequest, (2, 4), self._epoch_ends),
            Api(DeleteRecordsRequest, (0, 2), self._delete_records),
            Api(InitProducerIdRequest, (0, 5), self._init_producer_id),
        )

    async def _produce(self, asked: Asked) -> Any:
        response = ProduceResponse.TopicProduceResponse
        topics, failed = [], False
        for data in asked.body.topic_data:
            parts = []
            for part in data.partition_data:
                parts.append(self._append(asked, data, part))
                failed |= parts[-1].error_code != Code.NONE
            topics.append(response(name=data.name, topic_id=data.topic_id, partition_responses=parts))
        if asked.body.acks == 0:
            if failed:
                raise ConnectionAbortedError("records sent with acks=0 were refused")  # as Kafka tells it
            return None
        return ProduceResponse(version=asked.version, responses=topics)

    def _append(self, asked: Asked, data: Any, part: Any) -> Any:
        response = ProduceResponse.TopicProduceResponse.PartitionProduceResponse
        try:
            if asked.body.acks not in (-1, 0, 1):
                raise Refusal(Code.INVALID_REQUIRED_ACKS, "acks is one of -1, 0 and 1")
            if asked.version < 3:
                raise Refusal(Code.UNSUPPORTED_VERSION, "this broker takes Produce from version 3 on")
            topic = self._topic(data.name, data.topic_id, asked.version >= _BY_ID_PRODUCE)
            target = self._catalogue.log(topic, part.index)
            now_ms = int(time.time() * 1_000)
            batch = batches.produced(part.records)
            self._check_limits(topic, batch, now_ms)
            stamp_ms = now_ms if topic.setting("message.timestamp.type") == "LogAppendTime" else None
            base_offset = target.append(part.records, batch, stamp_ms)
            return response(
                index=part.index,
                error_code=Code.NONE,
                base_offset=base_offset,
                log_append_time_ms=-1 if stamp_ms is None else stamp_ms,
                log_start_offset=target.start_offset,
            )
        except Refusal as refusal:
            return response(
                index=part.index, error_code=refusal.code, base_offset=-1, error_message=refusal.reason or None
            )

    def _check_limits(self, topic: Topic, batch: batches.Batch, now_ms: int) -> None:
        most_bytes = int(topic.setting("max.message.bytes"))
        if batch.size_bytes > most_bytes:
            raise Refusal(
                Code.MESSAGE_TOO_LARGE, f"The record batch size of {batch.size_bytes} is more than {most_bytes} bytes"
            )
        if topic.setting("message.timestamp.type") == "CreateTime":
            ahead_ms = int(topic.setting("message.timestamp.after.max.ms"))
            if batch.last_timestamp_ms - now_ms > ahead_ms:
                raise Refusal(Code.INVALID_TIMESTAMP, f"a record's timestamp is more than {ahead_ms} ms ahead")

    async def _fetch(self, asked: Asked) -> Any:
        body = asked.body
        if body.session_id:
            return FetchResponse(version=asked.version, error_code=Code.FETCH_SESSION_ID_NOT_FOUND, responses=[])
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + max(0, min(body.max_wait_ms, _LONGEST_WAIT_MS)) / 1_000
        news = asyncio.Event()
        watched: set[PartitionLog] = set()
        try:
            while True:
                news.clear()
                ready, logs = self._ready(asked)
                if ready or loop.time() >= deadline_s:
                    break
                for each in logs - watched:
                    each.listeners.add(news.set)
                watched |= logs
                try:
                    await asyncio.wait_for(news.wait(), deadline_s - loop.time())
                except TimeoutError:
                    break
        finally:
            for each in watched:
                each.listeners.discard(news.set)
        return self._fetched(asked)

    def _ready(self, asked: Asked) -> tuple[bool, set[PartitionLog]]:
        """Whether there is enough to answer with, else whose news to wait for."""
        found_bytes, logs = 0, set()
        for topic_asked in asked.body.topics:
            for part in topic_asked.partitions:
                try:
                    target = self._target(asked, topic_asked, part)
                    found_bytes += min(target.bytes_from(part.fetch_offset), part.partition_max_bytes)
                except Refusal:
                    return True, set()
                logs.add(target)
        return found_bytes >= asked.body.min_bytes, logs

    def _target(self, asked: Asked, topic_asked: Any, part: Any) -> PartitionLog:
        topic = self._topic(topic_asked.topic, topic_asked.topic_id, asked.version >= _BY_ID_FETCH)
        target = self._catalogue.log(topic, part.partition)
        if part.current_leader_epoch > _EPOCH:
            raise Refusal(Code.UNKNOWN_LEADER_EPOCH)
        return target

    def _fetched(self, asked: Asked) -> Any:
        rest_bytes = min(max(0, asked.body.max_bytes), _MOST_FETCHED_BYTES)
        topics, empty = [], True
        for topic_asked in asked.body.topics:
            parts = []
            for part in topic_asked.partitions:
                most_bytes = max(0, min(rest_bytes, part.partition_max_bytes))
                parts.append(self._records(asked, topic_asked, part, most_bytes, empty))
                rest_bytes -= len(parts[-1].records)
                empty = empty and not parts[-1].records
            topics.append(
                FetchResponse.FetchableTopicResponse(
                    topic=topic_asked.topic, topic_id=topic_asked.topic_id, partitions=parts
                )
            )
        return FetchResponse(version=asked.version, responses=topics)

    def _records(self, asked: Asked, topic_asked: Any, part: Any, most_bytes: int, at_least_one: bool) -> Any:
        response = FetchResponse.FetchableTopicResponse.PartitionData
        aborted: list[Any] | None = [] if asked.body.isolation_level else None
        try:
            target = self._target(asked, topic_asked, part)
            records = target.read(part.fetch_offset, most_bytes, at_least_one)
        except Refusal as refusal:
            return response(
                partition_index=part.partition,
                error_code=refusal.code,
                high_watermark=-1,
                records=b"",
                aborted_transactions=aborted,
            )
        return response(
            partition_index=part.partition,
            error_code=Code.NONE,
            high_watermark=target.next_offset,
            last_stable_offset=target.next_offset,
            log_start_offset=target.start_offset,
            records=records,
            aborted_transactions=aborted,
        )

    async def _list_offsets(self, asked: Asked) -> Any:
        answer = ListOffsetsResponse.ListOffsetsTopicResponse
        part_answer = answer.ListOffsetsPartitionResponse
        topics = []
        for data in asked.body.topics:
            parts = []
            for part in data.partitions:
                try:
                    target = self._catalogue.log(self._catalogue.topic(data.name), part.partition_index)
                    offset, at_ms, epoch = _offset_at(target, part.timestamp)
                    facts = {"error_code": Code.NONE, "offset": offset, "timestamp": at_ms, "leader_epoch": epoch}
                except Refusal as refusal:
                    facts = {"error_code": refusal.code, "offset": -1, "timestamp": -1}
                parts.append(part_answer(partition_index=part.partition_index, **facts))
            topics.append(answer(name=data.name, partitions=parts))
        return ListOffsetsResponse(version=asked.version, topics=topics)

    async def _epoch_ends(self, asked: Asked) -> Any:
        answer = OffsetForLeaderEpochResponse.OffsetForLeaderTopicResult
        topics = []
        for data in asked.body.topics:
            parts = []
            for part in data.partitions:
                facts = {"error_code": Code.NONE, "leader_epoch": -1, "end_offset": -1}
                try:
                    target = self._catalogue.log(self._catalogue.topic(data.topic), part.partition)
                    if part.leader_epoch == _EPOCH:
                        facts |= {"leader_epoch": _EPOCH, "end_offset": target.next_offset}
                except Refusal as refusal:
                    facts["error_code"] = refusal.code
                parts.append(answer.EpochEndOffset(partition=part.partition, **facts))
            topics.append(answer(topic=data.topic, partitions=parts))
        return OffsetForLeaderEpochResponse(version=asked.version, topics=topics)

    async def _delete_records(self, asked: Asked) -> Any:
        answer = DeleteRecordsResponse.DeleteRecordsTopicResult
        topics = []
        for data in asked.body.topics:
            parts = []
            for part in data.partitions:
                code, low = Code.NONE, -1
                try:
                    target = self._catalogue.log(self._catalogue.topic(data.name), part.partition_index)
                    low = target.delete_before(part.offset)
                except Refusal as refusal:
                    code = refusal.code
                parts.append(
                    answer.DeleteRecordsPartitionResult(
                        partition_index=part.partition_index, low_watermark=low, error_code=code
                    )
                )
            topics.append(answer(name=data.name, partitions=parts))
        return DeleteRecordsResponse(version=asked.version, topics=topics)

    async def _init_producer_id(self, asked: Asked) -> Any:
        if asked.body.transactional_id is not None:
            # The one code that no client tries again.
            log.warning("refused a transactional producer: this broker has no transactions, use Apache Kafka")
            code = Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            return InitProducerIdResponse(version=asked.version, error_code=code, producer_id=-1, producer_epoch=-1)
        code, given, epoch = Code.NONE, -1, -1
        try:
            given, epoch = self._catalogue.producer_id(), 0
        except Refusal as refusal:
            code = refusal.code
        return InitProducerIdResponse(version=asked.version, error_code=code, producer_id=given, producer_epoch=epoch)

    def _topic(self, name: str, topic_id: Any, by_id: bool) -> Topic:
        return self._catalogue.topic_with_id(topic_id) if by_id else self._catalogue.topic(name)


def _offset_at(target: PartitionLog, timestamp: int) -> tuple[int, int, int]:
    """(offset, timestamp, leader epoch) for what a client asks with a timestamp."""
    if timestamp == _LATEST:
        return target.next_offset, -1, _EPOCH
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return target.start_offset, -1, _EPOCH
    if timestamp < _EARLIEST_LOCAL:
        return -1, -1, -1  # there is no tiered storage
    found = target.newest() if timestamp == _NEWEST else target.first_since(timestamp)
    return (-1, -1, -1) if found is None else (*found, _EPOCH)
