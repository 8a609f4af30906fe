"""What labelling needs of a teacher, and the label that its answer makes. Pure: a teacher is given, not loaded."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.models.prompts import NEIGHBOURS, Pair
from headrace.streams.pairs import LabelledPair, UnlabelledPair


class Teacher(Protocol):
    """Says how relevant items are."""

    @property
    def id(self) -> str:
        """Names it, e.g. the digest of its weights."""

    @property
    def prompt(self) -> str:
        """Hash of the wording that it is asked with."""

    def logits(self, pairs: Sequence[Pair], /) -> NDArray[np.float64]:
        """Logits of the calibrated probability that each item is relevant, float64 [B]."""


def label_of(pair: UnlabelledPair, logit: float, teacher: Teacher, now_ms: int) -> LabelledPair:
    """The label that a teacher's logit, a finite number, makes of a pair; it keeps the neighbours that are read."""
    probability = float(1 / (1 + np.exp(-np.clip(logit, -500, 500))))
    return LabelledPair(
        pair.pair_id,
        pair.query,
        pair.item_id,
        pair.title,
        probability,
        logit,
        teacher.id,
        teacher.prompt,
        now_ms,
        pair.query_neighbours[:NEIGHBOURS],
        pair.item_neighbours[:NEIGHBOURS],
    )
