"""Which neighbours a student is told of: those of the state's own rule, five a side, as texts, and a hash of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.features import EDGE, ITEM_EDGE
from headrace.models.pair_rows import PairNeighbours, told
from headrace.models.prompts import Pair
from headrace.online.found import Found
from headrace.online.pair_neighbours import Near, Told, near_of, told_of
from headrace.streams import neighbours
from headrace.streams.identity import hash64
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.score_cache import neighbours_hash

DAY = 20_000
RULE = NeighbourRule()
SMALL = NeighbourRule(min_exposures=3, limit=3)
ITEMS = "abcdefgh"

Days = Mapping[str, Sequence[tuple[int, int]]]
"""Name -> (exposures, clicks) of each day."""
DAYS = st.lists(st.integers(0, 3).flatmap(lambda shown: st.tuples(st.just(shown), st.integers(0, shown))), min_size=1)
EDGES = st.dictionaries(st.sampled_from(ITEMS), DAYS.map(lambda days: days[:4]), max_size=8)


def found_of(query: Days, items: Sequence[Days] = ()) -> Found:
    """What a request finds: the query's edges, and those of each item by the names of queries."""
    query_rows = [(hash64(item), DAY - at, *one) for item, days in query.items() for at, one in enumerate(days)]
    item_rows = [
        (owner, hash64(name), DAY - at, *one)
        for owner, edges in enumerate(items)
        for name, days in edges.items()
        for at, one in enumerate(days)
    ]
    return Found(
        query_edges=np.array(query_rows, dtype=EDGE),
        item_edges=np.array(item_rows, dtype=ITEM_EDGE),
        query_items={hash64(item): item for item in query},
    )


def test_the_strongest_that_pass_the_rule_are_near() -> None:
    query = {"a": [(100, 20)], "b": [(99, 99)], "c": [(60, 30), (60, 30)], "d": [(1_000, 199)], "e": [(100, 90)]}
    found = found_of(query, [{"shoe": [(500, 400)]}, {}, {"boot": [(200, 50)], "hat": [(200, 100)]}])
    near = near_of(found, 3, RULE)
    assert near == Near(("e", "c", "a"), ((hash64("shoe"),), (), (hash64("hat"), hash64("boot"))))
    assert near.queries() == {hash64("shoe"), hash64("hat"), hash64("boot")}


def test_five_of_a_side_are_near_and_without_edges_nothing_is() -> None:
    many: Days = {name: [(200, 100 + number)] for number, name in enumerate(ITEMS)}
    near = near_of(found_of(many, [many]), 1, NeighbourRule(limit=50))
    assert near.query == ("h", "g", "f", "e", "d")
    assert near.items == (tuple(map(hash64, "hgfed")),)
    assert near_of(Found(), 2, RULE) == Near((), ((), ()))


@given(query=EDGES, items=st.lists(EDGES, max_size=4))
def test_the_rule_is_that_of_the_state(query: Days, items: list[Days]) -> None:
    def ranked(edges: Days) -> list[str]:
        rows = [(name, [(DAY - at, *one) for at, one in enumerate(days)]) for name, days in edges.items()]
        return [one.name for one in neighbours.neighbours(rows, DAY, SMALL)]

    def by_hash(edges: Days) -> list[int]:  # ties of an item's queries go by hash: their texts are not known yet
        names = {f"{hash64(name):016x}": days for name, days in edges.items()}
        return [int(name, 16) for name in ranked(names)]

    near = near_of(found_of(query, items), len(items), SMALL)
    assert list(near.query) == ranked(query)
    assert [list(names) for names in near.items] == [by_hash(edges) for edges in items]


NEAR = Near(("i", "j"), ((1, 2), (), (2,), (3,)))


def test_each_item_has_the_texts_that_are_near_it_in_their_order_and_a_hash() -> None:
    said = told_of(NEAR, ["red shoe", "boot"], {1: "shoe", 2: "shoes"})
    query = (("boot", 1.0), ("red shoe", 1.0))
    assert [one.neighbours for one in said] == [
        PairNeighbours(query, (("shoe", 1.0), ("shoes", 1.0))),
        PairNeighbours(query),
        PairNeighbours(query, (("shoes", 1.0),)),
        PairNeighbours(query),
    ]
    assert said[0].hash == neighbours_hash(["boot", "red shoe"], ["shoe", "shoes"])
    assert said[1] == said[3] and len({one.hash for one in said}) == 3


def test_neighbours_that_change_places_are_the_same() -> None:
    changed = Near(NEAR.query[::-1], tuple(names[::-1] for names in NEAR.items))
    texts = {1: "shoe", 2: "shoes"}
    assert told_of(changed, ["boot", "red shoe"], texts)[:3] == told_of(NEAR, ["red shoe", "boot"], texts)[:3]


def test_what_has_no_text_is_left_out_and_the_hash_says_so() -> None:
    said = told_of(NEAR, [None, "boot"], {2: "shoes"})
    assert said[0].neighbours == PairNeighbours((("boot", 1.0),), (("shoes", 1.0),))
    assert said[0].hash == neighbours_hash(["boot"], ["shoes"])
    assert told_of(NEAR, [None, None], {}) == [Told(None, 0)] * 4


@pytest.mark.parametrize("query", [(), ("red shoe",), ("red shoe", "boot")])
@pytest.mark.parametrize("item", [(), ("shoe",)])
def test_a_student_is_told_as_it_was_taught(query: tuple[str, ...], item: tuple[str, ...]) -> None:
    """Law 5: the same texts in training and in serving make the same input."""
    near = Near(query, (tuple(range(1, len(item) + 1)),))
    [served] = told_of(near, query, dict(enumerate(item, start=1)))
    assert served.neighbours == told(Pair("q", "t", query_neighbours=query, item_neighbours=item))


@given(edges=EDGES, asked=st.lists(st.sampled_from(ITEMS + "xyz"), max_size=6))
def test_a_query_is_cut_to_the_items_asked_for(edges: Days, asked: list[str]) -> None:
    found = found_of(edges)
    wanted = [row for row in found.query_edges.tolist() if row[0] in set(map(hash64, asked))]
    assert found.listed(asked).query_edges.tolist() == wanted
