"""Whatever bytes come, `decode` answers with an event or a BadEvent of a known reason; what it read it can write."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import BadEvent
from headrace.streams.events import (
    REASONS,
    Cart,
    Click,
    EventLimits,
    Impression,
    ItemChanged,
    Purchase,
    Query,
    ShopperEvent,
    View,
    admit,
    decode,
    decode_item,
    encode,
)
from headrace.streams.ubi import FIRST_MS, LAST_MS
from ubi_records import AT_MS, click, impression, query, raw

LIMITS = EventLimits()

texts = st.text(max_size=300)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5))
times = st.integers(FIRST_MS - 10, LAST_MS + 10) | st.datetimes().map(lambda at: at.isoformat() + "Z") | trees
samples: list[dict[str, Any]] = [
    click(session_id="s", application="a", event_attributes={"object": {"object_id": 7}, "position": {"ordinal": 1}}),
    impression("a", "b", 3),
    query(query_response_hit_ids=["a", 1], query_attributes={"event_id": "e"}),
]


def check(value: bytes) -> None:
    try:
        event = decode(value, LIMITS)
    except BadEvent as error:
        assert error.reason in REASONS
        assert len(error.field) < 300
        assert len(error.detail) < 300
        return
    again = encode(event)
    assert decode(again, LIMITS) == event
    assert encode(decode(again, LIMITS)) == again
    for timestamp_ms in (-1, 0, event.at_ms, LAST_MS):
        try:
            admit(event, timestamp_ms, LIMITS)
        except BadEvent as error:
            assert error.reason in REASONS


@given(st.binary(max_size=400))
def test_any_bytes(value: bytes) -> None:
    check(value)


@given(trees)
def test_any_json(tree: object) -> None:
    check(raw(tree))


def paths(tree: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [at, *(path for name, one in inner for path in paths(one, (*at, name)))]


def replaced(tree: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    if isinstance(tree, dict):
        return {**tree, path[0]: replaced(tree[path[0]], path[1:], new)}
    return [replaced(one, path[1:], new) if at == path[0] else one for at, one in enumerate(tree)]


@st.composite
def altered(draw: st.DrawFn) -> object:
    """A sound record with one to three of its values replaced by anything."""
    tree: object = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 3))):
        tree = replaced(tree, draw(st.sampled_from(paths(tree))), draw(trees | times))
    return tree


@settings(max_examples=400)
@given(altered())
def test_any_alteration_of_a_sound_record(tree: object) -> None:
    check(raw(tree))


@settings(max_examples=400)
@given(st.sampled_from(samples).map(raw), st.data())
def test_any_damage_to_the_bytes_of_a_sound_record(value: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(value)))
    end = data.draw(st.integers(start, min(len(value), start + 8)))
    check(value[:start] + data.draw(st.binary(max_size=8)) + value[end:])


ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=100)
at = st.integers(FIRST_MS, LAST_MS - 1)
positions = st.integers(0, 1000)
kinds: list[type[Click] | type[Cart] | type[Purchase] | type[View]] = [Click, Cart, Purchase, View]
touches = st.sampled_from(kinds)
events: st.SearchStrategy[ShopperEvent] = (
    st.builds(
        Query, ids, ids, ids, at, st.text(max_size=1024).filter(str.isascii), st.lists(ids, max_size=4).map(tuple)
    )
    | st.lists(st.tuples(ids, positions), min_size=1, max_size=30).flatmap(
        lambda shown: st.builds(
            Impression,
            ids,
            ids,
            ids | st.just(""),
            at,
            st.just(tuple(item for item, _ in shown)),
            st.just(tuple(position for _, position in shown)),
        )
    )
    | touches.flatmap(lambda kind: st.builds(kind, ids, ids, ids | st.just(""), at, ids, positions | st.none()))
)


@settings(max_examples=200)
@given(events)
def test_what_is_written_is_read(event: ShopperEvent) -> None:
    assert decode(encode(event), LIMITS) == event


@given(st.binary(max_size=40) | st.none(), st.binary(max_size=300) | st.none() | trees.map(raw), st.integers())
def test_any_record_of_the_items_topic(key: bytes | None, value: bytes | None, timestamp_ms: int) -> None:
    try:
        item = decode_item(key, value, timestamp_ms, LIMITS)
    except BadEvent as error:
        assert error.reason in REASONS
        return
    if isinstance(item, ItemChanged):
        assert decode_item(key, encode(item), AT_MS, LIMITS) == item


@given(st.dictionaries(texts, trees), trees, trees)
def test_any_item(attributes: dict[str, object], title: object, price: object) -> None:
    value = raw({"title": title, "attributes": attributes, "price": price})
    try:
        item = decode_item(b"i", value, AT_MS, LIMITS)
    except BadEvent as error:
        assert error.reason in REASONS
    else:
        assert decode_item(b"i", encode(item), AT_MS, LIMITS) == item  # type: ignore[arg-type]
