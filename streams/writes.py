"""What may be done to state, as values: a store applies them and decides nothing else."""

from dataclasses import dataclass
from typing import assert_never

from msgspec import Struct


class Increment(Struct, frozen=True, gc=False):
    """What one record adds to some edges of one query.

    Attributes:
        offset: of the record, in the source that the write names.
        day: UTC day of the search.
        exposures: 0 or 1, for each of the items.
        clicks: 0 or 1, for each of the items.
        item_ids: which items, none twice.
    """

    offset: int
    day: int
    exposures: int
    clicks: int
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CountWrite:
    """Increments of one query from one source, in offset order.

    Each offset is compared with the query's fence of that source as it was when the call began; larger ones count. The
    answer is every edge that the write names and that now reaches the floor, for repeated increments too.
    """

    query: int
    source: bytes
    increments: tuple[Increment, ...]


@dataclass(frozen=True, slots=True)
class EdgeWrite:
    """Copies of queries' edges for one item: (query, edge bytes). Only a newer version of an edge replaces an older."""

    item_id: str
    edges: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class TextWrite:
    """A text behind a 64-bit hash, for people who read sequences. Written once, never changed."""

    hash: int
    text: str


@dataclass(frozen=True, slots=True)
class ShopperWrite:
    """A shopper's new state, if the stored one is still what was read.

    Attributes:
        shopper: 16-byte name of the shopper.
        expected: the prefix (codec and fence) that was read, empty when there was nothing.
        head: the new state's bytes.
        records: sequence records to append, or the whole new sequence.
        replace: records are the whole sequence.
    """

    shopper: bytes
    expected: bytes
    head: bytes
    records: bytes
    replace: bool = False


Write = CountWrite | EdgeWrite | TextWrite | ShopperWrite

Edge = tuple[str, bytes]
"""(item id, edge bytes)"""

Reply = list[Edge] | bool
"""Edges for a CountWrite; whether it was written for a ShopperWrite; True for the others."""


def entity_of(write: Write) -> tuple[str, object]:
    """What a write touches, as (kind, id): each such entity lies in one slot."""
    match write:
        case CountWrite():
            return "query", write.query
        case EdgeWrite():
            return "item", write.item_id
        case TextWrite():
            return "text", write.hash
        case ShopperWrite():
            return "shopper", write.shopper
        case _:
            assert_never(write)
