"""Groups on the event loop's clock: who waits is answered, the silent are gone, and there are only so many."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.local.broker import coordinator as module
from headrace.local.broker.codes import Code, Refusal
from headrace.local.broker.coordinator import Coordinator
from headrace.local.broker.group import State
from headrace.local.broker.members import Join, Sync
from headrace.local.broker.offsets import Committed, Offsets


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Coordinator]:
    offsets = Offsets(tmp_path / "offsets")
    yield Coordinator(offsets)
    offsets.close()


def joins(name: str, member_id: str = "") -> Join:
    return Join(member_id, f"{name}-1", (("range", b""),), session_ms=1_000, knows_ids=False)


def test_a_member_that_goes_silent_lets_the_others_go_on(groups: Coordinator) -> None:
    async def story() -> None:
        await groups.join("g", joins("a"))
        await groups.sync("g", Sync("a-1", 1, {"a-1": b"all"}))
        joined = await asyncio.wait_for(groups.join("g", joins("b")), 10)  # a says nothing any more
        assert (joined.code, joined.leader, joined.generation) == (Code.NONE, "b-1", 2)
        assert groups.heartbeat("g", "a-1", None, 1) == Code.UNKNOWN_MEMBER_ID

    asyncio.run(story())


def test_a_client_that_hangs_up_while_it_waits_is_no_trouble(groups: Coordinator) -> None:
    async def story() -> None:
        await groups.join("g", joins("a"))
        waiting = asyncio.create_task(groups.join("g", joins("b")))
        await asyncio.sleep(0)
        waiting.cancel()
        joined = await groups.join("g", joins("a", "a-1"))
        assert {member_id for member_id, _, _ in joined.members} == {"a-1", "b-1"}
        group = groups.group("g")
        assert group is not None
        for _ in range(400):
            await asyncio.sleep(0.05)
            if group.state == State.EMPTY:
                return
        pytest.fail("neither says anything any more, and both are still in it")

    asyncio.run(story())


def test_there_are_only_so_many_groups(groups: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 2)

    async def story() -> None:
        groups.commit("a", {("t", 0): Committed(1)})
        await groups.join("b", joins("x"))
        assert (await groups.join("c", joins("x"))).code == Code.GROUP_MAX_SIZE_REACHED
        with pytest.raises(Refusal):
            groups.commit("c", {("t", 0): Committed(1)})
        groups.commit("a", {("t", 0): Committed(2)})
        assert groups.delete("a") == Code.NONE
        assert groups.delete("b") == Code.NON_EMPTY_GROUP
        groups.commit("c", {("t", 0): Committed(1)})
        assert {group.name for group in groups} == {"b", "c"}

    asyncio.run(story())


def test_groups_that_are_only_names_make_room(groups: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 4)

    async def story() -> None:
        groups.commit("kept", {("t", 0): Committed(1)})
        await groups.join("joined", joins("x"))
        await groups.join("coming", Join("", "x-1", (("range", b""),), session_ms=1_000))
        for number in range(10):
            await groups.join(f"left {number}", joins("x"))
            assert groups.leave(f"left {number}", "x-1", None) == Code.NONE
        assert {group.name for group in groups} == {"kept", "joined", "coming", "left 9"}

    asyncio.run(story())


def test_a_note_is_only_so_long(groups: Coordinator) -> None:
    with pytest.raises(Refusal) as refused:
        groups.commit("g", {("t", 0): Committed(1, -1, "x" * 4_097)})
    assert refused.value.code == Code.OFFSET_METADATA_TOO_LARGE
