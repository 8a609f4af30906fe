from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.baskets import (
    UNKNOWN,
    Baskets,
    EdgeRule,
    Labelled,
    Period,
    Window,
    labelled,
)
from headrace.models.leak_guard import OPEN, Guard
from headrace.models.wilson import wilson_lower

A, B, C, D, E = range(5)
TEXTS = ("lamp", "shade", "bulb", "cake stand", "tea pot")
Basket = tuple[int, int, set[int]]
"""A day, a shopper, items."""


def log(rows: Sequence[Basket], texts: tuple[str, ...] = TEXTS) -> Baskets:
    ordered = sorted(rows, key=lambda row: row[0])
    return Baskets(
        np.array([day for day, _, _ in ordered], dtype=np.int64),
        np.array([shopper for _, shopper, _ in ordered], dtype=np.int64),
        tuple(np.array(sorted(items), dtype=np.int64) for _, _, items in ordered),
        texts,
    )


def shop(days: int = 30) -> Baskets:
    """Every day 0 buys a lamp and a shade, 1 a cake stand and a tea pot, somebody a bulb with either."""
    rows: list[Basket] = []
    for day in range(days):
        rows += [(day, 0, {A, B}), (day, 1, {D, E}), (day, UNKNOWN, {C, A if day % 2 else D})]
    return log(rows)


def test_counts_of_a_window_by_hand() -> None:
    baskets = log([(0, 1, {A, B}), (1, 2, {A, B, C}), (2, 3, {A}), (3, 4, {B, C}), (3, UNKNOWN, {A, C})])
    window = Window(baskets, EdgeRule(exposures=1, rate=0.0, days=3))
    window.forward(3)
    assert window.total == 3
    assert window.alone.tolist() == [3, 2, 1, 0, 0]
    assert window.both[A].tolist() == [3, 2, 1, 0, 0]
    window.forward(4)  # day 0 has left, day 3 has come
    assert window.alone.tolist() == [3, 2, 3, 0, 0]
    assert window.both[:3, :3].tolist() == [[3, 1, 2], [1, 2, 2], [2, 2, 3]]
    window.forward(100)
    assert window.total == 0
    assert not window.both.any()


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 9), st.integers(UNKNOWN, 3), st.sets(st.integers(0, 4), min_size=1)), min_size=1
    ),
    stops=st.lists(st.integers(0, 14), min_size=1, max_size=5).map(sorted),
    days=st.integers(1, 6),
)
def test_a_window_that_moved_counts_what_one_that_begins_there_counts(
    rows: list[Basket], stops: list[int], days: int
) -> None:
    baskets, rule = log(rows), EdgeRule(1, 0.0, days)
    moving = Window(baskets, rule)
    for day in stops:
        if day < moving.day:
            with pytest.raises(ValueError, match="cannot go back"):
                moving.forward(day)
            continue
        moving.forward(day)
        inside = [items for at, _, items in rows if day - days <= at < day]
        expected = [[sum({a, b} <= items for items in inside) for b in range(5)] for a in range(5)]
        assert moving.both.tolist() == expected
        assert moving.total == len(inside)


def test_an_edge_needs_twenty_baskets_and_one_in_ten() -> None:
    rows: list[Basket] = [(0, 1, {A, B}), (0, 1, {A, B}), (0, 1, {A, B, C}), *[(0, 1, {A})] * 16]
    nineteen, twenty = Window(log(rows), EdgeRule()), Window(log([*rows, (0, 1, {A, C})]), EdgeRule())
    for window in (nineteen, twenty):
        window.forward(1)
    assert nineteen.led_to(A).tolist() == []
    assert twenty.led_to(A).tolist() == [B, C]  # 3 of 20, and 2 of 20, which is one in ten
    assert twenty.led_by(C).tolist() == [A]
    assert twenty.led_to(B).tolist() == []  # in 3 baskets only
    assert twenty.led_by(A).tolist() == []
    more = Window(log([*rows, (0, 1, {A, C}), (0, 1, {A})]), EdgeRule())
    more.forward(1)
    assert more.led_to(A).tolist() == [B]  # 2 of 21


def test_what_leads_to_an_item_is_ranked_by_the_bound_and_not_by_the_rate() -> None:
    rows: list[Basket] = [*[(0, 1, {A, E})] * 12, *[(0, 1, {A})] * 8, *[(0, 1, {B, E})] * 110, *[(0, 1, {B})] * 90]
    window = Window(log(rows), EdgeRule())
    window.forward(1)
    assert wilson_lower(np.array([12, 110]), np.array([20, 200])) == pytest.approx([0.3866, 0.4808], abs=1e-4)
    assert window.led_by(E).tolist() == [B, A]  # .55 of 200 is surer than .6 of 20


def of(rows: Sequence[Labelled], **wanted: object) -> list[Labelled]:
    return [one for one in rows if all(getattr(one, name) == value for name, value in wanted.items())]


def test_pairs_are_of_later_baskets_of_shoppers_who_had_the_source_and_half_of_them_were_bought() -> None:
    rows = labelled(shop(), Period(25, 30), 200, seed=3)
    assert len(rows) == 200
    assert sum(one.bought for one in rows) == 100
    assert all(25 <= one.day < 30 for one in rows)
    assert [one.day for one in rows] == sorted(one.day for one in rows)
    assert {(one.source, one.item) for one in of(rows, bought=True)} == {(A, B), (B, A), (D, E), (E, D)}
    mine = {A: {A, B}, B: {A, B}, D: {D, E}, E: {D, E}}
    assert all(one.item not in mine[one.source] for one in of(rows, bought=False))
    assert rows == labelled(shop(), Period(25, 30), 200, seed=3)
    assert rows != labelled(shop(), Period(25, 30), 200, seed=4)


def test_edges_are_of_before_the_day_of_the_label() -> None:
    rule = EdgeRule(exposures=20, rate=0.1, days=90)
    # A and B are together 20 times, the last time on the labelled day itself.
    together: list[Basket] = [(day, 7, {A, B}) for day in range(19)]
    later: list[Basket] = [(20, 7, {A, B}), (20, 8, {C}), (21, 7, {A, B}), (21, 8, {C})]
    baskets = log([*together, (0, 8, {C}), *later])
    first, second = (labelled(baskets, Period(day, day + 1), 40, 0, rule=rule) for day in (20, 21))
    assert {(one.exposures, one.clicks) for one in of(first, source=A, item=B)} == {(19, 19)}
    assert not any(one.query_neighbours or one.item_neighbours for one in first)
    assert {(one.exposures, one.clicks) for one in of(second, source=A, item=B)} == {(20, 20)}
    known = of(second, source=A)
    assert known
    assert all(one.query_neighbours == (B,) for one in known)
    assert all(one.pair(TEXTS).query_neighbours == ("shade",) for one in known)


@given(extra=st.sets(st.integers(0, 4), min_size=1), seed=st.integers(0, 50))
def test_no_basket_of_the_day_or_later_changes_what_a_row_knows(extra: set[int], seed: int) -> None:
    before = shop()
    rows = [
        (int(day), int(shopper), set(items.tolist()))
        for day, shopper, items in zip(before.days, before.shoppers, before.items, strict=True)
    ]
    window, other = (
        Window(before, EdgeRule(5, 0.1)),
        Window(log([*rows, *[(day, UNKNOWN, extra) for day in range(25, 30)] * 9]), EdgeRule(5, 0.1)),
    )
    day = 20 + seed % 6
    window.forward(day)
    other.forward(day)
    assert np.array_equal(window.both, other.both)
    assert all(np.array_equal(window.led_to(item), other.led_to(item)) for item in range(5))


def test_the_pairs_own_edge_goes_from_both_sides_for_the_share_of_rows_that_was_asked_for() -> None:
    rule = EdgeRule(exposures=5, rate=0.1)

    def knows(rows: Sequence[Labelled]) -> list[tuple[bool, bool]]:
        bought = of(rows, bought=True)
        return [(one.item in one.query_neighbours, one.source in one.item_neighbours) for one in bought]

    whole = knows(labelled(shop(), Period(25, 30), 400, 1, OPEN, rule))
    assert set(whole) == {(True, True)}
    torn = labelled(shop(), Period(25, 30), 400, 1, Guard(1.0, 0.0), rule)
    assert set(knows(torn)) == {(False, False)}
    assert any(one.query_neighbours for one in torn)  # what else a led to is still there
    half = knows(labelled(shop(), Period(25, 30), 400, 1, Guard(0.5, 0.0), rule))
    assert set(half) == {(True, True), (False, False)}
    assert 0.4 < sum(ours for ours, _ in half) / len(half) < 0.6


def test_neighbours_are_dropped_for_a_share_of_training_rows() -> None:
    rule = EdgeRule(exposures=5, rate=0.1)
    rows = labelled(shop(), Period(25, 30), 400, 1, Guard(0.0, 0.3), rule)
    bare = [one for one in rows if not one.query_neighbours and not one.item_neighbours]
    assert 0.2 < len(bare) / len(rows) < 0.4
    assert all(one.exposures for one in bare)  # the counters of the row stay what they were
    assert not [one for one in labelled(shop(), Period(25, 30), 400, 1, OPEN, rule) if not one.query_neighbours]


def test_a_shopper_who_bought_nothing_in_the_days_before_gives_no_pairs() -> None:
    baskets = log([(0, 1, {A, B}), (50, 1, {A, C}), (50, 2, {D})])
    with pytest.raises(ValueError, match="nobody who bought on days 50 to 50 had bought before"):
        labelled(baskets, Period(50, 51), 10, 0, rule=EdgeRule(days=49))
    found = labelled(baskets, Period(50, 51), 10, 0, rule=EdgeRule(days=50))
    assert {(one.source, one.item, one.bought) for one in found} <= {
        (A, C, True), (B, A, True), (B, C, True), (A, D, False), (B, D, False)
    }  # fmt: skip
    with pytest.raises(ValueError, match="nobody"):  # two baskets of one day: neither is later
        labelled(log([(50, 1, {A, B}), (50, 1, {C, D}), (50, 2, {E})]), Period(50, 51), 10, 0)
    with pytest.raises(ValueError, match="nobody"):
        labelled(log([(0, UNKNOWN, {A}), (1, UNKNOWN, {A, B})]), Period(1, 2), 10, 0)


def test_baskets_that_do_not_fit_are_refused() -> None:
    days, items = np.array([1, 0], dtype=np.int64), (np.array([A]), np.array([B]))
    with pytest.raises(ValueError, match="not in the order of their days"):
        Baskets(days, days, items, TEXTS)
    with pytest.raises(ValueError, match="2 days, 2 shoppers, 1 baskets"):
        Baskets(days, days, items[:1], TEXTS)
