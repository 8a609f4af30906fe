import pytest

from headrace import BadEvent
from headrace.streams.columns import Columns, columns_of
from headrace.streams.imports import Placed, placed, record_of
from ubi_records import AT, AT_MS, click, impression, query, raw


def test_an_event_belongs_to_its_shopper_at_its_own_time_however_old_it_is() -> None:
    later_ms = AT_MS + 10**10
    assert placed("events", raw(query()), later_ms) == Placed(b"c1", AT_MS, 0)
    assert placed("events", raw(impression("a")), later_ms) == Placed(b"c1", AT_MS, 1)
    assert placed("events", raw(click()), later_ms) == Placed(b"c1", AT_MS, 2)


@pytest.mark.parametrize(
    ("value", "now_ms", "reason"),
    [(None, AT_MS, "empty"), (b"{", AT_MS, "not_json"), (raw(click()), AT_MS - 10**6, "future")],
)
def test_what_is_no_event_says_why(value: bytes | None, now_ms: int, reason: str) -> None:
    with pytest.raises(BadEvent) as caught:
        placed("events", value, now_ms)
    assert caught.value.reason == reason


def test_an_item_is_named_by_itself_or_by_its_key() -> None:
    assert placed("items", raw({"item_id": 7, "title": "x", "timestamp": AT}), 1, b"other") == Placed(b"7", AT_MS)
    assert placed("items", raw({"title": "x"}), 1, b"i1") == Placed(b"i1", 1)
    assert placed("items", None, 1, b"i1") == Placed(b"i1", 1)
    for value, key in ((raw({"title": "x"}), None), (None, None), (b"{", b"i1")):
        with pytest.raises(BadEvent):
            placed("items", value, 1, key)


def test_a_record_is_made_of_columns_or_stays_as_it_is() -> None:
    assert record_of(b" not looked at", Columns()) == b" not looked at"
    columns = columns_of("events", ["client_id=user"], ["action_name=click"])
    assert record_of(raw({"user": 1, "more": 2}), columns) == b'{"client_id":"1","action_name":"click"}'
    for data in (b"{", b"[]", b"\xff"):
        with pytest.raises(BadEvent):
            record_of(data, columns)
