"""Edges by day, the window before an edge's own newest day, and the rule that makes an edge a neighbour."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.neighbours import (
    NeighbourRule,
    Row,
    add,
    exposures_of,
    neighbours,
    pack_edge,
    unpack_edge,
    version,
    wilson_lower,
    within,
)

increments = st.lists(st.tuples(st.integers(100, 140), st.integers(0, 1), st.integers(0, 1)), max_size=25)


def folded(steps: list[tuple[int, int, int]], window: int = 30) -> list[Row]:
    rows: list[Row] = []
    for day, exposures, clicks in steps:
        rows = add(rows, day, exposures, clicks, window)
    return rows


def test_a_late_increment_lands_in_its_own_day() -> None:
    assert folded([(10, 1, 0), (12, 1, 1), (10, 1, 1), (11, 0, 1)]) == [(10, 2, 1), (11, 0, 1), (12, 1, 1)]


def test_the_window_is_w_days_and_ends_with_the_edges_newest_day() -> None:
    rows = folded([(day, 1, 0) for day in range(10, 20)], window=4)
    assert [row[0] for row in rows] == [16, 17, 18, 19]
    assert add(rows, 15, 1, 1, 4) == rows, "older than the window: nothing changes"
    assert [row[0] for row in add(rows, 23, 1, 0, 4)] == [23]
    assert [row[0] for row in add(rows, 22, 1, 0, 4)] == [19, 22]


@given(increments, st.integers(1, 30))
def test_no_order_of_increments_changes_an_edge(steps: list[tuple[int, int, int]], window: int) -> None:
    newest = max((day for day, _, _ in steps), default=0)
    expected: dict[int, Row] = {}
    for day, exposures, clicks in steps:
        if day > newest - window:
            before = expected.get(day, (day, 0, 0))
            expected[day] = (day, before[1] + exposures, before[2] + clicks)
    assert folded(steps, window) == folded(steps[::-1], window) == [expected[day] for day in sorted(expected)]


def test_every_order_of_a_few() -> None:
    steps = [(10, 1, 0), (14, 1, 1), (11, 0, 1), (18, 1, 0)]
    assert {tuple(folded(list(order), 5)) for order in permutations(steps)} == {((14, 1, 1), (18, 1, 0))}


@given(increments)
def test_a_version_grows_with_every_change(steps: list[tuple[int, int, int]]) -> None:
    rows: list[Row] = []
    for day, exposures, clicks in steps:
        if not exposures and not clicks:
            continue
        changed = add(rows, day, exposures, clicks, 4)
        assert (version(changed) > version(rows)) == (changed != rows)
        assert version(changed) >= version(rows)
        rows = changed


@given(increments)
def test_an_edge_survives_its_bytes(steps: list[tuple[int, int, int]]) -> None:
    rows = folded(steps)
    value = pack_edge(rows)
    assert unpack_edge(value) == rows
    assert exposures_of(value) == sum(row[1] for row in rows)


@pytest.mark.parametrize("value", [b"", b"\2" + bytes(8), b"\1" + bytes(9), pack_edge([(1, 1, 1)])[:-1]])
def test_other_bytes_are_no_edge(value: bytes) -> None:
    with pytest.raises(ValueError, match="codec 1"):
        unpack_edge(value)


def test_a_window_ends_with_the_day_that_is_asked_for() -> None:
    rows = [(10, 1, 0), (11, 2, 0), (40, 3, 0), (41, 4, 0)]
    assert within(rows, 40, 30) == [(11, 2, 0), (40, 3, 0)]
    assert within(rows, 9, 30) == []


def test_an_edge_needs_100_exposures_and_a_click_rate_of_a_fifth() -> None:
    edges = [
        ("99 exposures, all clicked", [(10, 99, 99)]),
        ("exactly enough", [(10, 60, 20), (11, 40, 0)]),
        ("one click too few", [(10, 100, 19)]),
        ("enough, but out of the window", [(10 - 30, 100, 100)]),
        ("enough, but on a later day", [(12, 100, 100)]),
        ("half of it out of the window", [(10 - 30, 50, 50), (11, 50, 50)]),
    ]
    assert [one.name for one in neighbours(edges, 11, NeighbourRule())] == ["exactly enough"]


def test_neighbours_come_by_their_wilson_bound_then_by_name_and_few() -> None:
    edges = [
        ("many, a little less", [(1, 10_000, 4_900)]),
        ("few, half", [(1, 100, 50)]),
        ("b, the same", [(1, 200, 100)]),
        ("a, the same", [(1, 200, 100)]),
        ("least", [(1, 100, 20)]),
        ("best", [(1, 100, 90)]),
        ("sixth", [(1, 100, 19)]),
    ]
    found = neighbours(edges, 1, NeighbourRule())
    assert [one.name for one in found] == ["best", "many, a little less", "a, the same", "b, the same", "few, half"]
    assert [one.name for one in neighbours(edges, 1, NeighbourRule(limit=1))] == ["best"]


def test_wilsons_bound() -> None:
    assert wilson_lower(0, 0) == 0.0
    assert wilson_lower(0, 100) == 0.0
    assert wilson_lower(10, 100) == pytest.approx(0.0552, abs=5e-5)
    assert wilson_lower(100, 100) == pytest.approx(0.9630, abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_wilsons_bound_lies_below_the_rate_and_grows_with_clicks(exposures: int, data: st.DataObject) -> None:
    clicks = data.draw(st.integers(0, exposures - 1))
    assert 0.0 <= wilson_lower(clicks, exposures) <= clicks / exposures + 1e-12
    assert wilson_lower(clicks, exposures) < wilson_lower(clicks + 1, exposures) <= 1.0
    if clicks:
        assert wilson_lower(clicks, exposures) < wilson_lower(2 * clicks, 2 * exposures), "more evidence, nearer"
