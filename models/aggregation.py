"""How the read-outs of a progressive prompt become one logit (ProRBP's progressive aggregation).

    logit = b + sum over all stages of w_k logit_k + sum over those that exist of u_k, w_k >= 0, u_1 = 0

A stage that does not exist says what the one before it said: nothing was added. So weights that sum to 1 give a mean of
what was said, whichever stages a pair has; were it left out of the sum, its pairs would stand on another scale.

The first stage is the plain question. Where it stands alone its logit goes out untouched, bit for bit: a pair without
neighbours is scored as if there were no aggregation. Because no weight is negative, a stage that says more never lowers
the answer.

Shapes: N rows, K = 3 stages.

Source:
    ProRBP (https://arxiv.org/abs/2408.09439); the paper's own formula is not public, this one is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.logistic import Problem
from headrace.models.margins import sigmoid
from headrace.models.prompts import STAGES

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

START: Final = (0.2, 0.3, 0.5)
"""Weights that have seen nothing: the more a stage has read, the more it says."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A fitted aggregation.

    Attributes:
        level: b.
        weights: w [K], none below 0.
        presence: u of the stages beyond the first [K - 1].
    """

    level: float = 0.0
    weights: tuple[float, ...] = START
    presence: tuple[float, ...] = (0.0,) * (STAGES - 1)

    def __post_init__(self) -> None:
        if len(self.weights) != STAGES or len(self.presence) != STAGES - 1:
            raise ValueError(f"{len(self.weights)} weights and {len(self.presence)} levels for {STAGES} stages")
        if min(self.weights) < 0:
            raise ValueError(f"a stage counts {min(self.weights)}: no weight may be negative")

    def logits(self, stages: Doubles) -> Doubles:
        """One logit a row [N], of stages' logits [N, K] with NaN where there is no such stage."""
        found = _columns(stages) @ np.array([self.level, *self.weights, *self.presence])
        return np.where(alone(stages), stages[:, 0], found)

    def probabilities(self, stages: Doubles) -> Doubles:
        """The same as probabilities [N]."""
        return sigmoid(self.logits(stages))


def alone(stages: Doubles) -> Flags:
    """Which rows [N] have the first stage only."""
    return np.asarray(np.isnan(stages[:, 1:]).all(axis=1))


def placed(read: Doubles, present: Sequence[Sequence[bool]] | Flags) -> Doubles:
    """Read-outs, which stand one behind the other, put under the stages they belong to.

    Args:
        read: [N, up to K], NaN behind a row's last.
        present: [N, K], which stages a row's prompt has (``prompts.present``).

    Returns:
        [N, K], NaN where a row has no such stage.

    Raises:
        ValueError: a row has not as many read-outs as stages.
    """
    exists = np.asarray(present, dtype=np.bool_).reshape(-1, STAGES)
    given = ~np.isnan(read)
    if len(exists) != len(read) or (given.sum(axis=1) != exists.sum(axis=1)).any():
        raise ValueError("rows have other read-outs than their prompts have stages")
    found = np.full(exists.shape, np.nan)
    found[exists] = read[given]
    return found


def fit(stages: Doubles, targets: Doubles, pull: float = 1.0) -> Aggregation:
    """The aggregation with the least cross-entropy on rows that no teacher was trained on.

    Args:
        stages: logits [N, K], NaN where there is no such stage; rows with one stage teach nothing.
        targets: [N], 0 to 1.
        pull: back to the start, as strong as so many rows; it decides what the rows leave open.

    Raises:
        ValueError: not as many targets as rows.
    """
    if len(stages) != len(targets):
        raise ValueError(f"{len(stages)} rows and {len(targets)} targets")
    kept = ~alone(stages)
    start = np.array([0.0, *START, *[0.0] * (STAGES - 1)])
    bounded = np.array([False, *[True] * STAGES, *[False] * (STAGES - 1)])
    if not kept.any():
        return Aggregation()
    columns, aims = _columns(stages[kept]), targets[kept].astype(np.float64)
    best = Problem(columns, aims, bounded, start, pull / len(aims)).least().tolist()
    return Aggregation(best[0], tuple(best[1 : 1 + STAGES]), tuple(best[1 + STAGES :]))


def _columns(stages: Doubles) -> Doubles:
    """What the weights b, w, u are multiplied with: [N, 2 K]."""
    exists = ~np.isnan(stages)
    said = stages.copy()
    for stage in range(1, STAGES):
        said[:, stage] = np.where(exists[:, stage], said[:, stage], said[:, stage - 1])
    return np.hstack([np.ones((len(stages), 1)), said, exists[:, 1:].astype(np.float64)])
