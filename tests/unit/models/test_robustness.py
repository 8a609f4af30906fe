"""What perturbations do: AUC lost and places moved, on the rows they changed, paired between models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models import metrics
from headrace.models.evaluation import Judged, Scale
from headrace.models.robustness import ALL, Changed, moves, robustness

Doubles = NDArray[np.float64]


def noisy(scores: Doubles, spread: float, seed: int) -> Doubles:
    return scores + np.random.default_rng(seed).normal(0, spread, len(scores))


def example() -> tuple[Judged, list[Changed]]:
    random = np.random.default_rng(0)
    queries = tuple(f"query {query}" for query in range(60) for _ in range(5))
    labels = random.integers(0, 7, len(queries)) / 6
    scores = {"firm": noisy(labels, 0.2, 1), "weak": noisy(labels, 0.2, 2)}
    some, others = np.arange(0, 200), np.arange(100, 300)
    changes = [
        Changed(
            name, kept, rows, {"firm": noisy(scores["firm"][rows], 0.1, 3), "weak": noisy(scores["weak"][rows], 1, 4)}
        )
        for name, kept, rows in (("typo", True, some), ("order", True, others), ("units", False, some))
    ]
    return Judged(queries, queries, labels, scores), changes


def test_a_drop_is_that_of_the_rows_that_changed() -> None:
    judged, changes = example()
    found = robustness(judged, changes, Scale(), resamples=100)
    positive = judged.labels >= 0.66
    rows = changes[0].rows
    before = metrics.auc(judged.scores["weak"][rows], positive[rows])
    after = metrics.auc(changes[0].scores["weak"], positive[rows])
    harm = found.arms["weak"]["typo"]
    assert harm.before.value == pytest.approx(before)
    assert harm.drop.value == pytest.approx(before - after)
    assert harm.drop.low < harm.drop.value < harm.drop.high
    assert harm.moved.value > found.arms["firm"]["typo"].moved.value > 0
    assert found.rows == pytest.approx({"typo": 200 / 300, "order": 200 / 300, "units": 200 / 300})


def test_a_list_counts_in_a_draw_as_often_as_its_query_was_drawn() -> None:
    judged, _ = example()
    rows = np.arange(145, 150)
    judged.labels[rows] = [0, 1, 0, 1, 0]
    one = Changed("typo", True, rows, {name: scores[rows][::-1] for name, scores in judged.scores.items()})
    harm = robustness(judged, [one], Scale(), resamples=200).arms["firm"]["typo"]
    undrawn = np.isnan(harm.before.draws)
    assert 0.2 < undrawn.mean() < 0.5, "about 1 / e"
    assert np.array_equal(np.isnan(harm.moved.draws), undrawn)


def test_the_whole_is_the_mean_over_what_keeps_the_meaning_by_rows_changed() -> None:
    judged, changes = example()
    order = changes[1]
    changes[1] = Changed(order.name, True, order.rows[:50], {name: one[:50] for name, one in order.scores.items()})
    found = robustness(judged, changes, Scale(), against="weak", resamples=200)
    for harms in found.arms.values():
        assert harms[ALL].drop.value == pytest.approx(0.8 * harms["typo"].drop.value + 0.2 * harms["order"].drop.value)
    assert found.saved.keys() == {"firm"}
    assert found.saved["firm"][ALL].high < 0
    assert found.relative["firm"].value == pytest.approx(
        found.arms["firm"][ALL].drop.value / found.arms["weak"][ALL].drop.value - 1
    )
    assert found.relative["firm"].high < 0


def test_seeds_of_an_arm_are_averaged() -> None:
    judged, changes = example()
    names = {"firm": "arm/0", "weak": "arm/1"}
    renamed = [
        Changed(one.name, one.keeps_meaning, one.rows, {names[name]: scores for name, scores in one.scores.items()})
        for one in changes
    ]
    both = robustness(
        judged.scored({names[name]: s for name, s in judged.scores.items()}), renamed, Scale(), resamples=9
    )
    each = robustness(judged, changes, Scale(), resamples=9)
    assert both.arms["arm"]["typo"].drop.value == pytest.approx(
        (each.arms["firm"]["typo"].drop.value + each.arms["weak"]["typo"].drop.value) / 2
    )


def test_what_changed_nothing_is_left_out_and_a_stranger_is_refused() -> None:
    judged, changes = example()
    nothing = Changed("case", True, np.empty(0, dtype=np.int64), {})
    told: list[tuple[int, int]] = []
    found = robustness(judged, [*changes, nothing], Scale(), resamples=2, say=lambda *far: told.append(far))
    assert "case" not in found.rows
    assert "case" not in found.arms["firm"]
    assert told[-1] == (6, 6)
    with pytest.raises(ValueError, match="no model 'nobody'"):
        robustness(judged, changes, Scale(), against="nobody")


def test_places_moved_by_hand() -> None:
    assert moves(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])) == pytest.approx(2 / 3)
    assert moves(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 1.0])) == pytest.approx(2 / 3)
    assert moves(np.array([1.0, 1.0]), np.array([5.0, 5.0])) == 0


@given(scores=st.lists(st.integers(-3, 3), min_size=1, max_size=12), seed=st.integers(0, 9))
def test_no_item_moves_when_the_order_stays(scores: list[int], seed: int) -> None:
    values = np.array(scores, dtype=np.float64)
    other = np.random.default_rng(seed).permutation(values)
    assert moves(values, 2 * values + 1) == 0
    assert moves(values, other) == moves(other, values)
