"""What is held of a search until its lists are ripe, and the rows of bytes that keep it in a file.

Each record that counts is one `Row`, written once; a search that is over leaves as a whole.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from headrace.streams import feature_log
from headrace.streams.feature_log import FeatureLogLimits, Served
from headrace.streams.labels import Shown, Touched

ROW_OVERHEAD_BYTES: Final = 200
"""What a row costs in memory and in the file beside its bytes; so many also count for a search of its own."""

_UNBOUNDED: Final = FeatureLogLimits(
    1 << 31, 1 << 31, 1 << 31, 1 << 31, 1 << 31
)  # a row was checked before it was held


class PendingLimits(msgspec.Struct, frozen=True):
    """How much may be held; the search whose next deadline is nearest leaves first, and is counted."""

    searches: int = 200_000
    held_bytes: int = 512_000_000
    closed: int = 200_000
    lists: int = 64  # of one search, as are the next two
    shows: int = 256
    touches: int = 256


class Done(msgspec.Struct, frozen=True, array_like=True):
    """A list of a search that has matured, and the touches that became its labels."""

    request_id: str
    example_id: str
    used: tuple[Touched, ...]


class Closed(msgspec.Struct, frozen=True, array_like=True):
    """A search that is over: its examples with the times of their lists, and when nothing can follow any more."""

    examples: tuple[tuple[str, int], ...]
    until_ms: int


Held = Served | Shown | Touched | Done


class Row(NamedTuple):
    """One held record: the search's key [24 bytes, the first 8 name the shopper], what it is, its bytes."""

    search: bytes
    kind: int
    blob: bytes


@dataclass(slots=True)
class Changes:
    """What a file must do to hold what `Pending` holds: insert, then remove all rows of a search."""

    rows: list[Row] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    closed: list[tuple[bytes, bytes]] = field(default_factory=list)
    forgotten: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Search:
    """All that is held of one search: lists by request, impressions and touches once each, lists that are done."""

    lists: dict[str, Served] = field(default_factory=dict)
    shows: dict[Shown, None] = field(default_factory=dict)
    touches: dict[Touched, None] = field(default_factory=dict)
    done: dict[str, Done] = field(default_factory=dict)
    last_ms: int = 0
    held_bytes: int = ROW_OVERHEAD_BYTES

    def put(self, held: Held) -> None:
        """It is held."""
        if isinstance(held, Served):
            self.lists[held.request_id] = held
        elif isinstance(held, Shown):
            self.shows[held] = None
        elif isinstance(held, Touched):
            self.touches[held] = None
        else:
            self.done[held.request_id] = held
            return
        self.last_ms = max(self.last_ms, held.at_ms)

    def holds(self, held: Served | Shown | Touched) -> bool:
        """Whether the same came before."""
        if isinstance(held, Served):
            return held.request_id in self.lists
        return held in self.shows or held in self.touches

    def full_for(self, held: Served | Shown | Touched, limits: PendingLimits) -> bool:
        """Whether the search has as many of its kind as it may."""
        if isinstance(held, Served):
            return len(self.lists) >= limits.lists
        if isinstance(held, Shown):
            return len(self.shows) >= limits.shows
        return len(self.touches) >= limits.touches


def search_key(client_id: str, query_id: str) -> bytes:
    """The key of a search, 24 bytes; the first 8 are those of the shopper."""
    shopper = blake2b(client_id.encode(), digest_size=8).digest()
    return shopper + blake2b(query_id.encode(), digest_size=16, key=shopper).digest()


def pack(held: Held) -> tuple[int, bytes]:
    """What a row says of it: its kind and its bytes."""
    if isinstance(held, Served):
        return 0, feature_log.encode(held)
    return 1 + (Shown, Touched, Done).index(type(held)), msgspec.msgpack.encode(held)


def unpack(kind: int, blob: bytes) -> Held:
    """What a row holds; rows are our own, so they are whole."""
    if kind == 0:
        return feature_log.decode(blob, _UNBOUNDED)
    kinds: tuple[type[Shown] | type[Touched] | type[Done], ...] = (Shown, Touched, Done)
    return msgspec.msgpack.decode(blob, type=kinds[kind - 1])
