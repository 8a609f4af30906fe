"""What became of a request, before it is put into words: its reading, features and scores; pure.

Shapes: B items asked, K items scored, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import FEATURES, Reading
from headrace.online.found import Found
from headrace.online.ladder import Steps
from headrace.online.messages import ItemSaid, RankRequest
from headrace.online.messages import Student as StudentState
from headrace.streams.identity import hash_of
from headrace.streams.searches import query_of

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Known:
    """What a request's student scores are made of.

    Attributes:
        scores: float32 [B], NaN where there is none.
        state: as the answer says it.
        skipped: why there are none although the model has a student, "" when there are.
        no_text: items without a text. pending: items whose vector is being made.
    """

    scores: Floats
    state: StudentState
    skipped: str = ""
    no_text: int = 0
    pending: int = 0


def reading_of(request: RankRequest, ids: Sequence[str], student: Floats, found: Found, now_ms: int) -> Reading:
    """Everything the scores of some items depend on: the first ones of the request."""
    count, edges = len(ids), found.item_edges
    prices = [np.nan if price is None else price for price in request.prices()[:count]]
    return Reading(
        now_ms=now_ms,
        query=query_of(request.query)[0],
        items=np.fromiter(map(hash_of, ids), dtype=np.uint64, count=count),
        prices=np.array(prices, dtype=np.float32),
        student=student[:count],
        sequence=found.sequence,
        query_edges=found.query_edges,
        item_edges=edges if count == len(request.items) else edges[edges["owner"] < count],
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a request before it is put into words."""

    steps: Steps
    known: Known
    reading: Reading | None
    features: Floats
    scores: Floats
    found: Found

    def absent(self) -> dict[str, NDArray[np.bool_]]:
        """Which of the scored items each kind of feature is missing for, bool [K] each."""
        reading = self.reading
        if reading is None:
            return {}
        count = len(reading.items)
        owned = np.zeros(count, dtype=np.bool_)
        owned[reading.item_edges["owner"]] = True
        listed = set(reading.query_edges["item"].tolist())
        return {
            "student": np.isnan(reading.student),
            "price": np.isnan(reading.prices),
            "query": np.fromiter((item not in listed for item in reading.items.tolist()), dtype=np.bool_, count=count),
            "item": ~owned,
            "shopper": np.full(count, len(reading.sequence) == 0),
        }

    def explained(self, ids: Sequence[str], absent: Mapping[str, NDArray[np.bool_]]) -> list[ItemSaid]:
        """Each item's score, what was missing for it, and every feature as the head saw it."""
        said: list[ItemSaid] = []
        for place, item in enumerate(ids):
            if place >= len(self.scores):
                said.append(ItemSaid(item, None, (), {}))
                continue
            row = self.features[place].tolist()
            missing = tuple(kind for kind, items in absent.items() if items[place])
            said.append(ItemSaid(item, float(self.scores[place]), missing, dict(zip(FEATURES, row, strict=True))))
        return said


def unscored(asked: int, reason: str, known: Known | None = None) -> Scored:
    """The lowest rung: no scores, the engine's own order, and why."""
    nothing = np.empty(0, dtype=np.float32)
    return Scored(
        steps=Steps(asked, 0, prior=reason),
        known=known or Known(nothing, "skipped", reason),
        reading=None,
        features=np.empty((0, len(FEATURES)), dtype=np.float32),
        scores=nothing,
        found=Found(),
    )
