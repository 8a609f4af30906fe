"""The canonical dump of a generation: equal states give equal bytes, and a difference can be read.

Sorted lines; cut to the window and the floors as of a day; without fences, kept increments and caches. A query that
ever met its bound of items says ``capped``, while any of its days lies in the window (the newest is never let go), and
is compared by that alone: which of its edges were let go depends on the order in which partitions came. An item's
copies that ever met their bound of bytes are left out.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from headrace.streams import sequences
from headrace.streams.neighbours import Row, within
from headrace.streams.searches import Shopper, StateBounds


@dataclass(frozen=True, slots=True)
class EdgeFact:
    """One edge as it is stored, at a query or as an item's copy."""

    query: int
    item_id: str
    rows: tuple[Row, ...]
    capped: bool


@dataclass(frozen=True, slots=True)
class ShopperFact:
    """One shopper as stored."""

    name: bytes
    shopper: Shopper
    log: bytes


@dataclass(slots=True)
class Facts:
    """Everything a dump is made of, in any order."""

    edges: list[EdgeFact] = field(default_factory=list)
    copies: list[EdgeFact] = field(default_factory=list)
    shoppers: list[ShopperFact] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    capped_items: set[str] = field(default_factory=set)


def dump(facts: Facts, as_of_day: int, bounds: StateBounds, leave_out: Collection[str] = ()) -> bytes:
    """The canonical dump as of a day.

    Args:
        facts: of one generation.
        as_of_day: UTC day; must not lie before the newest day that is stored.
        bounds: of the generation.
        leave_out: items whose copies are left out beside those that met their bound of bytes here. Whether an item met
            it depends on batches, so two states are compared without the items of either.

    Raises:
        ValueError: a day is newer than as_of_day: floors and windows of two states could then differ in what is shown
            though the states are equal.
    """
    newest = newest_day(facts)
    if newest > as_of_day:
        raise ValueError(
            f"the dump is asked for as of day {as_of_day}, but day {newest} is stored: ask for that or later"
        )
    lines = sorted(_lines(facts, as_of_day, bounds, facts.capped_items.union(leave_out)))
    return "".join(f"{line}\n" for line in lines).encode()


def newest_day(facts: Facts) -> int:
    """The newest day any edge holds; 0 when there is none."""
    return max((fact.rows[-1][0] for fact in (*facts.edges, *facts.copies) if fact.rows), default=0)


def digest(dumped: bytes) -> str:
    """The SHA-256 of a dump, hexadecimal: what two states are compared by."""
    return sha256(dumped).hexdigest()


def _lines(facts: Facts, as_of_day: int, bounds: StateBounds, inexact: Collection[str]) -> Iterator[str]:
    capped = {fact.query for fact in facts.edges if fact.capped}
    living: set[int] = set()  # an old one says nothing: Redis may have forgotten it, and another build not
    for fact in facts.edges:
        rows = within(fact.rows, as_of_day, bounds.window_days)
        if rows and fact.query in capped:
            living.add(fact.query)
        elif rows:
            yield f"query {fact.query:016x} item {json.dumps(fact.item_id)} {_days(rows)}"
    for query in living:
        yield f"query {query:016x} capped"
    for fact in facts.copies:
        rows = within(fact.rows, as_of_day, bounds.window_days)
        exact = fact.query not in capped and fact.item_id not in inexact
        if exact and sum(row[1] for row in rows) >= bounds.floor:
            yield f"item {json.dumps(fact.item_id)} query {fact.query:016x} {_days(rows)}"
    for shopper in facts.shoppers:
        yield from _shopper(shopper, facts.texts, bounds)


def _days(rows: Sequence[Row]) -> str:
    return " ".join(f"{day}:{exposures}:{clicks}" for day, exposures, clicks in rows)


def _shopper(fact: ShopperFact, texts: dict[int, str], bounds: StateBounds) -> Iterator[str]:
    name = f"shopper {fact.name.hex()}"
    yield f"{name} clock {fact.shopper.clock_ms}"
    for search in fact.shopper.searches:
        yield (
            f"{name} search {search.at_ms} {json.dumps(search.query_id)} {search.query:016x}"
            f" {search.items.hex()} {search.flags.hex()} {search.touches.hex()}"
        )
    for place, record in enumerate(sequences.newest(fact.log, bounds.sequence)):
        query, item, at_ms, action = record.item()
        yield (
            f"{name} record {place:06d} {at_ms} {sequences.ACTIONS[action]} {_text(query, texts)} {_text(item, texts)}"
        )


def _text(name: int, texts: dict[int, str]) -> str:
    return "-" if name == 0 else f"{name:016x} {json.dumps(texts.get(name))}"
