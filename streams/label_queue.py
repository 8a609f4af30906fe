"""What a labelling worker does with records between reading and committing: which pairs are due, and which are not.

A pair is due once: what lies in the topic of labels by this teacher and prompt already, or stands before it in the
queue, is passed over. Nothing here reads Kafka or asks a teacher. Pure.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from headrace import BadEvent
from headrace.streams.ingestion import Record, Rejected
from headrace.streams.pairs import UnlabelledPair, decode_pair

_HELD_RECORDS: Final = 16
"""A batch takes at most so many times its pairs in records, where most of them are labelled already."""


@dataclass(slots=True)
class Due:
    """One batch.

    Attributes:
        pairs: to be labelled, each once, with the record of each.
        rejected: records that cannot be used.
        positions: partition -> the offset behind the last record of the batch.
        passed: records whose pair has its label.
    """

    pairs: list[tuple[Record, UnlabelledPair]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    passed: int = 0

    def refuse(self, pair_ids: Set[str]) -> None:
        """Takes pairs out of which the teacher could say nothing: their records cannot be used."""
        if not pair_ids:
            return
        fault = BadEvent("", "out_of_range", "the teacher gave no number")
        self.rejected += [(record, fault) for record, pair in self.pairs if pair.pair_id in pair_ids]
        self.pairs = [(record, pair) for record, pair in self.pairs if pair.pair_id not in pair_ids]


class LabelQueue:
    """Records that were read and are not yet committed.

    Args:
        partition_of: to which partition a pair belongs, by its key.
    """

    def __init__(self, partition_of: Callable[[bytes], int]) -> None:
        self._partition_of = partition_of
        self._waiting: deque[Record] = deque()
        self._labelled: Mapping[int, set[str]] = {}
        self._taken: set[str] = set()

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._waiting)

    def own(self, labelled: Mapping[int, set[str]]) -> None:
        """Begins with these partitions and no others; of each the pairs that have their label: ``settle`` adds to them.

        What waited, and what was taken and not settled, is forgotten: it is read again.
        """
        self._waiting.clear()
        self._taken.clear()
        self._labelled = labelled

    def add(self, records: Iterable[Record]) -> None:
        """Records in the order of their partition; those of partitions that are not owned are left out."""
        self._waiting.extend(record for record in records if record.partition in self._labelled)

    def take(self, most: int) -> Due | None:
        """The next batch, of at most so many pairs; None when nothing waits."""
        if not self._waiting:
            return None
        due = Due()
        for _ in range(min(len(self._waiting), most * _HELD_RECORDS)):
            if len(due.pairs) == most:
                break
            record = self._waiting.popleft()
            due.positions[record.partition] = record.offset + 1
            try:
                pair = self._pair(record)
            except BadEvent as error:
                due.rejected.append((record, error))
                continue
            if pair.pair_id in self._taken or pair.pair_id in self._labelled[record.partition]:
                due.passed += 1
            else:
                self._taken.add(pair.pair_id)
                due.pairs.append((record, pair))
        return due

    def settle(self, due: Due) -> None:
        """Says that the labels of a batch lie in the topic of labels."""
        for record, pair in due.pairs:
            self._taken.discard(pair.pair_id)
            self._labelled[record.partition].add(pair.pair_id)

    def _pair(self, record: Record) -> UnlabelledPair:
        pair = decode_pair(record.key or b"", record.value)
        if self._partition_of(pair.pair_id.encode()) != record.partition:
            raise BadEvent("key", "misrouted")
        return pair
