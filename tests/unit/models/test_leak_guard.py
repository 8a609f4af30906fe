import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.leak_guard import OPEN, Guard, guarded
from headrace.models.prompts import Pair

TEXTS = st.sampled_from(["red shoe", "Red  Shoe", "shoes", "mouse", ""])
PAIRS = st.builds(Pair, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS).map(tuple), st.lists(TEXTS).map(tuple))
SOME = Pair("shoes", "red shoe", "of leather", "shoe", ("boots", "Red  Shoe"), ("SHOES", "sandals"))


def test_the_pairs_own_edge_goes_from_both_sides_whatever_its_case_and_spaces() -> None:
    torn = guarded(SOME, np.random.default_rng(0), Guard(1.0, 0.0))
    assert (torn.query_neighbours, torn.item_neighbours) == (("boots",), ("sandals",))
    assert torn.alone() == SOME.alone()


def test_shares_of_the_pairs_lose_their_own_edge_or_all() -> None:
    random = np.random.default_rng(0)
    found = [guarded(SOME, random, Guard(0.5, 0.3)) for _ in range(2_000)]
    bare = sum(one == SOME.alone() for one in found)
    whole = sum(one == SOME for one in found)
    assert 0.25 < bare / 2_000 < 0.35
    assert 0.30 < whole / 2_000 < 0.40


@given(pairs=st.lists(PAIRS, min_size=1), places=st.sets(st.integers(0, 50)))
def test_what_a_pair_keeps_does_not_depend_on_what_stands_in_the_others(pairs: list[Pair], places: set[int]) -> None:
    others = [pair.alone() if place in places else pair for place, pair in enumerate(pairs)]
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    found = [(guarded(pair, one, Guard()), guarded(it, other, Guard())) for pair, it in zip(pairs, others, strict=True)]
    for place, (ours, theirs) in enumerate(found):
        assert theirs == (ours.alone() if place in places else ours)
    assert [guarded(pair, one, OPEN) for pair in pairs] == pairs


def test_a_query_as_it_was_typed_is_known_again_among_queries_as_they_are_counted() -> None:
    """Queries that led to an item come from the state, normalised; the pair's own query does not."""
    typed = Pair("ＲＥＤ  shoe №1", "Shoe", query_neighbours=("boot",), item_neighbours=("red shoe no1", "boots"))
    torn = guarded(typed, np.random.default_rng(0), Guard(1.0, 0.0))
    assert torn.item_neighbours == ("boots",)
