"""Consumer groups and their offsets: JoinGroup, OffsetCommit, DescribeGroups and what belongs to them."""

import uuid
from typing import Any

from kafka.protocol.admin import (
    DeleteGroupsRequest,
    DeleteGroupsResponse,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
    ListGroupsRequest,
    ListGroupsResponse,
)
from kafka.protocol.consumer import (
    HeartbeatRequest,
    HeartbeatResponse,
    JoinGroupRequest,
    JoinGroupResponse,
    LeaveGroupRequest,
    LeaveGroupResponse,
    SyncGroupRequest,
    SyncGroupResponse,
)
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest, FindCoordinatorResponse

from headrace.local.broker.api import Api, Asked
from headrace.local.broker.codes import Code
from headrace.local.broker.coordinator import Coordinator
from headrace.local.broker.group import Group, State
from headrace.local.broker.members import Join, Sync
from headrace.local.broker.topic_requests import NODE_ID, Address


class GroupRequests:
    """Answers members of groups, and those who look at groups."""

    def __init__(self, coordinator: Coordinator, address: Address) -> None:
        self._coordinator = coordinator
        self._address = address
        self.apis = (
            Api(FindCoordinatorRequest, (0, 6), self._find),
            Api(JoinGroupRequest, (0, 9), self._join),
            Api(SyncGroupRequest, (0, 5), self._sync),
            Api(HeartbeatRequest, (0, 4), self._heartbeat),
            Api(LeaveGroupRequest, (0, 5), self._leave),
            Api(DescribeGroupsRequest, (0, 6), self._describe),
            Api(ListGroupsRequest, (0, 5), self._list),
            Api(DeleteGroupsRequest, (0, 2), self._delete),
        )

    async def _find(self, asked: Asked) -> Any:
        here: dict[str, Any] = {"node_id": NODE_ID, "host": self._address.host, "port": self._address.port}
        here |= {"error_code": Code.NONE, "error_message": None}
        if asked.body.key_type not in (CoordinatorType.GROUP, CoordinatorType.TRANSACTION):
            here |= {"node_id": -1, "host": "", "port": -1, "error_code": Code.INVALID_REQUEST}
        if asked.version < 4:
            return FindCoordinatorResponse(version=asked.version, **here)
        found = [FindCoordinatorResponse.Coordinator(key=key, **here) for key in asked.body.coordinator_keys]
        return FindCoordinatorResponse(version=asked.version, coordinators=found)

    async def _join(self, asked: Asked) -> Any:
        body = asked.body
        joined = await self._coordinator.join(
            body.group_id,
            Join(
                member_id=body.member_id,
                fresh_id=f"{body.group_instance_id or asked.client_id}-{uuid.uuid4()}",
                protocols=tuple((one.name, one.metadata) for one in body.protocols),
                protocol_type=body.protocol_type,
                instance_id=body.group_instance_id,
                session_ms=body.session_timeout_ms,
                rebalance_ms=body.rebalance_timeout_ms if asked.version >= 1 else body.session_timeout_ms,
                client_id=asked.client_id,
                client_host=asked.host,
                knows_ids=asked.version >= 4,
                skips=asked.version >= 9,
            ),
        )
        return JoinGroupResponse(
            version=asked.version,
            error_code=joined.code,
            generation_id=joined.generation,
            protocol_type=joined.protocol_type,
            protocol_name=joined.protocol if joined.protocol is not None or asked.version >= 7 else "",
            leader=joined.leader,
            skip_assignment=joined.skip_assignment,
            member_id=joined.member_id,
            members=[
                JoinGroupResponse.JoinGroupResponseMember(member_id=name, group_instance_id=instance, metadata=said)
                for name, instance, said in joined.members
            ],
        )

    async def _sync(self, asked: Asked) -> Any:
        body = asked.body
        synced = await self._coordinator.sync(
            body.group_id,
            Sync(
                member_id=body.member_id,
                generation=body.generation_id,
                assignments={one.member_id: one.assignment for one in body.assignments},
                instance_id=body.group_instance_id,
                protocol_type=body.protocol_type,
                protocol=body.protocol_name,
            ),
        )
        return SyncGroupResponse(
            version=asked.version,
            error_code=synced.code,
            protocol_type=synced.protocol_type,
            protocol_name=synced.protocol,
            assignment=synced.assignment,
        )

    async def _heartbeat(self, asked: Asked) -> Any:
        body = asked.body
        code = self._coordinator.heartbeat(body.group_id, body.member_id, body.group_instance_id, body.generation_id)
        return HeartbeatResponse(version=asked.version, error_code=code)

    async def _leave(self, asked: Asked) -> Any:
        body = asked.body
        if asked.version < 3:
            code = self._coordinator.leave(body.group_id, body.member_id, None)
            return LeaveGroupResponse(version=asked.version, error_code=code)
        members = [
            LeaveGroupResponse.MemberResponse(
                member_id=one.member_id,
                group_instance_id=one.group_instance_id,
                error_code=self._coordinator.leave(body.group_id, one.member_id, one.group_instance_id),
            )
            for one in body.members
        ]
        return LeaveGroupResponse(version=asked.version, error_code=Code.NONE, members=members)

    async def _describe(self, asked: Asked) -> Any:
        answer = DescribeGroupsResponse.DescribedGroup
        groups = []
        for name in asked.body.groups:
            group = self._coordinator.group(name)
            if group is not None:
                groups.append(_described(group))
                continue
            missing = {"error_code": Code.GROUP_ID_NOT_FOUND, "error_message": f"Group {name} not found."}
            groups.append(
                answer(
                    **(missing if asked.version >= 6 else {"error_code": Code.NONE}),
                    group_id=name,
                    group_state="Dead",
                    protocol_type="",
                    protocol_data="",
                    members=[],
                )
            )
        return DescribeGroupsResponse(version=asked.version, groups=groups)

    async def _list(self, asked: Asked) -> Any:
        states = {state.lower() for state in asked.body.states_filter or ()}
        types = {one.lower() for one in asked.body.types_filter or ()}
        groups = [
            ListGroupsResponse.ListedGroup(
                group_id=group.name,
                protocol_type=group.protocol_type,
                group_state=group.state.value,
                group_type="classic",
            )
            for group in self._coordinator
            if (not states or group.state.value.lower() in states) and (not types or "classic" in types)
        ]
        return ListGroupsResponse(version=asked.version, error_code=Code.NONE, groups=groups)

    async def _delete(self, asked: Asked) -> Any:
        results = [
            DeleteGroupsResponse.DeletableGroupResult(group_id=name, error_code=self._coordinator.delete(name))
            for name in asked.body.groups_names
        ]
        return DeleteGroupsResponse(version=asked.version, results=results)


def _described(group: Group) -> Any:
    answer = DescribeGroupsResponse.DescribedGroup
    members = [
        answer.DescribedGroupMember(
            member_id=member.id,
            group_instance_id=member.asked.instance_id,
            client_id=member.asked.client_id,
            client_host=f"/{member.asked.client_host}",
            member_metadata=member.said_to(group.protocol) if group.state == State.STABLE else b"",
            member_assignment=member.assignment,
        )
        for member in group.members.values()
    ]
    return answer(
        error_code=Code.NONE,
        group_id=group.name,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol if group.state == State.STABLE else "",
        members=members,
    )
