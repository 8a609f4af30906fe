"""The head before it learned, what it learns, its bytes."""

import struct
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace import BundleCorrupt, BundleMismatch
from headrace.models.features import FEATURES, matrix
from headrace.models.head import CROSSES, INITIAL, Head, Learner, Settings
from headrace.models.optimisers import AdaGrad, Ftrl, Newton, Optimiser
from headrace.streams.sequences import CLICK, VIEW
from readings import NOW_MS, reading

Floats = NDArray[np.float32]
Clicked = NDArray[np.bool_]
NAMES = ("prior_log", "prior_reciprocal", "untouched", "price_rank")
OPTIMISERS: list[tuple[Literal["newton", "adagrad", "ftrl"], float]] = [
    ("newton", 0.3),
    ("adagrad", 0.3),
    ("ftrl", 0.3),
]
LOSSES: list[Literal["listwise", "click"]] = ["listwise", "click"]
ALL_SETTINGS = [
    Settings(loss=loss, optimiser=optimiser, rate=rate, l1=0.01, l2=0.001)
    for loss in LOSSES
    for optimiser, rate in OPTIMISERS
]


def order(of: Head, features: Floats) -> list[int]:
    return [int(row) for row in np.argsort(-of.margin(features), kind="stable")]


def lists(count: int, seed: int = 0, rows: int = 10) -> list[tuple[Floats, Clicked]]:
    """Lists with prices for strangers, who click the cheapest item, three times of four."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        prices = random.lognormal(3.0, 0.5, rows)
        row = int(np.argmin(prices)) if random.random() < 0.75 else int(random.integers(rows))
        made.append((matrix(reading(range(1, rows + 1), prices=prices.tolist())), np.arange(rows) == row))
    return made


def taught(settings: Settings | None = None, count: int = 200) -> Learner:
    learner = Learner(None, settings)
    for features, clicked in lists(count):
        learner.learn(features, clicked)
    return learner


def test_cold_the_prior_order_stands() -> None:
    assert order(Head.cold(), matrix(reading(range(1, 1001)))) == list(range(1000))


def test_cold_the_item_touched_last_comes_first_from_however_far_below() -> None:
    features = matrix(reading(range(1, 1001), [(9, 700, NOW_MS - 5_000, VIEW), (9, 1000, NOW_MS - 1_000, CLICK)]))
    assert order(Head.cold(), features)[0] == 999


def test_cold_a_student_score_moves_items_and_its_absence_is_an_average_one() -> None:
    same = [0.5] * 4
    assert order(Head.cold(), matrix(reading([1, 2, 3, 4], student=same))) == [0, 1, 2, 3]
    assert order(Head.cold(), matrix(reading([1, 2, 3, 4], student=[0.2, 0.3, 0.4, 0.8])))[0] == 3
    absent = matrix(reading([1, 2, 3, 4], student=[0.1, np.nan, 0.1, 0.9]))
    assert order(Head.cold(), absent) == [3, 1, 0, 2]


def test_scores_are_probabilities_in_the_order_of_margins() -> None:
    learner = taught()
    features, _ = lists(1, seed=7)[0]
    scores = learner.head().score(features)
    assert scores.dtype == np.float32
    assert bool(((scores > 0) & (scores < 1)).all())
    assert order(learner.head(), features) == np.argsort(-scores, kind="stable").tolist()


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda one: f"{one.loss}-{one.optimiser}")
def test_it_learns_what_is_clicked(settings: Settings) -> None:
    learner = taught(settings)
    fresh = lists(100, seed=1)
    hits = [order(learner.head(), features)[0] == int(np.argmax(clicked)) for features, clicked in fresh]
    assert np.mean(hits) > 0.5
    scores = np.concatenate([learner.head().score(features) for features, _ in fresh])
    assert np.mean(scores) == pytest.approx(0.1, abs=0.03), "one of ten is clicked: the scale is fitted"


def test_a_head_taken_is_not_changed_by_learning_on() -> None:
    learner = taught(count=5)
    head = learner.head()
    before = head.to_bytes()
    learner.learn(*lists(1, seed=3)[0])
    assert head.to_bytes() == before != learner.head().to_bytes()


def test_a_list_without_a_click_teaches_the_listwise_margins_nothing_but_the_scale_something() -> None:
    learner = taught(count=5)
    before = learner.head()
    features, clicked = lists(1, seed=3)[0]
    learner.learn(features, np.zeros_like(clicked))
    after = learner.head()
    assert np.array_equal(before.weights, after.weights)
    assert not np.array_equal(before.scale, after.scale)
    assert learner.lists == 6


def test_an_empty_list_and_a_list_of_one_do_no_harm() -> None:
    learner = taught(count=5)
    before = learner.head().weights
    learner.learn(np.zeros((0, len(FEATURES)), np.float32), np.zeros(0, np.bool_))
    learner.learn(np.ones((1, len(FEATURES)), np.float32), np.ones(1, np.bool_))
    assert np.array_equal(before, learner.head().weights)


def shown(places: list[int]) -> Learner:
    """A learner of lists whose click is always on what was shown at the top, whatever came in at which rank."""
    learner = Learner()
    features = matrix(reading(range(1, 6)))
    positions = np.array(places)
    for _ in range(50):
        learner.learn(features, positions == 1, positions)
    return learner


def test_the_place_on_the_page_takes_the_blame_for_clicks_where_it_differs_from_the_prior_rank() -> None:
    features = matrix(reading(range(1, 6)))
    learner = Learner()
    for _ in range(50):
        learner.learn(features, np.array([False, False, False, False, True]))
    assert order(learner.head(), features)[0] == 4
    assert order(shown([5, 4, 3, 2, 1]).head(), features)[0] == 0, "it was clicked because it was shown on top"


def test_shown_as_it_came_is_as_not_said() -> None:
    features, clicked = matrix(reading(range(1, 6))), np.arange(5) == 3
    learners = Learner(), Learner(), Learner()
    for learner, positions in zip(learners, (None, np.arange(1, 6), np.zeros(5, np.int64)), strict=True):
        learner.learn(features, clicked, positions)
    assert len({learner.to_bytes() for learner in learners}) == 1
    moved = shown([2, 1, 3, 4, 5])
    assert len(moved.head().weights) == len(Head.cold().weights), "the head has no weight for the place"


def test_the_bytes_of_a_head_are_these() -> None:
    head = Head.cold(NAMES, {"prior_log": -1.5}, (("untouched", "prior_log"),))
    assert head.to_bytes().hex() == GOLDEN
    again = Head.from_bytes(bytes.fromhex(GOLDEN), NAMES)
    assert (again.names, again.pairs.tolist(), again.weights.tolist()) == (NAMES, [[2, 0]], [-1.5, 0, 0, 0, 0])
    assert again.scale.tolist() == [1.0, -3.0, 0.0]


GOLDEN = (
    "01c1f887651774d2b904000100010002000000000000000000f8bf0000000000000000000000000000000000000000000000"
    "000000000000000000000000000000f03f00000000000008c00000000000000000"
)


@pytest.mark.parametrize("settings", [None, *ALL_SETTINGS], ids=str)
def test_a_learner_goes_on_from_its_bytes_as_if_it_had_never_stopped(settings: Settings | None) -> None:
    straight, broken = taught(settings, count=20), taught(settings, count=20)
    for features, clicked in lists(10, seed=5):
        straight.learn(features, clicked)
        broken = Learner.from_bytes(broken.to_bytes())
        broken.learn(features, clicked)
    assert straight.to_bytes() == broken.to_bytes()
    assert broken.settings == (settings or Settings())


@pytest.mark.parametrize("read", [Head.from_bytes, Learner.from_bytes])
def test_bytes_that_are_no_head_are_refused_with_a_reason(read: type) -> None:
    learner = taught(count=3)
    data = learner.head().to_bytes() if read == Head.from_bytes else learner.to_bytes()
    for bad in (b"", data[:20], data[:-1], data + b"\0"):
        with pytest.raises(BundleCorrupt):
            read(bad)
    with pytest.raises(BundleMismatch, match="codec 9"):
        read(b"\x09" + data[1:])
    with pytest.raises(BundleMismatch, match="other features"):
        read(data, FEATURES[::-1])
    with pytest.raises(BundleCorrupt):
        read(data[:-8] + struct.pack("<d", np.nan))


def test_weights_that_cannot_serve_are_refused() -> None:
    head = Head.cold(NAMES, {}, (("untouched", "prior_log"),))
    with pytest.raises(BundleCorrupt, match="no usable numbers"):
        Head.from_bytes(replace(head, scale=np.array([0.0, 0.0, 0.0])).to_bytes(), NAMES)
    with pytest.raises(BundleCorrupt, match="no usable numbers"):
        Head.from_bytes(replace(head, pairs=np.array([[0, 4]])).to_bytes(), NAMES)


def test_the_initial_weights_and_crosses_name_features_that_exist() -> None:
    assert set(INITIAL) <= set(FEATURES)
    assert {name for pair in CROSSES for name in pair} <= set(FEATURES)
    assert len(set(CROSSES)) == len(CROSSES)


def test_newton_keeps_the_inverse_of_the_summed_products() -> None:
    random = np.random.default_rng(0)
    newton, weights, information = Newton(np.zeros(4), 0.5, 0.0), np.zeros(4), np.eye(4) / 0.5
    for _ in range(30):
        gradient = random.normal(size=4)
        information += np.outer(gradient, gradient)
        expected = weights - np.linalg.solve(information, gradient)
        weights = newton.step(weights, gradient)
        assert weights == pytest.approx(expected)


def test_newton_never_stops_learning_and_stays_definite() -> None:
    newton, weights = Newton(np.zeros(3), 0.3, 1e-3), np.zeros(3)
    for at in range(20_000):
        weights = newton.step(weights, np.array([1.0, 1.0 + 1e-9 * (at % 2), 0.0]))
    newton.step(weights, np.ones(3))
    inverse = np.zeros((3, 3))
    inverse[np.triu_indices(3)] = newton.state()
    inverse += np.triu(inverse, 1).T
    assert np.linalg.eigvalsh(inverse).min() > 0
    assert inverse[0, 0] > 1e-3


@pytest.mark.parametrize("make", [lambda w: AdaGrad(w, 0.5, 1.0, 0.0), lambda w: Ftrl(w, 0.5, 1.0, 0.0, 0.0)])
def test_without_penalties_ftrl_and_adagrad_are_the_same_steps(make: type) -> None:
    start = np.array([1.0, -2.0])
    optimiser: Optimiser = make(start)
    weights, squares, expected = start, np.zeros(2), start
    for gradient in (np.array([0.5, -1.0]), np.array([2.0, 0.1]), np.array([-1.0, 0.0])):
        weights = optimiser.step(weights, gradient)
        squares = squares + gradient**2
        expected = expected - 0.5 * gradient / (1.0 + np.sqrt(squares))
        assert weights == pytest.approx(expected)


def test_ftrl_leaves_what_is_hardly_needed_exactly_where_it_began() -> None:
    start = np.array([1.0, -2.0])
    ftrl, weights = Ftrl(start, 0.5, 1.0, 1.0, 0.0), start
    for _ in range(3):
        weights = ftrl.step(weights, np.array([0.1, 3.0]))
    assert weights[0] == 1.0
    assert weights[1] < -2.0
