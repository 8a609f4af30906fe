"""A micro-batch from records to durable state: the order of steps that laws 1 and 2 rest on, the same for every driver.

One ``Ingestion`` belongs to one worker and one store. A driver gives it records and asks it, again and again, to
advance::

    ingestion.take(records)                 # decoded and queued; nothing is written yet
    while not ingestion.advance():          # False: the store is away; wait and ask again
        sleep(...)
    commit(ingestion.acknowledged())        # to Kafka: what is durable, and no more
    ingestion.committed(positions)          # once Kafka has said yes

Steps of a batch: read the shoppers, fold, write the queries' counts (and texts), write the items' copies, write the
shoppers, ask for durability. Counts go out before the shopper that they were derived from: a crash in between derives
the same counts again and their fences drop them. A shopper's write that is refused (another worker was there) is read
and folded again. A batch waits for all replies of the one before.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct

from headrace import BadEvent, StoreUnavailable, TooLate
from headrace.streams.events import EventLimits, admit, decode
from headrace.streams.keys import shopper_name
from headrace.streams.searches import Entry, Folded, StateBounds, decode_shopper, encode_shopper, fold, prefix
from headrace.streams.store import Store, Stored, cut
from headrace.streams.writes import CountWrite, EdgeWrite, Increment, ShopperWrite, TextWrite, Write

_KNOWN_TEXTS: Final = 200_000
_REFUSALS: Final = 100
_PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Record(Struct, frozen=True, gc=False):
    """One record of the events topic as Kafka holds it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from: one topic of one cluster.

    Attributes:
        topic: its name.
        tokens: 8 bytes for each partition, which fences are kept under.
        partition_of: to which partition a shopper's events belong.
    """

    topic: str
    tokens: tuple[bytes, ...]
    partition_of: Callable[[str], int]


Shopping = tuple[int, str]
"""(partition, client id)"""

Rejected = tuple[Record, BadEvent]


@dataclass(slots=True)
class Decoded:
    """Records between ``take`` and acknowledgement: those that can be used by shopper, and those that cannot.

    Attributes:
        entries: of each shopper, by offset.
        rejected: with the reason.
        positions: partition -> the offset behind its last record.
        records: how many they were.
        mark: durable once the store has settled it; None until it is applied.
    """

    entries: dict[Shopping, list[Entry]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    records: int = 0
    mark: int | None = None


class Ingestion:
    """Applies records to a store, effectively once.

    Args:
        store: where state lies; it is connected by ``advance``.
        source: the topic that is read.
        bounds: of the generation.
        limits: what the topic accepts.
        reject: takes records that cannot be used; when it returns they are safe elsewhere. May be called again with
            the same record after a restart.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        bounds: StateBounds,
        limits: EventLimits,
        reject: Callable[[Sequence[Rejected]], None],
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self._store, self._source, self._bounds, self._limits, self._reject = store, source, bounds, limits, reject
        self._session = 0
        self._batches: deque[Decoded] = deque()
        self._acknowledged: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._texts: set[int] = set()
        self.last_failure = ""

    @property
    def pending(self) -> int:
        """Records that were taken and are not acknowledged; a driver bounds them by not taking more.

        May be asked for while another thread is inside `advance`.
        """
        return sum(batch.records for batch in tuple(self._batches))  # copied in one step of the interpreter

    def assigned(self, positions: Mapping[int, int]) -> None:
        """Says which partitions this worker owns now, and up to which offset each is committed.

        What waits for other partitions is forgotten: their new owner reads it again.
        """
        for batch in self._batches:
            batch.entries = {key: entries for key, entries in batch.entries.items() if key[0] in positions}
            batch.rejected = [pair for pair in batch.rejected if pair[0].partition in positions]
            batch.positions = {part: offset for part, offset in batch.positions.items() if part in positions}
        self._acknowledged = {
            part: max(offset, positions[part]) for part, offset in self._acknowledged.items() if part in positions
        }
        self._committed = dict(positions)

    def take(self, records: Sequence[Record]) -> None:
        """Decodes records (of each partition in offset order) and queues them; ``advance`` applies them."""
        self.queue(self.decoded(records))

    def decoded(self, records: Sequence[Record]) -> "Decoded":
        """The first half of ``take``. Touches nothing else: another thread may ``advance`` meanwhile."""
        batch = Decoded(records=len(records))
        limits, partition_of = self._limits, self._source.partition_of
        entries, positions = batch.entries, batch.positions
        for record in records:
            partition, offset = record.partition, record.offset
            positions[partition] = offset + 1
            try:
                event = decode(record.value, limits)
                if partition_of(event.client_id) != partition:
                    raise BadEvent("key", "misrouted")
                admit(event, record.timestamp_ms, limits)
            except BadEvent as error:
                batch.rejected.append((record, error))
                continue
            entry = Entry(offset, record.timestamp_ms, event)
            shopping = (partition, event.client_id)
            there = entries.get(shopping)
            if there is None:
                entries[shopping] = [entry]
            else:
                there.append(entry)
        return batch

    def queue(self, batch: "Decoded") -> None:
        """The second half of ``take``; not while ``advance`` runs."""
        self._batches.append(batch)

    def advance(self, wait_ms: int = 0) -> bool:
        """Applies what was taken and collects what has become durable; False when the store is away.

        After a failure the next call opens a new session and applies everything unacknowledged again, in order,
        before anything else.

        Args:
            wait_ms: how long to wait for the newest batch to become durable.
        """
        try:
            if not self._session or self._session != self._store.session:
                self._begin()
            for batch in self._batches:
                if batch.mark is None:
                    self._apply(batch)
                    batch.mark = self._store.mark()
            settled = self._store.settled(wait_ms)
        except StoreUnavailable as error:
            self._session = 0
            self.last_failure = str(error)
            return False
        while self._batches and (self._batches[0].mark or 0) <= settled:
            for partition, offset in self._batches.popleft().positions.items():
                before = max(self._acknowledged.get(partition, 0), self._committed.get(partition, 0))
                self._acknowledged[partition] = max(offset, before)  # what is read again ends below it
        return True

    def acknowledged(self) -> dict[int, int]:
        """For each partition the offset to commit: everything before it is durable."""
        return dict(self._acknowledged)

    def committed(self, positions: Mapping[int, int]) -> None:
        """Says what Kafka has taken: increments at offsets before it need not be kept any more."""
        for partition, offset in positions.items():
            self._committed[partition] = max(offset, self._committed.get(partition, 0))

    def _begin(self) -> None:
        self._store.connect()
        self._texts.clear()
        for batch in self._batches:
            batch.mark = None
        self._session = self._store.session

    def _apply(self, batch: Decoded) -> None:
        if batch.rejected:
            self._reject(batch.rejected)
            for _, error in batch.rejected:
                self.outcomes["late" if isinstance(error, TooLate) else f"bad.{error.reason}"] += 1
            batch.rejected = []
        todo, rounds = batch.entries, 0
        while todo:
            folds = self._fold(todo)
            self._write_counts(folds)
            todo = {shopping: batch.entries[shopping] for shopping in self._write_shoppers(folds)}
            for shopping, (_, folded) in folds.items():
                if shopping not in todo:
                    self.outcomes.update(folded.outcomes)
            rounds += 1
            if rounds > _REFUSALS:
                raise StoreUnavailable(
                    f"another worker keeps writing the same {len(todo)} shoppers: is it still alive?"
                )

    def _fold(self, todo: Mapping[Shopping, list[Entry]]) -> dict[Shopping, tuple[Stored, Folded]]:
        stored = self._store.read([shopper_name(client_id) for _, client_id in todo])
        return {
            shopping: (
                there,
                fold(decode_shopper(there.head), entries, self._committed.get(shopping[0], 0), self._bounds),
            )
            for (shopping, entries), there in zip(todo.items(), stored, strict=True)
        }

    def _write_counts(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> None:
        """Writes what the folds add to queries, with the texts they name, then the items' copies of the edges."""
        counts = self._counts(folds)
        texts = {name: text for _, folded in folds.values() for name, text in folded.texts if name not in self._texts}
        if not counts and not texts:
            return
        replies = self._store.apply([*counts, *(TextWrite(name, text) for name, text in texts.items())])
        if len(self._texts) > _KNOWN_TEXTS:
            self._texts.clear()
        self._texts.update(texts)
        copies: dict[str, dict[int, bytes]] = {}
        for write, reply in zip(counts, replies, strict=False):  # the texts' replies say nothing
            if isinstance(reply, list):
                for item_id, edge in reply:
                    copies.setdefault(item_id, {})[write.query] = edge
        if copies:
            self._store.apply([EdgeWrite(item_id, tuple(edges.items())) for item_id, edges in copies.items()])

    def _counts(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> list[CountWrite]:
        """One write for each query and source, its increments in offset order."""
        increments: dict[tuple[int, bytes], list[Increment]] = {}
        tokens = self._source.tokens
        for (partition, _), (_, folded) in folds.items():
            for query, increment in folded.increments:
                increments.setdefault((query, tokens[partition]), []).append(increment)
        for found in increments.values():
            found.sort(key=_offset)
        return [CountWrite(query, token, tuple(found)) for (query, token), found in increments.items()]

    def _write_shoppers(self, folds: Mapping[Shopping, tuple[Stored, Folded]]) -> list[Shopping]:
        """Writes the shoppers that changed; those that were refused."""
        changed = {shopping: pair for shopping, pair in folds.items() if pair[1].changed}
        if not changed:
            return []
        whole = self._whole_sequences(changed)
        writes: list[Write] = []
        for (partition, client_id), (stored, folded) in changed.items():
            replaced = whole.get((partition, client_id))
            if replaced is not None:
                folded.shopper.length = min(folded.shopper.length, self._bounds.sequence)
            head = encode_shopper(folded.shopper)
            records = b"".join(folded.records) if replaced is None else replaced
            writes.append(
                ShopperWrite(shopper_name(client_id), prefix(stored.head), head, records, replaced is not None)
            )
        replies = self._store.apply(writes)
        return [shopping for shopping, reply in zip(changed, replies, strict=True) if reply is False]

    def _whole_sequences(self, changed: Mapping[Shopping, tuple[Stored, Folded]]) -> dict[Shopping, bytes]:
        """The sequences that have grown past their slack, cut to the newest."""
        bounds = self._bounds
        most = bounds.sequence + bounds.sequence_slack
        long = [key for key, (_, folded) in changed.items() if folded.shopper.length > most]
        if not long:
            return {}
        logs = self._store.read([shopper_name(client_id) for _, client_id in long], logs=True)
        return {
            key: cut(there.log, changed[key][1].records, bounds.sequence) for key, there in zip(long, logs, strict=True)
        }


def _offset(increment: Increment) -> int:
    return increment.offset


def pause_s(failures: int) -> float:
    """How long a driver lets the store be after so many failures in a row (1 or more), seconds."""
    return _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
