"""Committed offsets: OffsetCommit, OffsetFetch and OffsetDelete."""

from collections.abc import Mapping
from typing import Any

from kafka.protocol.consumer import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetFetchRequest,
    OffsetFetchResponse,
)

from headrace.local.broker.api import Api, Asked
from headrace.local.broker.catalogue import Catalogue
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.coordinator import Coordinator
from headrace.local.broker.group import State
from headrace.local.broker.offsets import Committed, Partition

_NOTHING = Committed(-1)


class OffsetRequests:
    """Answers what is asked about committed offsets."""

    def __init__(self, coordinator: Coordinator, catalogue: Catalogue) -> None:
        self._coordinator = coordinator
        self._catalogue = catalogue
        self.apis = (
            Api(OffsetCommitRequest, (2, 9), self._commit),
            Api(OffsetFetchRequest, (1, 9), self._fetch),
            Api(OffsetDeleteRequest, (0, 0), self._delete),
        )

    async def _commit(self, asked: Asked) -> Any:
        body = asked.body
        answer = OffsetCommitResponse.OffsetCommitResponseTopic
        refused = self._coordinator.may_commit(
            body.group_id, body.member_id, body.group_instance_id, body.generation_id_or_member_epoch
        )
        if refused == Code.ILLEGAL_GENERATION and asked.version >= 9 and self._coordinator.group(body.group_id) is None:
            refused = Code.GROUP_ID_NOT_FOUND  # what newer versions say of a group that nobody has joined
        topics = []
        for data in body.topics:
            parts = []
            for part in data.partitions:
                code = refused
                if code == Code.NONE:
                    code = self._commit_one(body.group_id, data.name, part)
                parts.append(
                    answer.OffsetCommitResponsePartition(partition_index=part.partition_index, error_code=code)
                )
            topics.append(answer(name=data.name, partitions=parts))
        return OffsetCommitResponse(version=asked.version, topics=topics)

    def _commit_one(self, group: str, topic: str, part: Any) -> Code:
        try:
            self._catalogue.log(self._catalogue.topic(topic), part.partition_index)
            committed = Committed(part.committed_offset, part.committed_leader_epoch, part.committed_metadata or "")
            self._coordinator.commit(group, {(topic, part.partition_index): committed})
        except Refusal as refusal:
            return refusal.code
        return Code.NONE

    async def _fetch(self, asked: Asked) -> Any:
        response = OffsetFetchResponse
        if asked.version < 8:
            answer = response.OffsetFetchResponseTopic
            found = self._found(asked.body.group_id, asked.body.topics)
            topics = [answer(name=name, partitions=_parts(answer, parts)) for name, parts in found.items()]
            return response(version=asked.version, topics=topics, error_code=Code.NONE)
        groups = []
        answer = response.OffsetFetchResponseGroup
        for one in asked.body.groups:
            found = self._found(one.group_id, one.topics)
            inner = answer.OffsetFetchResponseTopics
            topics = [inner(name=name, partitions=_parts(inner, parts)) for name, parts in found.items()]
            groups.append(answer(group_id=one.group_id, topics=topics, error_code=Code.NONE))
        return response(version=asked.version, groups=groups)

    def _found(self, group: str, topics: Any) -> Mapping[str, Mapping[int, Committed]]:
        """What the group has committed, by topic and partition; for all it has where no topics are named."""
        had = self._coordinator.offsets.of(group)
        found: dict[str, dict[int, Committed]] = {}
        if topics is None:
            for (name, partition), committed in had.items():
                found.setdefault(name, {})[partition] = committed
            return found
        for one in topics:
            numbers = one.partition_indexes
            found[one.name] = {number: had.get((one.name, number), _NOTHING) for number in numbers}
        return found

    async def _delete(self, asked: Asked) -> Any:
        name = asked.body.group_id
        group = self._coordinator.group(name)
        if group is None:
            return OffsetDeleteResponse(version=asked.version, error_code=Code.GROUP_ID_NOT_FOUND, topics=[])
        # Kafka looks into what each member has subscribed to; here nobody's offsets are taken from under him.
        code = Code.NONE if group.state == State.EMPTY else Code.GROUP_SUBSCRIBED_TO_TOPIC
        answer = OffsetDeleteResponse.OffsetDeleteResponseTopic
        topics, gone = [], dict[Partition, None]()
        for data in asked.body.topics:
            numbers = [part.partition_index for part in data.partitions]
            gone |= {(data.name, number): None for number in numbers}
            parts = [answer.OffsetDeleteResponsePartition(partition_index=n, error_code=code) for n in numbers]
            topics.append(answer(name=data.name, partitions=parts))
        if code == Code.NONE:
            self._coordinator.offsets.put(name, gone)
        return OffsetDeleteResponse(version=asked.version, error_code=Code.NONE, topics=topics)


def _parts(answer: Any, parts: Mapping[int, Committed]) -> list[Any]:
    made = getattr(answer, "OffsetFetchResponsePartitions", None) or answer.OffsetFetchResponsePartition
    return [
        made(
            partition_index=number,
            committed_offset=committed.offset,
            committed_leader_epoch=committed.leader_epoch,
            metadata=committed.note,
            error_code=Code.NONE,
        )
        for number, committed in parts.items()
    ]
