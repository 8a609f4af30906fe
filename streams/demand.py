"""Which pairs of query and item shoppers see most, out of the state: what is worth a teacher's time beforehand."""

import heapq
from collections.abc import Iterator
from typing import Any, NamedTuple

from headrace.streams.keys import Keys
from headrace.streams.neighbours import unpack_edge, within
from headrace.streams.redis_wire import Wire

_AT_ONCE = 500


class Demand(NamedTuple):
    """A pair, and how often it was shown within the window; by exposures, ties by query and item."""

    exposures: int
    query: int
    item_id: str


def most_shown(wire: Wire, keys: Keys, most: int, as_of_day: int, window_days: int) -> list[Demand]:
    """The pairs with most exposures, the most shown first.

    Reads every query's edges once, some hundreds at a time; holds no more than ``most`` of them.

    Args:
        wire: to Redis.
        keys: of the generation.
        most: at most so many pairs.
        as_of_day: UTC day.
        window_days: that end with that day.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    found: list[Demand] = []
    seen: set[tuple[int, str]] = set()  # SCAN may give a key twice
    for query, fields in _queries(wire, keys):
        for name, edge in fields:
            exposures = sum(row[1] for row in within(unpack_edge(edge), as_of_day, window_days))
            one = Demand(exposures, query, name.decode())
            if exposures and (len(found) < most or one > found[0]) and one[1:] not in seen:
                seen.add((one.query, one.item_id))
                if len(found) < most:
                    heapq.heappush(found, one)
                else:
                    left = heapq.heapreplace(found, one)
                    seen.discard((left.query, left.item_id))
    return sorted(found, reverse=True)


def _queries(wire: Wire, keys: Keys) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
    """Every query's hash and edges."""
    cursor = b"0"
    while True:
        answer: Any = wire.call([("SCAN", cursor, "MATCH", f"{keys.stem}q:*", "COUNT", _AT_ONCE)])[0]
        cursor, names = answer
        values: list[Any] = wire.call([("HGETALL", name) for name in names]) if names else []
        for name, fields in zip(names, values, strict=True):
            edges = zip(fields[::2], fields[1::2], strict=True)
            yield int(name[-17:-1], 16), [(field, edge) for field, edge in edges if field[:1] != b"\0"]
        if cursor == b"0":
            return
