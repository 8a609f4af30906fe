import asyncio
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from headrace import Overloaded
from headrace.online.batch import Batcher, BatchLimits, DeadlinePassed, Floats, next_batch, tokens_of


def test_the_oldest_goes_first_with_those_that_fit() -> None:
    a, b = object(), object()
    waiting = [(a, 8), (b, 3), (a, 8), (a, 20), (a, 4)]
    assert next_batch(waiting, 24) == [0, 2, 4]
    assert next_batch(waiting, 8) == [0]
    assert next_batch([(a, 90), (a, 1)], 64) == [0]  # longer than the budget: alone
    assert next_batch([], 64) == []


def lengths(texts: Sequence[str]) -> Floats:
    return np.array([[len(text)] for text in texts], dtype=np.float32)


def test_every_text_gets_its_own_vector() -> None:
    async def ask() -> list[float]:
        batcher = Batcher(BatchLimits(tokens=30, threads=2))
        batcher.start()
        futures = [batcher.submit(lengths, lengths, "x" * number, time.monotonic() + 5) for number in range(1, 60)]
        found = [float((await future)[0][0]) for future in futures]
        batcher.close()
        return found

    assert asyncio.run(ask()) == list(range(1, 60))


class Slow:
    """An encoder that waits to be let go, and remembers what it was asked."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.asked += texts
        self.began.set()
        assert self.go.wait(10)
        return lengths(texts)


def test_a_full_queue_refuses_at_once() -> None:
    async def ask() -> None:
        slow, batcher = Slow(), Batcher(BatchLimits(waiting=2))
        batcher.start()
        until = time.monotonic() + 5
        first = batcher.submit(slow.encode, slow, "first", until)
        await asyncio.to_thread(slow.began.wait, 5)
        waiting = [batcher.submit(slow.encode, slow, text, until) for text in ("a", "b")]
        with pytest.raises(Overloaded):
            batcher.submit(slow.encode, slow, "c", until)
        slow.go.set()
        assert len(await asyncio.gather(first, *waiting)) == 3
        batcher.close()

    asyncio.run(ask())


def test_a_text_whose_deadline_passed_is_dropped_before_it_costs_anything() -> None:
    async def ask() -> list[str]:
        slow, batcher = Slow(), Batcher()
        batcher.start()
        first = batcher.submit(slow.encode, slow, "first", time.monotonic() + 5)
        await asyncio.to_thread(slow.began.wait, 5)
        late = batcher.submit(slow.encode, slow, "late", time.monotonic() + 0.01)
        gone = batcher.submit(slow.encode, slow, "gone", time.monotonic() + 5)
        gone.cancel()
        await asyncio.sleep(0.02)
        slow.go.set()
        await first
        with pytest.raises(DeadlinePassed):
            await late
        batcher.close()
        return slow.asked

    assert asyncio.run(ask()) == ["first"]


def test_a_fault_of_the_encoder_reaches_who_waits_and_the_next_text_goes_through() -> None:
    def broken(texts: Sequence[str]) -> Floats:
        raise ValueError("no")

    async def ask() -> None:
        batcher = Batcher()
        batcher.start()
        with pytest.raises(ValueError, match="no"):
            await batcher.submit(broken, broken, "a", time.monotonic() + 5)
        assert (await batcher.submit(lengths, lengths, "abc", time.monotonic() + 5))[0][0] == 3
        batcher.close()

    asyncio.run(ask())


def test_closing_refuses_what_waits() -> None:
    async def ask() -> None:
        slow, batcher = Slow(), Batcher()
        batcher.start()
        first = batcher.submit(slow.encode, slow, "first", time.monotonic() + 5)
        await asyncio.to_thread(slow.began.wait, 5)
        second = batcher.submit(slow.encode, slow, "second", time.monotonic() + 5)
        slow.go.set()
        await asyncio.to_thread(batcher.close)
        assert (await first)[0][0] == 5
        with pytest.raises((Overloaded, RuntimeError)):
            assert (await second)[0][0] == 6
            raise RuntimeError("it was still encoded, which is as good")
        with pytest.raises(Overloaded):
            batcher.submit(slow.encode, slow, "third", time.monotonic() + 5)

    asyncio.run(ask())


def test_more_text_is_more_tokens() -> None:
    assert tokens_of("") == 2
    assert tokens_of("abcd") == 3
    assert tokens_of("abcde") == 4
