"""What the state knows of a query, some items and a shopper, read in one round trip.

``Lookup`` is the promise; ``Found`` what comes back: arrays for the features, what was seen of each source, what was
there at all. ``streams.reading`` says what is asked and what the answers mean; here it is sent, and cut to the window.

Shapes: B items, L records, R query edges, S item edges.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace import StoreUnavailable
from headrace.models.features import EDGE, ITEM_EDGE
from headrace.online.redis_pipe import RedisPipe
from headrace.streams import reading, sequences
from headrace.streams.identity import DAY_MS, day_of
from headrace.streams.keys import Keys
from headrace.streams.reading import Answer, Question

Fences = dict[str, dict[str, int]]

NO_GENERATION: Final = "none"
"""Read as long as no alias names a generation: nothing lies there."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read for one request.

    Attributes:
        sequence: RECORD [L], oldest first; empty for an unknown shopper.
        query_edges: EDGE [R], by day, within the window.
        item_edges: ITEM_EDGE [S], by day, within the window.
        fences: kind -> source -> last offset it had seen.
        query_items: the ids behind the hashes of ``query_edges``.
        query_known, query_capped, shopper_known: what there is under the names asked for.
        items_known: bool [B], which items have edges at all.
        generation: the one that was read, None when nothing was ever built.
    """

    sequence: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=sequences.RECORD))
    query_edges: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=EDGE))
    item_edges: NDArray[np.void] = field(default_factory=lambda: np.empty(0, dtype=ITEM_EDGE))
    fences: Fences = field(default_factory=dict)
    query_items: dict[int, str] = field(default_factory=dict)
    query_known: bool = False
    query_capped: bool = False
    shopper_known: bool = False
    items_known: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    generation: str | None = None

    def ages_ms(self, now_ms: int) -> dict[str, int | None]:
        """How old the newest of each kind is; None where there is nothing.

        Edges are counted by day: theirs is the time since the newest day began, so an upper bound.
        """
        sequence = int(self.sequence["at_ms"][-1]) if len(self.sequence) else None
        query = int(self.query_edges["day"].max()) * DAY_MS if len(self.query_edges) else None
        items = int(self.item_edges["day"].max()) * DAY_MS if len(self.item_edges) else None
        newest = {"sequence_ms": sequence, "query_edges_ms": query, "item_edges_ms": items}
        return {name: None if at_ms is None else max(0, now_ms - at_ms) for name, at_ms in newest.items()}


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

    async def close(self) -> None:
        """Ends the connection."""
        await self._pipe.close()


def found_of(answer: Answer, today: int, window_days: int) -> Found:
    """An answer cut to the window that ends with a day."""
    fences: Fences = {"query": answer.query_fences} if answer.query_fences else {}
    if answer.shopper is not None:
        # A shopper has one source, the partition of its events; its key does not repeat which.
        fences["shopper"] = {"": answer.shopper.fence}
    return Found(
        sequence=answer.sequence,
        query_edges=_within(answer.query_rows, today, window_days),
        item_edges=_within(answer.item_rows, today, window_days),
        fences=fences,
        query_items=answer.query_items,
        query_known=answer.query_known,
        query_capped=answer.query_capped,
        shopper_known=answer.shopper is not None,
        items_known=answer.items_known,
        generation=answer.generation,
    )


def _within(rows: NDArray[np.void], today: int, window_days: int) -> NDArray[np.void]:
    kept = (rows["day"] > today - window_days) & (rows["day"] <= today)
    return rows if kept.all() else rows[kept]
