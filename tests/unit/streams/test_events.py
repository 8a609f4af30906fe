from typing import Any

import msgspec
import pytest

from headrace import BadEvent, TooLate
from headrace.streams.events import (
    REASONS,
    Cart,
    Click,
    EventLimits,
    Impression,
    ItemChanged,
    ItemRemoved,
    Purchase,
    Query,
    View,
    admit,
    decode,
    decode_item,
    encode,
)
from ubi_records import AT_MS, click, impression, query, raw

LIMITS = EventLimits()


def refused(value: bytes | None, limits: EventLimits = LIMITS) -> tuple[str, str]:
    with pytest.raises(BadEvent) as caught:
        decode(value, limits)
    assert caught.value.reason in REASONS
    return caught.value.field, caught.value.reason


def attributes(**fields: Any) -> bytes:
    return raw(click(event_attributes=fields))


def test_a_click() -> None:
    event = decode(raw(click()), LIMITS)
    assert event == Click(event.event_id, "c1", "q1", AT_MS, "i1", 3)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("click", Click),
        ("click_through", Click),
        ("add_to_cart", Cart),
        ("cart", Cart),
        ("purchase", Purchase),
        ("view", View),
        ("watch", View),
    ],
)
def test_every_action_has_its_type(action: str, kind: type) -> None:
    assert type(decode(raw(click(action_name=action)), LIMITS)) is kind


def test_an_impression_of_many_items_in_one_record() -> None:
    event = decode(raw(impression("i1", "i2", 3)), LIMITS)
    assert event == Impression(event.event_id, "c1", "q1", AT_MS, ("i1", "i2", "3"), (1, 2, 3))


def test_an_impression_of_a_single_object() -> None:
    event = decode(raw(click(action_name="impression")), LIMITS)
    assert isinstance(event, Impression)
    assert (event.items, event.positions) == (("i1",), (3,))


def test_items_without_a_position_take_their_place_in_the_list_and_a_single_one_says_nothing() -> None:
    objects = [{"object_id": "a"}, {"object_id": "b", "position": {"ordinal": 7}}, {"object_id": "c"}]
    event = decode(raw(click(action_name="impression", event_attributes={"objects": objects})), LIMITS)
    assert isinstance(event, Impression)
    assert event.positions == (1, 7, 3)
    alone = decode(raw(click(action_name="impression", event_attributes={"object": {"object_id": "a"}})), LIMITS)
    assert isinstance(alone, Impression)
    assert alone.positions == (0,)


def test_a_record_without_an_action_is_a_query() -> None:
    event = decode(raw(query(query_response_hit_ids=["a", 2])), LIMITS)
    assert event == Query(event.event_id, "c1", "q1", AT_MS, "laptop stand", ("a", "2"))
    assert decode(raw(query(action_name=None)), LIMITS) == decode(raw(query()), LIMITS)


def test_the_hits_under_their_other_name() -> None:
    event = decode(raw(query(query_response_objects_ids=["a"])), LIMITS)
    assert isinstance(event, Query)
    assert event.hits == ("a",)


def test_a_query_without_an_id_is_named_by_its_event() -> None:
    event = decode(raw(query(query_id=None)), LIMITS)
    assert isinstance(event, Query)
    assert event.query_id == event.event_id != ""


def test_a_query_without_text_is_refused_and_an_empty_text_is_a_query() -> None:
    assert refused(raw(query(user_query=None))) == ("user_query", "missing")
    event = decode(raw(query(user_query="")), LIMITS)
    assert isinstance(event, Query)


@pytest.mark.parametrize(
    "position", [{"ordinal": 4}, {"ordinal": {"index": 4}}, 4], ids=["1.3", "1.2 and before", "a number"]
)
def test_all_shapes_of_an_ordinal(position: object) -> None:
    for value in (
        attributes(object={"object_id": "i1"}, position=position),
        attributes(object={"object_id": "i1", "position": position}),
        attributes(objects=[{"object_id": "i1", "position": position}]),
    ):
        event = decode(value, LIMITS)
        assert isinstance(event, Click)
        assert event.position == 4


def test_a_position_with_coordinates_only_is_none() -> None:
    event = decode(attributes(object={"object_id": "i1"}, position={"xy": {"x": 1.5, "y": 2}}), LIMITS)
    assert isinstance(event, Click)
    assert event.position is None


@pytest.mark.parametrize(
    "at",
    [
        "2025-06-01T12:00:00.123Z",
        "2025-06-01T12:00:00.123456789z",
        "2025-06-01 13:00:00.123+01:00",
        "2025-06-01T06:30:00.123-05:30",
        AT_MS,
    ],
)
def test_times(at: object) -> None:
    assert decode(raw(click(timestamp=at)), LIMITS).at_ms == AT_MS


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (None, "missing"),
        ("2025-06-01T12:00:00", "not_a_time"),
        ("2025-06-01T12:00:00+00:00Z", "not_a_time"),
        ("2026-02-30T15:30:00Z", "not_a_time"),
        ("yesterday", "not_a_time"),
        (1_795_275_000, "out_of_range"),  # seconds
        ("1999-12-31T23:59:59.999Z", "out_of_range"),
        ("2100-01-01T00:00:00Z", "out_of_range"),
        ("0001-01-01T00:00:00+14:00", "out_of_range"),
        (10**30, "out_of_range"),
        (1.5, "wrong_type"),
        (True, "wrong_type"),
    ],
)
def test_times_that_are_none(at: object, reason: str) -> None:
    assert refused(raw(click(timestamp=at))) == ("timestamp", reason)


def test_the_shopper_is_the_client_else_the_session() -> None:
    assert decode(raw(click(session_id="s")), LIMITS).client_id == "c1"
    assert decode(raw(click(client_id=None, session_id="s")), LIMITS).client_id == "s"
    assert decode(raw(click(client_id="", session_id="s")), LIMITS).client_id == "s"
    assert refused(raw(click(client_id=None))) == ("client_id", "missing")
    assert refused(raw(click(client_id="", session_id=""))) == ("client_id", "missing")


def test_an_event_without_an_id_gets_the_same_one_every_time_and_another_one_than_others() -> None:
    records = [
        click(),
        click(client_id="c2"),
        click(query_id="q2"),
        click(action_name="view"),
        click(timestamp=AT_MS + 1),
        click(event_attributes={"object": {"object_id": "i2"}}),
        impression("i1", "i2"),
        impression("i2", "i1"),
        impression("i1i2"),
        query(),
        query(user_query="laptop"),
    ]
    ids = [decode(raw(record), LIMITS).event_id for record in records]
    assert len(set(ids)) == len(records)
    assert ids == [decode(raw(record), LIMITS).event_id for record in records]
    # Golden: another id would count events of an older log twice.
    assert ids[0] == "8a81c4e1042827549ca85976615037a3"


def test_the_same_click_in_another_version_of_the_standard_has_the_same_id() -> None:
    old = click(action_name="click_through", timestamp=AT_MS)
    assert decode(raw(old), LIMITS).event_id == decode(raw(click()), LIMITS).event_id


def test_an_id_of_its_own_is_kept() -> None:
    assert decode(attributes(object={"object_id": "a"}, event_id="e1"), LIMITS).event_id == "e1"
    assert decode(raw(query(query_attributes={"event_id": "e2"})), LIMITS).event_id == "e2"
    assert decode(raw(query(event_attributes={"event_id": "e3"})), LIMITS).event_id == "e3"


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        (None, "", "empty"),
        (b"", "", "empty"),
        (b"{", "", "not_json"),
        (b"{} {}", "", "not_json"),
        (b'{"x": NaN}', "", "not_json"),
        (b"[]", "", "wrong_type"),
        (b"null", "", "wrong_type"),
        (b'{"client_id": "\xff"}', "", "bad_encoding"),
        (b'{"unread": "\xff"}', "", "bad_encoding"),
        (b'{"client_id": "\\ud800"}', "", "bad_encoding"),
        (b'{"unread": ' + b"[" * 1000 + b"]" * 1000 + b"}", "", "too_deep"),
        (b'{"unread": ' + b"[" * 100_000, "", "too_deep"),
        (b'{"client_id": "' + b"x" * 256_000 + b'"}', "", "too_large"),
        (raw(click(action_name="hover")), "action_name", "unknown_action"),
        (raw(click(action_name="Click")), "action_name", "unknown_action"),
        (raw(click(action_name="")), "action_name", "unknown_action"),
        (raw(click(client_id="x" * 101)), "client_id", "too_long"),
        (raw(click(application="x" * 101)), "application", "too_long"),
        (raw(click(message="x" * 1025)), "message", "too_long"),
        (raw(query(user_query="x" * 1025)), "user_query", "too_long"),
        (raw(query(user_query=7)), "user_query", "wrong_type"),
        (raw(click(client_id=7)), "client_id", "wrong_type"),
        (raw(click(client_id="a\0b")), "client_id", "control_character"),
        (raw(click(client_id=None, session_id="a\nb")), "session_id", "control_character"),
        (raw(click(query_id="a\x85b")), "query_id", "control_character"),
        (raw(click(event_attributes=None)), "event_attributes.object", "missing"),
        (attributes(), "event_attributes.object", "missing"),
        (attributes(object={}), "event_attributes.object.object_id", "missing"),
        (attributes(object={"object_id": ""}), "event_attributes.object.object_id", "missing"),
        (attributes(object={"object_id": "x" * 257}), "event_attributes.object.object_id", "too_long"),
        (attributes(object={"object_id": "a\x1eb"}), "event_attributes.object.object_id", "control_character"),
        (attributes(object={"object_id": 2**64}), "event_attributes.object.object_id", "out_of_range"),
        (attributes(object={"object_id": 1.5}), "event_attributes.object.object_id", "wrong_type"),
        (attributes(object={"object_id": "a"}, event_id="e\0"), "event_attributes.event_id", "control_character"),
        (attributes(object={"object_id": "a"}, position=-1), "event_attributes.position", "out_of_range"),
        (
            attributes(object={"object_id": "a"}, position={"ordinal": 1e9}),
            "event_attributes.position.ordinal",
            "wrong_type",
        ),
        (attributes(objects=[{"object_id": "a"}, {"object_id": "b"}]), "event_attributes.objects", "too_many"),
        (raw(impression(*range(1001))), "event_attributes.objects", "too_many"),
        (raw(impression("a", "")), "event_attributes.objects[].object_id", "missing"),
        (raw(impression("a", "b\0")), "event_attributes.objects[].object_id", "control_character"),
        (raw(impression()), "event_attributes.object", "missing"),
        (raw(query(query_response_hit_ids=["x"] * 1001)), "query_response_hit_ids", "too_many"),
        (raw(query(query_response_hit_ids=["x", "\0"])), "query_response_hit_ids", "control_character"),
        (raw(query(query_response_hit_ids=["x", None])), "query_response_hit_ids[1]", "wrong_type"),
    ],
)
def test_what_is_refused_names_field_and_reason(value: bytes | None, field: str, reason: str) -> None:
    assert refused(value) == (field, reason)


def test_an_impressions_position_out_of_range() -> None:
    value = raw(click(action_name="impression", event_attributes={"objects": [{"object_id": "a", "position": -1}]}))
    assert refused(value) == ("event_attributes.objects[].position", "out_of_range")


def test_brackets_in_texts_do_not_nest() -> None:
    assert decode(raw(query(user_query="[" * 500)), LIMITS)
    assert decode(raw(query(user_query='\\"' + "[" * 500)), LIMITS)
    deep: object = 0
    for _ in range(LIMITS.depth - 1):
        deep = [deep]
    many: list[object] = [{"a": []}] * 100
    assert decode(raw(click(unread=deep, many=many)), LIMITS)
    assert refused(raw(click(unread=[deep], many=many))) == ("", "too_deep")


def test_the_largest_impression_is_within_the_bounds() -> None:
    event = decode(raw(impression(*(f"{item:0>100}" for item in range(1000)))), LIMITS)
    assert isinstance(event, Impression)
    assert len(event.items) == 1000


def test_limits_are_settings() -> None:
    small = EventLimits(query_chars=5, items=1, record_bytes=100_000)
    assert refused(raw(query()), small) == ("user_query", "too_long")
    assert refused(raw(impression("a", "b")), small) == ("event_attributes.objects", "too_many")
    assert refused(b" " * 100_001, small) == ("", "too_large")


def test_events_are_frozen() -> None:
    event: Any = decode(raw(click()), LIMITS)
    with pytest.raises(AttributeError):
        event.at_ms = 0


def test_admitted_within_the_limits_and_not_beyond() -> None:
    event = decode(raw(click()), LIMITS)
    admit(event, AT_MS, LIMITS)
    admit(event, AT_MS + LIMITS.late_ms, LIMITS)
    admit(event, AT_MS - LIMITS.future_ms, LIMITS)
    with pytest.raises(TooLate) as late:
        admit(event, AT_MS + LIMITS.late_ms + 1, LIMITS)
    assert late.value.reason == "late"
    for timestamp_ms, reason in ((AT_MS - LIMITS.future_ms - 1, "future"), (-1, "no_timestamp")):
        with pytest.raises(BadEvent) as caught:
            admit(event, timestamp_ms, LIMITS)
        assert not isinstance(caught.value, TooLate)
        assert caught.value.reason == reason


def test_encode_writes_ubi_1_3() -> None:
    assert msgspec.json.decode(encode(Click("e", "c", "q", AT_MS, "i", 3))) == {
        "action_name": "click",
        "client_id": "c",
        "query_id": "q",
        "timestamp": "2025-06-01T12:00:00.123Z",
        "event_attributes": {"event_id": "e", "object": {"object_id": "i"}, "position": {"ordinal": 3}},
    }


ITEM = {
    "item_id": "i1",
    "timestamp": "2025-06-01T12:00:00.123Z",
    "title": "Stand",
    "description": "For laptops",
    "attributes": {"colour": ["black", "grey"], "legs": 4, "folds": True, "note": None},
    "price": 19.5,
}


def test_an_item() -> None:
    item = decode_item(b"i1", raw(ITEM), 5, LIMITS)
    texts = {"colour": "black, grey", "legs": "4", "folds": "true"}
    assert item == ItemChanged("i1", AT_MS, "Stand", "For laptops", texts, 19.5)
    assert decode_item(b"i1", encode(item), 5, LIMITS) == item


def test_an_item_of_a_title_only_is_as_old_as_its_record() -> None:
    assert decode_item(b"i1", raw({"title": "Stand"}), 5, LIMITS) == ItemChanged("i1", 5, "Stand", "", {}, None)


def test_an_item_without_a_value_was_removed() -> None:
    assert decode_item(b"i1", None, 5, LIMITS) == ItemRemoved("i1", 5)


@pytest.mark.parametrize(
    ("key", "value", "field", "reason"),
    [
        (None, raw(ITEM), "key", "missing"),
        (b"", None, "key", "missing"),
        (b"\xff", raw(ITEM), "key", "bad_encoding"),
        (b"a\0", None, "key", "control_character"),
        (b"x" * 257, None, "key", "too_long"),
        (b"i2", raw(ITEM), "item_id", "key_mismatch"),
        (b"i1", b"", "", "empty"),
        (b"i1", b"{}", "title", "missing"),
        (b"i1", raw({**ITEM, "title": "x" * 1025}), "title", "too_long"),
        (b"i1", raw({**ITEM, "description": "x" * 65_537}), "description", "too_long"),
        (b"i1", raw({**ITEM, "price": -1}), "price", "out_of_range"),
        (b"i1", raw({**ITEM, "price": "19.50"}), "price", "wrong_type"),
        (b"i1", raw(ITEM).replace(b"19.5", b"1e999"), "price", "out_of_range"),
        (b"i1", raw({**ITEM, "attributes": {str(one): "" for one in range(201)}}), "attributes", "too_many"),
        (b"i1", raw({**ITEM, "attributes": {"a": {"b": 1}}}), "attributes[...]", "wrong_type"),
        (b"i1", raw({**ITEM, "attributes": {"a": "x" * 1025}}), "attributes[...]", "too_long"),
        (b"i1", raw({**ITEM, "attributes": {"a": ["x" * 600, "y" * 600]}}), "attributes[...]", "too_long"),
        (b"i1", raw({**ITEM, "timestamp": 7}), "timestamp", "out_of_range"),
    ],
)
def test_items_that_are_refused(key: bytes | None, value: bytes | None, field: str, reason: str) -> None:
    with pytest.raises(BadEvent) as caught:
        decode_item(key, value, 5, LIMITS)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert caught.value.reason in REASONS
