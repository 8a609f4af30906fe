"""The tour's simulated shoppers, offline: what the head's quality would be, in seconds and without a line.

    python tests/bench/tour_offline.py [--seeds 0 1 2] [--making] [--first-head | --make] [--rate R] [--json FILE]

Each list is scored before its clicks, from what the state held at that moment, by the head that was published last. A
page of ten is shown; the learner gets it when its 30-minute click window has passed, a head is published every
100 examples. ``--making`` plays the queries that the tour does not show: whatever is chosen is chosen on them.
``--make`` begins with a head that was learned on those, offline, from another seed.

Besides the tour's baselines it has `known to all`: the order of what each item is worth but for the shopper's own
taste. No counting of clicks can come further; only knowing the shopper can.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import EDGE, ITEM_EDGE, Reading, matrix
from headrace.models.head import Head, Learner, Settings
from headrace.models.metrics import paired_bootstrap
from headrace.online.pairs import PairScorer
from headrace.streams.identity import day_of, hash64, query_hash
from headrace.streams.sequences import CART, CLICK, PURCHASE, RECORD, SEARCH
from headrace.tour.first_head import first_head
from headrace.tour.flow import LISTED, SHOWN
from headrace.tour.quality import NAMES, Fold, ServedList, ndcg, quality
from headrace.tour.shop import Shop, candidates, load
from headrace.tour.shoppers import Act, ClickModel, Search, Shoppers
from headrace.tour.texts import shipped

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from trivago_state import Edge, OpenSearch, State

ROOT = Path(__file__).parents[2]
WINDOW_MS, WINDOW_DAYS, EVERY = 30 * 60_000, 30, 100
ACTIONS = {"click": CLICK, "cart": CART, "purchase": PURCHASE}
KNOWN = "known to all"
Doubles = NDArray[np.float64]
Similar = dict[str, dict[str, float]]
"""Query to item to what the student says."""


class Shelf(State):
    """What has happened so far, as a request of the worker would read it."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self._prices = {product.item_id: product.price for product in shop.products}

    def question(self, search: Search, items: Sequence[str], student: Sequence[float]) -> Reading:
        """What a request for this list reads before the list is shown."""
        hashes = np.array([hash64(item) for item in items], dtype=np.uint64)
        query, since = query_hash(search.text), day_of(search.at_ms) - WINDOW_DAYS
        edges = [
            (item, day, *counts)
            for item, days in self._edges.get(query, {}).items()
            for day, counts in days.items()
            if day > since
        ]
        item_edges = [
            (owner, other, max(days), *_within(days, since))
            for owner, item in enumerate(hashes.tolist())
            for other, days in self._queries_of.get(item, {}).items()
            if _within(days, since)[0] >= self._floor
        ]
        return Reading(
            search.at_ms,
            query,
            hashes,
            np.array([self._prices[item] for item in items], dtype=np.float32),
            np.array(student, dtype=np.float32),
            np.array(self._sequences.get(search.client_id, []), dtype=RECORD),
            np.array(edges, dtype=EDGE),
            np.array(item_edges, dtype=ITEM_EDGE),
        )

    def take(self, search: Search, shown: Sequence[str], acts: Sequence[Act]) -> None:
        """A page was shown, and this was done with it."""
        query = query_hash(search.text)
        one = OpenSearch(query, search.at_ms)
        self._record(search.client_id, query, 0, search.at_ms, SEARCH)
        for item in map(hash64, shown):
            self._count(one, item, one.shown, 0, search.at_ms)
        for act in acts:
            item = hash64(act.item_id)
            if act.kind == "click":
                self._count(one, item, one.clicked, 1, search.at_ms)
            self._record(search.client_id, query, item, act.at_ms, ACTIONS[act.kind])


def _within(days: Edge, since: int) -> tuple[int, int]:
    kept = [counts for day, counts in days.items() if day > since]
    return sum(counts[0] for counts in kept), sum(counts[1] for counts in kept)


@dataclass
class Lesson:
    """A page that waits for its click window to pass."""

    at_ms: int
    features: NDArray[np.float32]
    clicked: NDArray[np.bool_]
    positions: NDArray[np.int64]


@dataclass
class Played:
    """A run: the fold of its lists, [N] of the order known to all, and the head at the end."""

    head: Head
    fold: Fold = field(default_factory=Fold)
    known: list[float] = field(default_factory=list)
    clicks: int = 0


def play(shop: Shop, shoppers: Shoppers, similar: Similar, learner: Learner) -> Played:
    """All searches of some simulated shoppers, one after the other."""
    shelf, played, waiting = Shelf(shop), Played(learner.head()), list[Lesson]()
    for number in range(shoppers.model.searches):
        search = shoppers.search(number)
        while waiting and waiting[0].at_ms + WINDOW_MS <= search.at_ms:
            lesson = waiting.pop(0)
            learner.learn(lesson.features, lesson.clicked, lesson.positions)
            if learner.lists % EVERY == 0:
                played.head = learner.head()
        items = candidates(shop, search.text, LISTED)
        student = [similar[search.text][item] for item in items]
        features = matrix(shelf.question(search, items, student))
        margins = played.head.margin(features)
        gains = np.array([shoppers.utility(search, item) for item in items])
        played.fold.take(ServedList(search.client_id, search.text, items, margins, np.array(student), gains, ""))
        if gains.any():
            played.known.append(ndcg(np.array([shoppers.utility_to_all(search, item) for item in items]), gains))
        page = np.argsort(-margins, kind="stable")[:SHOWN]
        shown = [items[place] for place in page]
        acts = shoppers.acts(search, shown)
        clicked = {act.item_id for act in acts if act.kind == "click"}
        shelf.take(search, shown, acts)
        for item in clicked:
            played.fold.click(search.text, item)
        played.clicks += len(clicked)
        # A page's rows come in the order of the request, as the feature log has them.
        rows = np.sort(page)
        positions = np.argsort(page, kind="stable") + 1
        waiting.append(
            Lesson(search.at_ms, features[rows], np.array([items[row] in clicked for row in rows]), positions)
        )
    return played


def similarities(shop: Shop) -> Similar:
    """What the student that ships says of every product for every query."""
    scorer, items = PairScorer(shipped()), [product.item_id for product in shop.products]
    titles = [product.title for product in shop.products]
    return {
        query.text: dict(zip(items, scorer.score([query.text] * len(titles), titles).tolist(), strict=True))
        for query in shop.queries
    }


def report(played: Played, shoppers: Shoppers) -> dict[str, Any]:
    """What a run comes to: nDCG@10 of each order, whole, before and after the drift, and served minus the others."""
    half = shoppers.model.searches // 2
    found, known = quality(played.fold, half), np.array(played.known)
    values = {**found.values, KNOWN: known}
    late = found.places >= half
    served = found.values[NAMES[0]]
    return {
        "lists": len(known),
        "clicks_a_search": played.clicks / shoppers.model.searches,
        "ndcg": {name: float(one.mean()) for name, one in values.items()},
        "ndcg_before": {name: float(one[~late].mean()) for name, one in values.items()},
        "ndcg_after": {name: float(one[late].mean()) for name, one in values.items()},
        "served_minus": {name: asdict(one) for name, one in found.whole.ahead.items()},
        "served_minus_after": {
            name: asdict(paired_bootstrap(served[late], one[late], np.array(played.fold.shoppers)[late].tolist()))
            for name, one in values.items()
            if name != NAMES[0]
        },
    }


def made(shop: Shop, similar: Similar, settings: Settings, searches: int, seed: int) -> Head:
    """A head that learned from queries that the tour does not show."""
    learner = Learner(None, settings)
    play(shop, Shoppers(shop, replace(ClickModel(), searches=searches), seed, held_out=False), similar, learner)
    return learner.head()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--searches", type=int, default=ClickModel().searches)
    parser.add_argument("--making", action="store_true", help="the queries that the tour does not show")
    parser.add_argument("--rate", type=float, default=Settings().rate, help="of the learner")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--first-head", action="store_true", help="begin with the head that ships with the tour")
    start.add_argument("--make", type=int, metavar="SEARCHES", help="begin with a head that learned from so many")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there")
    flags = parser.parse_args()
    shop, settings = load(), Settings(rate=flags.rate)
    similar = similarities(shop)
    head = first_head() if flags.first_head else made(shop, similar, settings, flags.make, 101) if flags.make else None
    model, numbers = replace(ClickModel(), searches=flags.searches), {}
    for seed in flags.seeds:
        shoppers = Shoppers(shop, model, seed, held_out=not flags.making)
        numbers[seed] = report(play(shop, shoppers, similar, Learner(head, settings)), shoppers)
        for name in ("ndcg_before", "ndcg_after"):
            print(f"simulated, seed {seed}, {name}", {key: round(one, 3) for key, one in numbers[seed][name].items()})
    if flags.json:
        flags.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
