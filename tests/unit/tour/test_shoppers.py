from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.tour.shop import candidates, load
from headrace.tour.shoppers import ClickModel, Shoppers

SHOP = load()
MODEL = ClickModel()
SHOPPERS = Shoppers(SHOP, MODEL, seed=0)
IDS = [product.item_id for product in SHOP.products]
numbers = st.integers(0, MODEL.searches - 1)


def test_the_same_seed_is_the_same_world() -> None:
    again = Shoppers(load(), ClickModel(), seed=0)
    for number in (0, 7, 749, 1_499):
        search = SHOPPERS.search(number)
        shown = candidates(SHOP, search.text, 24)
        assert again.search(number) == search
        assert again.acts(search, shown) == SHOPPERS.acts(search, shown)
        assert [again.utility(search, item) for item in IDS] == [SHOPPERS.utility(search, item) for item in IDS]


def test_another_seed_is_another_world() -> None:
    other = Shoppers(SHOP, MODEL, seed=1)
    assert any(other.search(n).text != SHOPPERS.search(n).text for n in range(10))
    search = SHOPPERS.search(0)
    assert [other.utility(search, item) for item in IDS] != [SHOPPERS.utility(search, item) for item in IDS]


@settings(max_examples=50, deadline=None)
@given(numbers, st.randoms(use_true_random=False))
def test_a_search_is_the_same_whatever_happened_before(number: int, random: Random) -> None:
    fresh = Shoppers(SHOP, MODEL, seed=0)
    for _ in range(3):
        before = fresh.search(random.randrange(MODEL.searches))
        fresh.acts(before, random.sample(IDS, 20))
    assert fresh.search(number) == SHOPPERS.search(number)


@settings(max_examples=50, deadline=None)
@given(numbers, st.permutations(range(24)))
def test_further_up_is_never_clicked_less(number: int, order: list[int]) -> None:
    search = SHOPPERS.search(number)
    found = candidates(SHOP, search.text, 24)
    shown = [found[place] for place in order]
    clicked = {act.item_id for act in SHOPPERS.acts(search, shown) if act.kind == "click"}
    for place, item in enumerate(shown[1:], start=1):
        if item in clicked:
            up = [item, *shown[:place], *shown[place + 1 :]]
            acts = SHOPPERS.acts(search, up)
            assert any(act.item_id == item and act.position == 1 and act.kind == "click" for act in acts)


@settings(max_examples=50, deadline=None)
@given(numbers, st.lists(st.sampled_from(IDS), unique=True, max_size=40))
def test_acts_are_of_what_was_shown_where_it_was_shown_in_the_order_of_time(number: int, shown: list[str]) -> None:
    search = SHOPPERS.search(number)
    acts = SHOPPERS.acts(search, shown)
    kinds = Counter((act.item_id, act.kind) for act in acts)
    assert all(shown[act.position - 1] == act.item_id for act in acts)
    assert [act.at_ms for act in acts] == sorted(act.at_ms for act in acts)
    assert all(search.at_ms < act.at_ms < search.at_ms + 600_000 for act in acts)
    assert all(count == 1 for count in kinds.values())
    for item, kind in kinds:
        assert kind == "click" or (item, {"cart": "click", "purchase": "cart"}[kind]) in kinds


def test_searches_go_on_in_time_and_lie_in_the_past() -> None:
    times = [SHOPPERS.search(number).at_ms for number in range(MODEL.searches)]
    assert all(0 < later - earlier < 2 * MODEL.gap_ms for earlier, later in zip(times[:-1], times[1:], strict=True))
    assert times[0] >= MODEL.start_ms
    assert times[-1] < 1_748_736_000_000  # 2025-06-01


def test_shoppers_come_back_and_some_queries_are_asked_more() -> None:
    searches = [SHOPPERS.search(number) for number in range(MODEL.searches)]
    shoppers = Counter(search.client_id for search in searches)
    texts = Counter(search.text for search in searches)
    again = Counter((search.client_id, search.text) for search in searches)
    assert len(shoppers) == MODEL.shoppers
    assert min(shoppers.values()) >= 10
    assert len({search.query_id for search in searches}) == MODEL.searches
    assert texts.most_common(1)[0][1] > 5 * np.median(sorted(texts.values())[:10])
    assert np.mean([again[search.client_id, search.text] > 1 for search in searches]) > 0.5
    assert all(search.client_id.startswith("simulated") for search in searches)


def test_only_held_out_queries_are_shown_and_only_the_others_make_parts() -> None:
    making = Shoppers(SHOP, MODEL, seed=0, held_out=False)
    for number in range(300):
        assert SHOP.query(SHOPPERS.search(number).text).held_out
        assert not SHOP.query(making.search(number).text).held_out


def test_what_is_not_judged_is_worth_nothing_and_a_better_judgment_is_worth_more() -> None:
    plain = replace(MODEL, brand_taste=0, colour_taste=0, price_taste=0, department_taste=0, fashion=0, season=0)
    tasteless = Shoppers(SHOP, plain, seed=0)
    search = tasteless.search(3)
    worth = {item: tasteless.utility(search, item) for item in IDS}
    grades = SHOP.query(search.text).grades
    assert worth == {item: plain.relevance[grades.get(item, 0)] for item in IDS}
    assert worth == {item: tasteless.utility_to_all(search, item) for item in IDS}


def test_tastes_differ() -> None:
    search = next(one for one in map(SHOPPERS.search, range(200)) if one.text == "jaguar")
    other = replace(search, client_id="simulated-000" if search.client_id != "simulated-000" else "simulated-001")
    mine = [SHOPPERS.utility(search, item) for item in IDS]
    theirs = [SHOPPERS.utility(other, item) for item in IDS]
    assert np.argsort(mine).tolist() != np.argsort(theirs).tolist()
    assert [SHOPPERS.utility_to_all(search, item) for item in IDS] == [
        SHOPPERS.utility_to_all(other, item) for item in IDS
    ]


def test_the_position_shows_in_the_clicks() -> None:
    # The same items in a random order: what they are worth is spread evenly over the places.
    random = Random(0)
    clicks: Counter[int] = Counter()
    for number in range(MODEL.searches):
        search = SHOPPERS.search(number)
        shown = list(candidates(SHOP, search.text, 24))
        random.shuffle(shown)
        clicks.update(act.position for act in SHOPPERS.acts(search, shown) if act.kind == "click")
    top, middle, bottom = (
        sum(clicks[place] for place in places) for places in (range(1, 4), range(10, 13), range(22, 25))
    )
    assert top > 1.8 * middle
    assert middle > bottom


def test_worth_shows_in_the_clicks_and_there_is_noise() -> None:
    clicked: dict[bool, list[bool]] = {True: [], False: []}
    for number in range(MODEL.searches):
        search = SHOPPERS.search(number)
        shown = candidates(SHOP, search.text, 24)
        found = {act.item_id for act in SHOPPERS.acts(search, shown) if act.kind == "click"}
        for item in shown:
            clicked[SHOPPERS.utility(search, item) > 0].append(item in found)
    assert np.mean(clicked[True]) > 10 * np.mean(clicked[False])
    assert 0 < np.mean(clicked[False]) < MODEL.noise


@pytest.mark.parametrize("seed", range(3))
def test_the_best_order_before_the_drift_is_not_the_best_after_it(seed: int) -> None:
    shoppers = Shoppers(SHOP, MODEL, seed)
    changed = 0
    for query in shoppers.queries:
        early, late = (
            replace(shoppers.search(number), client_id="simulated-000", text=query.text)
            for number in (0, MODEL.searches - 1)
        )
        before = max(IDS, key=lambda item: shoppers.utility(early, item))
        after = max(IDS, key=lambda item: shoppers.utility(late, item))
        changed += before != after
    assert changed >= len(shoppers.queries) / 3


def test_the_drift_is_half_way_and_takes_its_time() -> None:
    half, length = MODEL.searches // 2, MODEL.drift_searches
    drifted = [SHOPPERS.drifted(number) for number in range(MODEL.searches)]
    assert drifted == sorted(drifted)
    assert set(drifted[: half - length // 2]) == {0.0}
    assert drifted[half] == 0.5
    assert set(drifted[half + length // 2 :]) == {1.0}


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 99))
def test_click_probabilities_are_probabilities(one: float, other: float, position: int) -> None:
    less, more = sorted((one, other))
    low, high = (SHOPPERS.click_probability(worth, position) for worth in (less, more))
    assert 0 < SHOPPERS.click_probability(less, position + 1) < low <= high <= 1


def test_unknown_items_are_an_error() -> None:
    with pytest.raises(KeyError):
        SHOPPERS.acts(SHOPPERS.search(0), ["no such thing"])
