"""A statistic asked with counts equals the plain one of the rows repeated so often."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models import metrics, row_statistics

Doubles = NDArray[np.float64]
VALUES = st.integers(0, 4).map(lambda value: value / 4)
ROWS = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 3)), min_size=1, max_size=25)


def columns(rows: list[tuple[float, float, int]]) -> tuple[Doubles, Doubles, Doubles, NDArray[np.int64]]:
    left, right, counts = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return left, right, counts, np.repeat(np.arange(len(rows)), counts.astype(np.int64))


@given(rows=ROWS)
def test_counts_are_repetitions(rows: list[tuple[float, float, int]]) -> None:
    left, right, counts, repeated = columns(rows)
    assume(len(repeated))
    bins = (left * 2).astype(np.int64)
    for asked, plain in (
        (row_statistics.mean(left)(counts), left[repeated].mean()),
        (row_statistics.rmse(left, right)(counts), metrics.rmse(left[repeated], right[repeated])),
        (row_statistics.spearman(left, right)(counts), metrics.spearman(left[repeated], right[repeated])),
        (row_statistics.auc(left, right > 0.5)(counts), metrics.auc(left[repeated], right[repeated] > 0.5)),
        (
            row_statistics.calibration_error(left, right, bins)(counts),
            row_statistics.calibration_error(left[repeated], right[repeated], bins[repeated])(np.ones(len(repeated))),
        ),
    ):
        assert asked == pytest.approx(plain, abs=1e-12, nan_ok=True)


@given(rows=ROWS)
def test_the_auc_is_that_of_all_pairs(rows: list[tuple[float, float, int]]) -> None:
    scores, right, _, _ = columns(rows)
    positive = right > 0.5
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(scores[positive], scores[~positive])]
    expected = float(np.mean(pairs)) if pairs else math.nan
    assert metrics.auc(scores, positive) == pytest.approx(expected, nan_ok=True)


@given(rows=ROWS)
def test_spearman_is_the_correlation_of_mean_ranks(rows: list[tuple[float, float, int]]) -> None:
    left, right, _, _ = columns(rows)
    assume(len(set(left)) > 1 and len(set(right)) > 1)
    ranks = [
        [float(np.mean([place for place, other in enumerate(sorted(column), 1) if other == value])) for value in column]
        for column in (left, right)
    ]
    assert metrics.spearman(left, right) == pytest.approx(statistics.correlation(*ranks))


def test_what_has_no_value_is_no_number() -> None:
    nothing = np.empty(0)
    same = np.ones(3)
    assert math.isnan(metrics.auc(np.arange(3.0), np.ones(3, dtype=np.bool_)))
    assert math.isnan(metrics.spearman(same, np.arange(3.0)))
    assert math.isnan(metrics.rmse(nothing, nothing))
    assert math.isnan(metrics.spearman(nothing, nothing))
    assert math.isnan(row_statistics.calibration_error(nothing, nothing, np.empty(0, dtype=np.int64))(nothing))


def test_a_list_counts_as_often_as_its_row() -> None:
    of_lists = row_statistics.mean(np.array([1.0, 4.0]), np.array([0, 2]))
    assert of_lists(np.array([3.0, 3.0, 1.0])) == pytest.approx((3 * 1 + 1 * 4) / 4)


def test_some_rows_see_their_own_counts() -> None:
    rows = np.array([2, 0])
    assert row_statistics.among(row_statistics.mean(np.array([5.0, 1.0])), rows)(np.array([1.0, 9.0, 3.0])) == 4.0
