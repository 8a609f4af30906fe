"""What the state knows of a query, some items and a shopper, read in one round trip.

``Lookup`` is the promise, ``found.Found`` what comes back. ``streams.reading`` says what is asked and what the answers
mean; here it is sent.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from headrace import StoreUnavailable
from headrace.online.found import Found, found_of
from headrace.online.redis_pipe import RedisPipe
from headrace.streams import reading
from headrace.streams.identity import day_of
from headrace.streams.keys import Keys
from headrace.streams.reading import Question

__all__ = ["Found", "Lookup", "RedisLookup", "found_of"]

NO_GENERATION: Final = "none"
"""Read as long as no alias names a generation: nothing lies there."""


class Lookup(Protocol):
    """Reads state for a request; a promise of one round trip."""

    async def read(self, question: Question, now_ms: int) -> Found:
        """What is known, as of a time.

        Raises:
            StoreUnavailable: the store cannot be reached; nothing was read.
        """

    async def close(self) -> None:
        """Ends the connection."""


class RedisLookup:
    """Reads the generation that the alias names; when that moves, the read that notices it reads again.

    Args:
        pipe: the connection.
        namespace: of the keys.
        window_days: edges older than that, as of the time asked for, do not count.
        sequence: at most so many records of a shopper come back, the newest.
    """

    def __init__(self, pipe: RedisPipe, namespace: str, window_days: int = 30, sequence: int = 10_000) -> None:
        self._pipe = pipe
        self._namespace = namespace
        self._window_days = window_days
        self._sequence = sequence
        self._keys = Keys(namespace, NO_GENERATION)

    async def read(self, question: Question, now_ms: int) -> Found:
        """What is known, as of a time; one round trip unless the alias has just moved."""
        for _ in range(2):
            keys = self._keys
            replies = await self._pipe.call(reading.commands(keys, question))
            try:
                answer = reading.answer(question, replies, self._sequence)
            except ValueError as error:
                raise StoreUnavailable(f"the state has another format than this worker reads: {error}") from error
            named = answer.generation or NO_GENERATION
            if named == keys.generation:
                break
            self._keys = Keys(self._namespace, named)
        return found_of(answer, day_of(now_ms), self._window_days)

    async def texts(self, names: Sequence[int]) -> Sequence[bytes | None]:
        """The texts behind hashes [N], as the generation that was read last has them; None for an unknown one.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        keys = self._keys
        [values] = await self._pipe.call([("MGET", *map(keys.text, names))])
        found: Sequence[bytes | None] = values
        return found

    async def close(self) -> None:
        """Ends the connection."""
        await self._pipe.close()
