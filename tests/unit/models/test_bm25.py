"""BM25 over postings against the formula, written out."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.bm25 import Bm25, words

TEXTS = st.lists(st.sampled_from(["red", "wool", "sock", "pan", "22", "Pan"]), max_size=6).map(" ".join)


def written_out(titles: list[str], query: str, k1: float, b: float) -> list[float]:
    held = [words(title) for title in titles]
    mean = sum(map(len, held)) / len(held)
    found = []
    for title in held:
        counts, score = Counter(title), 0.0
        for word in words(query):
            having = sum(word in other for other in held)
            rarity = math.log(1 + (len(held) - having + 0.5) / (having + 0.5))
            times = counts[word]
            score += rarity * times * (k1 + 1) / (times + k1 * (1 - b + b * len(title) / mean)) if times else 0.0
        found.append(score)
    return found


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS, st.floats(0.1, 3), st.floats(0, 1))
def test_postings_give_the_scores_of_the_formula(titles: list[str], query: str, k1: float, b: float) -> None:
    assert Bm25(titles, k1, b).scores(query) == pytest.approx(written_out(titles, query, k1, b), rel=1e-5)


@given(st.lists(TEXTS, min_size=1, max_size=8), TEXTS, st.integers(1, 9))
def test_the_best_are_those_with_the_largest_scores_and_have_a_word_of_the_query(
    titles: list[str], query: str, most: int
) -> None:
    bm25 = Bm25(titles)
    scores, found = bm25.scores(query), bm25.best(query, most).tolist()
    assert len(found) == min(most, int((scores > 0).sum()))
    assert np.allclose(scores[found], np.sort(scores)[::-1][: len(found)])
    assert all(set(words(titles[place])) & set(words(query)) for place in found)


def test_words_differ_neither_by_case_nor_by_width_nor_by_punctuation() -> None:
    assert words('1/2 in. "Straße" №5') == words("1 2 IN STRASSE no5") == ["1", "2", "in", "strasse", "no5"]


def test_the_head_is_the_last_word_that_some_title_has() -> None:
    bm25 = Bm25(["wool socks", "frying pan"])
    assert [bm25.head_of(query) for query in ("socks wool", "red wool xyzzy", "xyzzy", "")] == ["wool", "wool", "", ""]
    assert bm25.having("pan").tolist() == [1]
    assert bm25.having("xyzzy").tolist() == []


def test_an_empty_catalogue_and_titles_without_words_have_nothing_to_give() -> None:
    assert Bm25([]).best("socks", 5).tolist() == []
    assert Bm25(["!", "?"]).best("socks", 5).tolist() == []
