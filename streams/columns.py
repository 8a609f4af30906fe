"""Rows of other people's files as UBI records and catalogue items: which column is which field. Pure."""

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from headrace import BadEvent

Content = Literal["events", "items"]
Path = tuple[str, ...]

EVENT_FIELDS: Final[dict[str, Path]] = {
    "action_name": ("action_name",),
    "timestamp": ("timestamp",),
    "client_id": ("client_id",),
    "session_id": ("session_id",),
    "query_id": ("query_id",),
    "user_query": ("user_query",),
    "object_id": ("event_attributes", "object", "object_id"),
    "position": ("event_attributes", "position"),
    "objects": ("event_attributes", "objects"),
    "event_id": ("event_attributes", "event_id"),
    "hits": ("query_response_hit_ids",),
}
ITEM_FIELDS: Final[dict[str, Path]] = {
    name: (name,) for name in ("item_id", "timestamp", "title", "description", "price")
}
_ATTRIBUTE: Final = "attributes."

UNITS: Final[dict[str, tuple[int, int]]] = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}
"""Unit of a time -> (times, by): what makes milliseconds of it."""
_TEXTS: Final = frozenset({"client_id", "session_id", "query_id", "user_query", "event_id", "title", "description"})


@dataclass(frozen=True, slots=True)
class Column:
    """A field and the column it comes from; a dot in a column's name goes into nested objects."""

    field: str
    path: Path
    column: Path


@dataclass(frozen=True, slots=True)
class Columns:
    """What makes a record of a row.

    Attributes:
        columns: fields and their columns; empty: the row is the record.
        constants: fields that are the same in all records, put in where the row has none.
        unit: of timestamps that are numbers: s, ms, us or ns.
    """

    columns: tuple[Column, ...] = ()
    constants: tuple[tuple[Path, str], ...] = ()
    unit: str = "ms"

    @property
    def verbatim(self) -> bool:
        """Whether a row of JSON is a record as it stands, byte for byte."""
        return not self.columns and not self.constants and self.unit == "ms"

    def record(self, row: Mapping[str, Any]) -> bytes:
        """The record of one row, as JSON.

        Raises:
            BadEvent: a value that JSON cannot hold.
        """
        try:
            return msgspec.json.encode(self._filled(row))
        except UnicodeDecodeError:
            raise BadEvent("", "bad_encoding", "a column of bytes that are not UTF-8") from None
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadEvent("", "wrong_type", str(error)[:200]) from None

    def _filled(self, row: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {} if self.columns else dict(row)
        for column in self.columns:
            value = _plain(_at(row, column.column))
            if value is not None:
                _put(made, column.path, _as_field(column.field, value))
        for path, text in self.constants:
            if _at(made, path) is None:
                _put(made, path, text)
        if "timestamp" in made:
            made["timestamp"] = self._time(made["timestamp"])
        return made

    def absent(self, names: Sequence[str]) -> list[str]:
        """Those columns that are asked for and do not begin in any of these names."""
        asked = [(".".join(one.column), one.column[0]) for one in self.columns]
        return [whole for whole, first in asked if whole not in names and first not in names]

    def _time(self, said: Any) -> Any:
        if isinstance(said, datetime.datetime):
            return said if said.tzinfo else said.replace(tzinfo=datetime.UTC)
        if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
            return said
        times, by = UNITS[self.unit]
        return said * times // by if isinstance(said, int) else round(said * times / by)


def columns_of(content: Content, maps: Sequence[str], constants: Sequence[str], unit: str = "ms") -> Columns:
    """Columns from what a user wrote: ``field=column`` and ``field=value``.

    Raises:
        ValueError: a sentence that says what is wrong.
    """
    mapped = [(field, tuple(column.split("."))) for field, column in map(_pair, maps)]
    fixed = list(map(_pair, constants))
    names = [field for field, _ in mapped] + [field for field, _ in fixed]
    for field in names:
        if names.count(field) > 1:
            raise ValueError(f"{field} is given {names.count(field)} times")
    if "object_id" in names and "objects" in names:
        raise ValueError("object_id is one item and objects are many: give one of them")
    return Columns(
        tuple(Column(field, _path(content, field), column) for field, column in mapped),
        tuple((_path(content, field), text) for field, text in fixed),
        unit,
    )


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise ValueError(f"{text!r} is not FIELD=COLUMN")
    return field, column


def _path(content: Content, field: str) -> Path:
    fields = EVENT_FIELDS if content == "events" else ITEM_FIELDS
    if field in fields:
        return fields[field]
    if content == "items" and field.startswith(_ATTRIBUTE) and field != _ATTRIBUTE:
        return ("attributes", field.removeprefix(_ATTRIBUTE))
    more = ", attributes.NAME" if content == "items" else ""
    raise ValueError(f"{field!r} is not a field of {content}: {', '.join(fields)}{more}")


def _at(row: Any, path: Path) -> Any:
    """What lies at a path; a column whose own name has dots is found before nested ones."""
    if isinstance(row, Mapping) and ".".join(path) in row:
        return row[".".join(path)]
    for name in path:
        if not isinstance(row, Mapping):
            return None
        row = row.get(name)
    return row


def _put(record: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        below = record.get(name)
        record[name] = record = dict(below) if isinstance(below, Mapping) else {}
    record[path[-1]] = value


def _plain(value: Any) -> Any:
    """A value of a table as JSON knows it; not-a-number is none."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode()
    return value


def _as_field(field: str, value: Any) -> Any:
    if field in _TEXTS and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if field == "objects" and isinstance(value, Sequence) and not isinstance(value, str):
        return list(_objects(value))
    if field == "position" and isinstance(value, float) and value.is_integer():
        return int(value)  # a column with gaps is a column of floats
    return value


def _objects(values: Sequence[Any]) -> Iterator[Any]:
    """Items as objects: a list of bare ids gets positions from 1."""
    for place, value in enumerate(values, 1):
        yield value if isinstance(value, Mapping) else {"object_id": value, "position": place}
