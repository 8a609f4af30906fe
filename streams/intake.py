"""Events as they come over HTTP: one UBI object or an array of them, each judged alone. Pure."""

import re
from typing import Final

import msgspec

from headrace import BadEvent, BadRequest
from headrace.streams.events import EventLimits, decode

BODY_BYTES: Final = 4 * 1024 * 1024
BODY_EVENTS: Final = 1000

Accepted = list[tuple[bytes, bytes]]
"""(key, value) of each record to be written, in the order they came; the value is the event's own bytes."""

Refused = list[tuple[int, BadEvent]]
"""(place in the array from 0, why)."""

_array = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")


def accept(
    body: bytes, limits: EventLimits, body_bytes: int = BODY_BYTES, body_events: int = BODY_EVENTS
) -> tuple[Accepted, Refused]:
    """What of a request's body becomes a record, and what does not and why.

    Whether an event is late or in the future is not asked here: its record's Kafka timestamp decides, when it is read.

    Args:
        body: a UBI object or a JSON array of them.
        limits: what the events topic accepts.
        body_bytes: most bytes of a body.
        body_events: most events in one.

    Raises:
        BadRequest: the body as a whole cannot be read; nothing of it was accepted.
    """
    if len(body) > body_bytes:
        raise BadRequest("body", f"{len(body)} bytes, at most {body_bytes}: send several requests")
    events = [body] if _OBJECT.match(body) else _elements(body)
    if len(events) > body_events:
        raise BadRequest("body", f"{len(events)} events, at most {body_events}: send several requests")
    accepted: Accepted = []
    refused: Refused = []
    for index, value in enumerate(events):
        try:
            accepted.append((decode(value, limits).client_id.encode(), value))
        except BadEvent as error:
            refused.append((index, error))
    return accepted, refused


def _elements(body: bytes) -> list[bytes]:
    try:
        return [bytes(element) for element in _array.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("body", f"neither a JSON object nor a JSON array: {str(error)[:200]}") from None
