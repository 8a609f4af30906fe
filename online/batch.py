"""Texts, or pairs of them, that wait for an encoder, run in batches within a token budget on threads of their own.

``next_batch`` decides, pure. ``Batcher`` acts: a bounded queue, threads that take from it, results handed back to the
event loop that asked. A text whose deadline passed while it waited is dropped before it costs anything. Vectors do not
depend on batch mates (law 6), so how texts are cut into batches changes times only.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace import Overloaded

Floats = NDArray[np.float32]
Encode = Callable[[Sequence[Any]], Floats]
"""What waits, in; a row for each, out. What waits is a text, or whatever else the key's encoder reads."""
CHARACTERS_PER_TOKEN = 4


class DeadlinePassed(Exception):
    """A text waited longer than its request could; it was not encoded."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What an encoder's queue may hold and take at a time.

    Attributes:
        tokens: a batch holds at most so many tokens, padding included; one longer text is a batch alone.
        waiting: at most so many texts wait; more are refused at once.
        threads: batches that run at the same time.
        nice: added to the threads' niceness, so that work nobody waits for gives way (Linux).
    """

    tokens: int = 512
    waiting: int = 256
    threads: int = 1
    nice: int = 0


def tokens_of(text: str) -> int:
    """About how many tokens a text has, start and end marks included; exact counts are the encoder's business."""
    return 2 + -(-len(text) // CHARACTERS_PER_TOKEN)


def next_batch(waiting: Sequence[tuple[object, int]], budget_tokens: int) -> list[int]:
    """The positions of the texts that run next, ascending; empty when none waits.

    Args:
        waiting: (which encoder, tokens) of each text, oldest first.
        budget_tokens: rows times longest row stay within it.

    Returns:
        The oldest text always; behind it others for the same encoder that fit, oldest first.
    """
    if not waiting:
        return []
    encoder, longest = waiting[0]
    taken = [0]
    for position in range(1, len(waiting)):
        key, tokens = waiting[position]
        if key is encoder and max(longest, tokens) * (len(taken) + 1) <= budget_tokens:
            taken.append(position)
            longest = max(longest, tokens)
    return taken


@dataclass(slots=True)
class _Job:
    encode: Encode
    key: object
    text: object
    tokens: int
    until_s: float
    asked_s: float
    future: "asyncio.Future[tuple[Floats, float, float]]"
    loop: asyncio.AbstractEventLoop


def _settle(job: _Job, result: tuple[Floats, float, float] | None, error: BaseException | None) -> None:
    if job.future.done():  # the request left; nobody waits
        return
    if error is not None:
        job.future.set_exception(error)
    elif result is not None:
        job.future.set_result(result)


@dataclass(slots=True)
class Batcher:
    """A queue before an encoder, with its threads; ``start`` and ``close`` belong to who made it.

    Attributes:
        seen: called after each batch with (rows, tokens with padding, still waiting), from a batcher's thread.
    """

    limits: BatchLimits = field(default_factory=BatchLimits)
    seen: Callable[[int, int, int], None] = lambda rows, tokens, waiting: None
    _waiting: deque[_Job] = field(default_factory=deque, init=False)
    _waiting_tokens: int = field(default=0, init=False)
    _ready: threading.Condition = field(default_factory=threading.Condition, init=False)
    _closing: bool = field(default=False, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Starts the threads."""
        for number in range(self.limits.threads):
            thread = threading.Thread(target=self._run, name=f"encode-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Refuses what waits and ends the threads after their running batch."""
        with self._ready:
            self._closing = True
            left = list(self._waiting)
            self._waiting.clear()
            self._waiting_tokens = 0
            self._ready.notify_all()
        for job in left:
            self._hand_back([job], None, Overloaded("the worker is closing"))
        for thread in self._threads:
            thread.join()

    def waiting(self) -> int:
        """How many texts wait now."""
        return len(self._waiting)

    def waiting_tokens(self) -> int:
        """How many tokens they have, without padding."""
        return self._waiting_tokens

    def submit(
        self, encode: Encode, key: object, text: object, until_s: float, tokens: int = 0
    ) -> "asyncio.Future[tuple[Floats, float, float]]":
        """The vector of a text, float32 [D], with the seconds it waited and ran; from the event loop only.

        Args:
            encode: of the model that the request holds.
            key: texts with the same key may share a batch.
            text: what to encode.
            until_s: ``time.monotonic`` after which nobody waits for it.
            tokens: about how many it has; must be given for anything but a text.

        Raises:
            Overloaded: the queue is full.
            DeadlinePassed: through the future, when it was dropped unrun.
        """
        loop = asyncio.get_running_loop()
        tokens = tokens or tokens_of(str(text))
        job = _Job(encode, key, text, tokens, until_s, time.monotonic(), loop.create_future(), loop)
        with self._ready:
            if self._closing or len(self._waiting) >= self.limits.waiting:
                raise Overloaded(f"{len(self._waiting)} texts wait for the encoder")
            self._waiting.append(job)
            self._waiting_tokens += tokens
            self._ready.notify()
        return job.future

    def _take(self) -> tuple[list[_Job], list[_Job], int]:
        """The next batch, what must be dropped before it, and how many are left; empty batch and drops at the end."""
        with self._ready:
            while not self._waiting and not self._closing:
                self._ready.wait()
            now_s = time.monotonic()
            alive: list[_Job] = []
            dropped: list[_Job] = []
            for job in self._waiting:
                (dropped if job.until_s <= now_s or job.future.cancelled() else alive).append(job)
            taken = set(next_batch([(job.key, job.tokens) for job in alive], self.limits.tokens))
            self._waiting = deque(job for position, job in enumerate(alive) if position not in taken)
            self._waiting_tokens = sum(job.tokens for job in self._waiting)
            return [alive[position] for position in sorted(taken)], dropped, len(self._waiting)

    def _run(self) -> None:
        if self.limits.nice:
            with contextlib.suppress(OSError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self.limits.nice)
        while True:
            batch, dropped, left = self._take()
            if dropped:
                self._hand_back(dropped, None, DeadlinePassed("the deadline passed while the text waited"))
            if batch:
                self._encode(batch)
                self.seen(len(batch), len(batch) * max(job.tokens for job in batch), left)
            elif self._closing:
                return

    def _encode(self, batch: list[_Job]) -> None:
        began_s = time.monotonic()
        try:
            vectors = batch[0].encode([job.text for job in batch])
        except Exception as error:  # the request that waits must hear of it; the thread goes on for the others
            self._hand_back(batch, None, error)
            return
        self._hand_back(batch, (vectors, began_s, time.monotonic() - began_s), None)

    @staticmethod
    def _hand_back(jobs: list[_Job], ran: tuple[Floats, float, float] | None, error: Exception | None) -> None:
        for row, job in enumerate(jobs):
            result = None if ran is None else (ran[0][row], ran[1] - job.asked_s, ran[2])
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker ended
                job.loop.call_soon_threadsafe(_settle, job, result, error)
