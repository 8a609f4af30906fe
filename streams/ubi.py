"""The wire form of search events: OpenSearch User Behavior Insights (UBI) 1.0 to 1.3, as JSON.

Source: the schemas of https://github.com/o19s/ubi. Only what Headrace reads is named here; whatever else a record
holds is skipped, its bytes bounded. One msgspec decode turns bytes into a `Wire`; what it means is decided in
`headrace.streams.events`.

Differences between the versions that are accepted: ``position.ordinal`` is ``{"index": n}`` up to 1.2 and ``n`` in
1.3; ``query_response_hit_ids`` was called ``query_response_objects_ids`` in the documentation; early collectors send
the timestamp as epoch milliseconds. Our own shapes live in the open maps: ``event_attributes.objects`` (many objects in
one record), ``event_attributes.event_id`` and ``query_attributes.event_id``, ``position`` as a plain number.
"""

import datetime
import re
from typing import Annotated, Final

import msgspec

from headrace import BadEvent

Short = Annotated[str, msgspec.Meta(max_length=100)]
ObjectId = Annotated[str, msgspec.Meta(max_length=256)]
Message = Annotated[str, msgspec.Meta(max_length=1024)]
Timestamp = Annotated[datetime.datetime, msgspec.Meta(tz=True)]
Scalar = Message | int | float | bool | None
Price = Annotated[float, msgspec.Meta(ge=0)]


class Index(msgspec.Struct, gc=False):
    """``{"index": n}``: the ordinal of UBI up to 1.2."""

    index: int


class Position(msgspec.Struct, gc=False):
    """``{"ordinal": n}``; ``xy`` is not read."""

    ordinal: int | Index | None = None


class Object(msgspec.Struct, gc=False):
    """One thing that was shown or touched."""

    object_id: ObjectId | int
    position: int | Position | None = None


class EventAttributes(msgspec.Struct, gc=False):
    """The open map of a UBI event, as far as it is read."""

    object: Object | None = None
    objects: list[Object] | None = None
    position: int | Position | None = None
    event_id: Short | None = None


class QueryAttributes(msgspec.Struct, gc=False):
    """The open map of a UBI query, as far as it is read."""

    event_id: Short | None = None


class Wire(msgspec.Struct, gc=False):
    """A UBI query (no ``action_name``) or a UBI event."""

    timestamp: Timestamp | int | None = None
    action_name: Short | None = None
    client_id: Short | None = None
    session_id: Short | None = None
    query_id: Short | None = None
    event_attributes: EventAttributes | None = None
    user_query: str | None = None
    query_attributes: QueryAttributes | None = None
    query_response_hit_ids: list[ObjectId | int] | None = None
    query_response_objects_ids: list[ObjectId | int] | None = None
    # Not used, but the standard bounds them and so do we.
    application: Short | None = None
    user_id: Short | None = None
    message_type: Short | None = None
    message: Message | None = None


class ItemWire(msgspec.Struct):
    """What the catalogue says of an item; ours, UBI has no such record."""

    item_id: ObjectId | int | None = None
    timestamp: Timestamp | int | None = None
    title: str | None = None
    description: str | None = None
    attributes: dict[Short, Scalar | list[Scalar]] | None = None
    price: Price | None = None


FIRST_MS: Final = 946_684_800_000  # 2000-01-01
LAST_MS: Final = 4_102_444_800_000  # 2100-01-01
POSITION_MAX: Final = 1_000_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")

_decode_wire = msgspec.json.Decoder(Wire).decode
_decode_item = msgspec.json.Decoder(ItemWire).decode

_OPENERS_CHECKED: Final = 64
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_PATH: Final = re.compile(r" - at `(?:key in )?\$?\.?(.*)`$")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_DETAIL_CHARS: Final = 200
_ATTRIBUTE_CHARS: Final = 1024


def check_bytes(value: bytes | None, record_bytes: int, depth: int) -> bytes:
    """The value itself, once its size, encoding and nesting are within bounds.

    Raises:
        BadEvent: ``empty``, ``too_large``, ``bad_encoding`` or ``too_deep``.
    """
    if not value:
        raise BadEvent("", "empty")
    if len(value) > record_bytes:
        raise BadEvent("", "too_large", f"{len(value)} bytes, at most {record_bytes}")
    # msgspec does not look into the strings it skips.
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise BadEvent("", "bad_encoding", f"not UTF-8 at byte {error.start}") from None
    # msgspec stops at the interpreter's recursion limit, which depends on the caller's stack: the bound must not.
    if value.count(b"{") + value.count(b"[") > min(depth, _OPENERS_CHECKED) and _deeper_than(value, depth):
        raise BadEvent("", "too_deep", f"at most {depth} levels")
    return value


def _deeper_than(value: bytes, depth: int) -> bool:
    """Whether brackets nest more than `depth` levels, not counting those inside strings."""
    brackets = value.translate(None, _NOT_BRACKETS)
    for _ in range(4):  # takes the innermost level away each time; what a sound record of ours nests is gone after 4
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    if not brackets:
        return False
    level = 0
    for byte in _STRING.sub(b"", value).translate(None, _NOT_BRACKETS):
        level += 1 if byte in b"[{" else -1
        if level > depth:
            return True
    return False


def parse(value: bytes | None, record_bytes: int, depth: int) -> Wire:
    """Bytes to wire form.

    Raises:
        BadEvent: for everything that is not a UBI record within the bounds.
    """
    checked = check_bytes(value, record_bytes, depth)
    try:
        return _decode_wire(checked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(error, checked) from None


def parse_item(value: bytes | None, record_bytes: int, depth: int) -> ItemWire:
    """Bytes to the wire form of a catalogue item.

    Raises:
        BadEvent: for everything that is not one within the bounds.
    """
    checked = check_bytes(value, record_bytes, depth)
    try:
        return _decode_item(checked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(error, checked) from None


def refusal(error: Exception, value: bytes) -> BadEvent:
    """The BadEvent that says what msgspec said: field, reason code, bounded detail."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return BadEvent("", "bad_encoding", "not UTF-8")
    if isinstance(error, RecursionError):
        return BadEvent("", "too_deep")
    if not isinstance(error, msgspec.ValidationError):
        if _SURROGATE.search(value):
            return BadEvent("", "bad_encoding", f"lone surrogate or malformed JSON: {text}"[:_DETAIL_CHARS])
        return BadEvent("", "not_json", text[:_DETAIL_CHARS])
    found = _PATH.search(text)
    field = found.group(1) if found else ""
    detail = _PATH.sub("", text)[:_DETAIL_CHARS]
    if "missing required field" in text:
        name = detail.split("`")[1]
        return BadEvent(f"{field}.{name}" if field else name, "missing")
    for sign, reason in _REASON_OF:
        if sign in text:
            return BadEvent(field, reason, detail)
    return BadEvent(field, "wrong_type", detail)


_REASON_OF: Final = (
    ("of length <=", "too_long"),
    ("out of range", "out_of_range"),
    (" >= ", "out_of_range"),
    ("RFC3339", "not_a_time"),
    ("timezone component", "not_a_time"),
)


def item_id(field: str, raw: str | int) -> str:
    """An id as text.

    Raises:
        BadEvent: it is empty, holds a control character, or is a number of more than 64 bits.
    """
    if type(raw) is str:
        if not raw:
            raise BadEvent(field, "missing", "empty")
        if not raw.isprintable():
            refuse_control(field, raw)
        return raw
    if not -(2**63) <= int(raw) < 2**64:
        raise BadEvent(field, "out_of_range", "more than 64 bits")
    return str(raw)


def ordinal(said: int | Position | None) -> int | None:
    """The ordinal, whichever of the three shapes it came in."""
    if isinstance(said, Position):
        ordinal = said.ordinal
        said = ordinal.index if isinstance(ordinal, Index) else ordinal
    if said is not None and not 0 <= said <= POSITION_MAX:
        raise BadEvent("event_attributes.position", "out_of_range", f"0 to {POSITION_MAX}")
    return said


def refuse_control(field: str, text: str) -> None:
    """Raises BadEvent if the text holds a C0 or C1 control character."""
    found = _CONTROL.search(text)
    if found:
        raise BadEvent(field, "control_character", f"U+{ord(found.group()):04X} at {found.start()}")


def time_ms(said: datetime.datetime | int | None) -> int:
    """The event time in milliseconds; BadEvent unless from 2000 to 2099."""
    if said is None:
        raise BadEvent("timestamp", "missing")
    if isinstance(said, int):
        at_ms = said
    else:
        since = said - _EPOCH
        at_ms = (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
    if not FIRST_MS <= at_ms < LAST_MS:
        raise BadEvent("timestamp", "out_of_range", "from 2000 to 2099, RFC 3339 or epoch milliseconds")
    return at_ms


def rfc3339(at_ms: int) -> str:
    """The time as text, in UTC, to the millisecond."""
    at = _EPOCH + datetime.timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def attribute_text(said: Scalar | list[Scalar]) -> str:
    """An attribute as text: numbers and truth values as JSON writes them, lists joined by ", ".

    Raises:
        BadEvent: ``too_long``, a list of more than 1,024 characters in all.
    """
    if not isinstance(said, list):
        return said if isinstance(said, str) else msgspec.json.encode(said).decode()
    text = ", ".join(attribute_text(one) for one in said if one is not None)
    if len(text) > _ATTRIBUTE_CHARS:
        raise BadEvent("attributes[...]", "too_long", f"{len(text)} characters, at most {_ATTRIBUTE_CHARS}")
    return text
