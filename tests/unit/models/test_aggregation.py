import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.models.aggregation import START, Aggregation, alone, fit, placed
from headrace.models.prompts import STAGES, Pair, present

NAN = float("nan")
LOGITS = st.floats(-12, 12)
AGGREGATIONS = st.builds(
    Aggregation,
    st.floats(-3, 3),
    st.tuples(*[st.floats(0, 2)] * STAGES),
    st.tuples(*[st.floats(-3, 3)] * (STAGES - 1)),
)


@st.composite
def rows(draw: st.DrawFn) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Stages' logits [N, 3], the first always there."""
    count = draw(st.integers(1, 12))
    found = draw(arrays(np.float64, (count, STAGES), elements=LOGITS))
    absent = draw(arrays(np.bool_, (count, STAGES - 1)))
    found[:, 1:][absent] = NAN
    return found


@given(found=rows(), how=AGGREGATIONS)
def test_a_pair_without_neighbours_keeps_its_logit_to_the_bit(
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]], how: Aggregation
) -> None:
    bare = alone(found)
    assert how.logits(found)[bare].tobytes() == found[bare, 0].tobytes()


@given(found=rows(), how=AGGREGATIONS, stage=st.integers(0, STAGES - 1), more=st.floats(0, 10))
def test_no_stage_that_says_more_lowers_the_answer(
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]], how: Aggregation, stage: int, more: float
) -> None:
    raised = found.copy()
    raised[:, stage] += more
    assert (how.logits(raised) >= how.logits(found) - 1e-9).all()
    assert (how.probabilities(raised) >= how.probabilities(found) - 1e-12).all()


@given(found=rows(), how=AGGREGATIONS)
def test_a_row_is_scored_as_if_it_were_alone(
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]], how: Aggregation
) -> None:
    together = how.logits(found)
    assert together == pytest.approx([how.logits(found[at : at + 1])[0] for at in range(len(found))], abs=1e-12)
    assert not np.isnan(together).any()


def test_the_formula_by_hand() -> None:
    how = Aggregation(0.5, (0.2, 0.3, 0.5), (0.1, -0.4))
    found = np.array([[1.0, 2.0, -3.0], [1.0, 2.0, NAN], [1.0, NAN, -3.0], [1.0, NAN, NAN]])
    expected = [0.5 + 0.2 + 0.6 - 1.5 + 0.1 - 0.4, 0.5 + 0.2 + 0.6 + 1.0 + 0.1, 0.5 + 0.2 + 0.3 - 1.5 - 0.4, 1.0]
    assert how.logits(found) == pytest.approx(expected)
    assert how.probabilities(found) == pytest.approx([1 / (1 + math.exp(-logit)) for logit in expected])
    assert Aggregation().weights == START == (0.2, 0.3, 0.5)


@given(logit=LOGITS, second=st.booleans(), third=st.booleans())
def test_stages_that_agree_are_answered_as_they_agree_whichever_there_are(
    logit: float, second: bool, third: bool
) -> None:
    found = np.array([[logit, logit if second else NAN, logit if third else NAN]])
    assert Aggregation().logits(found) == pytest.approx([logit])


def test_weights_that_would_turn_a_stage_around_are_refused() -> None:
    with pytest.raises(ValueError, match="no weight may be negative"):
        Aggregation(0.0, (0.2, -0.1, 0.5))
    with pytest.raises(ValueError, match="2 weights"):
        Aggregation(0.0, (0.2, 0.5))


def test_read_outs_go_to_the_stages_of_their_prompt() -> None:
    pairs = [
        Pair("q", "t"),
        Pair("q", "t", item_neighbours=("a",)),
        Pair("q", "t", query_neighbours=("b",)),
        Pair("q", "t", query_neighbours=("b",), item_neighbours=("a",)),
    ]
    read = np.array([[1, NAN, NAN], [2, 3, NAN], [4, 5, NAN], [6, 7, 8]])
    found = placed(read, [present(pair) for pair in pairs])
    assert np.array_equal(found, np.array([[1, NAN, NAN], [2, NAN, 3], [4, 5, NAN], [6, 7, 8]]), equal_nan=True)
    only = placed(read[:1, :1], [present(pairs[0])])
    assert np.array_equal(only, np.array([[1, NAN, NAN]]), equal_nan=True)
    with pytest.raises(ValueError, match="other read-outs"):
        placed(read[:1], [present(pairs[1])])


def drawn(
    weights: tuple[float, ...], count: int = 4000
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    random = np.random.default_rng(7)
    found = random.normal(0, 2, (count, STAGES))
    found[:, 1:][random.random((count, STAGES - 1)) < 0.3] = NAN
    second = np.where(np.isnan(found[:, 1]), found[:, 0], found[:, 1])
    said = np.stack([found[:, 0], second, np.where(np.isnan(found[:, 2]), second, found[:, 2])], axis=1)
    logits = said @ np.array(weights) + 0.4 * ~np.isnan(found[:, 1])
    return found, (random.random(count) < 1 / (1 + np.exp(-logits))).astype(np.float64)


def test_fitting_finds_the_weights_that_the_rows_were_drawn_with() -> None:
    found, targets = drawn((0.6, 0.1, 0.9))
    how = fit(found, targets, pull=1e-3)
    assert how.weights == pytest.approx((0.6, 0.1, 0.9), abs=0.1)
    assert how.level == pytest.approx(0, abs=0.2)
    assert how.presence[0] == pytest.approx(0.4, abs=0.2)


def test_a_stage_that_points_the_other_way_is_not_believed_and_the_others_are_still_at_their_best() -> None:
    found, targets = drawn((0.6, -0.7, 0.9))
    how = fit(found, targets)
    assert how.weights[1] == 0
    assert min(how.weights) >= 0

    def loss(other: Aggregation) -> float:
        logits, kept = other.logits(found), ~alone(found)
        return float(np.mean((np.logaddexp(0, logits) - targets * logits)[kept]))

    for place in range(STAGES):
        for change in (-0.05, 0.05):
            weights = list(how.weights)
            weights[place] = max(0.0, weights[place] + change)
            assert loss(Aggregation(how.level, tuple(weights), how.presence)) >= loss(how) - 1e-4


def test_fitting_takes_rows_with_neighbours_only_and_does_not_care_for_their_order() -> None:
    found, targets = drawn((0.6, 0.1, 0.9), 300)
    how = fit(found, targets)
    bare = np.array([[5.0, NAN, NAN]] * 200)
    order = np.random.default_rng(0).permutation(500)
    mixed = fit(np.vstack([found, bare])[order], np.concatenate([targets, np.zeros(200)])[order])
    assert [mixed.level, *mixed.weights, *mixed.presence] == pytest.approx([how.level, *how.weights, *how.presence])
    assert fit(bare, np.zeros(200)) == Aggregation()
    with pytest.raises(ValueError, match="2 rows and 1 targets"):
        fit(bare[:2], np.zeros(1))


@given(found=rows(), seed=st.integers(0, 100), soft=st.booleans())
def test_whatever_the_rows_the_fit_is_finite_and_no_worse_than_the_start(
    found: np.ndarray[tuple[int, int], np.dtype[np.float64]], seed: int, soft: bool
) -> None:
    targets = np.random.default_rng(seed).random(len(found))
    targets = targets if soft else (targets > 0.5).astype(np.float64)
    how = fit(found, targets)
    assert np.isfinite([how.level, *how.weights, *how.presence]).all()
    kept = ~alone(found)
    if kept.any():
        ours, first = (np.logaddexp(0, z) - targets * z for z in (how.logits(found), Aggregation().logits(found)))
        assert ours[kept].mean() <= first[kept].mean() + 1e-9
