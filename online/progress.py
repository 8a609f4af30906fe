"""How well the learner does, and whether its head may be published.

Every example is scored twice before it is learned from: by the learner as it is then, and by the frozen head, the last
one that was published as good. Kept are sums, so that a checkpoint has a fixed size and a replay adds the same numbers.
"""

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.metrics import log_loss, reciprocal_rank

Verdict = Literal["good", "worse", "not_finite"]


class GuardSettings(msgspec.Struct, frozen=True):
    """When a learner counts as worse than the frozen head: by the mean difference of reciprocal rank on the same lists.

    Attributes:
        lists: with fewer lists with a click since the last decision nothing is held against the learner.
        standard_errors: the mean must lie so many of them below 0, and ...
        margin: ... also so far below 0 that it matters.
    """

    lists: int = 50
    standard_errors: float = 2.33
    margin: float = 0.005


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Sums over examples that were scored before they were learned from.

    Attributes:
        examples: how many.
        clicked: how many of them have a click; the ranks below are of these.
        ranks: sum of the learner's reciprocal ranks.
        frozen_ranks: sum of the frozen head's.
        squares: sum of the squared differences of the two.
        losses: sum of the learner's log losses, nats a row.
        frozen_losses: sum of the frozen head's.
    """

    examples: int = 0
    clicked: int = 0
    ranks: float = 0.0
    frozen_ranks: float = 0.0
    squares: float = 0.0
    losses: float = 0.0
    frozen_losses: float = 0.0

    @property
    def mrr(self) -> float:
        """The learner's mean reciprocal rank; NaN without clicks."""
        return self.ranks / self.clicked if self.clicked else math.nan

    @property
    def frozen_mrr(self) -> float:
        """The frozen head's mean reciprocal rank on the same lists; NaN without clicks."""
        return self.frozen_ranks / self.clicked if self.clicked else math.nan

    @property
    def loss(self) -> float:
        """The learner's mean log loss; NaN without examples."""
        return self.losses / self.examples if self.examples else math.nan

    @property
    def frozen_loss(self) -> float:
        """The frozen head's mean log loss on the same lists; NaN without examples."""
        return self.frozen_losses / self.examples if self.examples else math.nan


class Seen(msgspec.Struct, frozen=True):
    """How one example was scored: reciprocal rank of its best clicked item (NaN without a click), log loss."""

    rank: float
    loss: float


def seen(margins: NDArray[np.float64], scores: NDArray[np.float32], clicked: NDArray[np.bool_]) -> Seen:
    """How a head did on one list of R rows.

    Args:
        margins: float64 [R], what orders them; ties count against the head.
        scores: float32 [R], probabilities.
        clicked: bool [R].
    """
    wanted = np.flatnonzero(clicked)
    rank = max((reciprocal_rank(margins, int(row)) for row in wanted), default=math.nan)
    return Seen(rank, log_loss(scores, clicked))


def add(tally: Tally, learner: Seen, frozen: Seen) -> Tally:
    """The sums with one more example."""
    ranked = not math.isnan(learner.rank)
    difference = learner.rank - frozen.rank if ranked else 0.0
    return Tally(
        examples=tally.examples + 1,
        clicked=tally.clicked + ranked,
        ranks=tally.ranks + (learner.rank if ranked else 0.0),
        frozen_ranks=tally.frozen_ranks + (frozen.rank if ranked else 0.0),
        squares=tally.squares + difference * difference,
        losses=tally.losses + learner.loss,
        frozen_losses=tally.frozen_losses + frozen.loss,
    )


def verdict(since: Tally, settings: GuardSettings) -> Verdict:
    """Whether the learner may replace the frozen head.

    Args:
        since: examples since the last decision.
        settings: what counts as worse.
    """
    if not math.isfinite(since.losses + since.ranks):
        return "not_finite"
    count = since.clicked
    if count < max(settings.lists, 2):
        return "good"
    mean = (since.ranks - since.frozen_ranks) / count
    variance = max(0.0, since.squares / count - mean * mean) * count / (count - 1)
    below = -settings.standard_errors * math.sqrt(variance / count)
    return "worse" if mean < below and mean < -settings.margin else "good"
