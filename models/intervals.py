"""How sure a number is: whole queries are drawn with replacement, and the number is computed anew each time.

Every number that is computed from one ``Resampling`` sees the same draws. So the difference of two of them is a paired
one, with an interval of its own that is far narrower than those of the two.

Shapes: N rows, G groups (queries), R resamples.

Source:
    Efron, Tibshirani 1993 for percentile intervals; Field, Welsh 2007 for whole clusters.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.models.row_statistics import Statistic

Doubles = NDArray[np.float64]
RESAMPLES = 1000
LEVEL = 0.95


class Resampling:
    """The draws that a comparison is made on.

    Args:
        groups: [N], what each row belongs to (its query); rows of one group are not independent.
        seed: of the draws.
        resamples: how many.
    """

    def __init__(self, groups: Sequence[Hashable], seed: int = 0, resamples: int = RESAMPLES) -> None:
        seen: dict[Hashable, int] = {}
        self.owners = np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.int64)
        self.groups = len(seen)
        random = np.random.default_rng(seed)
        self._counts = np.empty((resamples if seen else 0, len(seen)), dtype=np.uint16)
        for counts in self._counts:
            counts[:] = np.bincount(random.integers(len(seen), size=len(seen)), minlength=len(seen))

    def estimate(self, statistic: Statistic) -> "Estimate":
        """A statistic of all rows, and what it comes to in each resample."""
        value = statistic(np.ones(len(self.owners)))
        draws = [statistic(counts[self.owners].astype(np.float64)) for counts in self._counts]
        return Estimate(value, np.array(draws, dtype=np.float64), self)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and what it might as well have been.

    Attributes:
        value: of all rows; NaN when they have none.
        draws: of each resample, float64 [R]; those that are NaN are left out of intervals.
        drawn_by: only numbers of the same draws can be compared.
    """

    value: float
    draws: Doubles = field(repr=False, compare=False)
    drawn_by: Resampling = field(repr=False, compare=False)

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self._quantile((1 - LEVEL) / 2)

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self._quantile((1 + LEVEL) / 2)

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside of the interval; False when there is none."""
        return self.low > 0 or self.high < 0

    @property
    def p_value(self) -> float:
        """Two-sided: twice the share of resamples on the rarer side of 0, at least 2 / (R + 1); NaN without draws."""
        there = self.draws[np.isfinite(self.draws)]
        if not len(there):
            return float("nan")
        rarer = min(int(np.count_nonzero(there <= 0)), int(np.count_nonzero(there >= 0)))
        return min(1.0, 2 * (rarer + 1) / (len(there) + 1))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The paired difference."""
        self._check(other)
        return Estimate(self.value - other.value, self.draws - other.draws, self.drawn_by)

    def relative_to(self, other: "Estimate") -> "Estimate":
        """The paired share self / other - 1; NaN where the other is 0."""
        self._check(other)
        return Estimate(_share(self.value, other.value), _shares(self.draws, other.draws), self.drawn_by)

    def _check(self, other: "Estimate") -> None:
        if self.drawn_by is not other.drawn_by:
            raise ValueError("these numbers come from different draws: compute both from one Resampling")

    def _quantile(self, at: float) -> float:
        there = self.draws[np.isfinite(self.draws)]
        return float(np.quantile(there, at)) if len(there) else float("nan")


def mean_of(estimates: Sequence[Estimate], weights: Sequence[float] | None = None) -> Estimate:
    """The mean of numbers from the same draws (of seeds, of perturbations); its interval is that of the mean.

    Args:
        estimates: at least one.
        weights: how much each counts, their sum above 0; None: all the same.

    Raises:
        ValueError: there are none, or they come from different draws.
    """
    if not estimates:
        raise ValueError("the mean of no numbers")
    first = estimates[0]
    for one in estimates[1:]:
        first._check(one)
    draws = np.average([one.draws for one in estimates], axis=0, weights=weights)
    return Estimate(float(np.average([one.value for one in estimates], weights=weights)), draws, first.drawn_by)


def _share(ours: float, theirs: float) -> float:
    return ours / theirs - 1 if theirs else float("nan")


def _shares(ours: Doubles, theirs: Doubles) -> Doubles:
    return np.divide(ours, theirs, out=np.full_like(ours, np.nan), where=theirs != 0) - 1
