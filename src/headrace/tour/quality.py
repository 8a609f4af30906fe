"""How good served lists were: each was scored before its clicks were known, and is compared with four other orders.

Quality is nDCG@10 with the simulated shopper's own utility as the gain, which no click, position or list can bias. All
five orders are of the same candidates; what ties stays as the first stage gave it.

Shapes: B items of a list, N lists.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.metrics import Interval, bootstrap, paired_bootstrap

Doubles = NDArray[np.float64]

PLACES: Final = 10
SERVED: Final = "served"
BASELINES: Final = ("given order", "popularity", "frozen student", "query's clicks")
NAMES: Final = (SERVED, *BASELINES)


@dataclass(frozen=True, slots=True)
class ServedList:
    """One list, and what is known of it without its clicks.

    Attributes:
        shopper: who searched.
        text: for what.
        items: [B], as the first stage gave them.
        scores: [B], as they were served.
        student: [B], the frozen student's.
        gains: [B], the simulated shopper's utility, at least 0.
        version: of the bundle that answered.
    """

    shopper: str
    text: str
    items: tuple[str, ...]
    scores: Doubles
    student: Doubles
    gains: Doubles
    version: str


@dataclass(slots=True)
class Fold:
    """Lists and clicks in the order they happened.

    Popularity is what was clicked before a list was asked for; the query's clicks are those of them that the same query
    led to.

    Attributes:
        values: name -> nDCG@10 of each counted list.
        shoppers: of each counted list.
        versions: of each counted list.
        places: of each counted list among all that were served, 0 = first.
    """

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    shoppers: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    served: int = 0
    _clicks: Counter[str] = field(default_factory=Counter)
    _query_clicks: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, one: ServedList) -> None:
        """A list was served; one in which nothing is worth anything to the shopper is not counted."""
        self.served += 1
        if not one.gains.max(initial=0.0) > 0:
            return
        count = len(one.items)
        clicks = np.array([self._clicks[item] for item in one.items], dtype=np.float64)
        own = np.array([self._query_clicks[one.text, item] for item in one.items], dtype=np.float64)
        orders = (one.scores, -np.arange(count, dtype=np.float64), clicks, one.student, own)
        for name, scores in zip(NAMES, orders, strict=True):
            self.values[name].append(ndcg(scores, one.gains))
        self.shoppers.append(one.shopper)
        self.versions.append(one.version)
        self.places.append(self.served - 1)

    def click(self, text: str, item: str) -> None:
        """An item was clicked for a query."""
        self._clicks[item] += 1
        self._query_clicks[text, item] += 1


@dataclass(frozen=True, slots=True)
class Stretch:
    """The quality of some lists: mean nDCG@10 by name, and served minus each baseline, paired, by shopper."""

    lists: int
    shoppers: int
    mean: Mapping[str, Interval]
    ahead: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a whole run.

    Attributes:
        values: name -> [N].
        places: [N], of the lists among all that were served.
        versions: [N], the bundle that answered.
        whole: of all lists.
        later: of those after the simulated shoppers' taste has drifted; None when there are none.
        drifts: from which place on.
    """

    values: Mapping[str, Doubles]
    places: NDArray[np.int64]
    versions: tuple[str, ...]
    whole: Stretch
    later: Stretch | None
    drifts: int


def quality(fold: Fold, drifts: int) -> Quality:
    """What the fold comes to.

    Args:
        fold: of all lists; at least one was counted.
        drifts: from which list on the taste is another.
    """
    values = {name: np.array(found, dtype=np.float64) for name, found in fold.values.items()}
    places = np.array(fold.places, dtype=np.int64)
    after = np.flatnonzero(places >= drifts)
    everything = np.arange(len(places))
    later = _stretch(values, fold.shoppers, after) if len(after) else None
    return Quality(values, places, tuple(fold.versions), _stretch(values, fold.shoppers, everything), later, drifts)


def ndcg(scores: Doubles, gains: Doubles, places: int = PLACES) -> float:
    """Discounted gain of the first places over the best that these items allow, 0 .. 1; ties keep their order.

    Args:
        scores: [B], higher comes first.
        gains: [B], at least 0, one above it.
        places: how many count.
    """
    discounts = 1.0 / np.log2(np.arange(2, min(places, len(gains)) + 2))
    got = gains[np.argsort(-scores, kind="stable")][: len(discounts)] @ discounts
    best = np.sort(gains)[::-1][: len(discounts)] @ discounts
    return float(got / best)


def smooth(values: Doubles, window: int) -> Doubles:
    """The mean of the last so many values at each place, [N]; fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(ends - window, 0)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins), dtype=np.float64)


def _stretch(values: Mapping[str, Doubles], shoppers: Sequence[str], rows: NDArray[np.intp]) -> Stretch:
    who = [shoppers[row] for row in rows]
    own = values[SERVED][rows]
    return Stretch(
        lists=len(rows),
        shoppers=len(set(who)),
        mean={name: bootstrap(found[rows], who) for name, found in values.items()},
        ahead={name: paired_bootstrap(own, values[name][rows], who) for name in BASELINES},
    )
