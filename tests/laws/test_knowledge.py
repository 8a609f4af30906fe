"""Neighbours that a worker tells, summed over arrays, are those of the rule's plain definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.features import ITEM_EDGE
from headrace.online.knowledge import summed
from headrace.streams.identity import DAY_MS
from headrace.streams.neighbours import NeighbourRule, neighbours

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(90, 100), st.integers(0, 60), st.integers(0, 60)),
    max_size=40,
    unique_by=lambda row: row[:3],
)


@given(ROWS, st.integers(1, 3), st.integers(0, 100), st.sampled_from([0.0, 0.2, 0.5]))
def test_neighbours_by_arrays_are_those_of_the_rule(
    rows: list[tuple[int, int, int, int, int]], limit: int, min_exposures: int, rate: float
) -> None:
    rows = [(place, query, day, shown, min(shown, clicked)) for place, query, day, shown, clicked in rows]
    edges = np.array(rows, dtype=ITEM_EDGE)
    rule = NeighbourRule(min_exposures=min_exposures, min_click_rate=rate, limit=limit)
    told = summed(edges["owner"], edges["query"], edges).neighbours(rule, 101 * DAY_MS)
    for place in range(4):
        by_query: dict[str, list[tuple[int, int, int]]] = {}
        for owner, query, day, shown, clicked in sorted(rows, key=lambda row: row[2]):
            if owner == place:
                by_query.setdefault(f"{query:016x}", []).append((day, shown, clicked))
        expected = neighbours(by_query.items(), 101, rule)
        found = told.get(place, [])
        assert [(n.name, n.exposures, n.clicks, n.wilson) for n in found] == [
            (n.name, n.exposures, n.clicks, n.wilson) for n in expected
        ]
        assert [n.age_ms for n in found] == [(101 - by_query[n.name][-1][0]) * DAY_MS for n in found]


def test_no_edges_are_no_neighbours() -> None:
    nothing = np.empty(0, dtype=ITEM_EDGE)
    edges = summed(nothing["owner"], nothing["query"], nothing)
    assert edges.neighbours(NeighbourRule(), 0) == {}
    assert edges.newest_days() == {}
