import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.identity import normalise
from headrace.tour.quality import ndcg
from headrace.tour.shop import DEPARTMENTS, BadShop, Judged, candidates, load, parse

SHOP = load()
COUNT = 24


def test_there_is_enough_of_everything() -> None:
    kinds = Counter(query.kind for query in SHOP.queries)
    assert len(SHOP.products) >= 120
    assert len(SHOP.queries) >= 40
    assert kinds["misspelled"] >= 8
    assert kinds["ambiguous"] >= 8
    assert Counter(product.department for product in SHOP.products) == dict.fromkeys(DEPARTMENTS, 22)


def test_some_queries_are_held_out_and_each_kind_is_on_both_sides() -> None:
    kinds = Counter((query.held_out, query.kind) for query in SHOP.queries)
    assert sum(query.held_out for query in SHOP.queries) >= 40
    assert len(kinds) == 6


def test_every_query_means_something_that_the_shop_has() -> None:
    for query in SHOP.queries:
        assert len(query.grades) >= 4, query.text
        assert 3 in query.grades.values(), query.text


def test_an_ambiguous_query_has_several_meanings() -> None:
    for query in SHOP.queries:
        meant = {SHOP.product(item).department for item, grade in query.grades.items() if grade >= 2}
        if query.kind == "ambiguous":
            assert len(meant) >= 2, query.text


def test_a_misspelled_query_holds_a_word_that_the_shop_never_writes() -> None:
    written = " ".join(f"{product.title} {product.description}" for product in SHOP.products)
    words = set(normalise(written.replace("'", " ").replace(",", " ").replace(".", " ")).split())
    for query in SHOP.queries:
        if query.kind == "misspelled":
            assert set(query.text.split()) - words, query.text


def test_no_query_is_a_title_and_no_title_is_there_twice() -> None:
    titles = Counter(normalise(product.title) for product in SHOP.products)
    assert max(titles.values()) == 1
    assert not titles.keys() & {normalise(query.text) for query in SHOP.queries}


def test_descriptions_say_more_than_titles() -> None:
    for product in SHOP.products:
        assert product.description.endswith(".")
        assert normalise(product.description) != normalise(product.title)


def test_products_and_queries_are_found() -> None:
    assert SHOP.product("headlamp").title == "Headlamp 400 lumen"
    assert SHOP.query(" JAGUAR  ").grades["plush-jaguar"] == 3
    with pytest.raises(KeyError):
        SHOP.product("no such thing")
    with pytest.raises(KeyError):
        SHOP.query("no such thing")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.integers(0, len(SHOP.products)))
def test_candidates_are_always_so_many_different_products(text: str, count: int) -> None:
    found = candidates(SHOP, text, count)
    assert len(set(found)) == len(found) == count
    assert found == candidates(SHOP, text, count)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(SHOP.queries), st.integers(0, 60), st.integers(0, 60))
def test_fewer_candidates_are_the_first_of_more(query: Judged, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert candidates(SHOP, query.text, few) == candidates(SHOP, query.text, many)[:few]


@pytest.mark.parametrize("count", [-1, len(SHOP.products) + 1])
def test_no_more_candidates_than_products(count: int) -> None:
    with pytest.raises(ValueError, match="candidates of 132 products"):
        candidates(SHOP, "light", count)


def test_a_wrong_letter_is_forgiven() -> None:
    assert candidates(SHOP, "hedlamp", 1) == ("headlamp",)
    assert set(candidates(SHOP, "gardning gloves", 5)) >= {"work-gloves", "oven-gloves"}


def test_candidates_hold_most_of_what_is_judged_and_their_order_is_not_the_best() -> None:
    held, orders = [], []
    for query in SHOP.queries:
        found = candidates(SHOP, query.text, COUNT)
        held.append(len(query.grades.keys() & set(found)) / len(query.grades))
        assert any(query.grades.get(item) == 3 for item in found), query.text
        gains = np.array([float(query.grades.get(item, 0)) for item in found])
        orders.append(ndcg(-np.arange(COUNT, dtype=np.float64), gains))
    print(f"of what is judged {COUNT} candidates hold {np.mean(held):.3f}; nDCG@10 by grade {np.mean(orders):.3f}")
    assert 0.65 <= np.mean(held) < 1
    assert 0.6 <= np.mean(orders) <= 0.9
    assert sum(order < 0.95 for order in orders) >= len(orders) / 2


def small() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    products: list[dict[str, Any]] = [
        {
            "item_id": f"item-{number}",
            "title": f"Thing {number}",
            "description": "A thing for this and that.",
            "department": "kids",
            "attributes": {"brand": "Tumbleby", "colour": "red", "material": "wood", "season": "all year"},
            "price": 5.0,
        }
        for number in range(5)
    ]
    grades = {f"item-{number}": 2 for number in range(4)}
    return products, [{"text": "toy", "kind": "plain", "held_out": True, "grades": grades}]


def test_a_small_shop_is_read() -> None:
    products, queries = small()
    assert len(parse(json.dumps(products).encode(), json.dumps(queries).encode()).products) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda products, _: products[1].update(item_id="item-0"), "product 'item-0' is there twice"),
        (lambda _, queries: queries.append({**queries[0], "text": "TOY"}), "query 'toy' is there twice"),
        (lambda products, _: products[0]["attributes"].pop("brand"), "'item-0' has other attributes"),
        (lambda products, _: products[0]["attributes"].update(season="monsoon"), "'item-0' has other attributes"),
        (lambda products, _: products[0].update(price=0), "> 0.0"),
        (lambda products, _: products[0].update(weight=1), "unknown field `weight`"),
        (lambda _, queries: queries[0]["grades"].update(gone=1), "'toy' judges 'gone', which is no product"),
        (lambda _, queries: queries[0]["grades"].pop("item-0"), "judges 3 products, fewer than 4"),
        (lambda _, queries: queries[0]["grades"].update({"item-0": 4}), "<= 3"),
    ],
)
def test_files_that_contradict_themselves_are_refused(change: Callable[..., object], said: str) -> None:
    products, queries = small()
    change(products, queries)
    with pytest.raises(BadShop, match=said):
        parse(json.dumps(products).encode(), json.dumps(queries).encode())
