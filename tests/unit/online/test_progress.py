"""The guard: what counts as worse, and what does not."""

import math

import numpy as np
import pytest

from headrace.online.progress import GuardSettings, Seen, Tally, add, seen, verdict

GUARD = GuardSettings(lists=10, standard_errors=2.33, margin=0.01)


def tally(pairs: list[tuple[float, float]]) -> Tally:
    found = Tally()
    for own, frozen in pairs:
        found = add(found, Seen(own, 0.5), Seen(frozen, 0.4))
    return found


def test_a_list_is_measured_by_its_best_clicked_item_and_ties_count_against_the_head() -> None:
    scores = np.array([0.1, 0.9, 0.5], np.float32)
    found = seen(np.array([1.0, 3.0, 2.0]), scores, np.array([True, False, True]))
    assert found.rank == 1 / 2
    assert found.loss == pytest.approx(-(math.log(0.1) + math.log(1 - 0.9) + math.log(0.5)) / 3, abs=1e-6)
    assert seen(np.zeros(3), scores, np.array([True, False, False])).rank == 1 / 3
    assert math.isnan(seen(np.zeros(3), scores, np.zeros(3, bool)).rank)


def test_sums() -> None:
    found = add(tally([(1.0, 0.5), (0.25, 0.5)]), Seen(math.nan, 1.0), Seen(math.nan, 1.0))
    assert (found.examples, found.clicked) == (3, 2)
    assert (found.mrr, found.frozen_mrr) == (0.625, 0.5)
    assert found.squares == 0.25 + 0.0625
    assert found.loss == pytest.approx(2 / 3)
    assert math.isnan(Tally().mrr)


def test_worse_needs_lists_certainty_and_size() -> None:
    assert verdict(Tally(), GUARD) == "good"
    assert verdict(tally([(0.2, 0.9)] * 9), GUARD) == "good", "too few lists"
    assert verdict(tally([(0.2, 0.9)] * 10), GUARD) == "worse"
    assert verdict(tally([(0.495, 0.5)] * 1_000), GUARD) == "good", "certain, but it does not matter"
    assert verdict(tally([(0.2, 0.9), (0.9, 0.2)] * 10 + [(0.2, 0.9)]), GUARD) == "good", "lower, but by chance"
    assert verdict(tally([(0.9, 0.2)] * 100), GUARD) == "good"


def test_a_learner_that_scores_no_numbers_is_not_published() -> None:
    assert verdict(add(Tally(), Seen(1.0, math.nan), Seen(1.0, 0.1)), GUARD) == "not_finite"
