"""From logits to probabilities that mean what they say, and from several teachers to one.

What is fitted: p = sigmoid(level + sum of weight x logit) against soft targets, by the binary cross-entropy, whose
minimum is at p = target also between 0 and 1. Weights are at least 0: a calibration never turns an order round, an
ensemble rises in each of its members. A tiny pull towards 0 keeps weights finite where targets can be separated without
error, and decides where members say the same.

Everything is deterministic: the same rows give the same numbers.

Shapes: N rows, K members of an ensemble (teachers, or stages of one).

Source:
    Platt 1999 for slope and level; Guo et al. 2017 for the error.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models import row_statistics
from headrace.models.logistic import Problem
from headrace.models.margins import sigmoid

Doubles = NDArray[np.float64]

LOGIT_BOUND: Final = 8.0
"""A logit that is learned from or averaged lies within +- this: sigmoid(8) = 0.9997."""
PULL: Final = 1e-6
"""Half of this times the squared weights of standardised logits is added to the mean loss."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One score's way to a probability: sigmoid(slope x logit + level), slope at least 0."""

    slope: float = 1.0
    level: float = 0.0

    def probabilities(self, logits: NDArray[np.floating]) -> Doubles:
        """The probabilities of logits, float64 [N]."""
        return sigmoid(self.slope * np.asarray(logits, dtype=np.float64) + self.level)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several scores' way to one probability.

    Attributes:
        weights: of the members' logits [K], each at least 0.
        level: is added.
        absent: [K], stands in for a member's weight x logit where it has not scored a row.
    """

    weights: tuple[float, ...]
    level: float
    absent: tuple[float, ...]

    def logits(self, logits: NDArray[np.floating]) -> Doubles:
        """The ensemble's logits, float64 [N].

        Args:
            logits: [N, K]; NaN where a member has not scored.
        """
        own = np.asarray(logits, dtype=np.float64)
        parts = np.where(np.isnan(own), np.array(self.absent), np.nan_to_num(own) * np.array(self.weights))
        total: Doubles = parts.sum(axis=1) + self.level
        return total

    def probabilities(self, logits: NDArray[np.floating]) -> Doubles:
        """The ensemble's probabilities, float64 [N], of the members' logits [N, K]."""
        return sigmoid(self.logits(logits))


def fit_calibration(logits: NDArray[np.floating], targets: NDArray[np.floating]) -> Calibration:
    """Slope and level of the least cross-entropy; slope 0 where the logits say nothing, or the contrary.

    Args:
        logits: [N], finite; a cosine will do as well.
        targets: [N], 0 to 1.

    Raises:
        ValueError: no rows, unequal lengths, or numbers out of their bounds.
    """
    found = fit_ensemble(np.asarray(logits, dtype=np.float64)[:, None], targets)
    return Calibration(found.weights[0], found.level)


def fit_ensemble(logits: NDArray[np.floating], targets: NDArray[np.floating]) -> Ensemble:
    """Weights and level of the least cross-entropy, weights at least 0.

    Args:
        logits: [N, K], at least one member; NaN where a member has not scored a row.
        targets: [N], 0 to 1.

    Raises:
        ValueError: no rows, unequal lengths, or numbers out of their bounds.
    """
    own, aims = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    _check(own, aims)
    there = ~np.isnan(own)
    rows = np.maximum(there.sum(axis=0), 1)
    centre = np.where(there, own, 0.0).sum(axis=0) / rows
    spread = np.sqrt((np.where(there, own - centre, 0.0) ** 2).sum(axis=0) / rows)
    # What differs by rounding alone is one number: brought to a spread of 1 it would be told apart.
    spread = np.where(spread > 1e-12 * np.maximum(np.abs(centre), 1.0), spread, 1.0)
    standard = np.where(there, (own - centre) / spread, 0.0)
    members = own.shape[1]
    columns = np.concatenate([standard, ~there, np.ones((len(own), 1))], axis=1)
    bounded = np.arange(columns.shape[1]) < members
    found = Problem(columns, aims, bounded, np.zeros(columns.shape[1]), PULL).least()
    weights, absent, level = found[:members] / spread, found[members:-1], float(found[-1])
    shifts = weights * centre
    return Ensemble(
        tuple(weights.tolist()),
        float(level - shifts.sum()),
        tuple(np.where(there.all(axis=0), 0.0, absent + shifts).tolist()),
    )


def clipped_logit(probabilities: NDArray[np.floating], bound: float = LOGIT_BOUND) -> Doubles:
    """log(p / (1 - p)) of probabilities, held within +- bound; 0 and 1 are legal."""
    edge = 1 / (1 + np.exp(-bound))
    held = np.clip(np.asarray(probabilities, dtype=np.float64), 1 - edge, edge)
    return np.asarray(np.clip(np.log(held) - np.log1p(-held), -bound, bound), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Reliability:
    """Probabilities against what was so, by bin, in ascending order.

    Attributes:
        predicted: mean probability of each bin.
        observed: mean target of each bin.
        rows: in each bin, at least one.
    """

    predicted: Doubles
    observed: Doubles
    rows: NDArray[np.int64]


def bins_of(probabilities: NDArray[np.floating], bins: int = 10) -> NDArray[np.int64]:
    """The bin of each row, int64 [N]: about as many rows in each, equal probabilities never apart."""
    values = np.asarray(probabilities, dtype=np.float64)
    if not len(values):
        return np.empty(0, dtype=np.int64)
    cuts = np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.searchsorted(np.unique(cuts), values, side="left").astype(np.int64)


def reliability(probabilities: NDArray[np.floating], targets: NDArray[np.floating], bins: int = 10) -> Reliability:
    """How often what was said with some probability was so; targets [N] may lie between 0 and 1."""
    places = bins_of(probabilities, bins)
    rows = np.bincount(places)
    there = rows > 0
    sums = [np.bincount(places, weights=np.asarray(one, dtype=np.float64))[there] for one in (probabilities, targets)]
    return Reliability(sums[0] / rows[there], sums[1] / rows[there], rows[there].astype(np.int64))


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.floating], bins: int = 10) -> float:
    """The expected calibration error over ``bins_of``: mean |mean probability - mean target|; NaN without rows."""
    error = row_statistics.calibration_error(probabilities, targets, bins_of(probabilities, bins))
    return error(np.ones(len(targets)))


def _check(logits: Doubles, targets: Doubles) -> None:
    if logits.ndim != 2 or not logits.size or targets.shape != logits.shape[:1]:
        raise ValueError(f"{logits.shape} logits do not fit {targets.shape} targets, or there are none")
    if np.isinf(logits).any():
        raise ValueError("a logit is infinite: clip it first")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise ValueError("a target lies outside 0 to 1")
