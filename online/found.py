"""What a lookup finds: arrays for the features, what was seen of each source, what was there at all; pure.

Shapes: B items, L records, R query edges, S item edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import EDGE, ITEM_EDGE
from headrace.streams import sequences
from headrace.streams.identity import DAY_MS, hash_of
from headrace.streams.reading import Answer

Fences = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Found:
    """What was read for one request.

    Attributes:
        sequence: RECORD [L], oldest first; empty for an unknown shopper.
        query_edges: EDGE [R], by day, within the window; those of the items asked for, or all there are.
        item_edges: ITEM_EDGE [S], by day, within the window.
        fences: kind -> source -> last offset it had seen.
        query_items: the ids behind the hashes of ``query_edges``.
        query_known, query_capped, shopper_known: what there is under the names asked for.
        items_known: bool [B], which items have edges at all.
        generation: the one that was read, None when nothing was ever built.
        scores: [B], what the score cache holds for each item; empty where it was not asked for.
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
    scores: tuple[bytes | None, ...] = ()

    def listed(self, item_ids: Sequence[str]) -> "Found":
        """The same with the query's edges of some items only."""
        rows, wanted = self.query_edges, np.array(sorted(set(map(hash_of, item_ids))), dtype=np.uint64)
        if not len(rows) or not len(wanted):
            return replace(self, query_edges=rows[:0])
        first = edge_starts(rows["item"])
        items = rows["item"][first]
        kept = wanted[np.minimum(np.searchsorted(wanted, items), len(wanted) - 1)] == items
        return replace(self, query_edges=rows[np.repeat(kept, np.diff(first, append=len(rows)))])

    def ages_ms(self, now_ms: int) -> dict[str, int | None]:
        """How old the newest of each kind is; None where there is nothing.

        Edges are counted by day: theirs is the time since the newest day began, so an upper bound.
        """
        sequence = int(self.sequence["at_ms"][-1]) if len(self.sequence) else None
        query = int(self.query_edges["day"].max()) * DAY_MS if len(self.query_edges) else None
        items = int(self.item_edges["day"].max()) * DAY_MS if len(self.item_edges) else None
        newest = {"sequence_ms": sequence, "query_edges_ms": query, "item_edges_ms": items}
        return {name: None if at_ms is None else max(0, now_ms - at_ms) for name, at_ms in newest.items()}


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
        scores=answer.scores,
    )


def edge_starts(*names: NDArray[Any]) -> NDArray[np.int64]:
    """Where each edge begins among rows by day [R], int64 [G]; one whose names are those of the row before goes on."""
    starts = np.ones(len(names[0]), dtype=np.bool_)
    starts[1:] = np.logical_or.reduce([name[1:] != name[:-1] for name in names])
    return np.flatnonzero(starts)


def _within(rows: NDArray[np.void], today: int, window_days: int) -> NDArray[np.void]:
    kept = (rows["day"] > today - window_days) & (rows["day"] <= today)
    return rows if kept.all() else rows[kept]
