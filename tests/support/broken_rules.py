"""The rules of laws 1 and 2, each broken on purpose in a class or a function of the real code; see ``mutations``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest.mock import patch

from faulty_cluster import Connection, Node
from headrace.streams import ingestion as ingestion_module
from headrace.streams import neighbours, searches
from headrace.streams import store as store_module
from headrace.streams.dump import Facts
from headrace.streams.events import Query
from headrace.streams.ingestion import Ingestion, Rejected, Shopping
from headrace.streams.neighbours import Row
from headrace.streams.searches import Entry, Folded, Shopper, StateBounds, decode_shopper
from headrace.streams.store import MemoryStore, Stored
from headrace.streams.writes import CountWrite, Edge, Reply, ShopperWrite, Write, entity_of


def patched(**names: object) -> Callable[[], AbstractContextManager[object]]:
    """Exchanges functions of the state code, ``module__function=...``."""
    modules: dict[str, ModuleType] = {
        "ingestion": ingestion_module,
        "neighbours": neighbours,
        "searches": searches,
        "store": store_module,
    }

    @contextmanager
    def exchange() -> Iterator[None]:
        with ExitStack() as ending:
            for name, function in names.items():
                module, _, attribute = name.partition("__")
                ending.enter_context(patch.object(modules[module], attribute, function))
            yield

    return exchange


# --- fences ----------------------------------------------------------------------------------------------------------


class NoFences(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        self._fences.pop((write.query, write.source), None)
        return super()._count(write)


class FencePerCall(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        if write.increments[-1].offset > self._fences.get((write.query, write.source), -1):
            self._fences.pop((write.query, write.source), None)
        return super()._count(write)


class ReversedOrder(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        return super()._count(replace(write, increments=write.increments[::-1]))


class RunningFence(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        edges: dict[str, Edge] = {}
        for increment in write.increments:
            edges.update({edge[0]: edge for edge in super()._count(replace(write, increments=(increment,)))})
        return list(edges.values())


class LateCounts(Connection):
    """Does not wait for the reply of one query's call before the next batch."""

    held: CountWrite | None = None

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        counts = [index for index, write in enumerate(writes) if isinstance(write, CountWrite)]
        if not counts:
            return super().apply(writes)
        if self.held is None and self._happens(0.3):
            out = self.world.random.choice(counts)
            held = writes[out]
            replies = super().apply([write for index, write in enumerate(writes) if index != out])
            self.held = held if isinstance(held, CountWrite) else None
            return [*replies[:out], [], *replies[out:]]
        replies = super().apply(writes)
        if self.held is not None:
            held, self.held = self.held, None
            super().apply([held])
        return replies


# --- order, and what is durable --------------------------------------------------------------------------------------


class ShopperFirst(Ingestion):
    """Writes shoppers before what was derived from them."""

    _derived: Mapping[Shopping, tuple[Stored, Folded]] = {}

    def _write_counts(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> None:
        self._derived = folds

    def _write_shoppers(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> list[Shopping]:
        refused = super()._write_shoppers(folds)
        written = {shopping: pair for shopping, pair in folds.items() if shopping not in refused}
        super()._write_counts(written)
        return refused


class AcknowledgedAtOnce(Connection):
    def settled(self, wait_ms: int = 0) -> int:
        super().settled(wait_ms)
        return len(self.marks)


class WaitsElsewhere(Connection):
    """WAITAOF on a connection that has written nothing: it answers at once; the marks are there."""

    def mark(self) -> int:
        number = super().mark()
        self.marks[-1] = [0] * len(self.cluster.nodes)
        return number


class NoMark(Connection):
    """WAITAOF on the connection that wrote, without a mark: it covers what that connection really changed."""

    def connect(self) -> None:
        super().connect()
        self.changed = [0] * len(self.cluster.nodes)

    def execute(self, write: Write) -> Reply:
        node = self.node(*entity_of(write))
        before = repr(vars(node.store))
        reply = node.execute(write)
        if repr(vars(node.store)) != before:
            self.changed[self.cluster.nodes.index(node)] = len(node.log)
        return reply

    def mark(self) -> int:
        number = super().mark()
        self.marks[-1] = list(self.changed)
        return number


class MarkWhereWritten(Connection):
    """A mark only on nodes to which calls that write were sent since the last one."""

    def connect(self) -> None:
        super().connect()
        self.touched: set[int] = set()

    def execute(self, write: Write) -> Reply:
        self.touched.add(self.cluster.place(*entity_of(write)))
        return super().execute(write)

    def mark(self) -> int:
        number = super().mark()
        places = self.marks[-1]
        before = self.marks[-2] if number > 1 else [0] * len(places)
        self.marks[-1] = [
            place if at in self.touched else earlier
            for at, (place, earlier) in enumerate(zip(places, before, strict=True))
        ]
        self.touched.clear()
        return number


# --- connections -----------------------------------------------------------------------------------------------------


class SilentReconnect(Connection):
    """A node that restarted is used as if nothing had been."""

    def _alive(self, number: int) -> Node:
        if not self.broken:
            self.epochs[number] = self.cluster.nodes[number].epoch
        return super()._alive(number)


class LateDetection(Connection):
    """A batch goes through after a restart before anybody notices."""

    lost = False

    def connect(self) -> None:
        self.lost = False
        super().connect()

    def mark(self) -> int:
        self.broken |= self.lost
        return super().mark()

    def settled(self, wait_ms: int = 0) -> int:
        self.broken |= self.lost
        settled = super().settled(wait_ms)
        self.broken |= self.lost
        return settled

    def _alive(self, number: int) -> Node:
        node = self.cluster.nodes[number]
        if not self.broken and self.epochs[number] != node.epoch:
            self.lost, self.epochs[number] = True, node.epoch
        return super()._alive(number)


class Outliving(Node):
    def crash(self, keep: int) -> None:
        left = self.in_flight[:]
        super().crash(keep)
        self.in_flight[:] = left


class KeepsOldSession(Ingestion):
    """Opens a new session and goes on where it was."""

    def _begin(self) -> None:
        marks = [batch.mark for batch in self._batches]
        super()._begin()
        for batch, mark in zip(self._batches, marks, strict=True):
            batch.mark = None if mark is None else 0


class KnownTexts(Ingestion):
    """Does not forget which texts it wrote when the store is a new one."""

    def _begin(self) -> None:
        known = set(self._texts)
        super()._begin()
        self._texts |= known


# --- shoppers --------------------------------------------------------------------------------------------------------


class NoCondition(MemoryStore):
    def _shopper(self, write: ShopperWrite) -> bool:
        stored = self._heads.get(write.shopper, b"")[: searches.PREFIX_BYTES]
        return super()._shopper(replace(write, expected=stored))


class GreaterFence(MemoryStore):
    def _shopper(self, write: ShopperWrite) -> bool:
        stored = self._heads.get(write.shopper)
        if decode_shopper(write.head).fence <= decode_shopper(stored).fence:
            return False
        return super()._shopper(replace(write, expected=searches.prefix(stored)))


class RefusedIsDone(Ingestion):
    def _write_shoppers(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> list[Shopping]:
        super()._write_shoppers(folds)
        return []


class CutForgets(Ingestion):
    """Cuts a sequence without what the batch adds."""

    def _whole_sequences(self, changed: Mapping[Shopping, tuple[Stored, Folded]]) -> dict[Shopping, bytes]:
        whole = super()._whole_sequences(changed)
        return {key: log[: max(0, len(log) - 25 * len(changed[key][1].records))] for key, log in whole.items()}


def cut_by_arrival(log: bytes, records: Iterable[bytes], limit: int) -> bytes:
    """The last records to arrive instead of the newest."""
    return (log + b"".join(records))[-25 * limit :]


# --- items -----------------------------------------------------------------------------------------------------------


class OnlyChangedEdges(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        fence = self._fences.get((write.query, write.source), -1)
        changed = {item for one in write.increments if one.offset > fence for item in one.item_ids}
        return [edge for edge in super()._count(write) if edge[0] in changed]


def version_without_clicks(rows: Sequence[Row]) -> tuple[int, int]:
    return (rows[-1][0], sum(row[1] for row in rows)) if rows else (-1, 0)


def version_without_day(rows: Sequence[Row]) -> tuple[int, int]:
    return (0, sum(row[1] + row[2] for row in rows)) if rows else (-1, 0)


class TrimmedByQuery(MemoryStore):
    def _count(self, write: CountWrite) -> list[Edge]:
        edges = super()._count(write)
        stored = self._edges[write.query]
        newest = max((rows[-1][0] for rows in stored.values() if rows), default=0)
        for item, rows in stored.items():
            stored[item] = [row for row in rows if row[0] > newest - self.bounds.window_days]
        packed = ((item, neighbours.pack_edge(stored[item])) for item, _ in edges if stored.get(item))
        return [edge for edge in packed if neighbours.exposures_of(edge[1]) >= self.bounds.floor]

    def facts(self) -> Facts:
        facts = super().facts()
        facts.edges = [fact for fact in facts.edges if fact.rows]
        return facts


# --- searches --------------------------------------------------------------------------------------------------------


def fold_evicting_once(shopper: Shopper, entries: Iterable[Entry], acknowledged: int, bounds: StateBounds) -> Folded:
    """Bounds applied at the end of a batch instead of after every event."""
    evict = real_evict
    with patch.object(searches, "_evict", lambda shopper, bounds: None):
        folded = real_fold(shopper, entries, acknowledged, bounds)
    evict(shopper, bounds)
    return folded


def open_by_arrival(folded: Folded, entry: Entry, event: Query, bounds: StateBounds) -> searches.Outcome:
    """A search is put behind the others, whenever it was."""
    before = list(folded.shopper.searches)
    with patch.object(searches, "_evict", lambda shopper, bounds: None):
        outcome = real_open(folded, entry, event, bounds)
    opened = [search for search in folded.shopper.searches if search not in before]
    folded.shopper.searches[:] = before + opened
    real_evict(folded.shopper, bounds)
    return outcome


real_evict, real_fold, real_open = searches._evict, searches.fold, searches._open


# --- kept increments -------------------------------------------------------------------------------------------------


def fold_trimming(shopper: Shopper, entries: Iterable[Entry], acknowledged: int, bounds: StateBounds) -> Folded:
    """Kept increments go as soon as the next batch comes."""
    return real_fold(shopper, entries, max(acknowledged, shopper.fence + 1), bounds)


def fold_keeping_nothing(shopper: Shopper, entries: Iterable[Entry], acknowledged: int, bounds: StateBounds) -> Folded:
    """Neither kept increments nor a wait between what is derived and the shopper."""
    folded = real_fold(shopper, entries, acknowledged, bounds)
    shopper.kept = []
    return folded


# --- nothing is dropped in silence -----------------------------------------------------------------------------------


class RejectsLater(Ingestion):
    """Dead letters go out after their offsets were acknowledged."""

    later: list[Rejected]

    def advance(self, wait_ms: int = 0) -> bool:
        later, self.later = getattr(self, "later", []), []
        if later:
            self._reject(later)
        return super().advance(wait_ms)

    def _apply(self, batch: Any) -> None:
        self.later += batch.rejected
        batch.rejected = []
        super()._apply(batch)
