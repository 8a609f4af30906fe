"""How keys are spelled, and that nobody can spell one that belongs to somebody else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.identity import day_of, hash64, normalise, query_hash
from headrace.streams.keys import Keys, shopper_name, source_token

KEYS = Keys("shop", "g1")


def test_every_key_is_spelled_like_this() -> None:
    name = shopper_name("c1")
    assert {
        "query": KEYS.query(0xAB),
        "item": KEYS.item("i1"),
        "shopper": KEYS.shopper(name),
        "log": KEYS.log(name),
        "text": KEYS.text(0xAB),
        "meta": KEYS.meta,
        "alias": KEYS.alias,
        "mark": KEYS.mark("w1"),
    } == {
        "query": b"hr:shop:g1:q:{00000000000000ab}",
        "item": b"hr:shop:g1:i:{0acf11baff1e2aae}",
        "shopper": b"hr:shop:g1:s:{3f8510636a81e131400479a2f400711d}",
        "log": b"hr:shop:g1:l:{3f8510636a81e131400479a2f400711d}",
        "text": b"hr:shop:g1:t:{00000000000000ab}",
        "meta": "hr:shop:g1:meta",
        "alias": "hr:shop:alias",
        "mark": "hr:shop:mark:{w1}",
    }


def test_a_shopper_and_its_sequence_lie_in_one_slot() -> None:
    name = shopper_name("c1")
    tag = KEYS.shopper(name).split(b"{")[1]
    assert KEYS.log(name).split(b"{")[1] == tag


@pytest.mark.parametrize("name", ["", "A", "a:b", "a b", "a{b}", "-a", ".a", "a\n", "é", "x" * 65, "*"])
def test_names_that_could_be_taken_for_others_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 64"):
        Keys(name, "g1")
    with pytest.raises(ValueError, match="use 1 to 64"):
        Keys("shop", name)


def test_names_that_are_allowed() -> None:
    for name in ("a", "0", "2026-11-21.rebuild-2", "x" * 64):
        assert Keys(name, name).stem == f"hr:{name}:{name}:"


def test_no_client_id_stands_in_a_key() -> None:
    assert b"alice" not in KEYS.shopper(shopper_name("alice")) + KEYS.log(shopper_name("alice"))
    assert len(shopper_name("alice")) == 16


def test_another_cluster_topic_or_partition_is_another_source() -> None:
    tokens = {source_token(*source) for source in (("c", "t", 0), ("c", "t", 1), ("c", "u", 0), ("d", "t", 0))}
    assert len(tokens) == 4
    assert {len(token) for token in tokens} == {8}
    assert source_token("c", "t", 0).hex() == "ad4908ecb2e0f977"


def test_hashes_are_those_that_are_stored() -> None:
    assert hash64("i1") == 0x0ACF11BAFF1E2AAE
    assert query_hash("  Red \t SHOE ") == query_hash("red shoe") == hash64("red shoe") == 0xE778BB4DDD3CC6D4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Red  Shoe", "red shoe"),
        ("\tred\nshoe\r ", "red shoe"),
        ("ＲＥＤ　ｓｈｏｅ", "red shoe"),  # full width
        ("Straße", "strasse"),
        ("ﬁlm", "film"),
        ("ÉCLAIR", "éclair"),
        ("e\u0301clair", "éclair"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_texts_that_are_the_same_query(text: str, name: str) -> None:
    assert normalise(text) == name


@given(st.text())
def test_the_shortcut_for_ascii_gives_what_the_long_way_gives(text: str) -> None:
    ascii_text = text.encode("ascii", "ignore").decode()
    assert normalise(ascii_text) == normalise(ascii_text + "é").removesuffix("é").rstrip(" ")


def test_days_are_utc() -> None:
    assert [day_of(at_ms) for at_ms in (0, 86_399_999, 86_400_000, 1_795_275_000_123)] == [0, 0, 1, 20_778]
