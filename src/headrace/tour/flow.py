"""The simulated shoppers at the running line: each list is scored first, then shown, then clicked.

Simulated hours pass in milliseconds. What a shopper does goes out when simulated time has come so far, so no list knows
of a click that had not happened when it was asked for.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from headrace.local.replay import EventLog
from headrace.streams.events import Cart, Click, Impression, Purchase, Query, ShopperEvent
from headrace.tour.doors import Asked, TourDoors
from headrace.tour.quality import PLACES, Fold, ServedList
from headrace.tour.shop import Product, Shop, candidates
from headrace.tour.shoppers import Act, Search, Shoppers

LISTED: Final = 24
"""Candidates of a list: what the first stage gives and the line orders."""
SHOWN: Final = PLACES
"""Of these a simulated shopper sees so many."""
SHOWN_AFTER_MS: Final = 500
_KINDS: Final[dict[str, type[Click] | type[Cart] | type[Purchase]]] = {
    "click": Click,
    "cart": Cart,
    "purchase": Purchase,
}


@dataclass(slots=True)
class Flow:
    """The shop in motion.

    Attributes:
        shop: its products.
        shoppers: who search.
        log: where events go.
        doors: who scores.
        student: text -> item -> the frozen student's score.
        fold: the quality so far.
        done: searches so far.
    """

    shop: Shop
    shoppers: Shoppers
    log: EventLog
    doors: TourDoors
    student: dict[str, dict[str, float]]
    fold: Fold = field(default_factory=Fold)
    done: int = 0
    _made: int = 0
    _waiting: list[tuple[int, int, str, ShopperEvent]] = field(default_factory=list)

    def step(self) -> None:
        """One search: its list is scored, folded into the quality, shown, and what follows waits for its time."""
        search = self.shoppers.search(self.done)
        self._send_until(search.at_ms)
        items = listed(self.shop, search.text)
        said = self.doors.answer(Asked(search.text, items, search.at_ms, search.client_id, search.query_id))
        self.fold.take(
            ServedList(
                shopper=search.client_id,
                text=search.text,
                items=tuple(item.item_id for item in items),
                scores=np.array(said["scores"], dtype=np.float64),
                student=np.array([self.student[search.text][item.item_id] for item in items]),
                gains=np.array([self.shoppers.utility(search, item.item_id) for item in items]),
                version=said["model"]["version"],
            )
        )
        shown = [items[place].item_id for place in said["order"][:SHOWN]]
        for event in events_of(search, shown, self.shoppers.acts(search, shown)):
            heapq.heappush(self._waiting, (event.at_ms, self._made, search.text, event))
            self._made += 1
        self.done += 1
        if self.done % 8 == 0:
            self.log.collect()

    def finish(self) -> None:
        """Sends what still waits, and returns when the broker has all of it."""
        self._send_until(None)
        self.log.settle(wait=True)

    def _send_until(self, now_ms: int | None) -> None:
        due: list[ShopperEvent] = []
        while self._waiting and (now_ms is None or self._waiting[0][0] <= now_ms):
            _, _, text, event = heapq.heappop(self._waiting)
            due.append(event)
            if isinstance(event, Click):
                self.fold.click(text, event.item_id)
        self.log.send(due)
        self.log.settle(wait=False)


def listed(shop: Shop, text: str) -> list[Product]:
    """The candidates for a query, in the order of the first stage."""
    return [shop.product(item) for item in candidates(shop, text, LISTED)]


def events_of(search: Search, shown: Sequence[str], acts: Sequence[Act]) -> list[ShopperEvent]:
    """What a search puts into the log: the query, the page that was shown, what was done with it."""
    name, who, query_id = search.query_id, search.client_id, search.query_id
    places = tuple(range(1, len(shown) + 1))
    found: list[ShopperEvent] = [
        Query(f"{name}-q", who, query_id, search.at_ms, search.text),
        Impression(f"{name}-i", who, query_id, search.at_ms + SHOWN_AFTER_MS, tuple(shown), places),
    ]
    for number, act in enumerate(acts):
        found.append(_KINDS[act.kind](f"{name}-{number}", who, query_id, act.at_ms, act.item_id, act.position))
    return found
