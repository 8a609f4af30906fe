"""Slope and level, ensembles, reliability: what is fitted is the least cross-entropy, within its bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models import calibration
from headrace.models.calibration import Calibration, Ensemble, clipped_logit, fit_calibration, fit_ensemble
from headrace.models.margins import sigmoid

Doubles = NDArray[np.float64]


def loss(probabilities: Doubles, targets: Doubles) -> float:
    held = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return float(-(targets * np.log(held) + (1 - targets) * np.log1p(-held)).mean())


def test_slope_and_level_are_found_again() -> None:
    logits = np.random.default_rng(0).normal(1, 3, 2000)
    found = fit_calibration(logits, sigmoid(0.6 * logits - 0.8))
    assert (found.slope, found.level) == pytest.approx((0.6, -0.8), abs=1e-3)


@given(
    rows=st.lists(st.tuples(st.floats(-6, 6), st.sampled_from([0, 1 / 3, 0.5, 2 / 3, 1])), min_size=1, max_size=20),
    slope=st.floats(0, 3),
    level=st.floats(-3, 3),
)
def test_no_other_slope_of_at_least_0_and_level_has_a_smaller_loss(
    rows: list[tuple[float, float]], slope: float, level: float
) -> None:
    logits, targets = (np.array(column) for column in zip(*rows, strict=True))
    found = fit_calibration(logits, targets)
    assert found.slope >= 0
    assert math.isfinite(found.slope)
    assert math.isfinite(found.level)
    assert loss(found.probabilities(logits), targets) <= loss(sigmoid(slope * logits + level), targets) + 1e-3


def test_targets_that_can_be_separated_give_finite_numbers() -> None:
    logits = np.array([-2.0, -1.0, 1.0, 2.0])
    found = fit_calibration(logits, np.array([0.0, 0.0, 1.0, 1.0]))
    assert 1 < found.slope < 100
    assert found.probabilities(logits) == pytest.approx([0, 0, 1, 1], abs=1e-3)
    assert fit_calibration(logits, np.ones(4)).probabilities(logits).min() > 0.99


def test_logits_that_say_the_contrary_are_ignored_never_turned_round() -> None:
    logits = np.linspace(-3, 3, 50)
    found = fit_calibration(logits, sigmoid(-logits))
    assert found.slope == 0
    assert found.probabilities(logits) == pytest.approx(np.full(50, 0.5), abs=1e-6)


def test_an_ensemble_finds_its_weights_and_leaves_out_who_only_disturbs() -> None:
    random = np.random.default_rng(1)
    members = random.normal(0, [2.0, 1.0, 3.0], (4000, 3))
    targets = sigmoid(0.5 * members[:, 0] + 1.5 * members[:, 1] - 0.2 * members[:, 2] + 0.3)
    found = fit_ensemble(members, targets)
    assert found.weights[2] == 0
    assert found.weights[:2] == pytest.approx((0.5, 1.5), rel=0.1)
    assert found == fit_ensemble(members, targets), "nothing is drawn"
    assert found.absent == (0.0, 0.0, 0.0)
    without = fit_ensemble(members[:, :2], targets)
    assert loss(found.probabilities(members), targets) == pytest.approx(
        loss(without.probabilities(members[:, :2]), targets), abs=1e-6
    )


def test_an_ensemble_is_at_least_as_good_as_each_of_its_members() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(0, 1.5, 3000)
    members = truth[:, None] + random.normal(0, [0.5, 0.8], (3000, 2))
    targets = sigmoid(truth)
    ensemble = loss(fit_ensemble(members, targets).probabilities(members), targets)
    for member in members.T:
        assert ensemble < loss(fit_calibration(member, targets).probabilities(member), targets) - 1e-3


def test_a_member_that_has_not_scored_a_row_is_stood_in_for() -> None:
    random = np.random.default_rng(3)
    members = random.normal(0.7, 1.5, (6000, 2))
    gone = random.random(6000) < 0.4
    targets = sigmoid(0.4 * members[:, 0] + np.where(gone, -1.2, 0.9 * members[:, 1]) + 0.1)
    given = members.copy()
    given[gone, 1] = np.nan
    found = fit_ensemble(given, targets)
    assert found.weights == pytest.approx((0.4, 0.9), abs=1e-3)
    assert found.level == pytest.approx(0.1, abs=1e-3)
    assert found.absent == pytest.approx((0.0, -1.2), abs=1e-3)
    assert np.isfinite(found.probabilities(given)).all()


@given(
    logits=st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    member=st.integers(0, 2),
    more=st.floats(0, 4),
    seed=st.integers(0, 5),
)
def test_an_ensemble_rises_in_each_member(logits: list[float], member: int, more: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = fit_ensemble(random.normal(0, 2, (50, 3)), random.random(50))
    higher = np.array(logits)
    higher[member] += more
    assert found.probabilities(higher[None])[0] >= found.probabilities(np.array(logits)[None])[0] - 1e-12


def test_members_that_say_the_same_share_their_weight() -> None:
    logits = np.random.default_rng(4).normal(0, 1, 500)
    found = fit_ensemble(np.stack([logits, logits], axis=1), sigmoid(logits))
    assert found.weights == pytest.approx((0.5, 0.5), abs=1e-3)


@pytest.mark.parametrize(
    ("logits", "targets"),
    [([], []), ([1.0], [0.5, 0.5]), ([1.0], [1.5]), ([math.inf], [0.5]), ([1.0], [math.nan])],
)
def test_rows_that_cannot_be_fitted_are_refused(logits: list[float], targets: list[float]) -> None:
    with pytest.raises(ValueError, match=r"logit|target"):
        fit_calibration(np.array(logits), np.array(targets))


def test_a_logit_of_a_probability_is_held_within_its_bound() -> None:
    assert clipped_logit(np.array([0.0, 1.0, 1e-9, 0.5])) == pytest.approx([-8, 8, -8, 0])
    assert np.abs(clipped_logit(np.array([0.0, 1.0]))).max() <= 8
    logits = np.linspace(-7.9, 7.9, 30)
    assert clipped_logit(sigmoid(logits)) == pytest.approx(logits)
    assert clipped_logit(np.array([1.0], dtype=np.float32), bound=3.0) == pytest.approx([3.0])


def test_reliability_by_hand_with_soft_targets() -> None:
    probabilities, targets = np.array([0.1, 0.1, 0.3, 0.9]), np.array([0.0, 0.5, 0.5, 1.0])
    found = calibration.reliability(probabilities, targets, bins=2)
    assert found.rows.tolist() == [2, 2]
    assert found.predicted == pytest.approx([0.1, 0.6])
    assert found.observed == pytest.approx([0.25, 0.75])
    assert calibration.calibration_error(probabilities, targets, bins=2) == pytest.approx(0.15)


@given(values=st.lists(st.integers(0, 6), min_size=1, max_size=60), bins=st.integers(1, 12))
def test_equal_probabilities_share_a_bin_and_bins_keep_the_order(values: list[int], bins: int) -> None:
    probabilities = np.array(values) / 6
    places = calibration.bins_of(probabilities, bins)
    order = np.argsort(probabilities, kind="stable")
    assert (np.diff(places[order]) >= 0).all()
    for value in set(values):
        assert len(set(places[np.array(values) == value].tolist())) == 1
    assert places.max() < bins
    assert calibration.reliability(probabilities, probabilities, bins).rows.sum() == len(values)


def test_bins_of_different_probabilities_hold_about_as_many_rows() -> None:
    rows = np.bincount(calibration.bins_of(np.random.default_rng(5).random(1003)))
    assert len(rows) == 10
    assert rows.max() - rows.min() <= 1


def test_without_rows_there_is_no_error() -> None:
    assert math.isnan(calibration.calibration_error(np.empty(0), np.empty(0)))


@pytest.mark.parametrize("said", [0.0, 0.3540396841506309, 1e6 / 3])
def test_logits_that_all_say_the_same_have_no_slope(said: float) -> None:
    found = fit_calibration(np.full(3, said), np.array([0.0, 1.0, 1.0]))
    assert found.slope < 1e-3
    assert found.probabilities(np.array([said]))[0] == pytest.approx(2 / 3, abs=1e-4)


def test_a_calibration_is_an_ensemble_of_one() -> None:
    logits = np.array([-1.0, 2.0])
    one = Ensemble((0.7,), 0.2, (0.0,))
    assert Calibration(0.7, 0.2).probabilities(logits) == pytest.approx(one.probabilities(logits[:, None]))
