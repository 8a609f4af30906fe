"""Simulated shoppers: who searches for what, what is clicked of a list that was shown, and what they would have liked.

The click model is documented in docs/tour.md. Everything about a search follows from the seed and the search's number
alone, so the same search is the same shopper with the same question and the same luck whatever was shown before, and an
item that is shown further up is never clicked less. Nothing here is about real people.

Shapes: S shoppers, Q queries, P products, B brands, C colours, D departments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.tour.shop import DEPARTMENTS, Judged, Shop

Doubles = NDArray[np.float64]
Kind = Literal["click", "cart", "purchase"]

_TASTES, _SCHEDULE, _LUCK = range(3)
"""What is drawn apart from each other: seeds of independent streams."""
_SEASONS: Final = {"winter": 1.0, "summer": -1.0, "all year": 0.0}


@dataclass(frozen=True, slots=True)
class ClickModel:
    """How simulated shoppers behave; committed before any tuning of a head, see docs/tour.md.

    Attributes:
        searches: how many there are; tastes drift half-way.
        shoppers: how many come back again and again.
        start_ms: when the first search is, UTC milliseconds; far enough back to lie in the past of every machine.
        gap_ms: between two searches.
        query_skew: the r-th query is searched for as often as r to the minus this.
        department_pull: how much more a shopper searches in departments that are liked.
        interest: spread of how often a shopper searches for the one query rather than the other, in log odds.
        relevance: the worth of a product by its grade, 0 to 3.
        brand_taste, colour_taste, price_taste, department_taste: spread of a shopper's likings, in log worth.
        fashion: spread of what all shoppers think of a brand, in log worth; drawn anew for after the drift.
        season: what all shoppers think of things for the season, in log worth; winter before the drift, then summer.
        drift_searches: how many searches the drift takes, half of them before the middle.
        position_bias: a place is examined with probability 1 / place to the power of this.
        appeal: how readily worth becomes a click once examined.
        noise: probability of a click on anything examined.
        cart, purchase: how readily worth becomes a cart after a click, a purchase after a cart.
    """

    searches: int = 1_500
    shoppers: int = 60
    start_ms: int = 1_738_569_600_000  # 2025-02-03 08:00 UTC
    gap_ms: int = 80 * 60_000
    query_skew: float = 0.7
    department_pull: float = 0.5
    interest: float = 1.5
    relevance: tuple[float, float, float, float] = (0.0, 0.1, 0.4, 1.0)
    brand_taste: float = 0.6
    colour_taste: float = 0.6
    price_taste: float = 0.5
    department_taste: float = 0.7
    fashion: float = 1.0
    season: float = 0.7
    drift_searches: int = 150
    position_bias: float = 0.6
    appeal: float = 0.7
    noise: float = 0.01
    cart: float = 0.3
    purchase: float = 0.4


@dataclass(frozen=True, slots=True)
class Search:
    """One simulated search.

    Attributes:
        number: 0 for the first.
        client_id: of the shopper.
        query_id: of this search alone.
        text: what was typed.
        at_ms: when.
    """

    number: int
    client_id: str
    query_id: str
    text: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Act:
    """Something a simulated shopper did with an item of a list.

    Attributes:
        kind: a cart follows a click, a purchase a cart.
        item_id: of the item.
        position: where it was shown, 1 = top.
        at_ms: when.
    """

    kind: Kind
    item_id: str
    position: int
    at_ms: int


class Shoppers:
    """The simulated shoppers of a shop.

    Args:
        shop: its products and judged queries.
        model: how they behave.
        seed: of all that is drawn.
        held_out: whether they search for the queries that are shown, or for those that parts may be made with.
    """

    def __init__(self, shop: Shop, model: ClickModel, seed: int, held_out: bool = True) -> None:
        self.shop, self.model, self.seed = shop, model, seed
        self.queries = tuple(query for query in shop.queries if query.held_out == held_out)
        self._place = {product.item_id: place for place, product in enumerate(shop.products)}
        self._query_place = {query.text: place for place, query in enumerate(self.queries)}
        random = np.random.default_rng([seed, _TASTES])
        departments = random.normal(0.0, 1.0, (model.shoppers, len(DEPARTMENTS)))
        self._tastes = self._personal(random, departments)
        self._before, self._after = self._shop_wide(random)
        self._worth = np.array([self._relevance(query) for query in self.queries])
        self._asked = self._wishes(random, departments)

    def search(self, number: int) -> Search:
        """A search by its number, 0 .. ``model.searches`` - 1; later ones go on after the drift."""
        random = np.random.default_rng([self.seed, _SCHEDULE, number])
        shopper = int(random.integers(self.model.shoppers))
        asked = int(np.searchsorted(self._asked[shopper], random.random()))
        query = self.queries[min(asked, len(self.queries) - 1)]
        at_ms = self.model.start_ms + number * self.model.gap_ms + int(random.integers(self.model.gap_ms))
        return Search(number, f"simulated-{shopper:03}", f"q{self.seed}-{number}", query.text, at_ms)

    def acts(self, search: Search, shown: Sequence[str]) -> tuple[Act, ...]:
        """What the shopper of a search does with a list, in the order of time; all of it within ten minutes.

        Args:
            search: one of ``search``.
            shown: item ids, top first, no more than a hundred.
        """
        luck = np.random.default_rng([self.seed, _LUCK, search.number]).random((3, len(self._place)))
        found: list[Act] = []
        for position, item_id in enumerate(shown, start=1):
            place = self._place[item_id]
            worth = self.utility(search, item_id)
            if luck[0, place] >= self.click_probability(worth, position):
                continue
            at_ms = search.at_ms + 3_000 * position
            found.append(Act("click", item_id, position, at_ms))
            if luck[1, place] < -math.expm1(-self.model.cart * worth):
                found.append(Act("cart", item_id, position, at_ms + 20_500))
                if luck[2, place] < self.model.purchase:
                    found.append(Act("purchase", item_id, position, at_ms + 180_250))
        return tuple(sorted(found, key=lambda act: act.at_ms))

    def utility(self, search: Search, item_id: str) -> float:
        """What an item is worth to the shopper of a search at that moment, 0 or more: the simulated truth.

        It is the judgment's worth times the shopper's taste times the taste of all at that time; where an item is shown
        plays no part. Quality is measured against it.
        """
        shopper = int(search.client_id.rpartition("-")[2])
        return self.utility_to_all(search, item_id) * math.exp(self._tastes[shopper, self._place[item_id]])

    def utility_to_all(self, search: Search, item_id: str) -> float:
        """The same without the shopper's own taste: the most that could be known without knowing who asks."""
        place = self._place[item_id]
        share = self.drifted(search.number)
        common = (1.0 - share) * self._before[place] + share * self._after[place]
        return float(self._worth[self._query_place[search.text], place] * math.exp(common))

    def click_probability(self, utility: float, position: int) -> float:
        """How likely a click is on an item worth so much, at a position, 1 = top."""
        model = self.model
        examined = math.pow(position, -model.position_bias)
        return examined * (model.noise - (1.0 - model.noise) * math.expm1(-model.appeal * utility))

    def drifted(self, number: int) -> float:
        """How far the taste of all has drifted at a search, 0 .. 1."""
        model = self.model
        return min(max((number - model.searches / 2) / model.drift_searches + 0.5, 0.0), 1.0)

    def _personal(self, random: np.random.Generator, departments: Doubles) -> Doubles:
        """What each shopper thinks of each product, log worth [S, P]."""
        model, products = self.model, self.shop.products
        brands, brand = _codes([product.attributes["brand"] for product in products])
        colours, colour = _codes([product.attributes["colour"] for product in products])
        _, department = _codes([product.department for product in products], DEPARTMENTS)
        dear = _dear(np.log([product.price for product in products]), department)
        likes = (
            model.brand_taste * random.normal(0.0, 1.0, (model.shoppers, brands))[:, brand]
            + model.colour_taste * random.normal(0.0, 1.0, (model.shoppers, colours))[:, colour]
            + model.price_taste * random.normal(0.0, 1.0, (model.shoppers, 1)) * dear
        )
        return np.asarray(likes + model.department_taste * departments[:, department], dtype=np.float64)

    def _shop_wide(self, random: np.random.Generator) -> tuple[Doubles, Doubles]:
        """What all think of each product, log worth [P], before and after the drift."""
        products, model = self.shop.products, self.model
        brands, brand = _codes([product.attributes["brand"] for product in products])
        season = model.season * np.array([_SEASONS[product.attributes["season"]] for product in products])
        before, after = model.fashion * random.normal(0.0, 1.0, (2, brands))
        return before[brand] + season, after[brand] - season

    def _relevance(self, query: Judged) -> Doubles:
        grades = [query.grades.get(product.item_id, 0) for product in self.shop.products]
        return np.array(self.model.relevance)[grades]

    def _wishes(self, random: np.random.Generator, departments: Doubles) -> Doubles:
        """How likely each shopper asks which query, summed up over the queries: [S, Q]."""
        ranks = 1.0 + random.permutation(len(self.queries))
        _, department = _codes([product.department for product in self.shop.products], DEPARTMENTS)
        where = np.zeros((len(self.queries), len(DEPARTMENTS)))
        for place, worth in enumerate(self._worth):
            where[place] = np.bincount(department, worth, len(DEPARTMENTS)) / worth.sum()
        interest = self.model.interest * random.normal(0.0, 1.0, (self.model.shoppers, len(self.queries)))
        weights = ranks**-self.model.query_skew * np.exp(self.model.department_pull * departments @ where.T + interest)
        return np.asarray(np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1), dtype=np.float64)


def _codes(names: Sequence[str], known: Sequence[str] = ()) -> tuple[int, NDArray[np.int64]]:
    """How many different names there are, and which one each is."""
    places = {name: place for place, name in enumerate(known or sorted(set(names)))}
    return len(places), np.array([places[name] for name in names], dtype=np.int64)


def _dear(log_prices: Doubles, group: NDArray[np.int64]) -> Doubles:
    """How dear each product is among its group, in standard deviations: [P]."""
    dear = np.empty(len(log_prices))
    for one in np.unique(group):
        own = log_prices[group == one]
        dear[group == one] = (own - own.mean()) / own.std()
    return dear
