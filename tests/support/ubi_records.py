"""UBI records as dictionaries and bytes, for tests: each builder takes what should differ."""

import json
from typing import Any

AT = "2025-06-01T12:00:00.123Z"
AT_MS = 1_748_779_200_123


def raw(record: object) -> bytes:
    """The record as JSON bytes."""
    return json.dumps(record).encode()


def click(**fields: Any) -> dict[str, Any]:
    """A click of UBI 1.3 on item i1 at position 3."""
    return {
        "action_name": "click",
        "client_id": "c1",
        "query_id": "q1",
        "timestamp": AT,
        "event_attributes": {"object": {"object_id": "i1"}, "position": {"ordinal": 3}},
        **fields,
    }


def impression(*items: object, **fields: Any) -> dict[str, Any]:
    """An impression of some items in our shape, at positions 1, 2, ..."""
    objects = [{"object_id": item, "position": place} for place, item in enumerate(items, 1)]
    return click(action_name="impression", event_attributes={"objects": objects}, **fields)


def query(**fields: Any) -> dict[str, Any]:
    """A query of UBI 1.3."""
    return {"user_query": "laptop stand", "client_id": "c1", "query_id": "q1", "timestamp": AT, **fields}
