"""Readings for tests: small ones by hand, and a strategy for any."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.models.features import EDGE, FEATURES, ITEM_EDGE, Reading, matrix
from headrace.streams.sequences import RECORD

NOW_MS = 1_700_000_000_000

Record = tuple[int, int, int, int]
"""(query, item, at_ms, action)"""


def reading(
    items: Sequence[int],
    records: Sequence[Record] = (),
    prices: Sequence[float] = (),
    student: Sequence[float] = (),
    edges: Sequence[tuple[int, int, int, int]] = (),
    item_edges: Sequence[tuple[int, int, int, int, int]] = (),
    query: int = 9,
) -> Reading:
    """A reading; prices and student scores are unknown unless given."""
    unknown = [np.nan] * len(items)
    return Reading(
        NOW_MS,
        query,
        np.array(items, dtype=np.uint64),
        np.array(prices or unknown, dtype=np.float32),
        np.array(student or unknown, dtype=np.float32),
        np.array(list(records), dtype=RECORD),
        np.array(list(edges), dtype=EDGE),
        np.array(list(item_edges), dtype=ITEM_EDGE),
    )


def columns(of: Reading) -> dict[str, list[float]]:
    """The matrix by name."""
    return dict(zip(FEATURES, matrix(of).T.tolist(), strict=True))


_HASH = st.integers(0, 2**64 - 1)
_PRICES = st.one_of(st.just(np.nan), st.floats(-10, 1e9, width=32))
_SCORES = st.one_of(st.sampled_from([np.nan, np.inf, -np.inf]), st.floats(-1e6, 1e6, width=32))


@st.composite
def readings(draw: st.DrawFn, min_items: int = 0) -> Reading:
    """Any reading: few different hashes so that things meet, times before and after now, times in order."""
    pool = draw(st.lists(_HASH, min_size=max(min_items, 1), max_size=12, unique=True))
    items = draw(st.lists(st.sampled_from(pool), min_size=min_items, max_size=12, unique=True))
    some = st.sampled_from([*pool, 1, 2**64 - 1])
    ages = draw(st.lists(st.integers(-400_000, 10**8), max_size=20))
    records = [(draw(some), draw(some), NOW_MS - age, draw(st.integers(0, 4))) for age in sorted(ages, reverse=True)]
    counts = st.integers(0, 10**6)
    edges = draw(st.lists(st.tuples(some, st.integers(0, 30_000), counts, counts), max_size=8))
    owners = st.integers(0, max(len(items) - 1, 0))
    item_edges = draw(st.lists(st.tuples(owners, some, st.integers(0, 30_000), counts, counts), max_size=8))
    return reading(
        items,
        records,
        [draw(_PRICES) for _ in items],
        [draw(_SCORES) for _ in items],
        edges,
        item_edges if items else [],
        query=draw(st.one_of(st.just(0), some)),
    )


def shuffled(of: Reading, order: NDArray[np.intp]) -> Reading:
    """The same reading with its items in another order; order [B] names, for each new place, the old one."""
    item_edges = of.item_edges.copy()
    item_edges["owner"] = np.argsort(order)[of.item_edges["owner"]]
    return Reading(
        of.now_ms,
        of.query,
        of.items[order],
        of.prices[order],
        of.student[order],
        of.sequence,
        of.query_edges,
        item_edges,
    )
