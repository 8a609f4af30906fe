"""What a consumer group says and is told: the values that go into its state machine and come out of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.local.broker.codes import Code


@dataclass(frozen=True)
class Join:
    """A member asks to join, or to join again.

    Attributes:
        member_id: "" for one that has none yet.
        fresh_id: the id that a member without one gets.
        instance_id: of a static member.
        knows_ids: whether the client's protocol lets it come again with the id it is given (JoinGroup v4).
        skips: whether the client's protocol knows a leader that need not assign (JoinGroup v9).
        protocols: the assignors it knows with what it says to each, the favourite first.
    """

    member_id: str
    fresh_id: str
    protocols: tuple[tuple[str, bytes], ...]
    protocol_type: str = "consumer"
    instance_id: str | None = None
    session_ms: int = 10_000
    rebalance_ms: int = 60_000
    client_id: str = ""
    client_host: str = ""
    knows_ids: bool = True
    skips: bool = False


@dataclass(frozen=True)
class Joined:
    """The answer to a join.

    Attributes:
        members: (member id, instance id, what it said to the assignor) of all; only the leader is told.
        skip_assignment: the leader keeps the assignment that there is.
    """

    code: Code
    member_id: str
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    skip_assignment: bool = False


@dataclass(frozen=True)
class Sync:
    """A member asks for its part; the leader brings everybody's."""

    member_id: str
    generation: int
    assignments: Mapping[str, bytes] = field(default_factory=dict)
    instance_id: str | None = None
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class Synced:
    """The answer to a sync."""

    code: Code
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass
class Member:
    """A member as its group knows it.

    Attributes:
        joining: the ticket of its join that waits for an answer.
        syncing: the ticket of its sync that waits for one.
        silent_from_ms: when it counts as gone, should it say nothing until then.
    """

    asked: Join
    id: str
    silent_from_ms: int
    joining: int | None = None
    syncing: int | None = None
    assignment: bytes = b""

    @property
    def waits(self) -> bool:
        """Whether it waits for an answer: it cannot say anything then."""
        return self.joining is not None or self.syncing is not None

    def heard(self, now_ms: int) -> None:
        """It has said something."""
        self.silent_from_ms = now_ms + self.asked.session_ms

    def said_to(self, protocol: str) -> bytes:
        """What it says to an assignor."""
        return dict(self.asked.protocols).get(protocol, b"")


def favourite(members: Sequence[Member]) -> str:
    """The assignor that all members know and most of them like best; "" when they know none together."""
    common = common_protocols(members)
    votes: dict[str, int] = {}
    for member in members:
        first = next((name for name, _ in member.asked.protocols if name in common), None)
        if first is not None:
            votes[first] = votes.get(first, 0) + 1
    return max(votes, key=lambda name: votes[name], default="")


def common_protocols(members: Sequence[Member]) -> set[str]:
    """The assignors that all members know."""
    known = [{name for name, _ in member.asked.protocols} for member in members]
    return set.intersection(*known) if known else set()
