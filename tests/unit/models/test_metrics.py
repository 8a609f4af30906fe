"""Ranks, ties, intervals, calibration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.metrics import (
    Interval,
    bootstrap,
    log_loss,
    ndcg,
    paired_bootstrap,
    rank,
    reciprocal_rank,
)


def test_the_rank_counts_from_1_at_the_top() -> None:
    scores = np.array([0.2, 0.9, 0.5])
    assert [rank(scores, place) for place in range(3)] == [3, 1, 2]
    assert reciprocal_rank(scores, 0) == 1 / 3


def test_ties_are_held_against_the_item_never_broken_by_its_place() -> None:
    scores = np.zeros(5)
    assert {rank(scores, place) for place in range(5)} == {5}


def test_random_ties_are_spread_and_repeat_with_their_seed() -> None:
    scores = np.array([1.0, 1.0, 1.0, 2.0])
    drawn = [rank(scores, 0, "random", np.random.default_rng(seed)) for seed in range(200)]
    assert set(drawn) == {2, 3, 4}
    assert drawn == [rank(scores, 0, "random", np.random.default_rng(seed)) for seed in range(200)]
    with pytest.raises(ValueError, match="generator"):
        rank(scores, 0, "random")


def test_a_score_that_is_no_number_ranks_last() -> None:
    assert rank(np.array([np.nan, -5.0, 0.0]), 0) == 3
    assert rank(np.array([np.nan, -5.0, 0.0]), 1) == 2


def test_an_interval_is_wider_when_lists_of_one_session_agree() -> None:
    random = np.random.default_rng(1)
    values = np.repeat(random.random(50), 10)
    alone = bootstrap(values, list(range(500)))
    together = bootstrap(values, [session for session in range(50) for _ in range(10)])
    assert alone.mean == together.mean == pytest.approx(values.mean())
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert together.low < together.mean < together.high


def test_a_paired_interval_sees_a_difference_that_two_intervals_do_not() -> None:
    random = np.random.default_rng(2)
    theirs = random.random(400)
    ours = theirs + 0.01 + random.normal(0, 0.01, 400)
    sessions = list(range(400))
    difference = paired_bootstrap(ours, theirs, sessions)
    assert 0 < difference.low < 0.01 < difference.high
    assert bootstrap(ours, sessions).low < bootstrap(theirs, sessions).high
    assert difference == paired_bootstrap(ours, theirs, sessions), "the seed is fixed"


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="not paired"):
        paired_bootstrap([1.0, 2.0], [1.0], ["a", "b"])
    with pytest.raises(ValueError, match="groups"):
        bootstrap([1.0, 2.0], ["a"])


def test_no_lists_no_interval() -> None:
    nothing = bootstrap([], [])
    assert isinstance(nothing, Interval)
    assert np.isnan(nothing.mean)


def test_log_loss_of_known_probabilities() -> None:
    clicked = np.array([True, False, False, False])
    assert log_loss(np.full(4, 0.25), clicked) == pytest.approx(-(np.log(0.25) + 3 * np.log(0.75)) / 4)
    assert np.isfinite(log_loss(np.array([0.0, 1.0, 0.0, 0.0]), clicked))


def test_ndcg_by_hand() -> None:
    gains = np.array([0.0, 3.0, 1.0])
    best = 3 + 1 / math.log2(3)
    assert ndcg([0.1, 0.9, 0.5], gains) == pytest.approx(1)
    assert ndcg([0.9, 0.5, 0.1], gains) == pytest.approx((3 / math.log2(3) + 1 / 2) / best)
    assert ndcg([0.9, 0.5, 0.1], gains, cut=1) == 0
    assert ndcg([0.5, 0.5, 0.5], gains, ties="pessimistic") == pytest.approx((1 / math.log2(3) + 3 / 2) / best)
    assert ndcg([0.5, math.nan, math.nan], gains, ties="pessimistic") == pytest.approx(
        (1 / math.log2(3) + 3 / 2) / best
    ), "no number ranks last"
    assert math.isnan(ndcg([0.1, 0.2], np.zeros(2)))


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6).filter(
        lambda rows: any(gain for _, gain in rows)
    ),
    cut=st.integers(1, 7),
)
def test_ndcg_in_expectation_is_the_mean_over_all_orders_of_equals(rows: list[tuple[int, int]], cut: int) -> None:
    scores, gains = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    discounts = [1 / math.log2(place + 2) if place < cut else 0.0 for place in range(len(rows))]
    orders = [
        sum(gains[at] * discount for at, discount in zip(order, discounts, strict=True))
        for order in itertools.permutations(range(len(rows)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    best = sum(gain * discount for gain, discount in zip(sorted(gains)[::-1], discounts, strict=True))
    assert ndcg(scores, gains, cut) == pytest.approx(np.mean(orders) / best)
    assert ndcg(scores, gains, cut, "pessimistic") == pytest.approx(min(orders) / best)
