import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.core_terms import BRAND, NUMBER, SUBJECT, CoreTerms
from headrace.models.pair_rows import (
    NEIGHBOUR_TOKENS,
    PairConfig,
    PairNeighbours,
    PairRows,
    neighbour_arrays,
    pair_rows,
    probabilities,
    tokenizer_of,
    told,
    written,
)
from headrace.models.prompts import NEIGHBOURS, Pair
from tiny_pairs import VOCABULARY, tiny_config
from tiny_student import SHAPE, WORDS

TOKENIZER = tokenizer_of(VOCABULARY, tiny_config())
PLACE = {word: number for number, word in enumerate(WORDS)}
TEXTS = st.tuples(st.text(max_size=30), st.floats(-1, 1))


def ids(*words: str) -> tuple[int, ...]:
    return tuple(PLACE[word] for word in words)


def test_a_pair_is_query_and_title_between_their_ends() -> None:
    rows = pair_rows(TOKENIZER, ["Red shoes", ""], ["mouse", ""])
    assert rows.ids[0] == ids("[CLS]", "red", "shoe", "##s", "[SEP]", "mouse", "[SEP]")
    assert rows.ids[1] == ids("[CLS]", "[SEP]", "[SEP]")
    assert rows.firsts == (5, 2)
    assert rows.kinds == ()
    assert rows.lengths().tolist() == [7, 3]


def test_the_longer_text_is_cut_first() -> None:
    rows = pair_rows(TOKENIZER, ["a b c"], [" ".join("d" * 100)])
    assert len(rows.ids[0]) == SHAPE.max_tokens
    assert rows.ids[0][:5] == ids("[CLS]", "a", "b", "c", "[SEP]")
    assert rows.firsts == (5,)


def test_texts_of_unlike_number_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        pair_rows(TOKENIZER, ["a"], [])


def test_padding_is_behind_the_row_and_of_type_zero() -> None:
    rows = PairRows(((2, 5, 3, 6, 3), (2, 3, 3)), (3, 2), ((0, 1, 0, 4, 0), (0, 0, 0)))
    arrays = rows.arrays([1, 0], 6)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "input_ids": [[2, 3, 3, 0, 0, 0], [2, 5, 3, 6, 3, 0]],
        "attention_mask": [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]],
        "token_type_ids": [[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]],
        "core_ids": [[0, 0, 0, 0, 0, 0], [0, 1, 0, 4, 0, 0]],
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}
    assert rows.arrays([1])["input_ids"].shape == (1, 3)
    assert rows.arrays([])["input_ids"].shape == (0, 0)


def test_kinds_stand_with_the_pieces_of_the_words_they_were_said_of() -> None:
    terms = CoreTerms(frozenset({"red"}), frozenset({"shoes"}), frozenset())
    rows = pair_rows(TOKENIZER, ["red SHOES", ""], ["a rÉd b", "mouse 5 m"], terms)
    assert rows.ids == pair_rows(TOKENIZER, ["red SHOES", ""], ["a rÉd b", "mouse 5 m"]).ids
    assert rows.kinds[0][:5] == (0, BRAND, SUBJECT, SUBJECT, 0)
    assert rows.kinds[1] == (0, 0, SUBJECT, NUMBER, NUMBER, 0)
    long = pair_rows(TOKENIZER, ["shoes"], ["5 m " * 100], terms)
    assert long.kinds == ((0, SUBJECT, SUBJECT, 0, *[NUMBER] * (SHAPE.max_tokens - 5), 0),)


def test_neighbours_weigh_what_they_were_given_and_share_it_among_their_pieces() -> None:
    told = PairNeighbours((("shoes", 0.3), ("red", 0.1)), (("mouse", 0.7),), 9)
    arrays = neighbour_arrays(TOKENIZER, [told, None])
    assert arrays["query_neighbour_ids"].tolist() == [list(ids("shoe", "##s", "red")), [0, 0, 0]]
    np.testing.assert_allclose(arrays["query_neighbour_weights"], [[0.375, 0.375, 0.25], [0.0, 0.0, 0.0]], atol=1e-6)
    assert arrays["item_neighbour_ids"].tolist() == [[PLACE["mouse"]], [0]]
    assert arrays["item_neighbour_weights"].tolist() == [[1], [0]]
    np.testing.assert_allclose(arrays["neighbour_counts"], [[float(np.log(10)), 2.0, 1.0], [0.0, 0.0, 0.0]], rtol=1e-6)


def test_no_more_neighbours_are_read_than_the_bounds_say() -> None:
    many = tuple((" ".join("a" * 100), 1.0) for _ in range(9))
    tokenizer = tokenizer_of(VOCABULARY, msgspec.structs.replace(tiny_config(), max_tokens=64))
    arrays = neighbour_arrays(tokenizer, [PairNeighbours(many)])
    assert arrays["query_neighbour_ids"].shape == (1, NEIGHBOURS * NEIGHBOUR_TOKENS)
    assert arrays["neighbour_counts"][0, 1] == NEIGHBOURS


def test_neighbours_that_a_pair_names_count_alike_and_a_pair_that_names_none_is_told_nothing() -> None:
    pair = Pair("shoes", "red shoe", "of leather", "shoe", ("boots", "red"), ("sandals",))
    assert told(pair) == PairNeighbours((("boots", 1.0), ("red", 1.0)), (("sandals", 1.0),))
    assert told(pair.alone()) is None


@given(
    st.lists(st.builds(PairNeighbours, st.lists(TEXTS, max_size=7).map(tuple), st.lists(TEXTS, max_size=7).map(tuple)))
)
def test_the_weights_of_a_side_sum_to_one_or_there_is_no_neighbour(pairs: list[PairNeighbours]) -> None:
    arrays = neighbour_arrays(TOKENIZER, pairs)
    for column, side in enumerate(("query", "item"), start=1):
        weights = arrays[f"{side}_neighbour_weights"]
        assert (weights >= 0).all()
        assert arrays[f"{side}_neighbour_ids"].shape == weights.shape
        there = arrays["neighbour_counts"][:, column] > 0
        np.testing.assert_allclose(weights.sum(axis=1), there.astype(float), atol=1e-5)


def test_probabilities_are_calibrated_and_never_overflow() -> None:
    found = probabilities(tiny_config(), np.array([-1e4, 0, 1, 1e4], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0, 1 / (1 + np.exp(0.5)), 1 / (1 + np.exp(-0.75)), 1], atol=1e-7)


def test_the_config_is_read_as_it_was_written_and_remarks_never_overrule_it() -> None:
    config = tiny_config(core_terms=True, neighbours=True)
    content = written(config, {"source": "a test", "layers": 99})
    assert msgspec.json.decode(content, type=PairConfig) == config
    assert msgspec.json.decode(content)["source"] == "a test"


def test_what_a_graph_reads_follows_from_the_config() -> None:
    assert tiny_config().inputs() == ("input_ids", "attention_mask", "token_type_ids")
    extras = tiny_config(core_terms=True, neighbours=True)
    rows = PairRows(((2, 3, 3),), (2,), ((0, 0, 0),))
    assert set(extras.inputs()) == {*rows.arrays([0]), *neighbour_arrays(TOKENIZER, [None])}


def test_a_served_batch_is_padded_to_whole_vectors_and_never_beyond_the_most_tokens() -> None:
    rows = PairRows(tuple((1,) * size for size in (3, 8, 9, 30)), (1, 1, 1, 1))
    assert [rows.width([place], 64) for place in range(4)] == [8, 8, 16, 32]
    assert rows.width([0, 2], 64) == 16
    assert rows.width([3], 30) == 30
