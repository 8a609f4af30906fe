"""Records of several logs in one order: by their time, and each log in its own order. Pure.

A shopper's events may lie in two topics, or in several partitions of one whose key is not the shopper. What a click
belongs to must come before it, so the logs are read side by side and the earliest of their next records goes first.
What lies within one log is never reordered.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from headrace import BadEvent
from headrace.streams.imports import Placed

Place = tuple[str, int]
"""(topic, partition)"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record of another topic: what it makes of ours, or why it makes nothing.

    Attributes:
        offset: in its log.
        key: as it lies there.
        value: as it lies there.
        timestamp_ms: as it lies there.
        made: the value it makes; None: an item is removed.
        placed: where that belongs, or the reason why it makes nothing.
        read_s: when it was read, on a clock that only grows.
    """

    place: Place
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    made: bytes | None
    placed: Placed | BadEvent
    read_s: float

    @property
    def bytes(self) -> int:
        """What it takes in memory, roughly."""
        return 200 + len(self.key or b"") + len(self.value or b"")

    @property
    def order(self) -> tuple[int, int]:
        """(time, rank): the smallest goes first; what makes nothing keeps nobody waiting."""
        if isinstance(self.placed, BadEvent):
            return -1, 0
        # A clock that runs ahead must not hold its log back behind all others.
        ahead = 0 <= self.timestamp_ms < self.placed.at_ms
        return self.timestamp_ms if ahead else self.placed.at_ms, self.placed.rank


class Merge:
    """The next records of some logs.

    Args:
        places: the logs; at the same time and rank those named first go first.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._waiting: dict[Place, deque[Waiting]] = {place: deque() for place in places}
        self._bytes = dict.fromkeys(places, 0)
        self._rank = {place: number for number, place in enumerate(places)}
        self._heads: list[tuple[tuple[int, int], int, Place]] = []
        self._empty = set(places)

    def add(self, record: Waiting) -> None:
        """Takes the next record of a log."""
        place, log = record.place, self._waiting[record.place]
        log.append(record)
        self._bytes[place] += record.bytes
        if len(log) == 1:
            self._empty.discard(place)
            heapq.heappush(self._heads, (record.order, self._rank[place], place))

    def take(self, quiet: Set[Place], until_s: float = float("inf")) -> Iterator[Waiting]:
        """The records that can go out now, in their order.

        Args:
            quiet: logs from which nothing has to be waited for.
            until_s: while such a log has nothing, only what was read up to then goes out.
        """
        while self._heads and self._empty <= quiet:
            place = self._heads[0][2]
            log = self._waiting[place]
            if self._empty and log[0].read_s > until_s:
                return
            heapq.heappop(self._heads)
            record = log.popleft()
            self._bytes[place] -= record.bytes
            if log:
                heapq.heappush(self._heads, (log[0].order, self._rank[place], place))
            else:
                self._empty.add(place)
            yield record

    def first(self, place: Place) -> int | None:
        """The offset of the first record of a log that waits; None when none does."""
        return self._waiting[place][0].offset if self._waiting[place] else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._heads

    def bytes(self, place: Place) -> int:
        """How much of a log waits, roughly."""
        return self._bytes[place]
