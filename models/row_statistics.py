"""Statistics of rows as functions of how often each row counts.

To draw queries with replacement is to count each of their rows 0, 1, 2, ... times. So a statistic is prepared once
(sorted, ranked) and then asked a thousand times with other counts, each time in O(N): that is what makes intervals for
numbers that are no means, such as AUC, cheap. With whole counts the result is that of the rows repeated so often.

Sums are written out: a product by BLAS would wake all its threads for a few microseconds of work.

Shapes: N rows, V distinct values, L lists.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Statistic = Callable[[Doubles], float]
"""From counts, float64 [N], each at least 0, to a number; NaN where these rows have none."""


def mean(values: NDArray[np.floating], rows: Ints | None = None) -> Statistic:
    """The mean of numbers.

    Args:
        values: [N], or [L] when they belong to lists.
        rows: a row of each list, int64 [L]: a list counts as often as that row. None: a number a row.
    """
    numbers = np.asarray(values, dtype=np.float64)

    def statistic(counts: Doubles) -> float:
        own = counts if rows is None else counts[rows]
        total = own.sum()
        return float((own * numbers).sum() / total) if total > 0 else float("nan")

    return statistic


def rmse(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> Statistic:
    """The root of the mean squared difference of predictions and targets, [N] each."""
    squares = mean((_doubles(predictions) - _doubles(targets)) ** 2)
    return lambda counts: float(np.sqrt(squares(counts)))


def spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> Statistic:
    """The correlation of the ranks of two columns [N]; equals share their mean rank. NaN when a column is constant."""
    one, other = _groups(left), _groups(right)

    def statistic(counts: Doubles) -> float:
        total = counts.sum()
        if total <= 0:
            return float("nan")
        a, b = _ranks(one, counts), _ranks(other, counts)
        # Ranks of either column have this mean by themselves.
        middle = (total + 1) / 2
        a, b = a - middle, b - middle
        heavy = counts * a
        spread = np.sqrt((heavy * a).sum() * (counts * b * b).sum())
        # Ranks are multiples of a half: what is smaller than that is rounding.
        return float((heavy * b).sum() / spread) if spread > 0.25 else float("nan")

    return statistic


def auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> Statistic:
    """The chance that a positive row has a higher score than a negative one, equals count half; NaN without either.

    Args:
        scores: [N].
        positive: [N].
    """
    places, values = _groups(scores)
    chosen = np.asarray(positive, dtype=np.float64)

    def statistic(counts: Doubles) -> float:
        good = np.bincount(places, weights=counts * chosen, minlength=values)
        bad = np.bincount(places, weights=counts * (1 - chosen), minlength=values)
        pairs = good.sum() * bad.sum()
        return float((good * (np.cumsum(bad) - bad / 2)).sum() / pairs) if pairs > 0 else float("nan")

    return statistic


def calibration_error(probabilities: NDArray[np.floating], targets: NDArray[np.floating], bins: Ints) -> Statistic:
    """The expected calibration error: by bin |mean probability - mean target|, each bin as heavy as its rows.

    Args:
        probabilities: [N].
        targets: [N], 0 to 1.
        bins: int64 [N], which bin each row is in; the bins stay while counts change.
    """
    gaps = _doubles(probabilities) - _doubles(targets)

    def statistic(counts: Doubles) -> float:
        total = counts.sum()
        return float(np.abs(np.bincount(bins, weights=counts * gaps)).sum() / total) if total > 0 else float("nan")

    return statistic


def among(statistic: Statistic, rows: Ints) -> Statistic:
    """A statistic that was prepared on some rows only, int64 [M], asked with the counts of all."""
    return lambda counts: statistic(counts[rows])


def _doubles(values: NDArray[np.floating]) -> Doubles:
    return np.asarray(values, dtype=np.float64)


def _groups(values: NDArray[np.floating]) -> tuple[Ints, int]:
    """For each row the place of its value among the V distinct ones, ascending, and V."""
    distinct, places = np.unique(_doubles(values), return_inverse=True)
    return places.astype(np.int64), len(distinct)


def _ranks(groups: tuple[Ints, int], counts: Doubles) -> Doubles:
    places, values = groups
    held = np.bincount(places, weights=counts, minlength=values)
    ranks: Doubles = (np.cumsum(held) - held + (held + 1) / 2)[places]
    return ranks
