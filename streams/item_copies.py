"""The bytes of an item's copies of edges: what a request reads for each of its items.

u8 codec (1), u8 capped, then rows of 18 bytes, those of one query together and by day: u64 query, u16 day, u32 E, u32
C, little endian. Rows of many items can be read as one array.
"""

from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.streams import neighbours
from headrace.streams.neighbours import Row

CODEC: Final = 1
HEAD_BYTES: Final = 2
ROW: Final = np.dtype([("query", "<u8"), ("day", "<u2"), ("exposures", "<u4"), ("clicks", "<u4")])
ROW_BYTES: Final = ROW.itemsize

_EDGE_HEAD, _EDGE_ROW = neighbours.HEAD_BYTES, neighbours.ROW_BYTES


def pack_rows(query: bytes, edge: bytes) -> bytes:
    """The rows of one edge as they stand on an item; query is its hash, 8 bytes little endian."""
    return b"".join([query + edge[at : at + _EDGE_ROW] for at in range(_EDGE_HEAD, len(edge), _EDGE_ROW)])


def rows_of(value: bytes) -> NDArray[np.void]:
    """The rows of an item's string, ROW [S]; query by query.

    Raises:
        ValueError: another codec, or cut bytes.
    """
    if value[:1] != bytes((CODEC,)) or (len(value) - HEAD_BYTES) % ROW_BYTES:
        raise ValueError(f"not an item of codec {CODEC}: {value[:12]!r}")
    return np.frombuffer(value, dtype=ROW, offset=HEAD_BYTES)


def copies(value: bytes) -> list[tuple[int, list[Row]]]:
    """The copies an item holds: (query hash, rows by day)."""
    rows = [row.item() for row in rows_of(value)]
    return [(query, [row[1:] for row in group]) for query, group in groupby(rows, key=lambda row: int(row[0]))]


def is_capped(value: bytes) -> bool:
    """Whether the item ever met its bound of bytes."""
    return value[1] == 1
