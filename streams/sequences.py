"""A shopper's lifelong sequence: fixed-size records, kept in log order, read in event-time order.

Appending is O(1): a record goes behind the others as the log brings it, and who reads sorts by event time (stably, so
ties stay in log order) and takes the newest N. Once N + slack records lie there, a writer replaces them by the newest
N: a record that was not among the newest N then can never be again, so the cut changes no read.

Shapes: L records.
"""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

RECORD: Final = np.dtype([("query", "<u8"), ("item", "<u8"), ("at_ms", "<i8"), ("action", "u1")])
"""One record, 25 bytes: hash of the query (0: none is known) and of the item (0: a search), event time, action."""

SEARCH, VIEW, CLICK, CART, PURCHASE = range(5)
ACTIONS: Final = ("search", "view", "click", "cart", "purchase")

RECORD_BYTES: Final = RECORD.itemsize
_PACK = struct.Struct("<QQqB").pack

Sequence = NDArray[np.void]


def pack(query: int, item: int, at_ms: int, action: int) -> bytes:
    """The 25 bytes of one record."""
    return _PACK(query, item, at_ms, action)


def newest(log: bytes, limit: int) -> Sequence:
    """The newest records of a sequence, oldest first.

    Args:
        log: records in log order, 25 bytes each; empty when the shopper is unknown.
        limit: at most so many come back.

    Returns:
        RECORD [min(L, limit)], by event time; ties in log order, of which the later ones count as newer.

    Raises:
        ValueError: the bytes are not whole records.
    """
    records = np.frombuffer(log, dtype=RECORD)
    times = records["at_ms"]
    if len(times) > 1 and bool(np.any(times[1:] < times[:-1])):
        records = records[np.argsort(times, kind="stable")]
    return records[-limit:] if len(records) > limit else records
