"""Edges between queries and items, and the rule that makes an edge a neighbour.

An edge holds exposures E and clicks C by UTC day, for the W days up to its own newest day. All of it is integer sums,
so no order of arrival can change it. Which edges are neighbours, and in which order, is computed when it is asked, as
of a day: it is not state.

The edge's bytes (codec 1, little endian): u8 codec, u32 sum of E, u32 sum of C, then a row for each day, oldest first:
u16 day, u32 E, u32 C.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Final

CODEC: Final = 1
_HEAD = struct.Struct("<BII")
_ROW = struct.Struct("<HII")
HEAD_BYTES: Final = _HEAD.size
ROW_BYTES: Final = _ROW.size

Row = tuple[int, int, int]
"""(day, exposures, clicks)"""


@dataclass(frozen=True, slots=True)
class NeighbourRule:
    """When an edge is a neighbour.

    Attributes:
        window_days: W, days that count, the day asked for included.
        min_exposures: E an edge needs within the window.
        min_click_rate: C/E it needs.
        limit: at most so many neighbours come back.

    Source: ProRBP, arXiv 2408.09439, for 100 and 0.2; the window, the order and the limit are ours.
    """

    window_days: int = 30
    min_exposures: int = 100
    min_click_rate: float = 0.2
    limit: int = 5


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An edge that passes the rule, as of a day."""

    name: str
    exposures: int
    clicks: int
    wilson: float


def pack_edge(rows: Sequence[Row]) -> bytes:
    """The bytes of an edge; rows by day, oldest first."""
    head = _HEAD.pack(CODEC, sum(row[1] for row in rows), sum(row[2] for row in rows))
    return head + b"".join(_ROW.pack(*row) for row in rows)


def unpack_edge(value: bytes) -> list[Row]:
    """The rows of an edge, oldest first.

    Raises:
        ValueError: another codec, or cut bytes.
    """
    if not value or value[0] != CODEC or (len(value) - HEAD_BYTES) % ROW_BYTES:
        raise ValueError(f"not an edge of codec {CODEC}: {value[:12]!r}")
    return list(_ROW.iter_unpack(value[HEAD_BYTES:]))


def exposures_of(value: bytes) -> int:
    """The exposures an edge holds, over the window before its own newest day."""
    return int.from_bytes(value[1:5], "little")


def add(rows: Sequence[Row], day: int, exposures: int, clicks: int, window_days: int) -> list[Row]:
    """The rows after an increment, cut to the window before the newest day.

    An increment older than the window changes nothing.
    """
    days = {row[0]: row for row in rows}
    before = days.get(day, (day, 0, 0))
    days[day] = (day, before[1] + exposures, before[2] + clicks)
    newest = max(days)
    return sorted(row for row in days.values() if row[0] > newest - window_days)


def version(rows: Sequence[Row]) -> tuple[int, int]:
    """(newest day, E + C): grows with every change of an edge, so a copy of it knows which is newer."""
    return (rows[-1][0], sum(row[1] + row[2] for row in rows)) if rows else (-1, 0)


def within(rows: Sequence[Row], as_of_day: int, window_days: int) -> list[Row]:
    """The rows of the window that ends with a day."""
    return [row for row in rows if as_of_day - window_days < row[0] <= as_of_day]


def wilson_lower(clicks: int, exposures: int, z: float = 1.96) -> float:
    """The lower bound of the click rate's 95 % interval; 0 without exposures.

    Source: Wilson 1927. Clicks above exposures cannot happen (a click implies its exposure).
    """
    if exposures <= 0:
        return 0.0
    rate, z2 = clicks / exposures, z * z
    margin = z * sqrt((rate * (1 - rate) + z2 / (4 * exposures)) / exposures)
    return max(0.0, (rate + z2 / (2 * exposures) - margin) / (1 + z2 / exposures))


def neighbours(edges: Iterable[tuple[str, Sequence[Row]]], as_of_day: int, rule: NeighbourRule) -> list[Neighbour]:
    """The neighbours among some edges as of a day, best Wilson bound first; ties by name."""
    found = []
    for name, rows in edges:
        counted = within(rows, as_of_day, rule.window_days)
        exposures, clicks = sum(row[1] for row in counted), sum(row[2] for row in counted)
        if exposures >= rule.min_exposures and clicks >= rule.min_click_rate * exposures:
            found.append(Neighbour(name, exposures, clicks, wilson_lower(clicks, exposures)))
    found.sort(key=lambda neighbour: (-neighbour.wilson, neighbour.name))
    return found[: rule.limit]
