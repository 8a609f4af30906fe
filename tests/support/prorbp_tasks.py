"""What progressive prompts are tried on: pairs with neighbours, cut into training, calibration and test.

Two tasks: Online Retail item to item (real baskets), and the tour's queries (simulated shoppers: nothing is real).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models import baskets, online_retail
from headrace.models.baskets import EdgeRule, Period
from headrace.models.leak_guard import Guard, guarded
from headrace.models.prompts import Pair
from headrace.models.wilson import wilson_lower
from headrace.tour.flow import LISTED, SHOWN
from headrace.tour.shop import Judged, Shop, candidates, load
from headrace.tour.shoppers import ClickModel, Shoppers

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled pair.

    Attributes:
        pair: with its neighbours.
        target: 0 to 1.
        positive: how AUC counts it.
        group: the query; intervals are over these.
        exposures: E of the query, for tail, torso and head.
        counts: what the counters alone know of the pair, for the baseline.
    """

    pair: Pair
    target: float
    positive: bool
    group: str
    exposures: int
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Rows to train on, to fit the aggregation on, and to measure on."""

    train: list[Row]
    held: list[Row]
    test: list[Row]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows of each kind at most, how many neighbours a side, and the seed of what is drawn."""

    train: int
    held: int
    test: int
    neighbours: int
    seed: int = 0


def _day(year: int, month: int, day: int) -> int:
    return date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()


TRAINING: Final = Period(_day(2011, 3, 1), _day(2011, 9, 1))
CALIBRATION: Final = Period(_day(2011, 9, 1), _day(2011, 10, 1))
TEST: Final = Period(_day(2011, 10, 1), _day(2012, 1, 1))
"""The first three months of the log only fill the counters."""


def online_retail_task(data: Path, sizes: Sizes) -> Task:
    """Is b in a later basket of a shopper who has a: cut by time, the guard on training rows only."""
    log = online_retail.read(data)
    parts = (
        baskets.labelled(log, TRAINING, sizes.train, sizes.seed, Guard()),
        baskets.labelled(log, CALIBRATION, sizes.held, 1_000),
        baskets.labelled(log, TEST, sizes.test, 2_000),
    )
    return Task(*([_retail_row(one, log.texts, sizes.neighbours) for one in part] for part in parts))


def _retail_row(one: baskets.Labelled, texts: Sequence[str], neighbours: int) -> Row:
    pair = _cut(one.pair(texts), neighbours)
    counts = (
        np.log1p(one.exposures),
        np.log1p(one.item_exposures),
        np.log1p(one.clicks),
        one.clicks / max(one.exposures, 1),
        np.log((one.clicks + 0.5) * (one.total + 1) / ((one.exposures + 1) * (one.item_exposures + 1))),
    )
    return Row(pair, float(one.bought), one.bought, str(one.source), one.exposures, tuple(map(float, counts)))


def _cut(pair: Pair, neighbours: int) -> Pair:
    return replace(
        pair,
        query_neighbours=pair.query_neighbours[:neighbours],
        item_neighbours=pair.item_neighbours[:neighbours],
    )


def task_of(part: str, data: Path, sizes: Sizes) -> Task:
    """The task called ``online_retail`` or ``tour``; says how large it is."""
    task = online_retail_task(data, sizes) if part == "online_retail" else tour_task(sizes)
    print(f"{len(task.train)} training rows, {len(task.held)} held, {len(task.test)} test", flush=True)
    return task


_HELD_EVERY: Final = 5
"""Every fifth query that parts may learn from is kept for the aggregation."""
_OTHERS: Final = 15
"""So many more products than a query has grades are asked of the lexical search, for what is not relevant."""


def tour_task(sizes: Sizes, searches: int = ClickModel().searches) -> Task:
    """Graded pairs of the tour: learned queries train and calibrate, shown queries test; clicks are simulated."""
    shop = load()
    rule = EdgeRule()
    edges = {
        held_out: _clicks(shop, replace(ClickModel(), searches=searches), sizes.seed, held_out)
        for held_out in (False, True)
    }
    learned = [query for query in shop.queries if not query.held_out]
    held = learned[_HELD_EVERY - 1 :: _HELD_EVERY]
    random = np.random.default_rng(sizes.seed)
    train = [
        replace(row, pair=guarded(row.pair, random, Guard()))
        for query in learned
        if query not in held
        for row in _tour_rows(shop, query, edges[False], rule, sizes)
    ]
    # As the shown queries are served the log holds both kinds; what is learned from holds its own only.
    both = edges[False] + edges[True]
    tested = [query for query in shop.queries if query.held_out]
    order = random.permutation(len(train))[: sizes.train]
    return Task(
        [train[place] for place in order],
        [row for query in held for row in _tour_rows(shop, query, edges[False], rule, sizes)][: sizes.held],
        [row for query in tested for row in _tour_rows(shop, query, both, rule, sizes)],
    )


Clicks = Counter[tuple[str, str, str]]
"""("shown" or "clicked", query, item id), and ("searched", query, ""), to how often."""


def _clicks(shop: Shop, model: ClickModel, seed: int, held_out: bool) -> Clicks:
    shoppers, found = Shoppers(shop, model, seed, held_out), Clicks()
    random = np.random.default_rng([seed, held_out])
    for number in range(model.searches):
        search = shoppers.search(number)
        found["searched", search.text, ""] += 1
        listed = candidates(shop, search.text, LISTED)
        # Half a page in the given order, half at random: else the neighbours would be those of the lexical search.
        shown = list(listed[: SHOWN // 2])
        shown += [listed[SHOWN // 2 + place] for place in random.permutation(LISTED - SHOWN // 2)[: SHOWN // 2]]
        found.update(("shown", search.text, item) for item in shown)
        clicked = {act.item_id for act in shoppers.acts(search, shown) if act.kind == "click"}
        found.update(("clicked", search.text, item) for item in clicked)
    return found


def _tour_rows(shop: Shop, query: Judged, clicks: Clicks, rule: EdgeRule, sizes: Sizes) -> list[Row]:
    items = list(dict.fromkeys([*query.grades, *candidates(shop, query.text, len(query.grades) + _OTHERS)]))
    return [_tour_row(shop, query, item, clicks, rule, sizes.neighbours) for item in items]


def _tour_row(shop: Shop, query: Judged, item: str, clicks: Clicks, rule: EdgeRule, neighbours: int) -> Row:
    grade = query.grades.get(item, 0)
    led_to = _neighbours([(query.text, other.item_id) for other in shop.products], clicks, rule)
    led_by = _neighbours([(other.text, item) for other in shop.queries], clicks, rule)
    pair = Pair(
        query.text,
        shop.product(item).title,
        query_neighbours=tuple(shop.product(one).title for _, one in led_to[:neighbours]),
        item_neighbours=tuple(text for text, _ in led_by[:neighbours]),
    )
    shown, clicked = clicks["shown", query.text, item], clicks["clicked", query.text, item]
    counts = (float(np.log1p(shown)), float(np.log1p(clicked)), clicked / max(shown, 1))
    return Row(pair, grade / 3, grade >= 2, query.text, clicks["searched", query.text, ""], counts)


def _neighbours(edges: Sequence[tuple[str, str]], clicks: Clicks, rule: EdgeRule) -> list[tuple[str, str]]:
    known = [(edge, clicks[("shown", *edge)], clicks[("clicked", *edge)]) for edge in edges]
    kept = [one for one in known if one[1] >= rule.exposures and one[2] >= rule.rate * one[1]]
    if not kept:
        return []
    bounds = wilson_lower(np.array([one[2] for one in kept]), np.array([one[1] for one in kept]))
    return [kept[place][0] for place in np.argsort(-bounds, kind="stable")]
