"""Each feature, by hand, and what stands there when nothing is known."""

import time

import numpy as np
import pytest

from headrace.models.feature_names import FEATURES, MOMENTS, TABLE
from headrace.models.features import digest, matrix
from headrace.streams.sequences import CART, CLICK, PURCHASE, SEARCH, VIEW
from readings import NOW_MS, columns, reading

MINUTE_MS = 60_000
A, B, C, D, ELSEWHERE = 11, 22, 33, 44, 99
QUERY, OTHER_QUERY = 9, 8


def ago(minutes: float) -> int:
    return NOW_MS - int(minutes * MINUTE_MS)


def half(values: list[float]) -> list[float]:
    """As they come out: rounded to float16."""
    return [float(value) for value in np.array(values, dtype=np.float16)]


def test_the_table_says_of_every_feature_what_it_is() -> None:
    assert len(set(FEATURES)) == len(FEATURES) <= 40
    assert all(all(feature) for feature in TABLE)
    assert set(MOMENTS) < set(FEATURES)
    assert digest() != digest(FEATURES[:-1]) != digest(FEATURES[::-1])


def test_the_prior_order_is_always_known_and_the_rest_may_be_nothing() -> None:
    known = columns(reading([A, B, C]))
    assert known["prior_log"] == half([0.0, np.log(2) / 3, np.log(3) / 3])
    assert known["prior_reciprocal"] == half([1.0, 1 / 2, 1 / 3])
    assert known["untouched"] == [1.0, 1.0, 1.0]
    assert {name for name, column in known.items() if any(column)} == {"prior_log", "prior_reciprocal", "untouched"}


def test_no_items_no_rows() -> None:
    assert matrix(reading([], [(QUERY, A, ago(1), CLICK)])).shape == (0, len(FEATURES))


def test_an_absent_student_score_is_told_from_a_score_of_nothing() -> None:
    known = columns(reading([A, B, C], student=[0.5, np.nan, 0.0]))
    assert known["student"] == [0.5, 0.0, 0.0]
    assert known["student_known"] == [1.0, 0.0, 1.0]


def test_prices_count_against_the_list_they_stand_in() -> None:
    known = columns(reading([A, B, C, D], prices=[20.0, 10.0, np.nan, 40.0]))
    assert known["price_known"] == [1.0, 1.0, 0.0, 1.0]
    assert known["price_relative"] == half([0.0, -np.log(2), 0.0, np.log(2)])
    assert known["price_rank"] == half([1 / 3, 0.0, 0.0, 2 / 3])
    assert known["price_record"] == [0.0, 1.0, 0.0, 0.0], "the first has nothing above it"


@pytest.mark.parametrize("price", [0.0, -1.0, np.inf, np.nan])
def test_a_price_that_is_none_counts_as_unknown(price: float) -> None:
    known = columns(reading([A, B], prices=[price, 5.0]))
    assert known["price_known"] == [0.0, 1.0]
    assert known["price_relative"] == [0.0, 0.0]


def test_prices_are_compared_with_the_listed_item_touched_last() -> None:
    records = [(QUERY, B, ago(2), VIEW), (QUERY, ELSEWHERE, ago(1), VIEW)]
    known = columns(reading([A, B, C], records, prices=[20.0, 10.0, np.nan]))
    assert known["price_from_touch"] == half([np.log(2), 0.0, 0.0])
    unknown = columns(reading([A, B, C], records, prices=[20.0, np.nan, 5.0]))
    assert unknown["price_from_touch"] == [0.0, 0.0, 0.0]


def test_the_moment_after_a_view() -> None:
    known = columns(reading([A, B], [(QUERY, A, ago(10), CLICK), (QUERY, B, ago(1), VIEW)]))
    assert known["after_view"] == [1.0, 1.0]
    assert known["after_view_1min"] == half([np.exp(-1)] * 2)
    assert known["after_same_query"] == [1.0, 1.0]
    assert known["untouched"] == known["after_click"] == known["after_click_1min"] == [0.0, 0.0]


@pytest.mark.parametrize("action", [CLICK, CART, PURCHASE])
def test_the_moment_after_a_click_or_more(action: int) -> None:
    known = columns(reading([A, B], [(OTHER_QUERY, A, ago(10), action)]))
    assert known["after_click"] == [1.0, 1.0]
    assert known["after_click_1min"] == half([np.exp(-10)] * 2)
    assert known["after_click_10min"] == half([np.exp(-1)] * 2)
    assert known["after_view"] == known["after_same_query"] == [0.0, 0.0]


def test_no_moment_when_the_newest_touch_is_not_listed() -> None:
    known = columns(reading([A, B], [(QUERY, A, ago(2), CLICK), (QUERY, ELSEWHERE, ago(1), VIEW)]))
    assert known["after_click"] == known["after_view"] == known["untouched"] == [0.0, 0.0]
    assert known["touched_last"] == [0.0, 0.0]
    assert known["touch_order"] == [1.0, 0.0]


def test_no_query_is_never_the_same_query() -> None:
    known = columns(reading([A], [(0, A, ago(1), CLICK)], query=0))
    assert known["last_same_query"] == known["after_same_query"] == [0.0]


def test_the_newest_search_counts_whatever_came_after() -> None:
    known = columns(reading([A], [(QUERY, 0, ago(0.25), SEARCH), (QUERY, ELSEWHERE, ago(0.1), VIEW)]))
    assert known["search_15s"] == half([np.exp(-1)])
    assert known["search_5min"] == half([np.exp(-0.05)])


def test_a_search_is_no_touch_of_the_item_whose_hash_is_0() -> None:
    known = columns(reading([0, A], [(QUERY, ELSEWHERE, ago(2), VIEW), (QUERY, 0, ago(1), SEARCH)]))
    assert known["untouched"] == [1.0, 1.0]


def test_when_and_how_an_item_was_touched_last() -> None:
    records = [
        (QUERY, B, ago(20), CLICK),
        (OTHER_QUERY, A, ago(5), VIEW),
        (QUERY, 0, ago(4), SEARCH),
        (QUERY, C, ago(1), VIEW),
    ]
    known = columns(reading([A, B, C, D], records))
    assert known["touched_last"] == [0.0, 0.0, 1.0, 0.0]
    assert known["touch_order"] == half([1 / 2, 1 / 3, 1.0, 0.0])
    assert known["touch_fresh_5min"] == half([np.exp(-1), np.exp(-4), np.exp(-0.2), 0.0])
    assert known["touch_stay"] == half([np.log1p(60) / 3, np.log1p(900) / 3, np.log1p(60) / 3, 0.0])
    assert known["last_same_query"] == [0.0, 1.0, 1.0, 0.0]


def test_touches_are_counted_by_action_in_this_visit_and_before() -> None:
    records = [
        (QUERY, A, ago(100), VIEW),
        (QUERY, A, ago(99), VIEW),
        (QUERY, A, ago(98), CLICK),
        (QUERY, A, ago(60), CART),
        (QUERY, A, ago(10), VIEW),
        (QUERY, A, ago(9), CLICK),
        (QUERY, A, ago(8), CLICK),
        (QUERY, A, ago(7), PURCHASE),
    ]
    known = columns(reading([A, B], records))
    expected = {"views_before": 2, "clicks_before": 1, "views_visit": 1, "clicks_visit": 2, "carts": 1, "purchases": 1}
    for name, count in expected.items():
        assert known[name] == half([np.log1p(count), 0.0]), name


def test_a_visit_ends_when_nothing_happened_for_half_an_hour() -> None:
    known = columns(reading([A], [(QUERY, A, ago(31), CLICK)]))
    assert (known["clicks_visit"], known["clicks_before"]) == ([0.0], half([np.log(2)]))
    known = columns(reading([A], [(QUERY, A, ago(30), CLICK)]))
    assert (known["clicks_visit"], known["clicks_before"]) == (half([np.log(2)]), [0.0])


def test_places_beside_what_was_touched() -> None:
    records = [(QUERY, A, ago(2), CLICK), (QUERY, C, ago(1), VIEW)]
    known = columns(reading([A, B, C, D], records))
    assert known["next_below_touch"] == [0.0, 0.0, 0.0, 1.0]
    assert known["next_above_touch"] == half([np.exp(-0.5), 1.0, 0.0, 0.0])
    assert known["next_below_click"] == half([0.0, 1.0, np.exp(-0.5), np.exp(-1)])
    assert known["below_touched"] == [0.0, 1.0, 0.0, 1.0]


def test_edges_of_the_query_are_summed_over_days() -> None:
    edges = [(A, 1, 30, 3), (A, 2, 50, 4), (B, 2, 20, 0), (ELSEWHERE, 2, 500, 90)]
    known = columns(reading([A, B, C], edges=edges))
    assert known["query_rate"] == half([np.log((7 + 1) / 100 / 0.05), np.log(1 / 40 / 0.05), 0.0])
    assert known["query_shown"] == half([np.log1p(80) / 3, np.log1p(20) / 3, 0.0])
    assert known["query_share"] == [1.0, 0.0, 0.0], "among the listed items"


def test_edges_of_the_items_are_summed_over_queries() -> None:
    known = columns(reading([A, B], item_edges=[(1, QUERY, 2, 100, 30), (1, OTHER_QUERY, 2, 80, 9)]))
    assert known["item_rate"] == half([0.0, np.log(40 / 200 / 0.05)])
    assert known["item_shown"] == half([0.0, np.log1p(180) / 3])


def test_an_item_that_is_listed_twice_has_the_same_history_twice() -> None:
    known = columns(reading([A, B, A], [(QUERY, A, ago(1), CLICK)], edges=[(A, 1, 9, 3)]))
    for name in ("touched_last", "touch_order", "clicks_visit", "query_rate"):
        assert known[name][0] == known[name][2] > known[name][1], name


def test_a_long_history_costs_well_under_a_millisecond() -> None:
    random = np.random.default_rng(0)
    items = random.integers(1, 2**63, 100).tolist()
    records = [
        (QUERY, int(random.choice(items)) if at % 3 else at, ago(1_000 - at), int(random.integers(0, 5)))
        for at in range(1_000)
    ]
    of = reading(items, records, prices=[float(at) for at in range(1, 101)], edges=[(item, 1, 5, 1) for item in items])
    took = []
    for _ in range(200):
        began = time.perf_counter()
        matrix(of)
        took.append(time.perf_counter() - began)
    assert min(took) < 1e-3
