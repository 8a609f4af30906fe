"""Scores of pairs that one student has computed, in memory: by query, within a bound, safe to use from several threads.

The query that was asked for least recently leaves first, with all its items: what is asked again is asked as a list.
A query is worth telling the other workers of once it was asked for again: the long tail would fill their cache with
what nobody reads.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headrace.streams.score_cache import ITEMS

PAIR_BYTES: Final = 330
"""About what a pair costs on CPython 3.11: its place in the query's dictionary, the item's id, stamp and score."""
QUERY_BYTES: Final = 500
"""The same of a query, without its pairs."""
NEIGHBOURS_BYTES: Final = 48
"""More of a pair, where neighbours are read: the hash of them."""

Score = tuple[int, float, int]
"""Stamp of the text that was scored, score, hash of the neighbours that were read (0: none)."""
Scores = Mapping[str, Score]
"""By item id."""


@dataclass(slots=True)
class _Query:
    items: dict[str, Score] = field(default_factory=dict)
    shared: bool = False


@dataclass(slots=True)
class PairScores:
    """Scores by query and item.

    Attributes:
        limit_bytes: about what they may take.
        pair_bytes: about what a pair takes.
        size_bytes: about what they take.
    """

    limit_bytes: int
    pair_bytes: int = PAIR_BYTES
    size_bytes: int = field(default=0, init=False)
    _queries: "OrderedDict[str, _Query]" = field(default_factory=OrderedDict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __len__(self) -> int:
        """How many pairs have a score."""
        return (self.size_bytes - QUERY_BYTES * len(self._queries)) // self.pair_bytes

    def of(self, query: str) -> Scores:
        """What is known for a query; to be read at once and not changed."""
        with self._lock:
            found = self._queries.get(query)
            if found is None:
                return {}
            self._queries.move_to_end(query)
            return found.items

    def take_unshared(self, query: str) -> Scores:
        """What the other workers should hear of a query that was asked for again: everything, and that only once."""
        with self._lock:
            found = self._queries.get(query)
            if found is None or found.shared:
                return {}
            found.shared = True
            return found.items

    def shared(self, query: str) -> bool:
        """Whether the other workers hear of each new score of this query."""
        with self._lock:
            found = self._queries.get(query)
            return found is not None and found.shared

    def put(self, query: str, item_id: str, stamp: int, score: float, neighbours: int = 0) -> None:
        """Keeps the score of an item's text with this stamp; of one query the newest ``ITEMS`` are kept.

        ``neighbours`` is the hash of those that were read. An item has one score: another text or other neighbours
        take its place.
        """
        with self._lock:
            found = self._queries.get(query)
            if found is None:
                found = self._queries[query] = _Query()
                self.size_bytes += QUERY_BYTES
            items = found.items
            if items.pop(item_id, None) is None:
                self.size_bytes += self.pair_bytes
            items[item_id] = (stamp, score, neighbours)
            if len(items) > ITEMS:
                del items[next(iter(items))]
                self.size_bytes -= self.pair_bytes
            while self.size_bytes > self.limit_bytes and self._queries:
                _, left = self._queries.popitem(last=False)
                self.size_bytes -= QUERY_BYTES + self.pair_bytes * len(left.items)

    def recent(self, limit: int) -> list[tuple[str, str]]:
        """(query, item id) of at most so many pairs, those of the query asked for last first."""
        with self._lock:
            found: list[tuple[str, str]] = []
            for query in reversed(self._queries):
                found += [(query, item) for item in self._queries[query].items]
                if len(found) >= limit:
                    break
        return found[:limit]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._queries.clear()
            self.size_bytes = 0
