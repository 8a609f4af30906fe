"""A consumer group: who is in it, who has which part, and who has gone silent.

A state machine that is given the time. What it answers at once comes back as a value; a join or a sync that has to
wait is answered later under its ticket. Pure.
"""

from collections.abc import Mapping
from enum import Enum

from headrace.local.broker.codes import Code
from headrace.local.broker.members import Join, Joined, Member, Sync, Synced, common_protocols, favourite

SHORTEST_SESSION_MS, LONGEST_SESSION_MS = 1_000, 1_800_000
_MOST_MEMBERS = 1_000


class State(Enum):
    """Where a group stands, in Kafka's words."""

    EMPTY = "Empty"
    JOINING = "PreparingRebalance"
    SYNCING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    """One consumer group.

    Attributes:
        generation: grows with every rebalance.
        protocol_type: "consumer" for consumers; "" before anybody joined.
        protocol: the assignor in use.
        leader: the id of the member that assigns.
        members: by their id.
        answers: what can be told to those that wait, by ticket; whoever sends them empties it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol = ""
        self.leader = ""
        self.members: dict[str, Member] = {}
        self.answers: dict[int, Joined | Synced] = {}
        self._given_ids: dict[str, int] = {}  # ids given to members that shall come again with them: until when
        self._round_ends_ms = 0  # until when members may join or sync in this rebalance

    @property
    def idle(self) -> bool:
        """Whether nobody is in it, or about to be."""
        return self.state == State.EMPTY and not self.members and not self._given_ids

    def join(self, asked: Join, ticket: int, now_ms: int) -> None:
        """A member joins; the answer comes under its ticket when all have joined, or at once."""
        refused = self._refused(asked)
        if refused is not None:
            self.answers[ticket] = Joined(refused, asked.member_id)
        elif asked.member_id:
            self._join_known(asked, ticket, now_ms)
        elif asked.instance_id is not None and (had := self._instance(asked.instance_id)) is not None:
            self._replace(had, asked, ticket, now_ms)
        elif asked.instance_id is None and asked.knows_ids:
            self._given_ids[asked.fresh_id] = now_ms + asked.session_ms
            self.answers[ticket] = Joined(Code.MEMBER_ID_REQUIRED, asked.fresh_id)
        else:
            self._add(asked, asked.fresh_id, ticket, now_ms)

    def sync(self, asked: Sync, ticket: int, now_ms: int) -> None:
        """A member asks for its part; the answer comes under its ticket when the leader has brought the parts."""
        code = self.checked(asked.member_id, asked.instance_id, asked.generation)
        if code == Code.NONE and (
            asked.protocol_type not in (None, self.protocol_type) or asked.protocol not in (None, self.protocol)
        ):
            code = Code.INCONSISTENT_GROUP_PROTOCOL
        if code == Code.NONE and self.state == State.JOINING:
            code = Code.REBALANCE_IN_PROGRESS
        if code != Code.NONE:
            self.answers[ticket] = Synced(code)
            return
        member = self.members[asked.member_id]
        member.heard(now_ms)
        if self.state == State.STABLE:
            self._answer_sync(member, ticket)
            return
        member.syncing = ticket
        if member.id == self.leader:
            self._assign(asked.assignments, now_ms)

    def heartbeat(self, member_id: str, instance_id: str | None, generation: int, now_ms: int) -> Code:
        """A member says that it lives, and learns whether it has to join again."""
        code = self.checked(member_id, instance_id, generation)
        if code == Code.NONE:
            self.members[member_id].heard(now_ms)
            if self.state == State.JOINING:
                return Code.REBALANCE_IN_PROGRESS
        return code

    def leave(self, member_id: str, instance_id: str | None, now_ms: int) -> Code:
        """A member goes; a static one may say its instance instead of its id."""
        if self._given_ids.pop(member_id, None) is not None:
            self._proceed(now_ms)
            return Code.NONE
        if instance_id is not None and not member_id:
            had = self._instance(instance_id)
            member_id = had.id if had is not None else ""
        code = self._known(member_id, instance_id)
        if code == Code.NONE:
            self._remove(member_id)
            self._rebalance(now_ms)
        return code

    def may_commit(self, member_id: str, instance_id: str | None, generation: int, now_ms: int) -> Code:
        """Whether offsets may be committed: by a member of this generation, or from outside while nobody is in it."""
        if generation < 0 and self.state == State.EMPTY:
            return Code.NONE
        code = self.checked(member_id, instance_id, generation)
        if code == Code.NONE:
            self.members[member_id].heard(now_ms)
            if self.state == State.SYNCING:
                return Code.REBALANCE_IN_PROGRESS
        return code

    def expire(self, now_ms: int) -> None:
        """Members that are silent for too long are gone, and a rebalance does not wait for ever."""
        self._given_ids = {name: end for name, end in self._given_ids.items() if end > now_ms}
        waiting = self.state in (State.JOINING, State.SYNCING)
        gone = [member.id for member in self.members.values() if not member.waits and member.silent_from_ms <= now_ms]
        if waiting and self._round_ends_ms <= now_ms:
            self._given_ids.clear()
            gone += [each.id for each in self.members.values() if self._holds_up(each) and each.id not in gone]
        for member_id in gone:
            self._remove(member_id)
        if gone and self.state != State.JOINING:
            self._rebalance(now_ms)
        elif self.state == State.JOINING:
            self._proceed(now_ms)

    def next_ms(self) -> int | None:
        """When ``expire`` has something to do, should nothing else happen; None while nothing is waited for."""
        ends = [member.silent_from_ms for member in self.members.values() if not member.waits]
        ends += self._given_ids.values()
        if self.state in (State.JOINING, State.SYNCING):
            ends.append(self._round_ends_ms)
        return min(ends, default=None)

    def checked(self, member_id: str, instance_id: str | None, generation: int) -> Code:
        """Whether this is a member of this generation."""
        code = self._known(member_id, instance_id)
        return Code.ILLEGAL_GENERATION if code == Code.NONE and generation != self.generation else code

    def _known(self, member_id: str, instance_id: str | None) -> Code:
        if instance_id is not None:
            had = self._instance(instance_id)
            if had is not None and had.id != member_id:
                return Code.FENCED_INSTANCE_ID
        return Code.NONE if member_id in self.members else Code.UNKNOWN_MEMBER_ID

    def _instance(self, instance_id: str) -> Member | None:
        return next((each for each in self.members.values() if each.asked.instance_id == instance_id), None)

    def _refused(self, asked: Join) -> Code | None:
        if not SHORTEST_SESSION_MS <= asked.session_ms <= LONGEST_SESSION_MS:
            return Code.INVALID_SESSION_TIMEOUT
        others = [each for each in self.members.values() if each.id != asked.member_id]
        names = {name for name, _ in asked.protocols}
        if not asked.protocol_type or not names:
            return Code.INCONSISTENT_GROUP_PROTOCOL
        if others and (asked.protocol_type != self.protocol_type or not names & common_protocols(others)):
            return Code.INCONSISTENT_GROUP_PROTOCOL
        if asked.member_id and asked.member_id not in self._given_ids:
            code = self._known(asked.member_id, asked.instance_id)
            return None if code == Code.NONE else code
        return Code.GROUP_MAX_SIZE_REACHED if len(self.members) + len(self._given_ids) > _MOST_MEMBERS else None

    def _join_known(self, asked: Join, ticket: int, now_ms: int) -> None:
        if self._given_ids.pop(asked.member_id, None) is not None:
            self._add(asked, asked.member_id, ticket, now_ms)
            return
        member = self.members[asked.member_id]
        same = member.asked.protocols == asked.protocols
        member.asked = asked
        if same and (self.state == State.SYNCING or (self.state == State.STABLE and member.id != self.leader)):
            member.heard(now_ms)  # its answer was lost
            self._answer_join(member, ticket)
            return
        self._wait(member, ticket)
        self._rebalance(now_ms)

    def _add(self, asked: Join, member_id: str, ticket: int, now_ms: int) -> None:
        self.protocol_type = asked.protocol_type
        member = self.members[member_id] = Member(asked, member_id, now_ms + asked.session_ms)
        self._wait(member, ticket)
        self._rebalance(now_ms)

    def _replace(self, had: Member, asked: Join, ticket: int, now_ms: int) -> None:
        """A static member is back with a new id; without a rebalance when it says what it said before."""
        self._fence(had)
        del self.members[had.id]
        was_leader, old_id = had.id == self.leader, had.id
        same = had.asked.protocols == asked.protocols
        had.asked, had.id = asked, asked.fresh_id
        had.heard(now_ms)
        self.members[had.id] = had
        if was_leader:
            self.leader = had.id
        if same and self.state == State.STABLE:
            self._answer_join(had, ticket, skip=asked.skips, leader=None if asked.skips or not was_leader else old_id)
            return
        self._wait(had, ticket)
        self._rebalance(now_ms)

    def _fence(self, member: Member) -> None:
        if member.joining is not None:
            self.answers[member.joining] = Joined(Code.FENCED_INSTANCE_ID, member.id)
        if member.syncing is not None:
            self.answers[member.syncing] = Synced(Code.FENCED_INSTANCE_ID)
        member.joining = member.syncing = None

    def _wait(self, member: Member, ticket: int) -> None:
        if member.joining is not None:
            self.answers[member.joining] = Joined(Code.REBALANCE_IN_PROGRESS, member.id)
        member.joining = ticket

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id)
        if member.joining is not None:
            self.answers[member.joining] = Joined(Code.UNKNOWN_MEMBER_ID, member_id)
        if member.syncing is not None:
            self.answers[member.syncing] = Synced(Code.UNKNOWN_MEMBER_ID)

    def _rebalance(self, now_ms: int) -> None:
        """Everybody is to join again."""
        if self.state != State.JOINING:
            for member in self.members.values():
                if member.syncing is not None:
                    self.answers[member.syncing] = Synced(Code.REBALANCE_IN_PROGRESS)
                    member.syncing = None
                    member.heard(now_ms)
            self.state = State.JOINING
            self._round_ends_ms = now_ms + self._patience_ms()
        self._proceed(now_ms)

    def _patience_ms(self) -> int:
        return max((member.asked.rebalance_ms for member in self.members.values()), default=0)

    def _holds_up(self, member: Member) -> bool:
        return (member.joining if self.state == State.JOINING else member.syncing) is None

    def _proceed(self, now_ms: int) -> None:
        """Begins the new generation once everybody has joined."""
        if self.state != State.JOINING or (self._given_ids and self.members):
            return
        if any(member.joining is None for member in self.members.values()):
            return
        self.generation += 1
        if not self.members:
            self.state, self.protocol, self.leader = State.EMPTY, "", ""
            return
        self.state = State.SYNCING
        self.protocol = favourite(list(self.members.values()))
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        self._round_ends_ms = now_ms + self._patience_ms()
        for member in self.members.values():
            ticket, member.joining, member.assignment = member.joining, None, b""
            member.heard(now_ms)
            if ticket is not None:
                self._answer_join(member, ticket)

    def _assign(self, assignments: Mapping[str, bytes], now_ms: int) -> None:
        self.state = State.STABLE
        for member in self.members.values():
            member.assignment = assignments.get(member.id, b"")
            ticket, member.syncing = member.syncing, None
            if ticket is not None:
                member.heard(now_ms)
                self._answer_sync(member, ticket)

    def _answer_join(self, member: Member, ticket: int, skip: bool = False, leader: str | None = None) -> None:
        told: tuple[tuple[str, str | None, bytes], ...] = ()
        if member.id == self.leader and leader is None:
            told = tuple((m.id, m.asked.instance_id, m.said_to(self.protocol)) for m in self.members.values())
        self.answers[ticket] = Joined(
            Code.NONE,
            member.id,
            self.generation,
            self.protocol_type,
            self.protocol,
            leader or self.leader,
            told,
            skip and member.id == self.leader,
        )

    def _answer_sync(self, member: Member, ticket: int) -> None:
        self.answers[ticket] = Synced(Code.NONE, member.assignment, self.protocol_type, self.protocol)
