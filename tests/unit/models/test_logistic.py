"""The solver: convex, so weights where no allowed move lowers the loss are the least."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models.logistic import Problem


def at_rest(problem: Problem, weights: NDArray[np.float64]) -> float:
    """How far a step along the slope would move the weights, held at the bound: 0 at the least loss."""
    chances = 0.5 * (1 + np.tanh(problem.columns @ weights / 2))
    slopes = problem.columns.T @ (chances - problem.targets) / len(problem.targets)
    slopes += problem.pull * (weights - problem.start)
    moved = weights - slopes
    moved = np.where(problem.bounded, np.maximum(moved, 0.0), moved)
    return float(np.abs(weights - moved).max())


def drawn(seed: int, rows: int, scale: float, noise: float) -> Problem:
    """Columns that say nearly the same, as stages of one prompt do, and a level."""
    random = np.random.default_rng(seed)
    said = random.normal(size=3) * scale + random.normal(size=(rows, 3)) * noise
    columns = np.hstack([np.ones((rows, 1)), said])
    start = np.array([0.0, 0.2, 0.3, 0.5])
    targets = (random.random(rows) < 0.5).astype(np.float64)
    return Problem(columns, targets, np.array([False, True, True, True]), start, 1 / rows)


@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(2, 120),
    scale=st.sampled_from([0.1, 1.0, 6.0, 20.0]),
    noise=st.sampled_from([0.01, 0.1, 1.0, 3.0]),
)
@example(seed=4287, rows=100, scale=6.0, noise=0.1)
def test_no_allowed_move_lowers_the_loss(seed: int, rows: int, scale: float, noise: float) -> None:
    problem = drawn(seed, rows, scale, noise)
    found = problem.least()
    assert (found[problem.bounded] >= 0).all()
    assert at_rest(problem, found) < 1e-5


def test_a_weight_a_hair_above_its_bound_does_not_stop_the_others() -> None:
    """From such a start Newton's step for all of them, held at the bound, raised the loss however short it was."""
    problem = drawn(0, 100, 6.0, 0.1)
    start = problem.least()
    near = np.where(problem.bounded & (start <= 0), 1e-12, start)
    near[0] += 1.0
    begun = Problem(problem.columns, problem.targets, problem.bounded, near, problem.pull)
    assert at_rest(begun, begun.least()) < 1e-5


def test_the_least_by_hand() -> None:
    """Without a column but the level: its chance is the mean of the targets, up to the pull."""
    problem = Problem(np.ones((4, 1)), np.array([1.0, 0.0, 1.0, 1.0]), np.array([False]), np.zeros(1), 1e-9)
    assert problem.least()[0] == pytest.approx(np.log(3), abs=1e-6)
    held = Problem(np.ones((4, 1)), np.array([0.0, 0.0, 1.0, 0.0]), np.array([True]), np.zeros(1), 1e-9)
    assert held.least()[0] == 0.0
