"""Where a partition's batches lie: three numbers a batch in memory, the records stay on disk. Pure."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from headrace.local.broker.batches import Batch


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of the log: where they begin, and how many."""

    position: int
    size_bytes: int


class BatchIndex:
    """The places of the batches of one log, in its order.

    Attributes:
        next_offset: the offset that the next record gets.
        size_bytes: of all batches.
    """

    def __init__(self, next_offset: int = 0) -> None:
        self._offsets = array("q")
        self._positions = array("q")
        self._times_ms = array("q")
        self._newest_ms = array("q")  # the newest timestamp up to this batch: ascending, so it can be searched
        self.next_offset = next_offset
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, base_offset: int, batch: Batch, last_timestamp_ms: int) -> None:
        """Adds a batch at the end; it takes the offsets from ``base_offset`` on."""
        self._offsets.append(base_offset)
        self._positions.append(self.size_bytes)
        self._times_ms.append(last_timestamp_ms)
        self._newest_ms.append(max(last_timestamp_ms, self._newest_ms[-1] if self._newest_ms else last_timestamp_ms))
        self.next_offset = base_offset + batch.count
        self.size_bytes += batch.size_bytes

    def read(self, offset: int, most_bytes: int, at_least_one: bool = True) -> Place:
        """Whole batches from the one with that offset on: as many as fit, and one even when it does not."""
        first = self._of(offset)
        if offset >= self.next_offset or first < 0:
            return Place(self.size_bytes, 0)
        begin = self._positions[first]
        end = self._end(first)
        if end > begin + most_bytes and not at_least_one:
            return Place(begin, 0)
        if self.size_bytes <= begin + most_bytes:
            end = self.size_bytes
        else:  # where a batch begins, the one before it ends
            end = max(end, self._positions[bisect_right(self._positions, begin + most_bytes) - 1])
        return Place(begin, end - begin)

    def bytes_from(self, offset: int) -> int:
        """The bytes of the batches from the one with that offset on."""
        first = self._of(offset)
        return 0 if offset >= self.next_offset or first < 0 else self.size_bytes - self._positions[first]

    def since(self, timestamp_ms: int, offset: int) -> Iterator[Place]:
        """The batches with a record of that time or later, from the one with that offset on."""
        first = max(self._of(offset), bisect_left(self._newest_ms, timestamp_ms))
        for number in range(first, len(self)):
            if self._times_ms[number] >= timestamp_ms:
                yield Place(self._positions[number], self._end(number) - self._positions[number])

    def newest_ms(self, offset: int) -> int | None:
        """The newest timestamp of the batches from the one with that offset on; None when there is none."""
        return max(self._times_ms[max(self._of(offset), 0) :], default=None)

    def _of(self, offset: int) -> int:
        return bisect_right(self._offsets, offset) - 1

    def _end(self, number: int) -> int:
        return self._positions[number + 1] if number + 1 < len(self) else self.size_bytes
