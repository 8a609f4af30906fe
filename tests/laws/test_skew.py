"""Law 5, second half: what was served can be computed again from the log at the fences that were read, exactly."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from headrace.models.features import FEATURES
from headrace.online.differences import (
    ASKED_TWICE,
    NO_QUERY_FENCE,
    NO_SHOPPER_FENCE,
    OTHER_SOURCE,
    QUERY_CAPPED,
    SkewReport,
    edit_distance,
)
from headrace.online.skew import Skew
from headrace.streams.feature_log import Served, features_of, pack_features
from headrace.streams.ingestion import Record
from headrace.streams.searches import StateBounds
from headrace.streams.sequences import RECORD
from memory_worker import WINDOW_DAYS, MemoryWorker, interleaved, served_run
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source

SHAPE = LogShape(events=120)
many, few = settings(max_examples=40, deadline=None), settings(max_examples=12, deadline=None)


def compared(
    random: Random, logs: list[list[Record]], served: list[Served], bounds: StateBounds = SMALL, partitions: int = 2
) -> SkewReport:
    """The report over a log that comes in other batches, and another interleaving, than it did."""
    skew = Skew(served, source(partitions), bounds, LIMITS, WINDOW_DAYS)
    records = interleaved(random, logs)
    while records:
        count = random.randrange(1, 40)
        skew.take(records[:count])
        records = records[count:]
    return skew.report()


def run(seed: int, bounds: StateBounds = SMALL, twice: float = 0.0) -> tuple[Random, list[list[Record]], MemoryWorker]:
    random = Random(seed)
    logs = make_log(random, SHAPE)
    return random, logs, served_run(random, SHAPE, logs, bounds, twice)


@many
@given(st.integers(0, 2**32))
def test_what_was_served_is_computed_again_exactly(seed: int) -> None:
    random, logs, worker = run(seed)
    random.shuffle(worker.served)
    report = compared(random, logs, worker.served)
    assert (report.lists, report.skipped, report.partly) == (len(worker.served), {}, {})
    assert report.exceeding(0.0) == []


def test_the_runs_have_something_to_compare() -> None:
    touched, clicked, stale, late = set(), 0, 0, 0
    for seed in range(12):
        random, logs, worker = run(seed)
        for served in worker.served:
            features = features_of(served)
            touched |= {name for name, column in zip(FEATURES, features.T, strict=True) if column.any()}
            clicked += bool(features[:, FEATURES.index("query_share")].any())
        behind = compared(random, logs, worker.served).sequence
        stale, late = stale + behind.stale, max(late, behind.missing_max)
    assert set(FEATURES) - touched == set()
    assert clicked > 10
    assert stale > 10 and late > 1


@many
@given(st.integers(0, 2**32), st.sampled_from(FEATURES), st.sampled_from([0.25, -3.0]))
def test_a_feature_that_was_altered_is_found_and_no_other(seed: int, name: str, by: float) -> None:
    random, logs, worker = run(seed)
    served = worker.served[0]
    features = features_of(served)
    features[-1, FEATURES.index(name)] += by
    worker.served[0] = changed(served, matrix=pack_features(features))
    report = compared(random, logs, worker.served)
    line = report.features[FEATURES.index(name)]
    seen = line.standing == "recomputed"
    assert report.exceeding(0.0) == ([name] if seen else [])
    assert line.differing == (1 if seen else 0)
    assert line.max_abs == pytest.approx(abs(by) if seen else 0, rel=1e-2)
    assert line.mean_abs == pytest.approx(line.max_abs / max(line.rows, 1))
    assert report.exceeding(1 / max(line.rows, 1)) == []


def test_a_sequence_that_was_newer_than_its_fence_is_found() -> None:
    """Lists whose record names an older fence than what they were made from."""
    found: set[str] = set()
    for seed in range(6):
        random, logs, worker = run(seed)
        fences: dict[str, set[int]] = {}
        for served in worker.served:
            fences.setdefault(served.client_id, set()).update(served.fences.get("shopper", {}).values())
        moved = []
        for served in worker.served:
            seen = served.fences.get("shopper", {}).get("", -1)
            older = [fence for fence in fences[served.client_id] if fence < seen]
            moved.append(changed(served, fences=served.fences | {"shopper": {"": max(older)}}) if older else served)
        report = compared(random, logs, moved)
        assert report.lists == len(moved)  # each of these fences is in the log
        found.update(report.exceeding(0.0))
    assert {"search_15s", "touched_last"} <= found
    assert not [name for name in found if name.startswith(("query_", "prior_"))]


@few
@given(st.integers(0, 2**32))
def test_fences_that_this_log_never_had_are_no_comparison_but_are_said(seed: int) -> None:
    random, logs, worker = run(seed)
    strange = changed(worker.served[0], fences={"shopper": {"": 10**9}})
    query = {source(2).tokens[0].hex(): 10**9}
    others = [
        strange,
        changed(strange, fences={"query": query}),
        changed(strange, fences={"query": {"00" * 8: 1}}),
        changed(strange, fences={"query": {"no hash": 1}}),
    ]
    report = compared(random, logs, others)
    assert report.lists == 0
    assert report.skipped == {NO_SHOPPER_FENCE: 1, NO_QUERY_FENCE: 1, OTHER_SOURCE: 2}
    assert report.exceeding(0.5) == [NO_SHOPPER_FENCE, NO_QUERY_FENCE]


@few
@given(st.integers(0, 2**32))
def test_a_query_that_met_its_bound_is_left_out_of_its_features_only(seed: int) -> None:
    bounds = replace(SMALL, query_items=2)
    random, logs, worker = run(seed, bounds)
    report = compared(random, logs, worker.served, bounds)
    assert report.lists == len(worker.served)
    assert report.exceeding(0.0) == []
    rows = {line.name: line.rows for line in report.features}
    assert rows["touch_stay"] == report.rows
    assert (rows["query_rate"] < report.rows) == bool(report.partly.get(QUERY_CAPPED))


@few
@given(st.integers(0, 2**32))
def test_an_item_asked_for_twice_leaves_out_what_depends_on_the_order(seed: int) -> None:
    random, logs, worker = run(seed, twice=0.5)
    report = compared(random, logs, worker.served)
    assert report.lists == len(worker.served)
    assert report.exceeding(0.0) == []
    skipping = sum(1 for served in worker.served if _skips(served))
    assert report.partly.get(ASKED_TWICE, 0) == skipping


def _skips(served: Served) -> bool:
    """Whether the second row was logged with the third rank."""
    ranks = features_of(served)[:, FEATURES.index("prior_reciprocal")]
    return len(ranks) > 1 and ranks[1] < 0.4


RECORDS = st.lists(st.integers(0, 3), max_size=9)


@given(RECORDS, RECORDS)
def test_the_edit_distance_is_that_of_the_definition(one: list[int], other: list[int]) -> None:
    def table(a: list[int], b: list[int]) -> int:
        costs = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                swap = costs[i - 1, j - 1] + (a[i - 1] != b[j - 1])
                costs[i, j] = min(costs[i - 1, j] + 1, costs[i, j - 1] + 1, swap)
        return costs[len(a), len(b)]

    def records(of: list[int]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        return np.array([(value, 1, 2, 3) for value in of], dtype=RECORD)

    assert edit_distance(records(one), records(other)) == table(one, other)


@few
@given(st.integers(0, 2**32))
def test_staleness_is_what_was_missing_while_sequences_are_not_full(seed: int) -> None:
    bounds = replace(SMALL, sequence=10_000)
    random, logs, worker = run(seed, bounds)
    sequence = compared(random, logs, worker.served, bounds).sequence
    assert sequence.distance_mean == sequence.missing_mean
    assert sequence.distance_max == sequence.missing_max
    assert sequence.stale <= sequence.lists
