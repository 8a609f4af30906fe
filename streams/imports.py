"""Other people's rows and records on their way into a topic of ours: what they make, and where it belongs. Pure."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from headrace.streams.columns import Columns, Content
from headrace.streams.events import EventLimits, Impression, ItemChanged, Query, admit, decode, decode_item
from headrace.streams.ubi import refusal

LIMITS: Final = EventLimits()
_KEY_CHARS: Final = 1_000


class _Named(msgspec.Struct):
    item_id: str | int | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a record belongs.

    Attributes:
        key: its shopper, or its item.
        at_ms: its Kafka timestamp: the time of the event. However old it is, it is not too late.
        rank: of events at the same time what comes first: a query, then what it showed, then what was done with it.
    """

    key: bytes
    at_ms: int
    rank: int = 0


def placed(content: Content, value: bytes | None, now_ms: int, key: bytes | None = None) -> Placed:
    """Where a record belongs.

    Args:
        content: what it should be.
        value: its bytes; of an item None: it is removed.
        now_ms: an event far behind it is one from the future, and the time of an item that names none.
        key: that of an item whose value does not name it.

    Raises:
        BadEvent: it is none.
    """
    if content == "events":
        event = decode(value, LIMITS)
        admit(event, min(event.at_ms, now_ms), LIMITS)
        rank = 0 if isinstance(event, Query) else 1 if isinstance(event, Impression) else 2
        return Placed(event.client_id.encode(), event.at_ms, rank)
    if value is not None:
        try:
            named = msgspec.json.decode(value, type=_Named).item_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise refusal(error, value) from None
        key = str(named)[:_KEY_CHARS].encode() if named is not None else key
    item = decode_item(key or b"", value, now_ms, LIMITS)
    return Placed(key or b"", item.at_ms if isinstance(item, ItemChanged) else now_ms)


def record_of(data: bytes, columns: Columns) -> bytes:
    """The record that a JSON object makes.

    Raises:
        BadEvent: it is no JSON object, or one that makes none.
    """
    if columns.verbatim:
        return data
    try:
        return columns.record(msgspec.json.decode(data, type=dict[str, Any]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(error, data) from None
