"""Laws 5 and 6 of features and head: what a row depends on, and that the same lists make the same weights."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from headrace.models.feature_names import FEATURES, INDEX, TABLE
from headrace.models.features import Reading, matrix
from headrace.models.head import Head, Learner
from readings import readings, shuffled

Floats = NDArray[np.float32]


def scope(*scopes: str) -> list[int]:
    return [INDEX[feature.name] for feature in TABLE if feature.scope in scopes]


anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
"""What must never come and must do no harm."""
rows = st.integers(1, 12).flatmap(lambda count: arrays.arrays(np.float32, (count, len(FEATURES)), elements=anything))
seeds = st.integers(0, 2**32 - 1)


def learned(seed: int, count: int = 5) -> Learner:
    random, learner = np.random.default_rng(seed), Learner()
    for _ in range(count):
        features = random.normal(size=(7, len(FEATURES))).astype(np.float32)
        learner.learn(features, random.random(7) < 0.3, random.integers(0, 9, 7))
    return learner


@given(readings())
def test_every_feature_is_a_finite_float16(of: Reading) -> None:
    features = matrix(of)
    assert features.shape == (len(of.items), len(FEATURES))
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.array_equal(features.astype(np.float16).astype(np.float32), features)


@given(readings(min_items=1), st.randoms(use_true_random=False))
def test_another_order_of_the_items_moves_rows_and_changes_only_what_says_so(of: Reading, random: object) -> None:
    order = np.array(sorted(range(len(of.items)), key=lambda _: random.random()), dtype=np.intp)  # type: ignore[attr-defined]
    kept = scope("item", "list", "moment")
    assert np.array_equal(matrix(shuffled(of, order))[:, kept], matrix(of)[order][:, kept])


@given(readings(min_items=1), st.data())
def test_what_is_of_the_item_is_the_same_in_any_list(of: Reading, data: st.DataObject) -> None:
    chosen = np.flatnonzero(data.draw(arrays.arrays(np.bool_, len(of.items))))
    place = np.full(len(of.items), -1)
    place[chosen] = np.arange(len(chosen))
    item_edges = of.item_edges[np.isin(of.item_edges["owner"], chosen)].copy()
    item_edges["owner"] = place[item_edges["owner"]]
    alone = Reading(
        of.now_ms,
        of.query,
        of.items[chosen],
        of.prices[chosen],
        of.student[chosen],
        of.sequence,
        of.query_edges,
        item_edges,
    )
    kept = scope("item")
    assert np.array_equal(matrix(alone)[:, kept], matrix(of)[chosen][:, kept])


@given(readings(min_items=1))
def test_moments_are_the_same_for_all_rows(of: Reading) -> None:
    moments = matrix(of)[:, scope("moment")]
    assert (moments == moments[0]).all()


@given(readings())
def test_reading_the_features_changes_nothing(of: Reading) -> None:
    arrays_of = (of.items, of.prices, of.student, of.sequence, of.query_edges, of.item_edges)
    before = [array.tobytes() for array in arrays_of]
    for array in arrays_of:
        array.flags.writeable = False
    first = matrix(of)
    assert np.array_equal(matrix(of), first)
    assert [array.tobytes() for array in arrays_of] == before


@given(rows, seeds, st.data())
@settings(max_examples=50, deadline=None)
def test_a_score_does_not_depend_on_batch_mates_and_is_always_a_number(
    features: Floats, seed: int, data: st.DataObject
) -> None:
    head = learned(seed).head()
    features.flags.writeable = False
    scores, margins = head.score(features), head.margin(features)
    assert np.isfinite(scores).all()
    assert np.isfinite(margins).all()
    assert bool(((scores > 0) & (scores <= 1)).all())
    chosen = data.draw(st.lists(st.integers(0, len(features) - 1), min_size=1, max_size=200))
    assert head.score(features[chosen]).tobytes() == scores[chosen].tobytes()
    assert head.margin(features[chosen]).tobytes() == margins[chosen].tobytes()


@given(st.lists(rows, max_size=4), seeds, st.data())
@settings(max_examples=50, deadline=None)
def test_whatever_comes_in_the_weights_stay_numbers(lists: list[Floats], seed: int, data: st.DataObject) -> None:
    learner = learned(seed)
    for features in lists:
        clicked = data.draw(arrays.arrays(np.bool_, len(features)))
        shown = data.draw(arrays.arrays(np.int64, len(features), elements=st.integers(0, 2**31)))
        features.flags.writeable = clicked.flags.writeable = shown.flags.writeable = False
        learner.learn(features, clicked, shown)
    head = learner.head()
    assert np.isfinite(head.weights).all()
    assert np.isfinite(head.scale).all()
    assert head.scale[0] > 0
    assert Learner.from_bytes(learner.to_bytes()).to_bytes() == learner.to_bytes()


@given(seeds, st.lists(st.booleans(), min_size=8, max_size=8))
@settings(max_examples=25, deadline=None)
def test_same_lists_same_weights_wherever_the_learner_was_stopped(seed: int, stops: list[bool]) -> None:
    random = np.random.default_rng(seed)
    straight, broken = Learner(), Learner()
    for stop in stops:
        features = random.normal(size=(9, len(FEATURES))).astype(np.float32)
        clicked = np.arange(9) == int(random.integers(9))
        straight.learn(features, clicked)
        if stop:
            broken = Learner.from_bytes(broken.to_bytes())
        broken.learn(features, clicked)
    assert straight.to_bytes() == broken.to_bytes()
    assert straight.head().to_bytes() == Head.from_bytes(broken.head().to_bytes()).to_bytes()
