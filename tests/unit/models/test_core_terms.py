import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.core_terms import BYTES, KINDS, PHRASES, CoreTerms, of_json
from headrace.models.pair_rows import pair_rows
from headrace.models.wordpiece import wordpiece

TERMS = CoreTerms(
    brands=frozenset({"acme", "tripp lite", "intel", "3m"}),
    subjects=frozenset({"cable", "patch cable", "headset", "headphones", "faucet", "door", "tape", "notebook"}),
    attributes=frozenset({"black", "silver", "rj45", "usb", "cat 5e", "snagless", "steel"}),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789()/.,-"
VOCABULARY = "\n".join(
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "black", "cab", "##le", "ac"]
).encode()
TEXTS = st.text(alphabet="ac b4m(),./-\t ü中\u200b", max_size=60) | st.text(max_size=40)


def told(text: str, brand: str = "") -> str:
    """A letter for each word: subject, brand, attribute, number, "-" for anything else."""
    return "".join("-sban"[kind] for kind in TERMS.kinds(text.split(), brand))


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Tripp Lite Snagless Patch Cable (RJ45 M/M) - Black, 7 ft.", "bbassa--ann"),
        ("acme usb cable 6ft", "basn"),
        ("Cat 5e Patch Cable", "aass"),
        ("Acme headphones/headset Black,Silver", "bsa"),
        ("Cable for Acme Notebook", "s-b-"),
        ("Acme Notebook with Intel Door", "bs-ba"),
        ("Acme Tub Faucet in Brushed Nickel (Valve Included)", "b-s-aaaa"),
        ("Acme Rigid Connector with Screws", "b-s-a"),
        ("Acme Notebook Self-Propelled", "bsa"),
        ("3M tape 3m", "bsn"),
        ("blue whirligigs", "as"),
        ("Acme TK-875C Original", "b-s"),
        ("Acme Laserstar 4250", "b--"),
        ("", ""),
    ],
)
def test_words_get_their_kinds(text: str, kinds: str) -> None:
    blue = CoreTerms(TERMS.brands, TERMS.subjects, TERMS.attributes | {"blue"})
    assert "".join("-sban"[kind] for kind in blue.kinds(text.split())) == kinds


def test_a_query_is_read_as_a_title_is() -> None:
    assert told("TRIPP LITE PATCH CABLE") == told("tripp lite patch cable") == "bbss"


def test_a_brand_that_the_catalogue_names_is_found_without_a_list() -> None:
    assert told("Zorro Patch Cable") == "-ss"
    assert told("Zorro Patch Cable", "ZORRO") == "bss"
    assert told("Black Gate Cable", "Black Gate") == "bbs"
    assert told("Cable", "Black Gate") == told("Cable", " ") == "s"


def test_every_piece_of_a_word_has_the_kind_of_the_word() -> None:
    found = pair_rows(wordpiece(VOCABULARY, 64), ["black cable"], ["Acme (black) cable, 7ft."], TERMS)
    tokens = wordpiece(VOCABULARY, 64).encode("black cable", "Acme (black) cable, 7ft.").tokens
    assert [token for token, kind in zip(tokens, found.kinds[0], strict=True) if KINDS[kind] == "brand"] == [
        *("ac", "##m", "##e"),
    ]
    assert [token for token, kind in zip(tokens, found.kinds[0], strict=True) if KINDS[kind] == "subject"] == [
        *("cab", "##le"),
        *("cab", "##le", ","),
    ]
    assert found.kinds[0][0] == found.kinds[0][-1] == 0


@given(text=TEXTS, most=st.integers(3, 20))
def test_pieces_follow_the_words_they_stand_in(text: str, most: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    row = wordpiece(VOCABULARY, most).encode(text)
    spans = row.offsets[1:-1]
    kinds = TERMS.token_kinds(text, spans)
    by_word = TERMS.kinds(text.split())
    assert len(kinds) == len(spans)
    for (begin, end), kind in zip(spans, kinds, strict=True):
        if end > begin:
            assert kind == by_word[len((text[:begin] + "x").split()) - 1]


def test_a_text_that_comes_again_and_a_long_one_are_read_alike() -> None:
    row = wordpiece(VOCABULARY, 4096)
    for text in ("acme usb cable", "acme usb cable " * 100):
        spans = row.encode(text).offsets[1:-1]
        first = TERMS.token_kinds(text, spans)
        assert TERMS.token_kinds(text, spans) == first
        assert first[:2] == [2, 2]
        assert TERMS.token_kinds(text, spans, "usb") != first


@given(text=st.text(max_size=300), brand=st.text(max_size=20))
def test_any_text_has_one_kind_a_word(text: str, brand: str) -> None:
    words = text.split()
    kinds = TERMS.kinds(words, brand)
    assert len(kinds) == len(words)
    assert set(kinds) <= set(range(len(KINDS)))


def test_a_long_text_does_not_take_long() -> None:
    began_s = time.perf_counter()
    TERMS.kinds(["patch", "in", "for", "with", "1", "x", "tripp", "("] * 500)
    assert time.perf_counter() - began_s < 2


def test_what_was_written_is_read_again() -> None:
    content = TERMS.to_json()
    assert of_json(content) == TERMS
    assert of_json(content).to_json() == content
    assert of_json(CoreTerms(frozenset(), frozenset(), frozenset()).to_json()).kinds(["x"]) == [0]


def lists(**changes: object) -> bytes:
    return msgspec.json.encode({"brands": [], "subjects": [], "attributes": []} | changes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"brands": []}', "cannot be read.*subjects"),
        (lists(brands=[1]), "cannot be read"),
        (lists(more=[]), "cannot be read"),
        (b"[" * BYTES, "cannot be read"),
        (b" " * (BYTES + 1), "262145 bytes: 262144 are allowed"),
        (lists(subjects=["x"] * (PHRASES + 1)), "4097 subjects: 4096 are allowed"),
        (lists(brands=["Acme"]), "'Acme' among their brands"),
        (lists(brands=[""]), "'' among their brands"),
        (lists(attributes=["a  b"]), "'a  b' among their attributes"),
        (lists(attributes=[" a"]), "' a' among their attributes"),
        (lists(attributes=["a b c d e f"]), "'a b c d e f' among"),
        (lists(attributes=["x" * 65]), "among their attributes"),
    ],
)
def test_a_file_that_is_no_recogniser_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        of_json(content)


def test_lists_above_their_bound_are_not_written() -> None:
    many = frozenset(f"a{number}" for number in range(PHRASES + 1))
    with pytest.raises(ValueError, match="4097 brands"):
        CoreTerms(many, frozenset(), frozenset()).to_json()
