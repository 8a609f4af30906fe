"""The numbers of judged pairs: which there are, of what they are made, and what they are compared with."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models import evaluation, metrics
from headrace.models.evaluation import Judged, Scale, arms_of, evaluate, terciles

Doubles = NDArray[np.float64]


def judged(scores: Mapping[str, Doubles] | None = None, queries: int = 40) -> Judged:
    random = np.random.default_rng(0)
    names = tuple(f"query {query}" for query in range(queries) for _ in range(6))
    labels = random.integers(0, 7, len(names)) / 6
    close = np.clip(labels + random.normal(0, 0.2, len(names)), 0, 1)
    far = random.random(len(names))
    given = {"close": close, "far": far, "logit": 10 * close} if scores is None else scores
    exposures = np.repeat(random.integers(1, 1000, queries), 6).astype(np.float64)
    return Judged(names, tuple("title" for _ in names), labels, given, exposures)


def test_every_number_is_the_plain_one_of_all_rows() -> None:
    pairs = judged()
    found = evaluate(pairs, Scale(span=2), resamples=50)
    close = pairs.scores["close"]
    own = {name: estimate.value for name, estimate in found.arms["close"].items()}
    assert own["RMSE"] == pytest.approx(2 * metrics.rmse(close, pairs.labels))
    assert own["Spearman"] == pytest.approx(metrics.spearman(close, pairs.labels))
    assert own["AUC"] == pytest.approx(metrics.auc(close, pairs.labels >= 0.66))
    by_query = [
        metrics.ndcg(close[rows], 4.0 ** pairs.labels[rows] - 1) for rows in np.arange(len(pairs)).reshape(-1, 6)
    ]
    assert own["nDCG@10"] == pytest.approx(np.mean(by_query))
    assert found.arms["close"]["AUC"].low < own["AUC"] < found.arms["close"]["AUC"].high
    assert (found.rows, found.queries, found.ranked) == (240, 40, 40)
    assert found.positives == np.count_nonzero(pairs.labels >= 0.66)


def test_what_is_no_probability_has_no_error_in_points_and_no_calibration() -> None:
    found = evaluate(judged(), Scale(), resamples=5)
    assert {"RMSE", "ECE"} <= found.arms["close"].keys()
    assert not {"RMSE", "ECE"} & found.arms["logit"].keys()
    assert found.arms["logit"]["AUC"].value == found.arms["close"]["AUC"].value
    assert found.reliability.keys() == {"close", "far"}


def test_a_difference_is_paired_and_only_of_numbers_that_both_have() -> None:
    found = evaluate(judged(), Scale(), against="far", resamples=200)
    assert found.ahead.keys() == {"close", "logit"}
    assert found.ahead["close"]["AUC"].low > 0
    assert found.ahead["close"]["RMSE"].high < 0
    assert "RMSE" not in found.ahead["logit"]
    with pytest.raises(ValueError, match="no model 'nobody' .* close, far, logit"):
        evaluate(judged(), Scale(), against="nobody")


def test_seeds_of_an_arm_are_averaged_as_numbers_not_as_scores() -> None:
    pairs = judged()
    random = np.random.default_rng(1)
    seeds = {f"arm/{seed}": np.clip(pairs.labels + random.normal(0, 0.4, len(pairs)), 0, 1) for seed in range(3)}
    pairs = pairs.scored({**seeds, "far": pairs.scores["far"]})
    found = evaluate(pairs, Scale(), against="far", resamples=50)
    assert list(found.arms) == ["arm", "far"]
    expected = [metrics.auc(scores, pairs.labels >= 0.66) for scores in seeds.values()]
    assert found.seeds["arm"]["AUC"] == pytest.approx(expected)
    assert found.arms["arm"]["AUC"].value == pytest.approx(np.mean(expected))
    assert "far" not in found.seeds
    assert found.reliability["arm"].rows.sum() == 3 * len(pairs)


def test_only_a_number_behind_a_slash_is_a_seed() -> None:
    assert arms_of(["a/0", "a/1", "b", "path/to", "/1", "c/2"]) == {
        "a": ["a/0", "a/1"],
        "b": ["b"],
        "path/to": ["path/to"],
        "/1": ["/1"],
        "c": ["c/2"],
    }


@given(exposures=st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_terciles_hold_every_row_once_in_order_and_never_part_equals(exposures: list[int]) -> None:
    values = np.array(exposures, dtype=np.float64)
    found = terciles(values)
    assert list(found) == ["tail", "torso", "head"]
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(len(values)))
    ends = [(values[rows].min(), values[rows].max()) for rows in found.values() if len(rows)]
    assert all(before[1] < after[0] for before, after in zip(ends, ends[1:], strict=False))
    if len(set(exposures)) == len(exposures):
        sizes = [len(rows) for rows in found.values()]
        assert max(sizes) - min(sizes) <= 1


def test_terciles_have_numbers_of_their_own_rows() -> None:
    pairs = judged()
    found = evaluate(pairs, Scale(), resamples=5).arms["close"]
    for name, rows in terciles(pairs.exposures).items():
        expected = metrics.auc(pairs.scores["close"][rows], pairs.labels[rows] >= 0.66)
        assert found[f"AUC {name}"].value == pytest.approx(expected)
    without = evaluate(Judged(pairs.queries, pairs.titles, pairs.labels, pairs.scores), Scale(), resamples=5)
    assert not [name for name in without.arms["close"] if name.startswith("AUC ")]


def test_a_list_without_anything_relevant_is_left_out_of_ndcg_alone() -> None:
    pairs = Judged(("a", "a", "b"), ("x", "y", "z"), np.array([1.0, 0.0, 0.0]), {"m": np.array([0.1, 0.9, 0.8])})
    found = evaluate(pairs, Scale(), resamples=20)
    assert (found.queries, found.ranked) == (2, 1)
    assert found.arms["m"]["nDCG@10"].value == pytest.approx(1 / math.log2(3))
    assert found.arms["m"]["AUC"].value == 0


def test_equal_scores_are_worth_their_mean_in_every_number() -> None:
    pairs = judged({"same": np.full(240, 0.5)})
    found = evaluate(pairs, Scale(), resamples=5).arms["same"]
    assert found["AUC"].value == 0.5
    assert math.isnan(found["Spearman"].value)
    shuffled = [np.random.default_rng(seed).random(240) for seed in range(40)]
    drawn = [
        evaluation.statistics(pairs, scores, Scale())["nDCG@10"](np.ones(240)) for scores in shuffled
    ]  # in any order of the equals
    assert found["nDCG@10"].value == pytest.approx(np.mean(drawn), abs=0.01)


def test_how_far_it_is_is_told() -> None:
    told: list[tuple[int, int]] = []
    evaluate(judged(), Scale(), resamples=2, say=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == len(told)


def test_some_pairs_are_whole_queries_in_their_order() -> None:
    pairs = judged()
    some = pairs.some(20, seed=1)
    assert len(some) == 24
    assert len(set(some.queries)) == 4
    rows = [row for row, query in enumerate(pairs.queries) if query in set(some.queries)]
    assert some.scores["close"].tolist() == pairs.scores["close"][rows].tolist()
    assert some.exposures is not None
    assert some.queries == pairs.some(20, seed=1).queries != pairs.some(20, seed=2).queries
    assert pairs.some(10_000).queries == pairs.queries


def test_where_only_the_order_counts_there_is_neither_rmse_nor_calibration() -> None:
    found = evaluate(judged(), Scale(absolute=False), resamples=3)
    assert not {"RMSE", "ECE"} & found.arms["close"].keys()
    assert found.reliability == {}
