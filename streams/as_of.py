"""State as it stood at given fences, from one pass over the log: what a request had read, computed again.

Within one generation a shopper's state is a function of one partition up to the shopper's fence, and a query's edges
are sums of increments up to its fence of each source: so both can be had again, exactly, as long as the log holds them.
An item's copies cannot: when a copy was made depends on how records met in batches, and no fence says it.

The pass runs the real fold through the real ``Ingestion``. Batches are cut at every fence that is asked for, so that
the store's shopper *is* the one as of that fence. Kept in memory: every shopper's open searches (the fold needs them),
the sequences of the shoppers asked for, the increments of the queries asked for. Pure.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from headrace.streams import sequences
from headrace.streams.dump import Facts
from headrace.streams.events import EventLimits
from headrace.streams.ingestion import Ingestion, Record, Rejected, Source
from headrace.streams.keys import shopper_name
from headrace.streams.neighbours import pack_edge
from headrace.streams.searches import StateBounds
from headrace.streams.store import MemoryStore, Stored
from headrace.streams.writes import CountWrite, EdgeWrite, Increment, Reply, ShopperWrite, TextWrite, Write

_NEVER: Final = 1 << 60
_CODEC_BYTES: Final = 1
_FENCE_BYTES: Final = 8

Fences = Mapping[bytes, int]
"""Source token -> last offset seen."""


@dataclass(frozen=True, slots=True)
class QueryThen:
    """A query as of some fences.

    Attributes:
        edges: item id -> edge bytes, as `neighbours` packs them.
        capped: it had met its bound of items: which edges it kept depends on batches, so ``edges`` says nothing sure.
    """

    edges: dict[str, bytes]
    capped: bool


@dataclass(slots=True)
class _Counts:
    """A query's increments by source, by offset; and the store that holds them up to the fences asked for last."""

    increments: dict[bytes, list[Increment]] = field(default_factory=dict)
    store: MemoryStore | None = None
    upto: dict[bytes, int] = field(default_factory=dict)


class _Ledger:
    """A store that keeps what a later question needs; shoppers' heads as the store in memory does."""

    def __init__(self, fences: Mapping[bytes, frozenset[int]], queries: Iterable[int]) -> None:
        self._shoppers = MemoryStore()
        self._fences = fences
        self.counts = {query: _Counts() for query in queries}
        self.logs: dict[bytes, bytearray] = {name: bytearray() for name in fences}
        self.marks: dict[tuple[bytes, int], tuple[bytes, int]] = {}
        """(shopper, fence) -> its bytes then, and the length of its log."""

    @property
    def session(self) -> int:
        return self._shoppers.session

    def connect(self) -> None:
        self._shoppers.connect()

    def read(self, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        return self._shoppers.read(shoppers)

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        return [self._apply(write) for write in writes]

    def mark(self) -> int:
        return self._shoppers.mark()

    def settled(self, wait_ms: int = 0) -> int:
        return self._shoppers.settled(wait_ms)

    def facts(self) -> Facts:
        return self._shoppers.facts()

    def _apply(self, write: Write) -> Reply:
        match write:
            case CountWrite():
                if (counts := self.counts.get(write.query)) is not None:
                    counts.increments.setdefault(write.source, []).extend(write.increments)
                return []  # no edge reaches a floor: no copies are made
            case ShopperWrite():
                self._note(write)
                return self._shoppers.apply([replace(write, records=b"")])[0]
            case TextWrite() | EdgeWrite():
                return True

    def _note(self, write: ShopperWrite) -> None:
        wanted = self._fences.get(write.shopper)
        if wanted is None:
            return
        log = self.logs[write.shopper]
        log += write.records
        fence = int.from_bytes(write.head[_CODEC_BYTES : _CODEC_BYTES + _FENCE_BYTES], "little", signed=True)
        if fence in wanted:
            self.marks[write.shopper, fence] = (write.head, len(log))


class Past:
    """Takes the log once, then answers what there was as of a fence.

    Args:
        source: the topic.
        bounds: of the generation.
        limits: what the topic accepts.
        shoppers: client id -> the fences that will be asked for.
        queries: hashes of the queries that will be asked for.
    """

    def __init__(
        self,
        source: Source,
        bounds: StateBounds,
        limits: EventLimits,
        shoppers: Mapping[str, Iterable[int]],
        queries: Iterable[int],
    ) -> None:
        fences = {client_id: frozenset(asked) for client_id, asked in shoppers.items()}
        self._bounds = bounds
        self._ledger = _Ledger({shopper_name(client_id): asked for client_id, asked in fences.items()}, queries)
        self._cuts = {(source.partition_of(client), fence) for client, asked in fences.items() for fence in asked}
        # A sequence is never cut on the way: what was in it then can be told from its place in log order.
        self._ingestion = Ingestion(self._ledger, source, replace(bounds, sequence_slack=_NEVER), limits, _unused)

    def take(self, records: Sequence[Record]) -> None:
        """The next records, of each partition in offset order."""
        first = 0
        for place, record in enumerate(records, 1):
            if (record.partition, record.offset) in self._cuts:
                self._step(records[first:place])
                first = place
        self._step(records[first:])

    def shopper(self, client_id: str, fence: int) -> Stored | None:
        """The shopper as of a fence, the log whole and in log order; None: the log has no such fence of this one."""
        name = shopper_name(client_id)
        if (name, fence) not in self._ledger.marks:
            return None
        head, length = self._ledger.marks[name, fence]
        return Stored(head, bytes(self._ledger.logs[name][:length]))

    def happened(self, client_id: str, seen: int, at_ms: int) -> bytes:
        """What a shopper's log, in log order, would have been at a time, had nothing been under way.

        Args:
            client_id: the shopper.
            seen: the first so many records belong to it in any case.
            at_ms: later ones do when they happened no later than this, by event time.
        """
        log = bytes(self._ledger.logs[shopper_name(client_id)])
        records = np.frombuffer(log, dtype=sequences.RECORD)
        belongs = records["at_ms"] <= at_ms
        belongs[:seen] = True
        return records[belongs].tobytes()

    def query(self, query: int, fences: Fences) -> QueryThen | None:
        """The query's edges as of its fences; None: the log has no increment of this query at one of them.

        Cheapest when the fences of one query are asked for in the order in which they were read.
        """
        counts = self._ledger.counts[query]
        if counts.store is None or any(fences.get(token, -1) < offset for token, offset in counts.upto.items()):
            counts.store, counts.upto = MemoryStore(self._bounds), {}
        for token, fence in fences.items():
            found = counts.increments.get(token, [])
            end = bisect_right(found, fence, key=_offset)
            if not end or found[end - 1].offset != fence:
                return None
            begin = bisect_right(found, counts.upto.get(token, -1), key=_offset)
            counts.store.apply([CountWrite(query, token, tuple(found[begin:end]))])
            counts.upto[token] = fence
        facts = counts.store.facts().edges
        return QueryThen({edge.item_id: pack_edge(edge.rows) for edge in facts}, any(edge.capped for edge in facts))

    def _step(self, records: Sequence[Record]) -> None:
        if records:
            self._ingestion.take(records)
            self._ingestion.advance()
            self._ingestion.committed(self._ingestion.acknowledged())


def _offset(increment: Increment) -> int:
    return increment.offset


def _unused(rejected: Sequence[Rejected]) -> None:
    """Records that nobody could use changed no state."""
