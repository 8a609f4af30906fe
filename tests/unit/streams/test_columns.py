import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from headrace import BadEvent
from headrace.streams.columns import Columns, columns_of
from headrace.streams.events import Click, EventLimits, Impression, ItemChanged, Query, decode, decode_item
from ubi_records import AT, AT_MS

LIMITS = EventLimits()


def record(row: dict[str, Any], *maps: str, constants: tuple[str, ...] = (), unit: str = "ms") -> Any:
    return decode(columns_of("events", maps, constants, unit).record(row), LIMITS)


def test_a_flat_row_becomes_a_click() -> None:
    row = {"user": 17, "ts": AT_MS // 1000, "sku": 4, "rank": 2.0, "search": "q1"}
    event = record(
        row,
        "client_id=user",
        "timestamp=ts",
        "object_id=sku",
        "position=rank",
        "query_id=search",
        constants=("action_name=click",),
        unit="s",
    )
    assert event == Click(event.event_id, "17", "q1", AT_MS // 1000 * 1000, "4", 2)


def test_a_list_of_items_becomes_an_impression() -> None:
    row = {"client_id": "c", "timestamp": AT, "shown": ["a", 7], "action_name": "impression"}
    event = record(row, "client_id=client_id", "timestamp=timestamp", "action_name=action_name", "objects=shown")
    assert isinstance(event, Impression)
    assert (event.items, event.positions) == (("a", "7"), (1, 2))


def test_a_row_without_columns_is_the_record_and_constants_fill_gaps() -> None:
    row = {"user_query": "stand", "timestamp": datetime.datetime(2025, 6, 1, 12), "client_id": None, "other": 1}
    event = record(row, constants=("client_id=c",))
    assert event == Query(event.event_id, "c", event.query_id, AT_MS - 123, "stand")
    assert record({**row, "client_id": "d"}, constants=("client_id=c",)).client_id == "d"


def test_nested_columns_and_columns_with_dots() -> None:
    row = {"user": {"id": "c"}, "user.name": "x", "at": AT, "q": "stand"}
    event = record(row, "client_id=user.id", "timestamp=at", "user_query=q", "query_id=user.name")
    assert (event.client_id, event.query_id) == ("c", "x")


@pytest.mark.parametrize(
    ("value", "unit"),
    [(AT_MS * 1000 + 5, "us"), (AT_MS * 1_000_000 + 5, "ns"), (AT_MS / 1000, "s"), (AT_MS, "ms"), (float(AT_MS), "ms")],
)
def test_units_of_time(value: float, unit: str) -> None:
    assert record({"timestamp": value, "user_query": "", "client_id": "c"}, unit=unit).at_ms == AT_MS


def test_gaps_are_absent() -> None:
    row = {"c": "c", "t": AT, "q": "stand", "n": float("nan"), "x": None}
    event = record(row, "client_id=c", "timestamp=t", "user_query=q", "query_id=x", "position=n", "event_id=gone")
    assert isinstance(event, Query)


def test_an_item() -> None:
    columns = columns_of("items", ["item_id=sku", "title=name", "price=eur", "attributes.brand=maker"], ())
    value = columns.record({"sku": 4, "name": b"Stand", "eur": Decimal("19.5"), "maker": "Acme"})
    assert decode_item(b"4", value, 9, LIMITS) == ItemChanged("4", 9, "Stand", "", {"brand": "Acme"}, 19.5)


@pytest.mark.parametrize("value", [b"\xff", object(), 1j, {1j: 2}])
def test_what_json_cannot_hold_is_a_bad_event(value: object) -> None:
    with pytest.raises(BadEvent):
        columns_of("events", ["client_id=c"], ()).record({"c": value})


@pytest.mark.parametrize(
    ("maps", "constants", "says"),
    [
        (["client_id"], [], "FIELD=COLUMN"),
        (["=x"], [], "FIELD=COLUMN"),
        (["shopper=x"], [], "'shopper' is not a field of events: action_name, timestamp"),
        (["client_id=a", "client_id=b"], [], "client_id is given 2 times"),
        (["client_id=a"], ["client_id=b"], "client_id is given 2 times"),
        (["object_id=a", "objects=b"], [], "give one of them"),
    ],
)
def test_a_mapping_that_is_wrong_says_so(maps: list[str], constants: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        columns_of("events", maps, constants)


def test_columns_that_are_not_there_are_named() -> None:
    columns = columns_of("events", ["client_id=user.id", "timestamp=at", "query_id=a.b"], ())
    assert columns.absent(["user", "a.b"]) == ["at"]


def test_only_a_record_as_it_stands_is_verbatim() -> None:
    assert Columns().verbatim
    assert not columns_of("events", (), (), "s").verbatim
    assert not columns_of("events", (), ["action_name=click"]).verbatim


def test_a_row_is_left_as_it_was() -> None:
    row: dict[str, Any] = {"timestamp": AT, "client_id": "c", "action_name": "click"}
    row["event_attributes"] = {"object": {"object_id": "a"}}
    before = msgspec.json.encode(row)
    record(row, constants=("event_id=e",))
    assert msgspec.json.encode(row) == before
