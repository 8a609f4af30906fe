"""The weights of least cross-entropy, some of them at least 0: what calibrations and aggregations are fitted with.

Shapes: N rows, P weights.

Source:
    Bertsekas 1982 for the projected Newton step.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.margins import sigmoid

Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

_STEPS: Final = 200
_TOLERANCE: Final = 1e-10
_NEAR: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Problem:
    """Mean binary cross-entropy of sigmoid(columns @ weights), and a pull: convex, with one least value.

    Attributes:
        columns: [N, P], finite.
        targets: [N], 0 to 1.
        bounded: [P], which weights must not be negative.
        start: [P], where it begins and where the pull draws to.
        pull: half of this times the squared distance from the start is added; above 0.
    """

    columns: Doubles
    targets: Doubles
    bounded: Bools
    start: Doubles
    pull: float

    def least(self) -> Doubles:
        """The weights [P] of the least loss."""
        weights = self.start
        loss = self._loss(weights)
        for _ in range(_STEPS):
            chances = sigmoid(self.columns @ weights)
            slopes = self.columns.T @ (chances - self.targets) / len(self.targets) + self.pull * (weights - self.start)
            away = np.abs(weights - self._held(weights - slopes))
            if away.max() < _TOLERANCE:
                break
            # Near the bound and pushed against it: these go to it. All others take Newton's step, then are held at the
            # bound. Near, not at: a weight a hair above it would spoil the step of the others once it is held.
            pinned = self.bounded & (weights <= min(_NEAR, float(away.max()))) & (slopes > 0)
            free = ~pinned
            inner = self.columns[:, free]
            curves = (inner.T * (chances * (1 - chances))) @ inner / len(self.targets)
            step = np.where(pinned, weights, 0.0)
            step[free] = np.linalg.solve(curves + self.pull * np.eye(len(curves)), slopes[free])
            found = self._shorter(weights, step, slopes, loss)
            if found is None:
                break
            weights, loss = found
        return weights

    def _shorter(self, weights: Doubles, step: Doubles, slopes: Doubles, loss: float) -> tuple[Doubles, float] | None:
        """The longest of the halved steps that lowers the loss enough, and that loss; None when none does."""
        share = 1.0
        while share > 1e-10:
            tried = self._held(weights - share * step)
            found = self._loss(tried)
            if found < loss and found <= loss - 1e-4 * float(slopes @ (weights - tried)):
                return tried, found
            share /= 2
        return None

    def _held(self, weights: Doubles) -> Doubles:
        return np.where(self.bounded, np.maximum(weights, 0.0), weights)

    def _loss(self, weights: Doubles) -> float:
        values, away = self.columns @ weights, weights - self.start
        each = np.logaddexp(0.0, values) - self.targets * values
        return float(each.mean() + self.pull / 2 * (away @ away))
