"""What happens: shoppers' events and changes of the catalogue, as a closed union of frozen values.

`decode` makes a value of a record's bytes or raises `BadEvent`, nothing else; `admit` says whether its time fits its
Kafka timestamp; `encode` writes UBI 1.3. All are functions of the record alone: no clock, no state, so that every
replay decides alike.

The wire form is in `headrace.streams.ubi`. Times are integer milliseconds since 1970-01-01 UTC. Positions count from 1;
0 says that a single object came without one.
"""

from hashlib import blake2b
from typing import Final, Literal, cast, get_args

import msgspec

from headrace import BadEvent, TooLate
from headrace.streams import ubi

Reason = Literal[
    "empty",  # no bytes
    "too_large",  # more bytes than a record may have
    "bad_encoding",  # not UTF-8, or half a surrogate pair
    "not_json",
    "too_deep",
    "missing",
    "wrong_type",
    "too_long",  # a text
    "too_many",  # objects
    "control_character",  # in an id
    "out_of_range",  # a number or a time
    "not_a_time",  # not RFC 3339 with an offset, nor epoch milliseconds
    "unknown_action",
    "no_timestamp",  # the Kafka record has none
    "future",
    "late",
    "misrouted",  # in a partition to which its key does not belong
    "key_mismatch",  # the key and the value name different items
]
REASONS: Final[frozenset[str]] = frozenset(get_args(Reason))
"""Every reason code a `BadEvent` may carry: a closed set, fit for a metric label."""


class EventLimits(msgspec.Struct, frozen=True):
    """What a topic accepts. A part of the generation: other limits decide differently about the same log."""

    late_ms: int = 24 * 3_600_000
    future_ms: int = 5 * 60_000
    record_bytes: int = 256_000
    depth: int = 32
    query_chars: int = 1024
    items: int = 1000
    title_chars: int = 1024
    description_chars: int = 65_536
    attributes: int = 200


class Query(msgspec.Struct, frozen=True, gc=False):
    """A search. ``hits`` are the ids of the answer; they count as exposures only where a setting says so."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    text: str
    hits: tuple[str, ...] = ()


class Impression(msgspec.Struct, frozen=True, gc=False):
    """Items that were shown: ``items [B]`` and ``positions [B]``, counted from 1 (0: not said)."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    items: tuple[str, ...]
    positions: tuple[int, ...]


class Click(msgspec.Struct, frozen=True, gc=False):
    """A click on an item; ``query_id`` is "" when it says of no search."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    item_id: str
    position: int | None = None


class Cart(msgspec.Struct, frozen=True, gc=False):
    """An item put into the cart."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    item_id: str
    position: int | None = None


class Purchase(msgspec.Struct, frozen=True, gc=False):
    """An item bought."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    item_id: str
    position: int | None = None


class View(msgspec.Struct, frozen=True, gc=False):
    """An item looked at (or a film watched)."""

    event_id: str
    client_id: str
    query_id: str
    at_ms: int
    item_id: str
    position: int | None = None


class ItemChanged(msgspec.Struct, frozen=True):
    """What the catalogue says of an item, whole. ``price`` None: unknown."""

    item_id: str
    at_ms: int
    title: str
    description: str
    attributes: dict[str, str]
    price: float | None = None


class ItemRemoved(msgspec.Struct, frozen=True):
    """The item left the catalogue: a tombstone."""

    item_id: str
    at_ms: int


Touch = Click | Cart | Purchase | View
ShopperEvent = Query | Impression | Touch
CatalogueEvent = ItemChanged | ItemRemoved
Event = ShopperEvent | CatalogueEvent

_TOUCHES: Final[dict[str, tuple[type[Click] | type[Cart] | type[Purchase] | type[View], str]]] = {
    "click": (Click, "click"),
    "click_through": (Click, "click"),
    "add_to_cart": (Cart, "add_to_cart"),
    "cart": (Cart, "add_to_cart"),
    "purchase": (Purchase, "purchase"),
    "view": (View, "view"),
    "watch": (View, "view"),
}
_ACTION_OF: Final[dict[type, str]] = {Click: "click", Cart: "add_to_cart", Purchase: "purchase", View: "view"}

_TEXTS: Final[set[type]] = {str}
_NUMBERS: Final[set[type]] = {int}


def decode(value: bytes | None, limits: EventLimits) -> ShopperEvent:
    """The event that a record of the events topic holds.

    Raises:
        BadEvent: whatever is wrong with the bytes; never anything else.
    """
    wire = ubi.parse(value, limits.record_bytes, limits.depth)
    field, client = ("client_id", wire.client_id) if wire.client_id else ("session_id", wire.session_id)
    if not client:
        raise BadEvent("client_id", "missing", "neither client_id nor session_id")
    query_id = wire.query_id or ""
    # One look at all ids together; which one it was is found out only when there is something to find.
    if not (client + query_id).isprintable():
        ubi.refuse_control(field, client)
        ubi.refuse_control("query_id", query_id)
    at_ms = ubi.time_ms(wire.timestamp)
    action = wire.action_name
    if action is None:
        return _query(wire, client, query_id, at_ms, limits)
    attributes = wire.event_attributes
    touch = _TOUCHES.get(action)
    if touch is not None:
        item, position = _single(attributes)
        kind, name = touch
        event_id = _event_id(attributes.event_id if attributes else None, client, query_id, name, item, at_ms)
        return kind(event_id, client, query_id, at_ms, item, position)
    if action != "impression":
        raise BadEvent("action_name", "unknown_action", repr(action))
    items, positions = _shown(attributes, limits)
    named = attributes.event_id if attributes else None
    event_id = _event_id(named, client, query_id, action, "\x1e".join(items), at_ms)
    return Impression(event_id, client, query_id, at_ms, items, positions)


def admit(event: ShopperEvent, timestamp_ms: int, limits: EventLimits) -> None:
    """Whether the event's time fits the Kafka timestamp (milliseconds) of its record.

    Raises:
        TooLate: it happened more than ``late_ms`` before.
        BadEvent: ``future`` when it happens more than ``future_ms`` after; ``no_timestamp`` when the record has none.
    """
    ahead_ms = event.at_ms - timestamp_ms
    if -limits.late_ms <= ahead_ms <= limits.future_ms:
        return
    if timestamp_ms < 0:
        raise BadEvent("", "no_timestamp")
    if ahead_ms > 0:
        raise BadEvent("timestamp", "future", f"{ahead_ms} ms after the record's timestamp")
    raise TooLate("timestamp", "late", f"{-ahead_ms} ms before the record's timestamp")


def encode(event: ShopperEvent | ItemChanged) -> bytes:
    """The event as a record's value: UBI 1.3, or an item of the catalogue; `decode` gives it back unchanged."""
    if isinstance(event, ItemChanged):
        body = msgspec.structs.asdict(event)
        del body["at_ms"]
        return msgspec.json.encode({"timestamp": ubi.rfc3339(event.at_ms), **body})
    record: dict[str, object] = {"client_id": event.client_id, "query_id": event.query_id}
    record["timestamp"] = ubi.rfc3339(event.at_ms)
    if isinstance(event, Query):
        record["user_query"] = event.text
        record["query_attributes"] = {"event_id": event.event_id}
        if event.hits:
            record["query_response_hit_ids"] = event.hits
        return msgspec.json.encode(record)
    attributes: dict[str, object] = {"event_id": event.event_id}
    if isinstance(event, Impression):
        record["action_name"] = "impression"
        attributes["objects"] = [
            {"object_id": item, "position": position}
            for item, position in zip(event.items, event.positions, strict=True)
        ]
    else:
        record["action_name"] = _ACTION_OF[type(event)]
        attributes["object"] = {"object_id": event.item_id}
        if event.position is not None:
            attributes["position"] = {"ordinal": event.position}
    record["event_attributes"] = attributes
    return msgspec.json.encode(record)


def decode_item(key: bytes | None, value: bytes | None, timestamp_ms: int, limits: EventLimits) -> CatalogueEvent:
    """The change that a record of the items topic holds; without a value it is a tombstone, at its Kafka timestamp.

    The value is ``{"item_id", "timestamp", "title", "description", "attributes": {}, "price"}``; only a title or a
    description must be there. ``item_id``, if given, is the key; attributes may be numbers, truth values or lists of
    texts, and become text.

    Raises:
        BadEvent: whatever is wrong with the record; never anything else.
    """
    try:
        item = ubi.item_id("key", (key or b"").decode())
    except UnicodeDecodeError:
        raise BadEvent("key", "bad_encoding", "not UTF-8") from None
    if len(item) > 256:
        raise BadEvent("key", "too_long", "at most 256 characters")
    if value is None:
        return ItemRemoved(item, timestamp_ms)
    wire = ubi.parse_item(value, limits.record_bytes, limits.depth)
    if wire.item_id is not None and str(wire.item_id) != item:
        raise BadEvent("item_id", "key_mismatch")
    title, description = wire.title or "", wire.description or ""
    if not (title or description):
        raise BadEvent("title", "missing", "neither title nor description")
    attributes = wire.attributes or {}
    for field, size, bound in (
        ("title", len(title), limits.title_chars),
        ("description", len(description), limits.description_chars),
    ):
        if size > bound:
            raise BadEvent(field, "too_long", f"{size} characters, at most {bound}")
    if len(attributes) > limits.attributes:
        raise BadEvent("attributes", "too_many", f"{len(attributes)}, at most {limits.attributes}")
    texts = {name: ubi.attribute_text(one) for name, one in attributes.items() if one is not None}
    at_ms = timestamp_ms if wire.timestamp is None else ubi.time_ms(wire.timestamp)
    return ItemChanged(item, at_ms, title, description, texts, wire.price)


def _query(wire: ubi.Wire, client: str, query_id: str, at_ms: int, limits: EventLimits) -> Query:
    text = wire.user_query
    if text is None:
        raise BadEvent("user_query", "missing", "a record without action_name is a query")
    if len(text) > limits.query_chars:
        raise BadEvent("user_query", "too_long", f"{len(text)} characters, at most {limits.query_chars}")
    field = "query_response_hit_ids"
    found = wire.query_response_hit_ids or wire.query_response_objects_ids or ()
    if len(found) > limits.items:
        raise BadEvent(field, "too_many", f"{len(found)}, at most {limits.items}")
    hits = tuple([ubi.item_id(field, one) for one in found])
    named = (wire.query_attributes and wire.query_attributes.event_id) or (
        wire.event_attributes and wire.event_attributes.event_id
    )
    event_id = _event_id(named or None, client, query_id, "query", text, at_ms)
    # A search that nothing can name is still one search.
    return Query(event_id, client, query_id or event_id, at_ms, text, hits)


def _single(attributes: ubi.EventAttributes | None) -> tuple[str, int | None]:
    """The one item of a touch and its position."""
    shown = attributes.object if attributes is not None else None
    if shown is None:
        several = (attributes.objects if attributes is not None else None) or ()
        if not several:
            raise BadEvent("event_attributes.object", "missing")
        if len(several) > 1:
            raise BadEvent("event_attributes.objects", "too_many", "one touch, one object")
        shown = several[0]
    said = attributes.position if attributes is not None else None
    position = ubi.ordinal(shown.position if said is None else said)
    return ubi.item_id("event_attributes.object.object_id", shown.object_id), position


def _shown(attributes: ubi.EventAttributes | None, limits: EventLimits) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The items of an impression and their positions."""
    several = attributes.objects if attributes is not None else None
    if not several:
        item, position = _single(attributes)
        return (item,), (position or 0,)
    if len(several) > limits.items:
        raise BadEvent("event_attributes.objects", "too_many", f"{len(several)}, at most {limits.items}")
    field = "event_attributes.objects[].object_id"
    raw = [one.object_id for one in several]
    items = raw if {*map(type, raw)} == _TEXTS else [ubi.item_id(field, item) for item in raw]
    items = cast(list[str], items)
    if "" in items or not "".join(items).isprintable():  # one look at all; find out which one only if need be
        for item in items:
            ubi.item_id(field, item)
    said = [one.position for one in several]
    if {*map(type, said)} != _NUMBERS:
        found = [ubi.ordinal(one) for one in said]
        said = [place if one is None else one for place, one in enumerate(found, 1)]
    positions = cast(list[int], said)
    if min(positions) < 0 or max(positions) > ubi.POSITION_MAX:
        raise BadEvent("event_attributes.objects[].position", "out_of_range", f"0 to {ubi.POSITION_MAX}")
    return tuple(items), tuple(positions)


def _event_id(named: str | None, client: str, query_id: str, action: str, objects: str, at_ms: int) -> str:
    """The id the event came with, else 32 hex digits that the same event always gets."""
    if named:
        if not named.isprintable():
            ubi.refuse_control("event_attributes.event_id", named)
        return named
    # No id holds a control character, and the free text of a query stands last: no two events join to the same bytes.
    text = f"{client}\x1f{query_id}\x1f{action}\x1f{at_ms}\x1f{objects}"
    return blake2b(text.encode(), digest_size=16).hexdigest()
