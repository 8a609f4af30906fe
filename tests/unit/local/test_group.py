"""A consumer group by the clock that the test gives it: joins, parts, silence, static members, commits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.local.broker.codes import Code
from headrace.local.broker.group import Group, State
from headrace.local.broker.members import Join, Joined, Sync, Synced

RANGE = (("range", b"topics"),)
SESSION_MS, REBALANCE_MS = 6_000, 60_000


def joins(name: str, member_id: str = "", **facts: object) -> Join:
    asked = Join(
        member_id=member_id,
        fresh_id=f"{name}-1",
        protocols=RANGE,
        session_ms=SESSION_MS,
        rebalance_ms=REBALANCE_MS,
        client_id=name,
        knows_ids=False,
    )
    return replace(asked, **facts)  # type: ignore[arg-type]


class Clients:
    """A group and those that talk to it; tickets are their names."""

    def __init__(self) -> None:
        self.group = Group("g")
        self.now_ms = 0
        self._tickets: dict[str, int] = {}
        self._next = 0

    def join(self, asked: Join) -> None:
        self._ask(asked.client_id, lambda ticket: self.group.join(asked, ticket, self.now_ms))

    def sync(self, name: str, **parts: bytes) -> None:
        given = {f"{other}-1": part for other, part in parts.items()}
        asked = Sync(f"{name}-1", self.group.generation, given)
        self._ask(name, lambda ticket: self.group.sync(asked, ticket, self.now_ms))

    def joined(self, name: str) -> Joined | None:
        answer = self.group.answers.pop(self._tickets[name], None)
        assert answer is None or isinstance(answer, Joined)
        return answer

    def synced(self, name: str) -> Synced | None:
        answer = self.group.answers.pop(self._tickets[name], None)
        assert answer is None or isinstance(answer, Synced)
        return answer

    def beat(self, name: str) -> Code:
        return self.group.heartbeat(f"{name}-1", None, self.group.generation, self.now_ms)

    def later(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.group.expire(self.now_ms)

    def _ask(self, name: str, ask: Callable[[int], None]) -> None:
        self._next += 1
        self._tickets[name] = self._next
        ask(self._next)


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture
def pair(clients: Clients) -> Clients:
    """Two members with their parts."""
    clients.join(joins("a"))
    assert clients.joined("a")
    clients.join(joins("b"))
    clients.join(joins("a", "a-1"))
    first, second = clients.joined("a"), clients.joined("b")
    assert first is not None and second is not None
    assert (first.generation, second.generation) == (2, 2)
    clients.sync("b")
    clients.sync("a", a=b"0", b=b"1")
    assert (clients.synced("a"), clients.synced("b")) == (
        Synced(Code.NONE, b"0", "consumer", "range"),
        Synced(Code.NONE, b"1", "consumer", "range"),
    )
    return clients


def test_the_first_member_leads_and_knows_all(clients: Clients) -> None:
    clients.join(joins("a"))
    told = clients.joined("a")
    assert told is not None
    assert (told.code, told.leader, told.generation) == (Code.NONE, "a-1", 1)
    assert told.members == (("a-1", None, b"topics"),)
    assert clients.group.state == State.SYNCING


def test_a_newcomer_waits_until_those_that_are_in_it_come_again(clients: Clients) -> None:
    clients.join(joins("a"))
    clients.sync("a", a=b"all")
    clients.join(joins("b"))
    assert clients.joined("b") is None
    assert clients.beat("a") == Code.REBALANCE_IN_PROGRESS
    clients.join(joins("a", "a-1"))
    told = clients.joined("b")
    assert told is not None
    assert (told.leader, told.generation, told.members) == ("a-1", 2, ())


def test_a_sync_waits_for_the_leaders(pair: Clients) -> None:
    pair.join(joins("b", "b-1", protocols=(("range", b"other topics"),)))
    pair.join(joins("a", "a-1"))
    pair.sync("b")
    assert pair.synced("b") is None
    pair.sync("a", b=b"new")
    answer = pair.synced("b")
    assert answer is not None and answer.assignment == b"new"


def test_who_does_not_know_its_id_is_given_one_and_held_a_place(clients: Clients) -> None:
    clients.join(joins("a", knows_ids=True))
    assert clients.joined("a") == Joined(Code.MEMBER_ID_REQUIRED, "a-1")
    assert clients.group.state == State.EMPTY
    clients.join(joins("a", "a-1", knows_ids=True))
    told = clients.joined("a")
    assert told is not None and told.code == Code.NONE


def test_a_silent_member_is_gone_after_its_session_and_the_others_are_told(pair: Clients) -> None:
    pair.later(SESSION_MS - 1)
    assert set(pair.group.members) == {"a-1", "b-1"}
    assert pair.beat("b") == Code.NONE
    pair.later(1)
    assert set(pair.group.members) == {"b-1"}
    assert pair.beat("b") == Code.REBALANCE_IN_PROGRESS
    pair.join(joins("b", "b-1"))
    told = pair.joined("b")
    assert told is not None
    assert (told.leader, told.generation) == ("b-1", 3)


def test_the_clock_is_set_for_the_first_silence(pair: Clients) -> None:
    pair.now_ms = 1_000
    pair.beat("a")
    assert pair.group.next_ms() == SESSION_MS
    pair.beat("b")
    assert pair.group.next_ms() == SESSION_MS + 1_000


def test_a_rebalance_does_not_wait_for_ever_for_one_that_only_beats(pair: Clients) -> None:
    pair.join(joins("c"))
    pair.join(joins("a", "a-1"))
    for _ in range(0, REBALANCE_MS, 3_000):
        pair.later(3_000)
        pair.beat("b")
    assert set(pair.group.members) == {"a-1", "c-1"}
    assert pair.group.state == State.SYNCING


def test_a_leader_that_never_brings_the_parts_is_gone(clients: Clients) -> None:
    clients.join(joins("a"))
    clients.join(joins("b"))
    clients.join(joins("a", "a-1"))
    clients.sync("b")
    clients.later(SESSION_MS)
    answer = clients.synced("b")
    assert answer is not None and answer.code == Code.REBALANCE_IN_PROGRESS
    assert set(clients.group.members) == {"b-1"}


def test_who_leaves_is_gone_at_once_and_the_last_leaves_it_empty(pair: Clients) -> None:
    assert pair.group.leave("a-1", None, 0) == Code.NONE
    assert pair.beat("b") == Code.REBALANCE_IN_PROGRESS
    assert pair.group.leave("b-1", None, 0) == Code.NONE
    assert (pair.group.state, pair.group.next_ms()) == (State.EMPTY, None)
    assert pair.group.leave("b-1", None, 0) == Code.UNKNOWN_MEMBER_ID


def test_strangers_and_the_past_are_refused(pair: Clients) -> None:
    assert pair.group.heartbeat("x-1", None, 2, 0) == Code.UNKNOWN_MEMBER_ID
    assert pair.group.heartbeat("a-1", None, 1, 0) == Code.ILLEGAL_GENERATION
    pair.join(joins("x", "x-1"))
    assert pair.joined("x") == Joined(Code.UNKNOWN_MEMBER_ID, "x-1")
    pair.join(joins("x", protocols=(("sticky", b""),)))
    assert pair.joined("x") == Joined(Code.INCONSISTENT_GROUP_PROTOCOL, "")
    pair.join(joins("x", session_ms=1))
    assert pair.joined("x") == Joined(Code.INVALID_SESSION_TIMEOUT, "")
    assert set(pair.group.members) == {"a-1", "b-1"}


def test_the_assignor_is_the_one_that_all_know_and_most_prefer(clients: Clients) -> None:
    orders = {"a": "xyz", "b": "zxy", "c": "zx"}
    for name, order in orders.items():
        clients.join(joins(name, protocols=tuple((each, b"") for each in order)))
    for name in "ab":
        clients.join(joins(name, f"{name}-1", protocols=tuple((each, b"") for each in orders[name])))
    told = clients.joined("c")
    assert told is not None and told.protocol == "z"


def test_a_lost_answer_is_given_again_without_a_rebalance(pair: Clients) -> None:
    pair.join(joins("b", "b-1"))
    told = pair.joined("b")
    assert told is not None
    assert (told.generation, pair.group.state) == (2, State.STABLE)


def test_commits_from_outside_are_for_empty_groups(pair: Clients) -> None:
    def may(member_id: str, generation: int) -> Code:
        return pair.group.may_commit(member_id, None, generation, 0)

    assert may("", -1) == Code.UNKNOWN_MEMBER_ID
    assert may("a-1", 2) == Code.NONE
    assert may("a-1", 1) == Code.ILLEGAL_GENERATION
    pair.join(joins("c"))
    assert may("a-1", 2) == Code.NONE, "before it joins again a member commits what it has"
    pair.join(joins("a", "a-1"))
    pair.join(joins("b", "b-1"))
    assert may("a-1", 3) == Code.REBALANCE_IN_PROGRESS
    for name in "abc":
        pair.group.leave(f"{name}-1", None, 0)
    assert may("", -1) == Code.NONE


def test_a_static_member_comes_back_to_its_part_without_a_rebalance(clients: Clients) -> None:
    clients.join(joins("a", instance_id="i"))
    clients.sync("a", a=b"part")
    clients.join(joins("b", instance_id="i"))
    told = clients.joined("b")
    assert told is not None
    assert (told.code, told.generation, clients.group.state) == (Code.NONE, 1, State.STABLE)
    assert told.leader == "a-1", "an old client that led must not assign again"
    clients.sync("b")
    answer = clients.synced("b")
    assert answer is not None and answer.assignment == b"part"
    assert clients.group.heartbeat("a-1", "i", 1, 0) == Code.FENCED_INSTANCE_ID
    assert clients.group.leave("", "i", 0) == Code.NONE
    assert clients.group.state == State.EMPTY


STEPS = st.one_of(
    st.tuples(st.sampled_from(["join", "rejoin", "sync", "beat", "leave"]), st.sampled_from("abc")),
    st.tuples(st.just("later"), st.integers(1, 8_000)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_comes_everybody_who_waits_is_answered_in_the_end(
    steps: list[tuple[str, str] | tuple[str, int]],
) -> None:
    group, now_ms, waiting, generations = Group("g"), 0, set[int](), [0]
    for number, (what, who) in enumerate(steps):
        if what == "later":
            now_ms += int(who)
            group.expire(now_ms)
        elif what == "join":
            group.join(replace(joins(str(who)), fresh_id=f"{who}-{number}"), number, now_ms)
            waiting.add(number)
        else:
            member = next((each for each in group.members if each.startswith(str(who))), "")
            if what == "rejoin":
                group.join(joins(str(who), member or "nobody"), number, now_ms)
                waiting.add(number)
            elif what == "sync":
                group.sync(Sync(member, group.generation, dict.fromkeys(group.members, b"p")), number, now_ms)
                waiting.add(number)
            elif what == "beat":
                group.heartbeat(member, None, group.generation, now_ms)
            else:
                group.leave(member, None, now_ms)
        waiting -= group.answers.keys()
        group.answers.clear()
        generations.append(group.generation)
        assert len({each.id for each in group.members.values()}) == len(group.members)
        assert group.state == State.EMPTY or group.members
        assert group.state == State.EMPTY or group.leader in group.members or group.state == State.JOINING
    assert generations == sorted(generations)
    for _ in range(20):  # nobody says anything any more
        next_ms = group.next_ms()
        if next_ms is None:
            break
        now_ms = max(now_ms, next_ms)
        group.expire(now_ms)
        waiting -= group.answers.keys()
        group.answers.clear()
    assert (group.state, group.members, waiting) == (State.EMPTY, {}, set())
