"""The promise a store makes, and its meaning: the store in memory is the definition, others must leave equal dumps.

Order of calls, for each micro-batch of one worker::

    read -> (fold) -> apply counts and texts -> apply edges -> apply shoppers -> mark ... settled

What a store promises:

- ``apply`` carries out each write all or nothing, in the order given for one entity, and answers in that order. Between
  two writes of one call anything may go wrong: some are done, others not, and ``StoreUnavailable`` is raised.
- ``session`` is the number of the connection. Another number means another store, which may have lost what was not
  durable: everything unacknowledged must be applied again before anything else. A store never reconnects by itself.
- ``mark`` asks that everything answered so far become durable; ``settled`` says up to which mark it is.

What it does not promise: that a write is visible to another worker's read at once, or that anything expires.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from headrace.streams import item_copies, neighbours, sequences
from headrace.streams.dump import EdgeFact, Facts, ShopperFact
from headrace.streams.neighbours import Row
from headrace.streams.searches import PREFIX_BYTES, StateBounds, decode_shopper
from headrace.streams.writes import CountWrite, Edge, EdgeWrite, Reply, ShopperWrite, TextWrite, Write


@dataclass(frozen=True, slots=True)
class Stored:
    """What lies under a shopper's name: its bytes (None: nothing) and, when asked for, its sequence in log order."""

    head: bytes | None
    log: bytes = b""


class Store(Protocol):
    """State behind one connection; see the module for the promises."""

    @property
    def session(self) -> int:
        """The number of the connection that is used now; grows with every ``connect``."""

    def connect(self) -> None:
        """Drops what there was and opens a new session.

        Raises:
            StoreUnavailable: it cannot be reached.
        """

    def read(self, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        """What lies under some shoppers' names, in their order; with their sequences when logs is true."""

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        """Carries out writes, answers in their order."""

    def mark(self) -> int:
        """Asks that all that was answered become durable; the number to compare ``settled`` with."""

    def settled(self, wait_ms: int = 0) -> int:
        """The largest mark of this session that is durable; waits up to wait_ms for the newest one."""

    def facts(self) -> Facts:
        """Everything a dump is made of. Slow: reads the whole generation."""


class MemoryStore:
    """The state in dictionaries: what every other store must equal."""

    def __init__(self, bounds: StateBounds | None = None) -> None:
        self.bounds = bounds or StateBounds()
        self.session = 1
        self._edges: dict[int, dict[str, list[Row]]] = {}
        self._fences: dict[tuple[int, bytes], int] = {}
        self._capped: set[int] = set()
        self._items: dict[str, dict[int, bytes]] = {}
        self._capped_items: set[str] = set()
        self._texts: dict[int, str] = {}
        self._heads: dict[bytes, bytes] = {}
        self._logs: dict[bytes, bytes] = {}
        self._marks = 0

    def connect(self) -> None:
        """A new session over the same state: memory loses nothing."""
        self.session += 1

    def read(self, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        """What lies under some shoppers' names."""
        return [Stored(self._heads.get(name), self._logs.get(name, b"") if logs else b"") for name in shoppers]

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        """Carries out writes, answers in their order."""
        return [self._apply(write) for write in writes]

    def mark(self) -> int:
        """The next mark, durable at once."""
        self._marks += 1
        return self._marks

    def settled(self, wait_ms: int = 0) -> int:
        """The newest mark."""
        return self._marks

    def facts(self) -> Facts:
        """Everything a dump is made of."""
        return Facts(
            edges=[
                EdgeFact(query, item, tuple(rows), query in self._capped)
                for query, edges in self._edges.items()
                for item, rows in edges.items()
            ],
            copies=[
                EdgeFact(query, item, tuple(neighbours.unpack_edge(edge)), False)
                for item, edges in self._items.items()
                for query, edge in edges.items()
            ],
            shoppers=[
                ShopperFact(name, decode_shopper(head), self._logs.get(name, b"")) for name, head in self._heads.items()
            ],
            texts=dict(self._texts),
            capped_items=set(self._capped_items),
        )

    def _apply(self, write: Write) -> Reply:
        match write:
            case CountWrite():
                return self._count(write)
            case EdgeWrite():
                return self._copy(write)
            case TextWrite():
                self._texts.setdefault(write.hash, write.text)
                return True
            case ShopperWrite():
                return self._shopper(write)
            case _:
                assert_never(write)

    def _count(self, write: CountWrite) -> list[Edge]:
        edges = self._edges.setdefault(write.query, {})
        fence = self._fences.get((write.query, write.source), -1)
        named: dict[str, None] = {}
        for increment in write.increments:
            named.update(dict.fromkeys(increment.item_ids))
            if increment.offset <= fence:
                continue
            for item in increment.item_ids:
                rows = edges.get(item, [])
                edges[item] = neighbours.add(
                    rows, increment.day, increment.exposures, increment.clicks, self.bounds.window_days
                )
        if write.increments and write.increments[-1].offset > fence:
            self._fences[write.query, write.source] = write.increments[-1].offset
        if len(edges) > self.bounds.query_items:
            self._capped.add(write.query)
            order = sorted(edges, key=lambda item: (neighbours.version(edges[item]), item))
            for item in order[: len(edges) - self.bounds.query_items]:
                del edges[item]
        packed = ((item, neighbours.pack_edge(edges[item])) for item in named if item in edges)
        return [edge for edge in packed if neighbours.exposures_of(edge[1]) >= self.bounds.floor]

    def _copy(self, write: EdgeWrite) -> bool:
        copies = self._items.setdefault(write.item_id, {})
        for query, edge in write.edges:
            there = copies.get(query)
            old = neighbours.version(neighbours.unpack_edge(there)) if there else (-1, 0)
            if neighbours.version(neighbours.unpack_edge(edge)) > old:
                copies[query] = edge
        order = sorted(copies, key=lambda query: neighbours.version(neighbours.unpack_edge(copies[query])))
        while order and sum(map(_copy_bytes, copies.values())) > self.bounds.item_bytes - item_copies.HEAD_BYTES:
            self._capped_items.add(write.item_id)
            del copies[order.pop(0)]
        return True

    def _shopper(self, write: ShopperWrite) -> bool:
        if self._heads.get(write.shopper, b"")[:PREFIX_BYTES] != write.expected:
            return False
        self._heads[write.shopper] = write.head
        before = b"" if write.replace else self._logs.get(write.shopper, b"")
        self._logs[write.shopper] = before + write.records
        return True


def _copy_bytes(edge: bytes) -> int:
    return len(neighbours.unpack_edge(edge)) * item_copies.ROW_BYTES


def cut(log: bytes, records: Iterable[bytes], limit: int) -> bytes:
    """The sequence that replaces a log after some records: the newest, in event-time order, as bytes."""
    return sequences.newest(log + b"".join(records), limit).tobytes()
