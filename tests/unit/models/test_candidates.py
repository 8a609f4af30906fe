"""Candidates: who proposed them, what is left out, and that chance is the caller's."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.bm25 import words
from headrace.models.candidates import (
    FEWEST,
    MOST,
    NEAR_DUPLICATE,
    Floats,
    Mix,
    Proposer,
    distinct,
    nearest,
    overlap,
    sample_queries,
    without_spread,
)

KINDS = ("socks", "pan", "lamp", "hammer", "rug")
QUERIES = [f"{colour} {kind}" for kind in KINDS for colour in ("red", "blue", "green")]


def shop(size: int = 400, seed: int = 3) -> list[str]:
    random = np.random.default_rng(seed)
    makes = [f"make{number}" for number in range(40)]
    colours = ("red", "blue", "green", "grey")
    return [
        f"{random.choice(makes)} {random.choice(colours)} {random.choice(KINDS)} {number}" for number in range(size)
    ]


def unit(rows: int, seed: int, dimensions: int = 16) -> Floats:
    found = np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


TITLES = shop()
TITLE_VECTORS, QUERY_VECTORS = unit(len(TITLES), 1), unit(len(QUERIES), 2)


def test_every_retriever_gives_its_share_and_says_so() -> None:
    mix = Mix()
    proposer = Proposer(TITLES, TITLE_VECTORS, mix)
    for query, found in zip(QUERIES, proposer.propose(QUERIES, QUERY_VECTORS, np.random.default_rng(0)), strict=True):
        assert len(set(found.places)) == len(found.places) == mix.total
        assert Counter(found.origins) == {
            "bm25": 6, "vectors": 6, "bm25-middle": 2, "vectors-middle": 3, "same-head": 4, "random": 3
        }  # fmt: skip
        head = query.split()[-1]
        for place, origin in zip(found.places, found.origins, strict=True):
            assert origin != "same-head" or head in words(TITLES[place])
            assert origin != "bm25" or set(words(query)) <= set(words(TITLES[place]))


def test_the_best_by_meaning_are_the_nearest_of_those_that_words_did_not_find() -> None:
    found = next(Proposer(TITLES, TITLE_VECTORS).propose(QUERIES, QUERY_VECTORS, np.random.default_rng(0)))
    by_words = {place for place, origin in zip(found.places, found.origins, strict=True) if origin == "bm25"}
    order = [int(place) for place in np.argsort(-(TITLE_VECTORS @ QUERY_VECTORS[0])) if int(place) not in by_words]
    assert [place for place, origin in zip(found.places, found.origins, strict=True) if origin == "vectors"] == order[
        :6
    ]


def test_the_same_seed_proposes_the_same_and_another_one_others() -> None:
    proposer = Proposer(TITLES, TITLE_VECTORS)

    def proposed(seed: int) -> list[tuple[int, ...]]:
        return [one.places for one in proposer.propose(QUERIES, QUERY_VECTORS, np.random.default_rng(seed))]

    assert proposed(7) == proposed(7) != proposed(8)


@given(st.integers(FEWEST, MOST), st.integers(0, 2**32), st.booleans())
def test_a_catalogue_that_is_large_enough_fills_every_list_whatever_the_retrievers_find(
    total: int, seed: int, with_vectors: bool
) -> None:
    mix = Mix.of(total)
    assert mix.total == total
    proposer = Proposer(TITLES, TITLE_VECTORS if with_vectors else None, mix)
    queries = ["nothing known here", "lamp", "red socks", ""]
    vectors = unit(len(queries), 5) if with_vectors else None
    for found in proposer.propose(queries, vectors, np.random.default_rng(seed)):
        assert len(set(found.places)) == total == len(found.origins)
        assert all(0 <= place < len(TITLES) for place in found.places)


def test_a_small_catalogue_gives_what_it_has_each_once() -> None:
    found = next(Proposer(TITLES[:5]).propose(["red socks"], None, np.random.default_rng(0)))
    assert sorted(found.places) == [0, 1, 2, 3, 4]


def test_a_variant_of_a_candidate_is_no_candidate() -> None:
    vectors = np.repeat(unit(len(TITLES) // 4, 1), 4, axis=0)
    assert float(vectors[0] @ vectors[1]) > NEAR_DUPLICATE
    for found in Proposer(TITLES, vectors).propose(QUERIES, QUERY_VECTORS, np.random.default_rng(0)):
        assert len({place // 4 for place in found.places}) == len(found.places)


def test_texts_that_differ_in_case_spaces_and_punctuation_are_one() -> None:
    assert distinct(["Red Socks", "red  socks!", "socks red", "?!", "", "RED socks"]) == [0, 2]


def test_agreement_is_the_share_of_both_lists_among_those_of_either() -> None:
    assert overlap(np.arange(10), np.arange(10)) == 1.0
    assert overlap(np.arange(10), np.arange(5, 15)) == pytest.approx(5 / 15)
    assert overlap(np.arange(10), np.arange(0)) == 0.0
    proposed = Proposer(TITLES, TITLE_VECTORS).propose(QUERIES, QUERY_VECTORS, np.random.default_rng(0))
    assert np.mean([found.agreement for found in proposed]) < 0.1  # these vectors know nothing of words


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 7), st.integers(0, 2**32))
def test_the_nearest_are_exact_however_queries_are_cut(items: int, most: int, block: int, seed: int) -> None:
    vectors, queries = unit(items, seed), unit(9, seed + 1)
    whole = [found.tolist() for found in nearest(queries, vectors, most)]
    scores = queries @ vectors.T
    for row, (found, cut) in enumerate(zip(whole, nearest(queries, vectors, most, block), strict=True)):
        assert len(found) == min(most, items) == len(set(cut.tolist()))
        wanted = np.sort(scores[row])[::-1][: len(found)]
        assert scores[row][found] == pytest.approx(wanted, abs=1e-6)
        assert scores[row][cut] == pytest.approx(wanted, abs=1e-6)


def test_the_tail_is_drawn_more_often_than_its_share_of_the_traffic() -> None:
    frequencies = np.array([1.0] * 100 + [10_000.0] * 100)
    drawn = [sample_queries(frequencies, 20, np.random.default_rng(seed)) for seed in range(200)]
    assert all(len(set(places.tolist())) == 20 for places in drawn)
    tail = np.mean([np.mean(places < 100) for places in drawn])
    assert 0.95 < tail < 0.999  # weights 1 and 1/100; by traffic it would be .0001, evenly .5
    assert sample_queries(frequencies, 500, np.random.default_rng(0)).tolist() == list(range(200))


def test_queries_whose_labels_hardly_differ_teach_nothing() -> None:
    queries = ["a", "b", "a", "b", "c"]
    probabilities = np.array([0.10, 0.50, 0.14, 0.56, 0.9])
    assert without_spread(queries, probabilities).tolist() == [True, False, True, False, True]
    assert without_spread(queries, probabilities, 0.03).tolist() == [False, False, False, False, True]
    assert without_spread([], np.empty(0)).tolist() == []


@pytest.mark.parametrize("mix", [{"bm25": 0, "vectors": 0, "middle": 0}, {"random": 60}, {"random": -1}])
def test_a_mix_is_bounded(mix: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="candidates a query|negative"):
        Mix(**mix)


def test_vectors_on_one_side_only_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="both have vectors"):
        next(Proposer(TITLES).propose(QUERIES, QUERY_VECTORS, np.random.default_rng(0)))
