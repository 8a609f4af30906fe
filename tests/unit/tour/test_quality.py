import numpy as np
import pytest

from headrace.tour.quality import BASELINES, NAMES, SERVED, Fold, ServedList, ndcg, quality, smooth


def served(shopper: str, scores: list[float], gains: list[float], text: str = "lamp") -> ServedList:
    items = tuple(f"item-{place}" for place in range(len(scores)))
    return ServedList(shopper, text, items, np.array(scores), np.zeros(len(scores)), np.array(gains), "v1")


def test_ndcg_is_one_for_the_best_order_and_known_for_another() -> None:
    gains = np.array([1.0, 0.0, 3.0])
    assert ndcg(np.array([1.0, 0.0, 2.0]), gains) == pytest.approx(1.0)
    best = 3.0 + 1.0 / np.log2(3)
    assert ndcg(np.array([2.0, 1.0, 0.0]), gains) == pytest.approx((1.0 + 3.0 / 2.0) / best)


def test_ndcg_counts_no_place_after_the_last() -> None:
    gains = np.array([0.0] * 10 + [1.0])
    assert ndcg(-np.arange(11.0), gains) == 0.0


def test_what_ties_stays_in_the_given_order() -> None:
    assert ndcg(np.zeros(3), np.array([1.0, 0.5, 0.0])) == pytest.approx(1.0)


def test_popularity_knows_only_clicks_before_the_list_and_one_of_them_only_those_of_its_query() -> None:
    fold = Fold()
    fold.take(served("a", [0, 0], [0, 1]))
    fold.click("other query", "item-1")
    fold.take(served("a", [0, 0], [0, 1]))
    fold.click("lamp", "item-1")
    fold.take(served("a", [0, 0], [0, 1]))
    behind = 1 / np.log2(3)
    assert fold.values["popularity"] == pytest.approx([behind, 1.0, 1.0])
    assert fold.values["query's clicks"] == pytest.approx([behind, behind, 1.0])


def test_a_list_worth_nothing_is_served_and_not_counted() -> None:
    fold = Fold()
    fold.take(served("a", [1, 0], [0, 0]))
    fold.take(served("a", [1, 0], [1, 0]))
    assert fold.served == 2
    assert fold.places == [1]


def test_the_intervals_are_paired_and_over_shoppers() -> None:
    fold = Fold()
    for number in range(40):
        fold.take(served(f"s{number % 8}", [0, 1], [0, 1]))
    found = quality(fold, 30)
    assert found.whole.shoppers == 8
    assert set(found.whole.mean) == set(NAMES)
    assert set(found.whole.ahead) == set(BASELINES)
    assert found.whole.ahead["given order"].low > 0  # every list gains the same: no spread at all
    assert found.later is not None
    assert found.later.lists == 10
    assert found.values[SERVED].tolist() == [1.0] * 40


def test_smoothing_is_a_mean_of_the_last_values() -> None:
    assert smooth(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1.0, 2.0, 4.0, 6.0]
