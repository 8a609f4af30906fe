"""Pairs and labels on the wire: what they are called, that they come back, and what is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import BadEvent
from headrace.models.prompts import Pair
from headrace.streams.events import REASONS
from headrace.streams.pairs import (
    DETAILS_CHARS,
    RECORD_BYTES,
    FirstLabels,
    LabelledPair,
    LabelName,
    UnlabelledPair,
    decode_label,
    decode_pair,
    details_of,
    encode,
    label_key,
    label_name,
    pair_id_of,
    pair_of,
    prompt_pair,
)

PAIR = pair_of("Wool  socks", "i1", "Grey wool socks, 3 pairs", "material: wool", "bm25")
LABEL = LabelledPair(PAIR.pair_id, PAIR.query, "i1", PAIR.title, 0.75, 1.0986, "ab" * 32, "p1", 1_748_779_200_123)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20).filter(str.strip)


def raw(record: UnlabelledPair | LabelledPair, **otherwise: Any) -> bytes:
    body = {**json.loads(encode(record)), **otherwise}
    return json.dumps({name: value for name, value in body.items() if value != "absent"}).encode()


def refused(error: BadEvent) -> tuple[str, str]:
    assert error.reason in REASONS
    return error.field, error.reason


def test_golden_bytes() -> None:
    assert PAIR.pair_id == "c0d420659214f48d249701087c6840c7"
    assert encode(PAIR) == (
        b'{"pair_id":"%s","query":"Wool  socks","item_id":"i1","title":"Grey wool socks, 3 pairs",'
        b'"details":"material: wool","origin":"bm25"}' % PAIR.pair_id.encode()
    )
    assert label_key(LABEL) == f"{PAIR.pair_id}/{'ab' * 32}/p1".encode()


@given(TEXT, TEXT, TEXT, st.text(max_size=9), st.lists(st.text(max_size=9), max_size=3), st.floats(0, 1))
def test_what_is_written_is_read_again(
    query: str, item: str, title: str, details: str, near: list[str], probability: float
) -> None:
    name = pair_id_of(query, item, title, tuple(near))
    pair = msgspec.structs.replace(pair_of(query, item, title, details), pair_id=name, query_neighbours=tuple(near))
    assert decode_pair(pair.pair_id.encode(), encode(pair)) == decode_pair(None, encode(pair)) == pair
    label = LabelledPair(pair.pair_id, query, item, title, probability, -3.5, "t", "p", 7)
    assert decode_label(encode(label)) == label
    assert label_name(encode(label)) == LabelName(pair.pair_id, "t", "p")


@given(TEXT, TEXT, TEXT)
def test_a_pair_is_named_by_query_item_and_title_whoever_proposed_it(query: str, item: str, title: str) -> None:
    name = pair_id_of(query, item, title)
    assert name == pair_id_of(f"  {query} ", item, title) == pair_of(query, item, title, "details", "random").pair_id
    assert len({name, pair_id_of(query + "x", item, title), pair_id_of(query, item + "x", title)}) == 3
    assert name != pair_id_of(query, item, title + "x")


def test_where_one_text_ends_and_the_next_begins_belongs_to_the_name() -> None:
    assert len({pair_id_of("a b", "c", "d"), pair_id_of("a", "b c", "d"), pair_id_of("a", "b", "c d")}) == 3


def test_a_pair_with_neighbours_is_another_pair_and_must_name_them() -> None:
    sides = [((), ()), (("x",), ()), ((), ("x",)), (("x", "y"), ()), (("xy",), ()), (("x",), ("y",))]
    names = [pair_id_of("a", "b", "c", *both) for both in sides]
    assert len(set(names)) == len(sides)
    assert names[0] == pair_id_of("a", "b", "c")
    told = msgspec.structs.replace(
        pair_of("a", "b", "c"), pair_id=names[5], query_neighbours=("x",), item_neighbours=("y",)
    )
    assert decode_pair(names[5].encode(), encode(told)) == told
    with pytest.raises(BadEvent, match="not the hash"):
        decode_pair(None, encode(msgspec.structs.replace(told, item_neighbours=())))


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (None, ("", "empty")),
        (b"x", ("", "not_json")),
        (b"[]", ("", "wrong_type")),
        (b"\xff", ("", "bad_encoding")),
        (b" " * (RECORD_BYTES + 1), ("", "too_large")),
        (raw(PAIR, query="absent"), ("query", "missing")),
        (raw(PAIR, query=" "), ("query", "missing")),
        (raw(PAIR, title=""), ("title", "missing")),
        (raw(PAIR, title=7), ("title", "wrong_type")),
        (raw(PAIR, item_id="a\x1fb"), ("item_id", "control_character")),
        (raw(PAIR, query="x" * 1025), ("query", "too_long")),
        (raw(PAIR, details="x" * 65_537), ("details", "too_long")),
        (raw(PAIR, item_neighbours=["x"] * 51), ("item_neighbours", "too_long")),
        (raw(PAIR, title="Another"), ("pair_id", "key_mismatch")),
        (raw(PAIR, origin=[[[[[[[[[]]]]]]]]]), ("", "too_deep")),
    ],
)
def test_what_is_no_pair_is_refused_with_field_and_reason(value: bytes | None, wrong: tuple[str, str]) -> None:
    with pytest.raises(BadEvent) as caught:
        decode_pair(PAIR.pair_id.encode(), value)
    assert refused(caught.value) == wrong


def test_a_record_under_another_key_is_refused() -> None:
    with pytest.raises(BadEvent) as caught:
        decode_pair(b"", encode(PAIR))
    assert refused(caught.value) == ("key", "key_mismatch")


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (raw(LABEL, probability=1.01), ("probability", "out_of_range")),
        (raw(LABEL, probability=-0.01), ("probability", "out_of_range")),
        (raw(LABEL, probability=None), ("probability", "wrong_type")),
        (raw(LABEL, teacher="absent"), ("teacher", "missing")),
        (raw(LABEL, teacher=""), ("teacher", "missing")),
        (b'{"pair_id":', ("", "not_json")),
        (encode(PAIR), ("probability", "missing")),
    ],
)
def test_what_is_no_label_is_refused_with_field_and_reason(value: bytes, wrong: tuple[str, str]) -> None:
    with pytest.raises(BadEvent) as caught:
        decode_label(value)
    assert refused(caught.value) == wrong
    assert label_name(b"{") is None


@given(st.binary(max_size=60))
def test_whatever_the_bytes_nothing_but_a_bad_event_comes(value: bytes) -> None:
    for read in (lambda: decode_pair(None, value), lambda: decode_label(value)):
        with pytest.raises(BadEvent):
            read()
    label_name(value)


def test_teachers_are_asked_about_the_normalised_query_and_all_that_a_pair_holds() -> None:
    pair = msgspec.structs.replace(PAIR, query_neighbours=("a",), item_neighbours=("b", "c"))
    asked = prompt_pair(pair)
    assert asked == Pair("wool socks", PAIR.title, "material: wool", "", ("a",), ("b", "c"))


def test_details_are_attributes_then_description_cut_to_a_bound() -> None:
    assert details_of("Warm.", {"colour": "grey", "size": ""}) == "colour: grey; Warm."
    assert details_of("", {}) == ""
    assert len(details_of("x" * 10_000, {})) == DETAILS_CHARS


def test_the_first_label_of_a_name_counts() -> None:
    first = FirstLabels()
    others = [msgspec.structs.replace(LABEL, **{field: "x"}) for field in ("pair_id", "teacher", "prompt")]
    assert [first.is_new(label) for label in (LABEL, LABEL, *others, others[0])] == [
        True,
        False,
        True,
        True,
        True,
        False,
    ]
