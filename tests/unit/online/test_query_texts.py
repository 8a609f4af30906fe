"""Texts of queries come behind the request that misses them, within a bound, and nobody waits."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import StoreUnavailable
from headrace.online import query_texts
from headrace.online.query_texts import AT_ONCE, ENTRY_BYTES, QueryTexts


class Store:
    """Knows the texts of even hashes, and does what a test tells it first."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def read(self, names: Sequence[int]) -> Sequence[bytes | None]:
        self.asked.append(list(names))
        if self.before is not None:
            await self.before()
        return [None if name % 2 else f"query {name}".encode() for name in names]


async def quiet() -> None:
    """Returns when nothing is read any more."""
    me = asyncio.current_task()
    while others := asyncio.all_tasks() - {me}:
        await asyncio.wait(others, timeout=5)


def test_a_text_that_is_missed_is_there_for_the_next_request() -> None:
    store, counts = Store(), Counter[str]()
    texts = QueryTexts(store.read, lambda result, names: counts.update({result: names}))

    async def go() -> None:
        assert texts.of([2, 4, 5]) == {}
        assert texts.of([4, 6]) == {} and store.asked == []  # behind the request, and each once
        await quiet()
        assert texts.of([2, 4, 6]) == {2: "query 2", 4: "query 4", 6: "query 6"}
        await quiet()
        assert store.asked == [[2, 4, 5, 6]]
        assert texts.of([5]) == {}  # unknown to the state; asked for again
        await quiet()

    asyncio.run(go())
    assert store.asked == [[2, 4, 5, 6], [5]]
    assert counts == {"read": 3, "absent": 2}
    assert len(texts) == 3


def test_a_store_that_is_away_or_hangs_costs_its_texts_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_texts, "READ_S", 0.02)
    store, counts = Store(), Counter[str]()
    texts = QueryTexts(store.read, lambda result, names: counts.update({result: names}))

    async def away() -> None:
        raise StoreUnavailable("gone")

    async def hangs() -> None:
        await asyncio.sleep(5)

    async def go() -> None:
        for before in (away, hangs, None):
            store.before = before
            assert texts.of([2, 4]) == {}
            await quiet()
        assert texts.of([2, 4]) == {2: "query 2", 4: "query 4"}

    asyncio.run(go())
    assert counts == {"failed": 4, "read": 2, "absent": 0}


def test_many_are_read_in_pieces_and_too_many_are_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_texts, "WANTED", 2 * AT_ONCE)
    store = Store()
    texts = QueryTexts(store.read)

    async def go() -> None:
        texts.of(range(0, 6 * AT_ONCE, 2))
        await quiet()
        assert len(texts.of(range(0, 6 * AT_ONCE, 2))) == 2 * AT_ONCE
        await quiet()
        assert len(texts) == 3 * AT_ONCE

    asyncio.run(go())
    assert [len(names) for names in store.asked] == [AT_ONCE] * 3


def test_the_one_used_least_recently_leaves_first() -> None:
    texts = QueryTexts(Store().read, limit_bytes=2 * (ENTRY_BYTES + len("query 2")))

    async def go() -> None:
        for names in ([2], [4], [2], [6]):
            texts.of(names)
            await quiet()
        assert set(texts.of([2, 4, 6])) == {2, 6}
        await quiet()

    asyncio.run(go())


@given(st.lists(st.lists(st.integers(0, 40), max_size=8), max_size=12), st.integers(0, 5))
def test_the_bound_holds_whatever_is_asked(asked: list[list[int]], most: int) -> None:
    texts = QueryTexts(Store().read, limit_bytes=most * (ENTRY_BYTES + 8))

    async def go() -> None:
        for names in asked:
            texts.of(names)
            await quiet()
            assert 0 <= texts.size_bytes <= texts.limit_bytes
            assert ENTRY_BYTES * len(texts) <= texts.size_bytes

    asyncio.run(go())


def test_without_a_store_no_text_is_known() -> None:
    async def go() -> None:
        texts = QueryTexts()
        assert texts.of([2]) == {}
        await quiet()
        assert texts.of([2]) == {} and len(texts) == 0

    asyncio.run(go())
