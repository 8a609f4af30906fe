"""What a student is told beside a request's pairs, the behaviour neighbours of query and items as texts; pure.

Which they are follows from the edges that the request's one round trip read, by the rule of ``/v1/features``. Those of
one side count alike, as where the student learned, and stand in the order of their texts: so what it is told changes
only when the first five change, not when they change places, and a hash of their texts tells for which of them a cached
score was made. A pair that is its own neighbour stays in: training hides some of these, because there the click was the
label; here it is the past.

Shapes: B items, R rows of edges by day, G edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.models.pair_rows import PairNeighbours, equal_shares
from headrace.models.prompts import NEIGHBOURS
from headrace.models.wilson import wilson_lower
from headrace.online.found import Found, edge_starts
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.score_cache import neighbours_hash


@dataclass(frozen=True, slots=True)
class Near:
    """The neighbours of a request's query and items, each side the strongest first.

    Attributes:
        query: ids of the items that the query led to.
        items: [B], hashes of the queries that led to each item.
    """

    query: tuple[str, ...]
    items: tuple[tuple[int, ...], ...]

    def queries(self) -> set[int]:
        """The hashes of all queries that led to one of the items."""
        return {name for names in self.items for name in names}


class Told(NamedTuple):
    """What a student is told beside one pair, and the hash of it; 0 for nothing."""

    neighbours: PairNeighbours | None = None
    hash: int = 0


def near_of(found: Found, count: int, rule: NeighbourRule) -> Near:
    """The neighbours of the query and of B = ``count`` items, as ``rule`` ranks them.

    Args:
        found: with every edge of the query: those of the items asked for would make an item's score depend on the
            others of its list (law 6).
        count: B.
        rule: when an edge is a neighbour; its window is that of ``found``.
    """
    limit = min(rule.limit, NEIGHBOURS)
    rows = found.query_edges
    at, wilson = _passed(rows, edge_starts(rows["item"]), rule)
    ids = [found.query_items[name] for name in rows["item"][at].tolist()]
    query = nsmallest(limit, zip((-wilson).tolist(), ids, strict=True))
    rows = found.item_edges
    at, wilson = _passed(rows, edge_starts(rows["owner"], rows["query"]), rule)
    owner, name = rows["owner"][at], rows["query"][at]
    order = np.lexsort((name, -wilson, owner))
    items: list[list[int]] = [[] for _ in range(count)]
    for place, led in zip(owner[order].tolist(), name[order].tolist(), strict=True):
        if len(items[place]) < limit:
            items[place].append(led)
    return Near(tuple(item for _, item in query), tuple(map(tuple, items)))


def told_of(near: Near, titles: Sequence[str | None], texts: Mapping[int, str]) -> list[Told]:
    """What a student is told of each item [B]; a neighbour whose text is not known is left out.

    Args:
        near: whose texts these are.
        titles: of ``near.query``, as the student reads them.
        texts: of queries, normalised, by hash.
    """
    query = tuple(sorted(title for title in titles if title is not None))
    shares = equal_shares(query)
    made: dict[tuple[str, ...], Told] = {} if query else {(): Told()}  # most items have none: made once
    found = []
    for names in near.items:
        item = tuple(sorted([texts[name] for name in names if name in texts]))
        if item not in made:
            made[item] = Told(PairNeighbours(shares, equal_shares(item)), neighbours_hash(query, item))
        found.append(made[item])
    return found


def _passed(
    rows: NDArray[np.void], first: NDArray[np.int64], rule: NeighbourRule
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where the rows of each neighbour begin, and its Wilson bound; ``first`` says it of all edges [G]."""
    if not len(rows):
        return first, np.empty(0)
    shown, clicked = (np.add.reduceat(rows[name], first) for name in ("exposures", "clicks"))
    passed = (shown >= rule.min_exposures) & (clicked >= rule.min_click_rate * shown)
    return first[passed], wilson_lower(clicked[passed], shown[passed])
