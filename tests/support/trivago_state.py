"""The behaviour state of a replayed log, kept in plain dictionaries: what a request would have read at each moment.

A small stand-in for streams and store, so that features and heads can be tried in seconds: sequences, the query's
edges, the items' edges above the floor; searches open 30 minutes, an exposure and a click once per search and item.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from headrace.models.features import EDGE, ITEM_EDGE, Reading
from headrace.models.trivago import SEARCH_LIVES_MS, ClickedOut, Searched, Step, Viewed
from headrace.streams.identity import day_of, hash64, query_hash
from headrace.streams.sequences import CLICK, RECORD, SEARCH, VIEW

Edge = dict[int, list[int]]
"""Day to [exposures, clicks]."""


@dataclass
class OpenSearch:
    query: int
    at_ms: int
    shown: set[int] = field(default_factory=set)
    clicked: set[int] = field(default_factory=set)


class State:
    """What has happened so far; `reading` first, then `apply` the same step."""

    def __init__(self, item_floor: int = 50) -> None:
        self._floor = item_floor
        self._sequences: dict[str, list[tuple[int, int, int, int]]] = {}
        self._searches: dict[str, OpenSearch] = {}
        self._edges: dict[int, dict[int, Edge]] = {}
        self._queries_of: dict[int, dict[int, Edge]] = {}

    def reading(self, step: ClickedOut) -> Reading:
        """What a request for this list would read before the list is shown."""
        items = np.array([hash64(item) for item in step.items], dtype=np.uint64)
        query = query_hash(step.text)
        edges = [
            (item, day, *counts) for item, days in self._edges.get(query, {}).items() for day, counts in days.items()
        ]
        item_edges = [
            (owner, other, max(days), sum(c[0] for c in days.values()), sum(c[1] for c in days.values()))
            for owner, item in enumerate(items.tolist())
            for other, days in self._queries_of.get(item, {}).items()
            if sum(c[0] for c in days.values()) >= self._floor
        ]
        return Reading(
            step.at_ms,
            query,
            items,
            np.array(step.prices, dtype=np.float32),
            np.full(len(items), np.nan, dtype=np.float32),
            np.array(self._sequences.get(step.shopper, []), dtype=RECORD),
            np.array(edges, dtype=EDGE),
            np.array(item_edges, dtype=ITEM_EDGE),
        )

    def apply(self, step: Step) -> None:
        """Takes a step into the state."""
        match step:
            case Searched():
                query = query_hash(step.text)
                self._searches[step.query_id] = OpenSearch(query, step.at_ms)
                self._record(step.shopper, query, 0, step.at_ms, SEARCH)
            case Viewed():
                search = self._open(step.query_id, step.at_ms)
                self._record(step.shopper, search.query if search else 0, hash64(step.item), step.at_ms, VIEW)
            case ClickedOut():
                search = self._open(step.query_id, step.at_ms)
                item = hash64(step.item)
                if search:
                    for shown in map(hash64, step.items):
                        self._count(search, shown, search.shown, 0, step.at_ms)
                    self._count(search, item, search.shown, 0, step.at_ms)
                    self._count(search, item, search.clicked, 1, step.at_ms)
                self._record(step.shopper, search.query if search else 0, item, step.at_ms, CLICK)

    def _open(self, query_id: str, at_ms: int) -> OpenSearch | None:
        search = self._searches.get(query_id)
        return search if search and at_ms - search.at_ms <= SEARCH_LIVES_MS else None

    def _record(self, shopper: str, query: int, item: int, at_ms: int, action: int) -> None:
        self._sequences.setdefault(shopper, []).append((query, item, at_ms, action))

    def _count(self, search: OpenSearch, item: int, seen: set[int], what: int, at_ms: int) -> None:
        if item in seen:
            return
        seen.add(item)
        edge = self._edges.setdefault(search.query, {}).setdefault(item, {})
        edge.setdefault(day_of(search.at_ms), [0, 0])[what] += 1
        self._queries_of.setdefault(item, {})[search.query] = edge


def readings(steps: Iterable[Step], item_floor: int = 50) -> Iterator[tuple[ClickedOut, Reading]]:
    """Every clicked list with what a request for it would have read, before the click."""
    state = State(item_floor)
    for step in steps:
        if isinstance(step, ClickedOut):
            yield step, state.reading(step)
        state.apply(step)
