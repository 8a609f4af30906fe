"""What a served list is compared with: four ways to score it that learn nothing, or only count clicks.

``Baselines.scores`` is asked before ``see`` is told what happened, so none of them knows the click it is measured on.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

NAMES: Final = ("last touched", "shown order", "popularity", "cheapest")


class Baselines:
    """Scores lists by shown order, price, popularity so far, and what the session touched last."""

    def __init__(self) -> None:
        self._clicks: Counter[str] = Counter()
        self._touched: dict[str, list[str]] = {}

    def scores(self, session: str, items: Sequence[str], prices: Sequence[float]) -> dict[str, Doubles]:
        """The scores [B] of each baseline, by name; ties are broken by shown order.

        Args:
            session: whose touches count.
            items: [B], in shown order.
            prices: [B], NaN where unknown: such items come last.
        """
        shown = -np.arange(len(items), dtype=np.float64)
        tie = shown / (len(items) + 1)
        places = {item: place for place, item in enumerate(items)}
        last = next((item for item in reversed(self._touched.get(session, [])) if item in places), None)
        touched = shown.copy()
        if last is not None:
            touched[places[last]] = 1.0
        price = np.nan_to_num(np.asarray(prices, dtype=np.float64), nan=np.inf)
        order = np.unique(price, return_inverse=True)[1]
        clicks = np.array([self._clicks[item] for item in items], dtype=np.float64)
        return {
            "last touched": touched,
            "shown order": shown,
            "popularity": clicks + tie,
            "cheapest": -order.astype(np.float64) + tie,
        }

    def see(self, session: str, item: str, clicked: bool) -> None:
        """An item was touched in a session, with a click or otherwise."""
        self._touched.setdefault(session, []).append(item)
        if clicked:
            self._clicks[item] += 1
