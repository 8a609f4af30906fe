"""The broker, its topics and their settings: Metadata, CreateTopics, DescribeConfigs and what belongs to them."""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka.protocol.admin import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from kafka.protocol.metadata import MetadataRequest, MetadataResponse

from headrace.local.broker.api import Api, Asked
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.topics import (
    SETTINGS,
    Topic,
    checked_name,
    checked_partitions,
    checked_replication,
    checked_settings,
)

NODE_ID = 1


@dataclass(frozen=True)
class Address:
    """Where the broker listens."""

    host: str
    port: int


class TopicRequests:
    """Answers what is asked about the broker and its topics."""

    def __init__(self, catalogue: Catalogue, address: Address, deleting: Callable[[str], None]) -> None:
        """Prepares the answers.

        Args:
            catalogue: the topics.
            address: what clients are told to connect to.
            deleting: is called with the name of a topic before it is deleted; may refuse it.
        """
        self._catalogue = catalogue
        self._address = address
        self._deleting = deleting
        self.apis = (
            Api(MetadataRequest, (0, 13), self._metadata),
            Api(DescribeTopicPartitionsRequest, (0, 0), self._partitions),
            Api(DescribeClusterRequest, (0, 2), self._cluster),
            Api(CreateTopicsRequest, (2, 7), self._create),
            Api(DeleteTopicsRequest, (1, 6), self._delete),
            Api(CreatePartitionsRequest, (0, 3), self._add_partitions),
        )

    async def _metadata(self, asked: Asked) -> Any:
        wanted = asked.body.topics
        everything = wanted is None or (asked.version == 0 and not wanted)
        if everything:
            topics = [_described(topic) for topic in self._catalogue]
        else:
            topics = [self._found(one) for one in wanted]
        broker = MetadataResponse.MetadataResponseBroker(
            node_id=NODE_ID, host=self._address.host, port=self._address.port, rack=None
        )
        return MetadataResponse(
            version=asked.version,
            brokers=[broker],
            cluster_id=self._catalogue.cluster_id,
            controller_id=NODE_ID,
            topics=topics,
        )

    def _found(self, wanted: Any) -> Any:
        try:
            if wanted.name is None:
                return _described(self._catalogue.topic_with_id(wanted.topic_id))
            return _described(self._catalogue.topic(checked_name(wanted.name)))
        except Refusal as refusal:
            return MetadataResponse.MetadataResponseTopic(
                error_code=refusal.code, name=wanted.name, topic_id=wanted.topic_id, partitions=[]
            )

    async def _partitions(self, asked: Asked) -> Any:
        """Describes topics in the order of their names, a page at a time."""
        response = DescribeTopicPartitionsResponse
        cursor, rest = asked.body.cursor, max(1, min(asked.body.response_partition_limit, 2_000))
        names = {one.name for one in asked.body.topics} or {topic.name for topic in self._catalogue}
        topics, behind = [], None
        for name in sorted(names):
            if cursor is not None and name < cursor.topic_name:
                continue
            begin = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
            if rest <= 0:
                behind = response.Cursor(topic_name=name, partition_index=begin)
                break
            try:
                topic = self._catalogue.topic(checked_name(name))
            except Refusal as refusal:
                described = response.DescribeTopicPartitionsResponseTopic
                topics.append(described(error_code=refusal.code, name=name, topic_id=None, partitions=[]))
                continue
            end = min(topic.partitions, begin + rest)
            topics.append(_described_part(topic, range(begin, end)))
            rest -= end - begin
            if end < topic.partitions:
                behind = response.Cursor(topic_name=name, partition_index=end)
                break
        return response(version=asked.version, topics=topics, next_cursor=behind)

    async def _cluster(self, asked: Asked) -> Any:
        broker = DescribeClusterResponse.DescribeClusterBroker(
            broker_id=NODE_ID, host=self._address.host, port=self._address.port, rack=None, is_fenced=False
        )
        return DescribeClusterResponse(
            version=asked.version,
            cluster_id=self._catalogue.cluster_id,
            controller_id=NODE_ID,
            brokers=[broker],
        )

    async def _create(self, asked: Asked) -> Any:
        times = Counter(one.name for one in asked.body.topics)
        topics = []
        for one in asked.body.topics:
            try:
                if times[one.name] > 1:
                    raise Refusal(Code.INVALID_REQUEST, "Duplicate topic name.")
                topic = self._made(one)
                if not asked.body.validate_only:
                    self._catalogue.put(topic)
                topics.append(_created(topic, asked.body.validate_only))
            except Refusal as refusal:
                topics.append(
                    CreateTopicsResponse.CreatableTopicResult(
                        name=one.name, topic_id=None, error_code=refusal.code, error_message=refusal.reason, configs=[]
                    )
                )
        return CreateTopicsResponse(version=asked.version, topics=topics)

    def _made(self, one: Any) -> Topic:
        name = checked_name(one.name)
        if any(topic.name == name for topic in self._catalogue):
            raise Refusal(Code.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if one.assignments:
            numbers = sorted(each.partition_index for each in one.assignments)
            placed = all(list(each.broker_ids) == [NODE_ID] for each in one.assignments)
            if numbers != list(range(len(numbers))) or not placed:
                raise Refusal(Code.INVALID_REPLICA_ASSIGNMENT, f"there is one broker, {NODE_ID}")
            partitions = checked_partitions(len(numbers))
        else:
            partitions = checked_partitions(one.num_partitions)
            checked_replication(one.replication_factor)
        settings = checked_settings({each.name: each.value for each in one.configs})
        return Topic(name, uuid.uuid4(), partitions, settings)

    async def _delete(self, asked: Asked) -> Any:
        wanted = [(one.name, one.topic_id) for one in asked.body.topics or ()]
        wanted += [(name, None) for name in asked.body.topic_names or ()]
        topics = []
        for name, topic_id in wanted:
            answer: dict[str, Any] = {"name": name, "topic_id": topic_id, "error_code": Code.NONE}
            try:
                topic = self._catalogue.topic(name) if name is not None else self._catalogue.topic_with_id(topic_id)
                self._deleting(topic.name)  # first: a topic of that name must not be made again with old offsets
                self._catalogue.delete(topic)
                answer |= {"name": topic.name, "topic_id": topic.id}
            except Refusal as refusal:
                answer |= {"error_code": refusal.code, "error_message": refusal.reason}
            topics.append(DeleteTopicsResponse.DeletableTopicResult(**answer))
        return DeleteTopicsResponse(version=asked.version, responses=topics)

    async def _add_partitions(self, asked: Asked) -> Any:
        results = []
        for one in asked.body.topics:
            code, reason = Code.NONE, None
            try:
                topic = self._catalogue.topic(one.name).with_partitions(one.count)
                if not asked.body.validate_only:
                    self._catalogue.put(topic)
            except Refusal as refusal:
                code, reason = refusal.code, refusal.reason
            results.append(
                CreatePartitionsResponse.CreatePartitionsTopicResult(
                    name=one.name, error_code=code, error_message=reason
                )
            )
        return CreatePartitionsResponse(version=asked.version, results=results)


def _described(topic: Topic) -> Any:
    answer = MetadataResponse.MetadataResponseTopic
    partitions = [
        answer.MetadataResponsePartition(error_code=Code.NONE, partition_index=number, **_ALONE)
        for number in range(topic.partitions)
    ]
    return answer(error_code=Code.NONE, name=topic.name, topic_id=topic.id, is_internal=False, partitions=partitions)


def _described_part(topic: Topic, numbers: range) -> Any:
    answer = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
    partitions = [
        answer.DescribeTopicPartitionsResponsePartition(
            error_code=Code.NONE, partition_index=number, eligible_leader_replicas=[], last_known_elr=[], **_ALONE
        )
        for number in numbers
    ]
    return answer(error_code=Code.NONE, name=topic.name, topic_id=topic.id, is_internal=False, partitions=partitions)


_ALONE: Mapping[str, Any] = {
    "leader_id": NODE_ID,
    "leader_epoch": 0,
    "replica_nodes": [NODE_ID],
    "isr_nodes": [NODE_ID],
    "offline_replicas": [],
}


def _created(topic: Topic, only_checked: bool) -> Any:
    answer = CreateTopicsResponse.CreatableTopicResult
    configs = [
        answer.CreatableTopicConfigs(
            name=name,
            value=topic.setting(name),
            read_only=False,
            config_source=1 if name in topic.settings else 5,
            is_sensitive=False,
        )
        for name in SETTINGS
    ]
    return answer(
        name=topic.name,
        topic_id=None if only_checked else topic.id,
        error_code=Code.NONE,
        error_message=None,
        num_partitions=topic.partitions,
        replication_factor=1,
        configs=configs,
    )
