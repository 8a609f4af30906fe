"""Metrics of scored lists and of scored rows, and bootstrap intervals of means over groups.

Ties are never broken by index: pessimistically (the relevant item comes last among its equals), at random with a seed,
or in expectation over all orders of the equals. Every function is pure; randomness comes in as a generator. Intervals
of what is no mean (RMSE, Spearman, AUC) are made by ``intervals``.

Shapes: B items of a list, N lists or rows, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace.models import row_statistics

Doubles = NDArray[np.float64]


def rank(
    scores: NDArray[np.floating],
    relevant: int,
    ties: Literal["pessimistic", "random"] = "pessimistic",
    random: np.random.Generator | None = None,
) -> int:
    """The place of one item in the order of descending scores, 1 = first.

    Args:
        scores: [B]; NaN ranks below every number.
        relevant: index of the item.
        ties: ``pessimistic``: behind all equals; ``random``: at a random place among them.
        random: needed for ``random``.

    Raises:
        ValueError: random ties without a generator.
    """
    values = np.where(np.isnan(scores), -np.inf, scores)
    own = values[relevant]
    above = int(np.count_nonzero(values > own))
    equal = int(np.count_nonzero(values == own))
    if ties == "pessimistic":
        return above + equal
    if random is None:
        raise ValueError("random ties need a generator")
    return above + 1 + int(random.integers(equal))


def reciprocal_rank(
    scores: NDArray[np.floating],
    relevant: int,
    ties: Literal["pessimistic", "random"] = "pessimistic",
    random: np.random.Generator | None = None,
) -> float:
    """1 / rank of the one relevant item; see ``rank``."""
    return 1.0 / rank(scores, relevant, ties, random)


def ndcg(
    scores: NDArray[np.floating] | Sequence[float],
    gains: Doubles,
    cut: int = 10,
    ties: Literal["expected", "pessimistic"] = "expected",
) -> float:
    """Discounted gain of the first places over the best that this list allows, 0 to 1.

    Args:
        scores: [B], higher comes first; NaN ranks below every number.
        gains: [B], at least 0.
        cut: how many places count.
        ties: ``expected``: the mean over all orders of equal scores, computed exactly, without drawing;
            ``pessimistic``: equals stand in their worst order.

    Returns:
        NaN when nothing in the list is worth anything.

    Source:
        Järvelin, Kekäläinen 2002; McSherry, Najork 2008 for the expectation.
    """
    given = np.asarray(scores, dtype=np.float64)
    values = np.where(np.isnan(given), -np.inf, given)
    discounts = np.zeros(len(gains))
    discounts[:cut] = 1 / np.log2(np.arange(2, min(cut, len(gains)) + 2))
    best = np.sort(gains)[::-1] @ discounts
    if not best > 0:
        return float("nan")
    order = np.lexsort((gains, -values))
    got = gains[order]
    if ties == "expected":
        # Each of some equals stands at each of their places equally often: all of them are worth their mean.
        ordered = values[order]
        firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        sizes = np.diff(np.append(firsts, len(got)))
        got = np.repeat(np.add.reduceat(got, firsts) / sizes, sizes)
    return float(got @ discounts / best)


def rmse(predictions: NDArray[np.floating], targets: NDArray[np.floating]) -> float:
    """The root of the mean squared difference, [N] each; NaN without rows."""
    return row_statistics.rmse(predictions, targets)(np.ones(len(targets)))


def spearman(left: NDArray[np.floating], right: NDArray[np.floating]) -> float:
    """The correlation of ranks, [N] each; equals share the mean of their ranks. NaN when a column is constant."""
    return row_statistics.spearman(left, right)(np.ones(len(left)))


def auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """The chance that a positive row [N] scores higher than a negative one, equals count half; NaN without either."""
    return row_statistics.auc(scores, positive)(np.ones(len(scores)))


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it lies in 95 of 100 resamples."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float] | Doubles,
    groups: Sequence[object],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean over lists with a percentile interval: whole groups (sessions) are drawn with replacement.

    Args:
        values: [N], one number a list.
        groups: [N], what each list belongs to; lists of one group are not independent.
        seed: of the resampling.
        resamples: how many.
        level: share of the resampled means that lies within the interval.

    Raises:
        ValueError: not as many groups as values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return Interval(float("nan"), float("nan"), float("nan"))
    seen: dict[object, int] = {}
    owner = np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.int64)
    if len(owner) != len(numbers):
        raise ValueError(f"{len(numbers)} values but {len(owner)} groups")
    sums = np.bincount(owner, weights=numbers, minlength=len(seen))
    sizes = np.bincount(owner, minlength=len(seen)).astype(np.float64)
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    for at in range(resamples):
        drawn = random.integers(len(seen), size=len(seen))
        means[at] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def paired_bootstrap(
    ours: Sequence[float] | Doubles,
    theirs: Sequence[float] | Doubles,
    groups: Sequence[object],
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """The mean of ours - theirs on the same lists, with its interval over groups; arguments as ``bootstrap``."""
    left, right = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if left.shape != right.shape:
        raise ValueError(f"not paired: {left.shape} and {right.shape}")
    return bootstrap(left - right, groups, seed, resamples, level)


def log_loss(probabilities: NDArray[np.floating], clicked: NDArray[np.bool_]) -> float:
    """Mean logistic loss of probabilities [N] that were served, in nats."""
    held = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(clicked, np.log(held), np.log1p(-held))))
