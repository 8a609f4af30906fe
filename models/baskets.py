"""Behaviour neighbours among items that are bought together, and labelled pairs that test what they are worth.

An edge leads from item a to item b: its exposures are the baskets with a, its clicks those with a and b, over a window
of days that ends *before* the day it is asked for. So an edge never knows the basket it is tested on, nor any other of
that day.

A labelled pair asks whether b is in a later basket of a shopper who has a. What was not bought comes from another
basket of the same day, so popularity and season tell nothing: both sides of the label are drawn alike.

Shapes: I items, B baskets, N pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.leak_guard import OPEN, Guard
from headrace.models.prompts import NEIGHBOURS, Pair
from headrace.models.wilson import wilson_lower

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

UNKNOWN: Final = -1
"""The shopper of a basket that names none: it counts for edges, not for labels."""
_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Baskets:
    """Baskets in the order of their days.

    Attributes:
        days: int64 [B], ascending.
        shoppers: int64 [B], UNKNOWN or 0 and more.
        items: [B], each int64, ascending, each item once.
        texts: [I], what each item is called.
    """

    days: Ints
    shoppers: Ints
    items: tuple[Ints, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.days) == len(self.shoppers) == len(self.items):
            raise ValueError(f"{len(self.days)} days, {len(self.shoppers)} shoppers, {len(self.items)} baskets")
        if (np.diff(self.days) < 0).any():
            raise ValueError("baskets are not in the order of their days")


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """Which edges are neighbours: ``exposures`` at least, clicks / exposures at least ``rate``, over ``days``."""

    exposures: int = 20
    rate: float = 0.1
    days: int = 90


class Window:
    """Counts over the days before a day; it only moves forward.

    Attributes:
        day: the first day that is *not* counted any more.
        total: baskets in the window.
        alone: int64 [I], baskets with an item.
        both: int32 [I, I], baskets with two items; symmetric, its diagonal is ``alone``.
    """

    def __init__(self, baskets: Baskets, rule: EdgeRule) -> None:
        size = len(baskets.texts)
        self.rule = rule
        self.day = int(baskets.days[0]) if len(baskets.days) else 0
        self.total = 0
        self.both = np.zeros((size, size), dtype=np.int32)
        self._baskets = baskets
        self._begin = self._end = 0

    @property
    def alone(self) -> Ints:
        """Baskets with an item, int64 [I]."""
        return self.both.diagonal().astype(np.int64)

    def forward(self, day: int) -> None:
        """Counts the baskets of [day - rule.days, day).

        Raises:
            ValueError: ``day`` lies before the one it stands at.
        """
        if day < self.day:
            raise ValueError(f"the window stands at day {self.day} and cannot go back to {day}")
        self.day = day
        end = int(np.searchsorted(self._baskets.days, day))
        begin = int(np.searchsorted(self._baskets.days, day - self.rule.days))
        for place in range(max(self._end, begin), end):
            self._add(place, 1)
        for place in range(self._begin, min(self._end, begin)):
            self._add(place, -1)
        self._begin, self._end = begin, max(self._end, end)

    def led_to(self, item: int) -> Ints:
        """The items that an item leads to, the strongest edge first: int64."""
        return self._ranked(self.both[item], np.full(len(self.both), self.both[item, item]), item)

    def led_by(self, item: int) -> Ints:
        """The items that lead to an item, the strongest edge first: int64."""
        return self._ranked(self.both[:, item], self.alone, item)

    def _ranked(self, clicks: NDArray[np.integer], exposures: NDArray[np.integer], own: int) -> Ints:
        admitted = (exposures >= self.rule.exposures) & (clicks >= self.rule.rate * exposures)
        admitted[own] = False
        found = np.flatnonzero(admitted)
        order = np.argsort(-wilson_lower(clicks[found], exposures[found]), kind="stable")
        return found[order].astype(np.int64)

    def _add(self, place: int, sign: int) -> None:
        items = self._baskets.items[place]
        self.both[items[:, None], items] += sign
        self.total += sign


@dataclass(frozen=True, slots=True)
class Period:
    """Days [first, end)."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A pair of items, whether the second was bought, and what was known before that day.

    Attributes:
        day: of the later basket.
        source: a, which the shopper had.
        item: b.
        bought: whether b is in the basket.
        exposures: baskets with a in the window.
        item_exposures: baskets with b.
        clicks: baskets with both.
        total: baskets in all.
        query_neighbours: what a leads to, the strongest first, at most NEIGHBOURS.
        item_neighbours: what leads to b, likewise.
    """

    day: int
    source: int
    item: int
    bought: bool
    exposures: int
    item_exposures: int
    clicks: int
    total: int
    query_neighbours: tuple[int, ...]
    item_neighbours: tuple[int, ...]

    def pair(self, texts: Sequence[str]) -> Pair:
        """The same as a teacher reads it; ``texts`` [I]."""
        return Pair(
            texts[self.source],
            texts[self.item],
            query_neighbours=tuple(texts[one] for one in self.query_neighbours),
            item_neighbours=tuple(texts[one] for one in self.item_neighbours),
        )


Drawn = tuple[int, int, int, bool]
"""A day, a, b, whether b was bought."""


def labelled(
    baskets: Baskets, period: Period, count: int, seed: int, guard: Guard = OPEN, rule: EdgeRule | None = None
) -> list[Labelled]:
    """Pairs of a period in the order of days, half of them bought, with the edges of before their day.

    Args:
        baskets: all there are.
        period: where the later baskets lie.
        count: pairs, rounded down to an even number.
        seed: of everything that is drawn.
        guard: what is kept back; OPEN for what is measured on.
        rule: of the edges.

    Raises:
        ValueError: no shopper of the period had bought anything before.
    """
    random = np.random.default_rng(seed)
    rule = rule or EdgeRule()
    window = Window(baskets, rule)
    found: list[Labelled] = []
    pairs = drawn(baskets, period, count // 2, random, rule.days)
    for day, source, item, bought in sorted(pairs, key=lambda one: one[0]):
        window.forward(day)
        hidden = bool(random.random() < guard.all_edges)
        torn = bool(random.random() < guard.self_edge)
        found.append(_known(window, (day, source, item, bought), hidden, torn))
    return found


def drawn(baskets: Baskets, period: Period, count: int, random: np.random.Generator, days: int = 90) -> list[Drawn]:
    """``count`` pairs that were bought and as many that were not, each bought one followed by the other.

    A shopper is drawn, then one of the shopper's baskets of the period, a among what that shopper bought in the
    ``days`` before its day, and b in the basket; what was not bought is drawn from another basket of the day in the
    same way. Fewer come back where a day has nothing else.
    """
    earlier = _earlier(baskets, period, days)
    if not earlier:
        raise ValueError(f"nobody who bought on days {period.first} to {period.end - 1} had bought before")
    places_of: dict[int, list[int]] = {}
    for place in earlier:
        places_of.setdefault(int(baskets.shoppers[place]), []).append(place)
    shoppers = sorted(places_of)
    found: list[Drawn] = []
    for _ in range(_TRIES * count):
        if len(found) == 2 * count:
            break
        places = places_of[shoppers[int(random.integers(len(shoppers)))]]
        place = places[int(random.integers(len(places)))]
        source = int(random.choice(np.unique(np.concatenate([baskets.items[one] for one in earlier[place]]))))
        own = baskets.items[place][baskets.items[place] != source]
        other = _elsewhere(baskets, place, source, random)
        if other is not None and len(own):
            day = int(baskets.days[place])
            found += [(day, source, int(random.choice(own)), True), (day, source, other, False)]
    return found


def _elsewhere(baskets: Baskets, place: int, source: int, random: np.random.Generator) -> int | None:
    """An item of another basket of the day that is neither a nor in the basket; None where there seems to be none."""
    day = baskets.days[place]
    first, end = (int(np.searchsorted(baskets.days, day, side)) for side in ("left", "right"))
    for _ in range(_TRIES):
        item = int(random.choice(baskets.items[int(random.integers(first, end))]))
        if item != source and item not in baskets.items[place]:
            return item
    return None


def _earlier(baskets: Baskets, period: Period, days: int) -> dict[int, list[int]]:
    """The baskets of a period whose shopper has others of the ``days`` before that day, and which these are."""
    seen: dict[int, list[int]] = {}
    found: dict[int, list[int]] = {}
    for place in range(int(np.searchsorted(baskets.days, period.end))):
        shopper, day = int(baskets.shoppers[place]), int(baskets.days[place])
        if shopper == UNKNOWN:
            continue
        before = [one for one in seen.get(shopper, []) if day - days <= baskets.days[one] < day]
        if before and day >= period.first:
            found[place] = before
        seen.setdefault(shopper, []).append(place)
    return found


def _known(window: Window, one: Drawn, hidden: bool, torn: bool) -> Labelled:
    day, source, item, bought = one
    led_to, led_by = window.led_to(source), window.led_by(item)
    if torn:
        led_to, led_by = led_to[led_to != item], led_by[led_by != source]
    if hidden:
        led_to, led_by = led_to[:0], led_by[:0]
    return Labelled(
        day,
        source,
        item,
        bought,
        int(window.both[source, source]),
        int(window.both[item, item]),
        int(window.both[source, item]),
        window.total,
        tuple(led_to[:NEIGHBOURS].tolist()),
        tuple(led_by[:NEIGHBOURS].tolist()),
    )
