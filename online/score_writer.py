"""Scores that a student computed, written to the cache in Redis behind the requests, for the other workers.

A thread with a bounded buffer. A score that finds it full, or Redis away or short of memory, is dropped and counted: it
can be computed again.
"""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from headrace import StoreUnavailable
from headrace.streams.redis_scores import Score, ScoreCache

log = logging.getLogger(__name__)

Count = Callable[[str, int], None]
AT_ONCE: Final = 2_000
"""So many scores are taken from the buffer at a time, and go out query by query."""
LINGER_S: Final = 0.05
"""Scores of one request come one by one: so long the others are waited for."""
REST_S: Final = 1.0
CLOSE_S: Final = 3.0


class Made(NamedTuple):
    """One score: hash of the query, who computed it, the item, the stamp of its text, the probability, the neighbours.

    Of these the hash, 0 where none were read.
    """

    query: int
    part: bytes
    item_id: str
    stamp: int
    score: float
    neighbours: int = 0


class ScoreWriter(Protocol):
    """Where computed scores go."""

    def offer(self, made: Made) -> bool:
        """Takes a score without waiting; False when it was dropped (and counted)."""

    def close(self) -> None:
        """Writes what is left, within a bounded time."""


class NoScoreWriter:
    """A worker that keeps its scores to itself."""

    def offer(self, made: Made) -> bool:
        """Drops the score."""
        return False

    def close(self) -> None:
        """Nothing to write."""


@dataclass(slots=True)
class RedisScoreWriter:
    """Scores to Redis, by a thread with a bounded buffer.

    Attributes:
        cache: written by that thread only.
        count: told "sent", "dropped", "failed" or "no_room" and of how many scores.
        buffer: scores that may wait.
    """

    cache: ScoreCache
    count: Count
    buffer: int = 20_000
    _waiting: "queue.Queue[Made | None]" = field(init=False)
    _thread: threading.Thread = field(init=False)
    _closing: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        """Starts the thread."""
        self._waiting = queue.Queue(self.buffer)
        self._thread = threading.Thread(target=self._run, name="score-writer", daemon=True)
        self._thread.start()

    def offer(self, made: Made) -> bool:
        """Takes a score without waiting; False when it was dropped (and counted)."""
        try:
            self._waiting.put_nowait(made)
        except queue.Full:
            self.count("dropped", 1)
            return False
        return True

    def close(self) -> None:
        """Writes what is left, for at most a few seconds."""
        self._closing.set()
        with contextlib.suppress(queue.Full):  # a thread that is busy looks at the event instead
            self._waiting.put_nowait(None)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while several := self._next():
            by_query: dict[tuple[int, bytes], list[Score]] = {}
            for made in several:
                by_query.setdefault((made.query, made.part), []).append(made[2:])
            self._write(by_query)
        self.cache.close()

    def _next(self) -> list[Made]:
        """The next scores; none once there is none left and the end was asked for."""
        found: list[Made] = []
        while not found:
            with contextlib.suppress(queue.Empty):
                first = self._waiting.get(timeout=1.0)
                found += [first] if first is not None else []
            if not found and self._closing.is_set() and self._waiting.empty():
                return []
        self._closing.wait(LINGER_S)
        with contextlib.suppress(queue.Empty):
            while len(found) < AT_ONCE:
                made = self._waiting.get_nowait()
                found += [made] if made is not None else []
        return found

    def _write(self, by_query: dict[tuple[int, bytes], list[Score]]) -> None:
        left = sum(map(len, by_query.values()))
        try:
            for (query, part), scores in by_query.items():
                written = self.cache.put(query, scores, part, "student")
                self.count("sent" if written else "no_room", len(scores))
                left -= len(scores)
        except StoreUnavailable as error:
            log.warning("score cache: %d scores were not written: %s; they can be computed again", left, error)
            self.count("failed", left)
            # while it sleeps the buffer fills, and what does not fit is counted as dropped
            self._closing.wait(REST_S)
