"""How a gradient becomes a step: three optimisers around given starting weights, each with its state as one array.

Shapes: W weights.
"""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class Optimiser(Protocol):
    """Steps from gradients; what it remembers is one array, so that it can be kept and go on."""

    def step(self, weights: Doubles, gradient: Doubles) -> Doubles:
        """The weights after this gradient; both [W], neither is changed."""

    def state(self) -> Doubles:
        """What it remembers, one array whose length depends on W only."""

    def restore(self, state: Doubles) -> None:
        """Takes back what ``state`` gave."""


class AdaGrad:
    """A step size for each weight, shrinking with the root of its squared gradients (Duchi, Hazan, Singer, 2011).

    Args:
        start: [W], where ``l2`` pulls to.
        rate: step size.
        damping: added to the root: the first steps are not the largest.
        l2: strength of the pull.
    """

    def __init__(self, start: Doubles, rate: float, damping: float, l2: float) -> None:
        self._start, self._rate, self._damping, self._l2 = start, rate, damping, l2
        self._squares = np.zeros(len(start))

    def step(self, weights: Doubles, gradient: Doubles) -> Doubles:
        """As Optimiser says."""
        pulled = gradient + self._l2 * (weights - self._start)
        self._squares = self._squares + pulled * pulled
        return weights - self._rate * pulled / (self._damping + np.sqrt(self._squares))

    def state(self) -> Doubles:
        """Squared gradients [W]."""
        return self._squares.copy()

    def restore(self, state: Doubles) -> None:
        """As Optimiser says."""
        self._squares = state.copy()


class Ftrl:
    """FTRL-proximal (McMahan et al., 2013) around the start: weights that are not needed stay exactly where they began.

    Args:
        start: [W], the centre of both penalties.
        rate: alpha.
        damping: beta.
        l1: pulls single weights back to the start.
        l2: pulls all weights back to the start.
    """

    def __init__(self, start: Doubles, rate: float, damping: float, l1: float, l2: float) -> None:
        self._start, self._rate, self._damping, self._l1, self._l2 = start, rate, damping, l1, l2
        self._squares = np.zeros(len(start))
        self._sums = np.zeros(len(start))

    def step(self, weights: Doubles, gradient: Doubles) -> Doubles:
        """As Optimiser says."""
        before = np.sqrt(self._squares)
        self._squares = self._squares + gradient * gradient
        after = np.sqrt(self._squares)
        self._sums = self._sums + gradient - (after - before) / self._rate * (weights - self._start)
        kept = np.sign(self._sums) * np.maximum(np.abs(self._sums) - self._l1, 0.0)
        return self._start - kept / ((self._damping + after) / self._rate + self._l2)

    def state(self) -> Doubles:
        """Squared gradients [W], then the sums z [W]."""
        return np.concatenate([self._squares, self._sums])

    def restore(self, state: Doubles) -> None:
        """As Optimiser says."""
        half = len(self._start)
        self._squares, self._sums = state[:half].copy(), state[half:].copy()


class Newton:
    """Online Newton step (Hazan, Agarwal, Kale, 2007): weights learn jointly, so correlated features do not overshoot.

    It keeps the inverse of ``I / variance + sum of g g'`` by rank-one updates: O(W^2) a step, no matrix is ever solved,
    and no BLAS is called, whose rounding could depend on how many threads it has. Every step the inverse goes back
    a little towards where it began: it stays positive definite, and the learner never stops learning.

    Args:
        start: [W].
        variance: how far weights are expected to move from the start, squared.
        forgetting: share of the way back in each step; 1e-7 remembers some ten thousand lists.
    """

    def __init__(self, start: Doubles, variance: float, forgetting: float) -> None:
        self._variance, self._forgetting = variance, forgetting
        self._size: Final = len(start)
        self._inverse = np.eye(self._size) * variance

    def step(self, weights: Doubles, gradient: Doubles) -> Doubles:
        """As Optimiser says."""
        direction = np.add.reduce(self._inverse * gradient, axis=1)
        certainty = 1.0 + float(np.add.reduce(direction * gradient))
        if not certainty >= 1.0:  # rounding has eaten the definiteness: begin again from what is known of the weights
            self._inverse = np.eye(self._size) * self._variance
            return weights
        root = direction / np.sqrt(certainty)
        self._inverse -= root[:, None] * root  # exactly symmetric, as direction * moved would not be
        self._inverse *= 1.0 - self._forgetting
        self._inverse[np.diag_indices(self._size)] += self._forgetting * self._variance
        return np.asarray(weights - direction / certainty, dtype=np.float64)

    def state(self) -> Doubles:
        """The upper triangle of the inverse, row by row: W (W + 1) / 2."""
        return np.asarray(self._inverse[np.triu_indices(self._size)], dtype=np.float64)

    def restore(self, state: Doubles) -> None:
        """As Optimiser says."""
        upper = np.zeros((self._size, self._size))
        upper[np.triu_indices(self._size)] = state
        self._inverse = upper + np.triu(upper, 1).T
