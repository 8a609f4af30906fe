"""Scores in memory: what was put is found for that text only, and the bound holds."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.online.pair_scores import NEIGHBOURS_BYTES, PAIR_BYTES, QUERY_BYTES, PairScores
from headrace.streams.score_cache import ITEMS


def test_what_was_put_is_found_with_its_stamp() -> None:
    scores = PairScores(1 << 20)
    scores.put("red", "a", 1, 0.5)
    scores.put("red", "a", 2, 0.25)
    scores.put("red", "b", 3, 0.75)
    assert scores.of("red") == {"a": (2, 0.25, 0), "b": (3, 0.75, 0)}
    assert scores.of("blue") == {}
    assert len(scores) == 2
    scores.clear()
    assert (len(scores), scores.size_bytes, scores.of("red")) == (0, 0, {})


def test_the_query_asked_for_least_recently_leaves_first() -> None:
    scores = PairScores(2 * (QUERY_BYTES + PAIR_BYTES))
    scores.put("red", "a", 1, 0.5)
    scores.put("blue", "a", 1, 0.5)
    scores.of("red")
    scores.put("green", "a", 1, 0.5)
    assert [bool(scores.of(query)) for query in ("red", "blue", "green")] == [True, False, True]
    assert scores.recent(10) == [("green", "a"), ("red", "a")]
    assert scores.recent(1) == [("green", "a")]


def test_a_score_says_which_neighbours_were_read_and_an_item_has_one() -> None:
    pair_bytes = PAIR_BYTES + NEIGHBOURS_BYTES
    scores = PairScores(20 * pair_bytes + QUERY_BYTES, pair_bytes)
    scores.put("red", "0", 1, 0.5, 7)
    for number in range(20):
        scores.put("red", str(number), 1, 0.25, 8)
    assert scores.of("red") == {str(number): (1, 0.25, 8) for number in range(20)}
    assert (len(scores), scores.size_bytes) == (20, scores.limit_bytes)
    scores.put("red", "20", 1, 0.5)
    assert (len(scores), scores.size_bytes) == (0, 0)  # the query leaves as a whole


def test_of_one_query_only_the_newest_items_are_kept() -> None:
    scores = PairScores(1 << 30)
    for number in range(ITEMS + 5):
        scores.put("red", str(number), 1, 0.5)
    assert len(scores) == len(scores.of("red")) == ITEMS
    assert "4" not in scores.of("red") and str(ITEMS + 4) in scores.of("red")


def test_a_query_is_told_of_once_and_then_each_new_score() -> None:
    scores = PairScores(1 << 20)
    scores.put("red", "a", 1, 0.5)
    assert not scores.shared("red") and not scores.shared("never")
    assert scores.take_unshared("red") == {"a": (1, 0.5, 0)}
    assert scores.shared("red")
    assert scores.take_unshared("red") == scores.take_unshared("never") == {}
    scores.clear()
    assert not scores.shared("red")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), max_size=60), st.integers(0, 9))
def test_the_bound_holds_whatever_is_put(puts: list[tuple[str, str]], most: int) -> None:
    scores = PairScores(most * PAIR_BYTES)
    for query, item in puts:
        scores.put(query, item, 1, 0.5)
        kept = {query: len(scores.of(query)) for query in "abcdef" if scores.of(query)}
        assert scores.size_bytes == len(kept) * QUERY_BYTES + sum(kept.values()) * PAIR_BYTES <= scores.limit_bytes
        assert len(scores) == sum(kept.values())
