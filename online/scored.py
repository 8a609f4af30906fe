"""What became of a request, before it is put into words: its reading, features and scores; pure.

Shapes: B items asked, K items scored, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.features import FEATURES, Reading
from headrace.online.found import Found
from headrace.online.ladder import Steps
from headrace.online.messages import SOURCES, ItemSaid, RankRequest, ScoreSource
from headrace.online.messages import Student as StudentState
from headrace.streams.identity import hash_of
from headrace.streams.searches import query_of

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

ABSENT: Final = SOURCES.index("absent")
PENDING: Final = SOURCES.index("pending")
COMPUTED: Final = SOURCES.index("computed")
STUDENT_CACHE: Final = SOURCES.index("student_cache")
TEACHER_CACHE: Final = SOURCES.index("teacher_cache")


@dataclass(frozen=True, slots=True)
class Known:
    """What a request's student scores are made of.

    Attributes:
        scores: float32 [B], NaN where there is none.
        sources: uint8 [B], where each comes from, by its place in ``messages.SOURCES``.
        state: as the answer says it.
        skipped: why there are none although the model has a student, "" when there are.
        fewer: why some could not be had in time, "" when all were or none.
        bare: why some were made without neighbours although there may be some, "" when none were.
        no_text: items without a text. pending: items that are computed behind the answer.
        stages: stage -> seconds it took.
    """

    scores: Floats
    sources: Codes
    state: StudentState
    skipped: str = ""
    fewer: str = ""
    no_text: int = 0
    pending: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    bare: str = ""

    def counts(self) -> dict[ScoreSource, int]:
        """Of how many items the scores come from where."""
        return dict(zip(SOURCES, np.bincount(self.sources, minlength=len(SOURCES)).tolist(), strict=True))


def nothing_known(
    asked: int, state: StudentState, skipped: str = "", no_text: int = 0, pending: NDArray[np.bool_] | None = None
) -> Known:
    """No scores of so many items; ``pending`` [B]: of which there will be one."""
    sources = np.full(asked, ABSENT, dtype=np.uint8)
    count = 0
    if pending is not None:
        sources[pending] = PENDING
        count = int(pending.sum())
    return Known(np.full(asked, np.nan, dtype=np.float32), sources, state, skipped, "", no_text, count)


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
            source = SOURCES[self.known.sources[place]]
            if place >= len(self.scores):
                said.append(ItemSaid(item, None, (), {}, source))
                continue
            row = self.features[place].tolist()
            missing = tuple(kind for kind, items in absent.items() if items[place])
            features = dict(zip(FEATURES, row, strict=True))
            said.append(ItemSaid(item, float(self.scores[place]), missing, features, source))
        return said


def unscored(asked: int, reason: str, known: Known | None = None) -> Scored:
    """The lowest rung: no scores, the engine's own order, and why."""
    nothing = np.empty(0, dtype=np.float32)
    return Scored(
        steps=Steps(asked, 0, prior=reason),
        known=known or nothing_known(asked, "skipped", reason),
        reading=None,
        features=np.empty((0, len(FEATURES)), dtype=np.float32),
        scores=nothing,
        found=Found(),
    )
