"""What became of a request, before it is put into words: its reading, features and scores; pure.

Shapes: B items asked, K items scored, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import FEATURES, Reading
from headrace.online.ladder import Steps
from headrace.online.lookup import Found
from headrace.online.messages import ItemSaid, RankRequest
from headrace.online.messages import Student as StudentState
from headrace.streams.searches import hash_of, query_of

Floats = NDArray[np.float32]

KNOWN: Final[Mapping[str, int]] = {
    name.removesuffix("_known"): place for place, name in enumerate(FEATURES) if name.endswith("_known")
}
"""Which column says whether a kind of feature is there."""


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


def reading_of(request: RankRequest, count: int, student: Floats, found: Found, now_ms: int) -> Reading:
    """Everything the scores of the first ``count`` items depend on."""
    ids, edges = request.ids(), found.item_edges
    return Reading(
        now_ms=now_ms,
        query=query_of(request.query)[0],
        items=np.fromiter((hash_of(item) for item in ids[:count]), dtype=np.uint64, count=count),
        prices=np.array([np.nan if p is None else p for p in request.prices()[:count]], dtype=np.float32),
        student=student[:count],
        sequence=found.sequence,
        query_edges=found.query_edges,
        item_edges=edges if count == len(ids) else edges[edges["owner"] < count],
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """What became of a request before it is put into words."""

    steps: Steps
    known: Known
    reading: Reading | None
    features: Floats
    scores: Floats
    margins: NDArray[np.float64]
    found: Found

    def missing(self) -> dict[str, int]:
        """In how many of the scored items each kind of feature was missing; kinds that never were are left out."""
        if self.reading is None:
            return {}
        count = len(self.features)
        absent = {name: int((self.features[:, place] == 0).sum()) for name, place in KNOWN.items()}
        absent["shopper"] = 0 if len(self.reading.sequence) else count
        return {name: items for name, items in absent.items() if items}

    def explained(self, ids: Sequence[str]) -> list[ItemSaid]:
        """Each item's score, what was missing for it, and every feature as the head saw it."""
        said: list[ItemSaid] = []
        for place, item in enumerate(ids):
            if place >= len(self.scores):
                said.append(ItemSaid(item, None, (), {}))
                continue
            row = self.features[place].tolist()
            missing = tuple(name for name, at in KNOWN.items() if row[at] == 0)
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
        margins=np.empty(0, dtype=np.float64),
        found=Found(),
    )
