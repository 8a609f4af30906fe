import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.vocabulary import cut, domain_words, extended, extended_table
from headrace.models.wordpiece import wordpiece

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *("the", "water", "red", "##proof", "##room", "shoe", "blue"),
)
VOCABULARY = "".join(f"{word}\n" for word in WORDS).encode()
TABLE = np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float32)
TEXTS = st.lists(st.text(alphabet="abwteroprfdshl ", max_size=30), max_size=5)


def pieces(vocabulary: bytes, text: str) -> list[str]:
    tokens: list[str] = wordpiece(vocabulary, 64).encode(text).tokens
    return tokens[1:-1]


def test_words_of_several_pieces_come_the_most_valuable_first() -> None:
    titles = [f"Waterproof shoe number {at}" for at in range(3)] + ["red waterproof", "xyz xyz red", "the xyz shoe"]
    found = domain_words(titles, VOCABULARY, least_titles=2)
    # number: 5 pieces saved in 3 titles; xyz: 2 pieces, 3 times; waterproof: 1 piece, 4 times.
    assert found == ["number", "xyz", "waterproof"]
    assert domain_words(titles, VOCABULARY, least_titles=4) == ["waterproof"]
    assert domain_words(titles, VOCABULARY, least_titles=2, most=1) == ["number"]


def test_a_title_that_comes_again_counts_once_and_equals_go_by_the_alphabet() -> None:
    titles = ["zz aa", "aa zz red", *["bb red"] * 50]
    assert domain_words(titles, VOCABULARY, least_titles=2) == ["aa", "zz"]
    assert domain_words(reversed(titles), VOCABULARY, least_titles=2) == ["aa", "zz"]


def test_new_words_stand_at_the_end_and_stay_whole() -> None:
    longer = extended(VOCABULARY, ["waterproof", "xyz"])
    assert longer.startswith(VOCABULARY)
    assert longer.decode().splitlines()[len(WORDS) :] == ["waterproof", "xyz"]
    assert pieces(VOCABULARY, "Waterproof red") == ["water", "##proof", "red"]
    assert pieces(longer, "Waterproof red") == ["waterproof", "red"]
    assert extended(VOCABULARY.removesuffix(b"\n"), ["xyz"]) == extended(VOCABULARY, ["xyz"])


@pytest.mark.parametrize("words", [["water"], ["xyz", "xyz"], [""], ["two words"], ["line\n"]])
def test_what_cannot_be_a_new_word_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="cannot be put into the vocabulary"):
        extended(VOCABULARY, words)


def test_a_new_vector_is_the_mean_of_its_old_pieces() -> None:
    longer = extended_table(TABLE, VOCABULARY, ["waterproof", "xyz"])
    assert longer.dtype == np.float32
    np.testing.assert_array_equal(longer[: len(WORDS)], TABLE)
    own = TABLE[[WORDS.index("water"), WORDS.index("##proof")]]
    np.testing.assert_allclose(longer[len(WORDS)], own.mean(axis=0), rtol=1e-6)
    assert extended_table(TABLE, VOCABULARY, []).shape == TABLE.shape
    with pytest.raises(ValueError, match="does not belong to a vocabulary of"):
        extended_table(TABLE[1:], VOCABULARY, ["xyz"])


@given(texts=TEXTS)
def test_what_a_vocabulary_was_cut_to_is_read_as_before(texts: list[str]) -> None:
    shorter = cut(VOCABULARY, TABLE, texts, common=1)
    words = shorter.vocabulary.decode().splitlines()
    assert words == [WORDS[at] for at in shorter.kept]
    np.testing.assert_array_equal(shorter.table, TABLE[shorter.kept])
    before, after = wordpiece(VOCABULARY, 64), wordpiece(shorter.vocabulary, 64)
    for text in texts:
        row = after.encode(text)
        assert [int(shorter.kept[at]) for at in row.ids] == before.encode(text).ids


def test_a_cut_keeps_the_ends_single_characters_and_the_most_common_words() -> None:
    shorter = cut(VOCABULARY, TABLE, ["red shoe"], common=2)
    words = shorter.vocabulary.decode().splitlines()
    assert words[:5] == list(WORDS[:5])
    assert words[5 : 5 + 2 * len(LETTERS)] == list(WORDS[5 : 5 + 2 * len(LETTERS)])
    assert words[5 + 2 * len(LETTERS) :] == ["the", "water", "red", "shoe"]
    assert "[UNK]" not in pieces(shorter.vocabulary, "a text that nobody foresaw")
    with pytest.raises(ValueError, match="does not belong to a vocabulary of"):
        cut(VOCABULARY, TABLE[1:], [])
