"""Draws of whole queries, their intervals, and differences on the same draws."""

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.models import metrics, row_statistics
from headrace.models.intervals import Resampling, mean_of

Doubles = NDArray[np.float64]


def judged(queries: int, seed: int) -> tuple[list[str], Doubles, Doubles]:
    random = np.random.default_rng(seed)
    names = [f"query {query}" for query in range(queries) for _ in range(5)]
    labels = np.clip(np.repeat(random.random(queries), 5) + random.normal(0, 0.2, 5 * queries), 0, 1)
    return names, labels, labels + random.normal(0, 0.3, len(labels))


def test_the_value_is_that_of_all_rows_and_lies_in_its_interval() -> None:
    names, labels, scores = judged(100, 1)
    draws = Resampling(names, resamples=300)
    for statistic, plain in (
        (row_statistics.auc(scores, labels > 0.6), metrics.auc(scores, labels > 0.6)),
        (row_statistics.spearman(scores, labels), metrics.spearman(scores, labels)),
        (row_statistics.rmse(scores, labels), metrics.rmse(scores, labels)),
    ):
        found = draws.estimate(statistic)
        assert found.value == pytest.approx(plain)
        assert found.low < found.value < found.high
        assert found.excludes_zero


def test_the_interval_of_a_mean_is_the_one_that_means_had_before() -> None:
    names, labels, _ = judged(200, 2)
    before = metrics.bootstrap(labels, names, resamples=1000)
    found = Resampling(names, resamples=1000).estimate(row_statistics.mean(labels))
    assert (found.value, found.low, found.high) == pytest.approx((before.mean, before.low, before.high))


def test_whole_queries_are_drawn_not_rows() -> None:
    names, labels, _ = judged(60, 3)
    together = Resampling(names).estimate(row_statistics.mean(labels))
    alone = Resampling(range(len(labels))).estimate(row_statistics.mean(labels))
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_difference_on_the_same_draws_is_seen_where_two_intervals_overlap() -> None:
    names, labels, scores = judged(300, 4)
    positive = labels > 0.5
    draws = Resampling(names)
    noise = np.random.default_rng(5).normal(0, 0.1, len(scores))
    worse = draws.estimate(row_statistics.auc(scores + noise, positive))
    better = draws.estimate(row_statistics.auc(scores, positive))
    assert better.low < worse.high
    difference = better - worse
    assert difference.excludes_zero
    assert difference.value == better.value - worse.value > 0
    assert 2 / 1001 <= difference.p_value < 0.05
    assert (worse - worse).p_value == 1.0
    assert not (worse - worse).excludes_zero
    assert better.relative_to(worse).value == pytest.approx(better.value / worse.value - 1)


def test_numbers_of_other_draws_are_not_compared() -> None:
    names, labels, _ = judged(10, 6)
    one, other = (Resampling(names, seed).estimate(row_statistics.mean(labels)) for seed in (0, 0))
    with pytest.raises(ValueError, match="different draws"):
        one - other
    with pytest.raises(ValueError, match="different draws"):
        mean_of([one, other])
    with pytest.raises(ValueError, match="no numbers"):
        mean_of([])


def test_the_mean_of_seeds_is_less_noisy_than_a_seed() -> None:
    names, labels, _ = judged(100, 7)
    draws = Resampling(names)
    seeds = [
        draws.estimate(row_statistics.rmse(labels + np.random.default_rng(seed).normal(0, 0.2, len(labels)), labels))
        for seed in range(3)
    ]
    found = mean_of(seeds)
    assert found.value == pytest.approx(np.mean([seed.value for seed in seeds]))
    assert found.high - found.low < max(seed.high - seed.low for seed in seeds)


def test_draws_repeat_with_their_seed() -> None:
    names, labels, _ = judged(20, 8)
    first, second, other = (Resampling(names, seed, 50).estimate(row_statistics.mean(labels)) for seed in (1, 1, 2))
    assert np.array_equal(first.draws, second.draws)
    assert not np.array_equal(first.draws, other.draws)


def test_resamples_without_a_value_are_left_out_and_without_any_there_is_no_interval() -> None:
    one_positive = Resampling("abc").estimate(row_statistics.auc(np.arange(3.0), np.array([False, False, True])))
    assert np.isnan(one_positive.draws).any()
    assert (one_positive.low, one_positive.high) == (1.0, 1.0)
    nothing = Resampling([]).estimate(row_statistics.mean(np.empty(0)))
    assert math.isnan(nothing.value)
    assert math.isnan(nothing.low)
    assert math.isnan(nothing.p_value)
    assert not nothing.excludes_zero


def test_a_thousand_draws_of_thirteen_thousand_rows_take_seconds() -> None:
    random = np.random.default_rng(9)
    names = np.repeat(np.arange(2_000), 7)[:13_000].tolist()
    labels, scores = random.integers(0, 7, 13_000) / 6, random.random(13_000)
    began = time.process_time()
    draws = Resampling(names)
    for statistic in (
        row_statistics.auc(scores, labels > 0.6),
        row_statistics.spearman(scores, labels),
        row_statistics.rmse(scores, labels),
    ):
        draws.estimate(statistic)
    assert time.process_time() - began < 4
