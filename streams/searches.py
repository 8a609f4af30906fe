"""A shopper's state and what each event does to it: which search an event belongs to, and what follows from it.

``fold`` is the heart of law 1: pure, one event after the other, every bound applied after every event, so that no cut
into batches can change what comes out. Time comes from the records only.

What it promises when records come again (law 2):

- An offset at or below the shopper's fence changes nothing; the increments it once led to go out again as they were,
  from what the shopper keeps until the offset is acknowledged.
- The same event under two offsets (a producer that sent again) counts once while its search is open: by event id, and
  once the search has met its bound of ids, by (item, action).
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, assert_never

from msgspec import Struct, msgpack

from headrace.streams import sequences
from headrace.streams.events import Cart, Click, Impression, Purchase, Query, ShopperEvent, Touch, View
from headrace.streams.identity import day_of, hash64, hash_of, normalise
from headrace.streams.writes import Increment

FOLD_VERSION: Final = 1
"""Changes with every change of what ``fold`` means; a generation names the one it was built with."""

CODEC: Final = 1
PREFIX_BYTES: Final = 9
"""Codec and fence: what a writer expects to find again when it writes."""

EXPOSED, CLICKED, CARTED, PURCHASED, VIEWED = 1, 2, 4, 8, 16

Outcome = Literal["applied", "duplicate", "unattributed", "repeated"]


def name_of(item_id: str) -> bytes:
    """The 8 bytes by which a search knows an item."""
    return hash_of(item_id).to_bytes(8, "little")


@lru_cache(maxsize=1 << 16)
def query_of(text: str) -> tuple[int, str]:
    """(hash, normalised text) of a query."""
    name = normalise(text)
    return hash64(name), name


@dataclass(frozen=True, slots=True)
class StateBounds:
    """Every bound the state depends on; a generation names them and a worker with others refuses to start.

    Attributes:
        search_ms: how long a search stays open, on the shopper's clock.
        searches: open searches a shopper keeps.
        search_items: items of one search whose flags are kept; further ones do not count.
        search_touches: event ids one search remembers.
        sequence: N, records of a lifelong sequence.
        sequence_slack: records above N that may lie there before they are cut.
        window_days: W, days an edge keeps before its own newest.
        floor: exposures within the window from which an edge is copied to its item.
        query_items: items one query keeps.
        item_bytes: size one item's copies may reach.
        hits_are_exposures: ``query_response_hit_ids`` count as shown; for sources that send no impressions.
    """

    search_ms: int = 30 * 60_000
    searches: int = 32
    search_items: int = 1_000
    search_touches: int = 256
    sequence: int = 10_000
    sequence_slack: int = 512
    window_days: int = 30
    floor: int = 50
    query_items: int = 1_000
    item_bytes: int = 65_536
    hits_are_exposures: bool = False


class Search(Struct, array_like=True, gc=False):
    """One open search: what was shown and which flags are set, as parallel bytes (8 a hash, 1 the flags)."""

    at_ms: int
    query_id: str
    query: int
    items: bytes = b""
    flags: bytes = b""
    touches: bytes = b""


class Kept(Struct, array_like=True, frozen=True, gc=False):
    """What the record at an offset added: a bit for each of its items, so that it can be said again."""

    offset: int
    query: int
    day: int
    exposures: int
    clicks: int
    mask: bytes


class Shopper(Struct, array_like=True, gc=False):
    """Everything kept about one shopper but the sequence itself.

    Attributes:
        fence: last offset seen; -1 before the first.
        clock_ms: largest min(event time, Kafka timestamp) so far.
        length: records that lie in the sequence, those above N included.
        searches: open ones, oldest first by (time, id).
        kept: increments of offsets that are not acknowledged, oldest first.
    """

    fence: int = -1
    clock_ms: int = -1
    length: int = 0
    searches: list[Search] = []
    kept: list[Kept] = []


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(Shopper).decode


def prefix(value: bytes | None) -> bytes:
    """The part of a shopper's bytes that a writer must find unchanged; empty when there is nothing."""
    return value[:PREFIX_BYTES] if value else b""


def encode_shopper(shopper: Shopper) -> bytes:
    """The bytes of a shopper: u8 codec, i64 fence (little endian), then MessagePack arrays in field order."""
    return bytes((CODEC,)) + shopper.fence.to_bytes(8, "little", signed=True) + _encode(shopper)


def decode_shopper(value: bytes | None) -> Shopper:
    """The shopper behind some bytes; a new one when there are none.

    Raises:
        ValueError: another codec, or damaged bytes.
    """
    if not value:
        return Shopper(searches=[], kept=[])
    if value[0] != CODEC:
        raise ValueError(f"not a shopper of codec {CODEC}: {value[:12]!r}")
    return _decode(memoryview(value)[PREFIX_BYTES:])


class Entry(Struct, frozen=True, gc=False):
    """One decoded record on its way into a shopper."""

    offset: int
    timestamp_ms: int
    event: ShopperEvent


@dataclass(slots=True)
class Folded:
    """What some records did to one shopper.

    Attributes:
        shopper: the state after them.
        changed: whether it must be written.
        records: sequence records to append, packed.
        increments: (query, increment) in offset order, repeated ones included.
        texts: (hash, text) that the records named.
        outcomes: one for each record.
    """

    shopper: Shopper
    changed: bool = False
    records: list[bytes] = field(default_factory=list)
    increments: list[tuple[int, Increment]] = field(default_factory=list)
    texts: list[tuple[int, str]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def fold(shopper: Shopper, entries: Iterable[Entry], acknowledged: int, bounds: StateBounds) -> Folded:
    """What entries of one shopper, in offset order, lead to.

    Args:
        shopper: the state as read; taken over and changed.
        entries: records of the shopper's partition, by offset; offsets may come again.
        acknowledged: offsets below it are acknowledged to Kafka: what they added need not be kept.
        bounds: of the generation.
    """
    folded = Folded(shopper)
    for entry in entries:
        _name_texts(folded, entry.event)
        if entry.offset <= shopper.fence:
            _repeat(folded, entry, bounds)
            continue
        shopper.fence = entry.offset
        now_ms = min(entry.event.at_ms, entry.timestamp_ms)
        if now_ms > shopper.clock_ms:
            shopper.clock_ms = now_ms
        _evict(shopper, bounds)
        folded.outcomes.append(_step(folded, entry, bounds))
        folded.changed = True
    if folded.changed:
        shopper.length += len(folded.records)
        if shopper.kept and shopper.kept[0].offset < acknowledged:
            shopper.kept = [kept for kept in shopper.kept if kept.offset >= acknowledged]
    return folded


def _evict(shopper: Shopper, bounds: StateBounds) -> None:
    searches = shopper.searches
    leave = len(searches) - bounds.searches
    if leave < 0:
        leave = 0
    while leave < len(searches) and shopper.clock_ms - searches[leave].at_ms > bounds.search_ms:
        leave += 1
    if leave:
        del searches[:leave]


def _name_texts(folded: Folded, event: ShopperEvent) -> None:
    match event:
        case Query():
            folded.texts.append(query_of(event.text))
        case Click() | Cart() | Purchase() | View():
            folded.texts.append((hash_of(event.item_id), event.item_id))
        case Impression():
            pass
        case _:
            assert_never(event)


def _items_of(event: ShopperEvent) -> tuple[str, ...]:
    """The items an event shows or touches: what the bits of a mask stand for."""
    match event:
        case Query():
            return event.hits
        case Impression():
            return event.items
        case Click() | Cart() | Purchase() | View():
            return (event.item_id,)
        case _:
            assert_never(event)


def _repeat(folded: Folded, entry: Entry, bounds: StateBounds) -> None:
    there = folded.shopper.kept  # by offset, at most one each; as many as one shopper sends until Kafka has a commit
    at = bisect_left(there, entry.offset, key=_offset)
    if at < len(there) and there[at].offset == entry.offset:
        kept = there[at]
        mask = int.from_bytes(kept.mask, "little")
        items = tuple(item for bit, item in enumerate(_items_of(entry.event)) if mask >> bit & 1)
        increment = Increment(kept.offset, kept.day, kept.exposures, kept.clicks, items)
        folded.increments.append((kept.query, increment))
    folded.outcomes.append("repeated")


def _offset(kept: Kept) -> int:
    return kept.offset


def _step(folded: Folded, entry: Entry, bounds: StateBounds) -> Outcome:
    event = entry.event
    match event:
        case Query():
            return _open(folded, entry, event, bounds)
        case Impression():
            search = _search(folded.shopper, event.query_id)
            if search is None:
                return "unattributed"
            return "applied" if _expose(folded, entry, search, bounds) else "duplicate"
        case Click() | Cart() | Purchase() | View():
            return _touch(folded, entry, event, bounds)
        case _:
            assert_never(event)


def _search(shopper: Shopper, query_id: str) -> Search | None:
    if query_id:
        for search in reversed(shopper.searches):
            if search.query_id == query_id:
                return search
    return None


def _open(folded: Folded, entry: Entry, event: Query, bounds: StateBounds) -> Outcome:
    shopper = folded.shopper
    if _search(shopper, event.query_id) is not None:
        return "duplicate"
    query = query_of(event.text)[0]
    folded.records.append(sequences.pack(query, 0, event.at_ms, sequences.SEARCH))
    if not event.query_id:
        return "unattributed"
    search = Search(event.at_ms, event.query_id, query)
    searches = shopper.searches
    place = len(searches)
    while place and (searches[place - 1].at_ms, searches[place - 1].query_id) > (search.at_ms, search.query_id):
        place -= 1
    searches.insert(place, search)
    _evict(shopper, bounds)
    if bounds.hits_are_exposures and event.hits and search in searches:
        _expose(folded, entry, search, bounds)
    return "applied"


def _find(search: Search, item: bytes) -> int:
    """Where an item's hash stands in a search, -1 when it is not there."""
    at = search.items.find(item)
    while at > 0 and at & 7:  # a match that begins inside another hash is none
        at = search.items.find(item, at + 1)
    return at >> 3


def _expose(folded: Folded, entry: Entry, search: Search, bounds: StateBounds) -> bool:
    """Flags the event's items as shown and counts those that were not; whether there were any."""
    items = _items_of(entry.event)
    room = bounds.search_items - len(search.flags)
    if not search.items and 0 < len(items) <= room:  # the first list of a search, as nearly all of them are
        names = [name_of(item) for item in items]
        if len(set(names)) == len(names):
            search.items, search.flags = b"".join(names), bytes((EXPOSED,)) * len(names)
            _count(folded, entry, search, (1, 0), (1 << len(items)) - 1, items)
            return True
    mask, fresh, flags = 0, [], bytearray(search.flags)
    new: dict[bytes, None] = {}
    for bit, item in enumerate(items):
        name = name_of(item)
        at = _find(search, name) if search.items else -1
        if at >= 0:
            if flags[at] & EXPOSED:
                continue
            flags[at] |= EXPOSED
        elif name in new or len(new) >= room:
            continue
        else:
            new[name] = None
        mask |= 1 << bit
        fresh.append(item)
    if not fresh:
        return False
    search.flags = bytes(flags) + bytes((EXPOSED,)) * len(new)
    search.items += b"".join(new)
    _count(folded, entry, search, (1, 0), mask, tuple(fresh))
    return True


def _count(
    folded: Folded, entry: Entry, search: Search, counts: tuple[int, int], mask: int, items: tuple[str, ...]
) -> None:
    day = day_of(search.at_ms)
    exposures, clicks = counts
    folded.increments.append((search.query, Increment(entry.offset, day, exposures, clicks, items)))
    kept = Kept(
        entry.offset, search.query, day, exposures, clicks, mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    )
    folded.shopper.kept.append(kept)


_TOUCHES: Final[dict[type, tuple[int, int]]] = {
    Click: (sequences.CLICK, CLICKED),
    Cart: (sequences.CART, CARTED),
    Purchase: (sequences.PURCHASE, PURCHASED),
    View: (sequences.VIEW, VIEWED),
}


def _touch(folded: Folded, entry: Entry, event: Touch, bounds: StateBounds) -> Outcome:
    action, flag = _TOUCHES[type(event)]
    item = hash_of(event.item_id)
    search = _search(folded.shopper, event.query_id)
    if search is None:
        folded.records.append(sequences.pack(0, item, event.at_ms, action))
        return "unattributed"
    name = item.to_bytes(8, "little")
    at = _find(search, name) if search.items else -1
    flags = search.flags[at] if at >= 0 else 0
    if _seen(search, event.event_id, bool(flags & flag), bounds):
        return "duplicate"
    folded.records.append(sequences.pack(search.query, item, event.at_ms, action))
    if at < 0 and len(search.flags) >= bounds.search_items:
        return "applied"  # the search is full: the record stands in the sequence, the counts stay as they are
    exposures = 1 if flag == CLICKED and not flags & EXPOSED else 0
    clicks = 1 if flag == CLICKED and not flags & CLICKED else 0
    flags |= flag | (EXPOSED if flag == CLICKED else 0)
    if at < 0:
        search.items += name
        search.flags += bytes((flags,))
    else:
        search.flags = search.flags[:at] + bytes((flags,)) + search.flags[at + 1 :]
    if exposures or clicks:
        _count(folded, entry, search, (exposures, clicks), 1, (event.item_id,))
    return "applied"


def _seen(search: Search, event_id: str, flagged: bool, bounds: StateBounds) -> bool:
    """Whether a touch came before; remembers it when there is room."""
    touch = hash64(event_id).to_bytes(8, "little")
    touches = search.touches
    at = touches.find(touch)
    while at > 0 and at & 7:
        at = touches.find(touch, at + 1)
    if at >= 0:
        return True
    if len(touches) >= 8 * bounds.search_touches:
        return flagged
    search.touches = touches + touch
    return False
