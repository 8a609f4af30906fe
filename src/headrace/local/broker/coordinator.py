"""The groups of the broker: their state machines, the clock they run on, and who waits for an answer."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.group import Group, State
from headrace.local.broker.members import Join, Joined, Sync, Synced
from headrace.local.broker.offsets import Committed, Offsets, Partition

_LONGEST_NOTE = 4_096
_MOST_GROUPS = 10_000


class Coordinator:
    """All groups of one broker.

    Attributes:
        offsets: what they have committed.
    """

    def __init__(self, offsets: Offsets) -> None:
        self.offsets = offsets
        self._groups: dict[str, Group] = {name: Group(name) for name in offsets.groups()}
        self._tickets = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

    def group(self, name: str) -> Group | None:
        """The group with that name; None when there is none."""
        return self._groups.get(name)

    async def join(self, name: str, asked: Join) -> Joined:
        """A member joins; returns when the group begins its next generation."""
        if not name:
            return Joined(Code.INVALID_GROUP_ID, asked.member_id)
        if name not in self._groups and asked.member_id:
            return Joined(Code.UNKNOWN_MEMBER_ID, asked.member_id)
        try:
            group = self._made(name)
        except Refusal as refusal:
            return Joined(refusal.code, asked.member_id)
        joined: Joined = await self._answer(group, lambda ticket: group.join(asked, ticket, _now_ms()))
        return joined

    async def sync(self, name: str, asked: Sync) -> Synced:
        """A member asks for its part; returns when the leader has brought it."""
        group = self._groups.get(name)
        if group is None:
            return Synced(Code.UNKNOWN_MEMBER_ID)
        synced: Synced = await self._answer(group, lambda ticket: group.sync(asked, ticket, _now_ms()))
        return synced

    def heartbeat(self, name: str, member_id: str, instance_id: str | None, generation: int) -> Code:
        """A member lives."""
        group = self._groups.get(name)
        if group is None:
            return Code.UNKNOWN_MEMBER_ID
        code = group.heartbeat(member_id, instance_id, generation, _now_ms())
        self._settle(group)
        return code

    def leave(self, name: str, member_id: str, instance_id: str | None) -> Code:
        """A member goes."""
        group = self._groups.get(name)
        if group is None:
            return Code.UNKNOWN_MEMBER_ID
        code = group.leave(member_id, instance_id, _now_ms())
        self._settle(group)
        return code

    def may_commit(self, name: str, member_id: str, instance_id: str | None, generation: int) -> Code:
        """Whether a member, or somebody outside the group, may commit offsets now."""
        group = self._groups.get(name)
        if group is None:
            return Code.NONE if generation < 0 else Code.ILLEGAL_GENERATION
        code = group.may_commit(member_id, instance_id, generation, _now_ms())
        self._settle(group)
        return code

    def commit(self, name: str, committed: Mapping[Partition, Committed]) -> None:
        """Writes down what a group commits; ``may_commit`` has allowed it.

        Raises:
            Refusal: the note of one is too long, there are too many groups, or the file cannot be written.
        """
        if any(len(each.note) > _LONGEST_NOTE for each in committed.values()):
            raise Refusal(Code.OFFSET_METADATA_TOO_LARGE)
        self._made(name)
        self.offsets.put(name, committed)

    def delete(self, name: str) -> Code:
        """Forgets a group in which nobody is, with its offsets."""
        group = self._groups.get(name)
        if group is None:
            return Code.GROUP_ID_NOT_FOUND
        if group.state != State.EMPTY:
            return Code.NON_EMPTY_GROUP
        self.offsets.forget(name)
        del self._groups[name]
        if name in self._timers:
            self._timers.pop(name).cancel()
        return Code.NONE

    def _made(self, name: str) -> Group:
        if name not in self._groups:
            if len(self._groups) >= _MOST_GROUPS:
                self._drop_idle()
            if len(self._groups) >= _MOST_GROUPS:
                raise Refusal(Code.GROUP_MAX_SIZE_REACHED)
            self._groups[name] = Group(name)
        return self._groups[name]

    def _drop_idle(self) -> None:
        """Forgets the groups that are only names: nobody is in them, and they have committed nothing."""
        for name, group in list(self._groups.items()):
            if group.idle and not self.offsets.of(name):
                del self._groups[name]

    async def _answer(self, group: Group, ask: Callable[[int], None]) -> Any:
        ticket = next(self._tickets)
        waiting = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            ask(ticket)
            self._settle(group)
            return await waiting
        finally:
            self._waiting.pop(ticket, None)

    def _settle(self, group: Group) -> None:
        """Tells those that wait what there is to tell, and sets the clock for what comes next."""
        for ticket, answer in group.answers.items():
            waiting = self._waiting.get(ticket)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
        group.answers.clear()
        if group.name in self._timers:
            self._timers.pop(group.name).cancel()
        next_ms = group.next_ms()
        if next_ms is not None:
            delay_s = max(0.0, (next_ms - _now_ms()) / 1_000)
            self._timers[group.name] = asyncio.get_running_loop().call_later(delay_s, self._expire, group)

    def _expire(self, group: Group) -> None:
        group.expire(_now_ms())
        self._settle(group)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1_000)
