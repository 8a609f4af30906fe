"""What the state knows, put into words for a ranking service; pure.

Presence and age stand beside every feature: nothing is a default that cannot be told from a value.

Shapes: B items, F features, R query edges, S item edges, G groups of edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.features import FEATURES, Reading, matrix
from headrace.online.found import Fences, Found
from headrace.online.messages import FeaturesRequest
from headrace.streams.identity import DAY_MS, hash_of
from headrace.streams.neighbours import NeighbourRule, wilson_lower
from headrace.streams.searches import query_of
from headrace.streams.sequences import ACTIONS, SEARCH


class NeighbourSaid(msgspec.Struct, frozen=True):
    """A neighbour: what it is, exposures and clicks within the window, the Wilson bound it is ranked by, its age.

    ``name`` is an item's id, or a query's 64-bit hash in hexadecimal: queries are kept by hash.
    """

    name: str
    exposures: int
    clicks: int
    wilson: float
    age_ms: int


class RecordSaid(msgspec.Struct, frozen=True):
    """One action of a shopper; ``item`` is the id where the request named it, else None beside the hash."""

    action: str
    query_hash: str
    item: str | None
    item_hash: str
    at_ms: int
    age_ms: int


class QuerySaid(msgspec.Struct, frozen=True):
    """What is known of the query: whether it has edges at all, whether it met its bound, its neighbours best first."""

    known: bool
    capped: bool
    edges: int
    age_ms: int | None
    neighbours: list[NeighbourSaid]


class ItemFeatures(msgspec.Struct, frozen=True):
    """What is known of one item: presence and age of each kind, its neighbours, its features in the order of names."""

    id: str
    present: dict[str, bool]
    ages: dict[str, int | None]
    neighbours: list[NeighbourSaid]
    features: list[float]


class ShopperSaid(msgspec.Struct, frozen=True):
    """What is known of the shopper; histories newest first."""

    known: bool
    records: int
    age_ms: int | None
    recent: list[RecordSaid]
    relevant: list[RecordSaid]


class FeaturesAnswer(msgspec.Struct, frozen=True):
    """The answer to ``POST /v1/features``.

    Attributes:
        generation: which build of the state was read; None when nothing was ever built.
        names: of the features, in the order of each item's ``features``.
        fences: kind -> source -> last offset that what was read had seen.
    """

    request_id: str
    now_ms: int
    generation: str | None
    query: QuerySaid | None
    shopper: ShopperSaid | None
    items: list[ItemFeatures]
    names: tuple[str, ...]
    fences: Fences


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges summed over their days: G groups of (place, name).

    Attributes:
        place: the item's place for item edges, 0 for query edges. name: hash of the other end.
        exposures, clicks, day: sums, and the newest day.
    """

    place: NDArray[np.int64]
    name: NDArray[np.uint64]
    exposures: NDArray[np.int64]
    clicks: NDArray[np.int64]
    day: NDArray[np.int64]
    names: Mapping[int, str] = field(default_factory=dict)

    def neighbours(self, rule: NeighbourRule, now_ms: int) -> dict[int, list[NeighbourSaid]]:
        """The neighbours of each place that has some, best first; ties by name."""
        passed = (self.exposures >= rule.min_exposures) & (self.clicks >= rule.min_click_rate * self.exposures)
        found: dict[int, list[NeighbourSaid]] = {}
        for at in np.flatnonzero(passed).tolist():
            name = int(self.name[at])
            shown, clicked = int(self.exposures[at]), int(self.clicks[at])
            said = NeighbourSaid(
                name=self.names.get(name, f"{name:016x}"),
                exposures=shown,
                clicks=clicked,
                wilson=wilson_lower(clicked, shown),
                age_ms=max(0, now_ms - int(self.day[at]) * DAY_MS),
            )
            found.setdefault(int(self.place[at]), []).append(said)
        for several in found.values():
            several.sort(key=lambda neighbour: (-neighbour.wilson, neighbour.name))
            del several[rule.limit :]
        return found

    def newest_days(self) -> dict[int, int]:
        """The newest day of each place."""
        newest: dict[int, int] = {}
        for place, day in zip(self.place.tolist(), self.day.tolist(), strict=True):
            newest[place] = max(day, newest.get(place, day))
        return newest


def summed(
    place: NDArray[np.int64], name: NDArray[np.uint64], rows: NDArray[np.void], names: Mapping[int, str] | None = None
) -> Edges:
    """Rows by day, EDGE or ITEM_EDGE [R], as sums over their days; place and name [R] say what belongs together."""
    order = np.lexsort((rows["day"], name, place))
    place, name, rows = place[order], name[order], rows[order]
    if not len(rows):
        nothing = np.empty(0, dtype=np.int64)
        return Edges(nothing, np.empty(0, dtype=np.uint64), nothing, nothing, nothing, names or {})
    first = np.flatnonzero(np.concatenate([[True], (place[1:] != place[:-1]) | (name[1:] != name[:-1])]))
    last = np.concatenate([first[1:], [len(rows)]]) - 1
    return Edges(
        place=place[first],
        name=name[first],
        exposures=np.add.reduceat(rows["exposures"].astype(np.int64), first),
        clicks=np.add.reduceat(rows["clicks"].astype(np.int64), first),
        day=rows["day"][last].astype(np.int64),
        names=names or {},
    )


def features_answer(
    request: FeaturesRequest, found: Found, now_ms: int, request_id: str, rule: NeighbourRule
) -> FeaturesAnswer:
    """Everything that was found for a request, with presence and age."""
    return FeaturesAnswer(
        request_id=request_id,
        now_ms=now_ms,
        generation=found.generation,
        query=None if request.query is None else _query(found, now_ms, rule),
        shopper=None if request.client_id is None else _shopper(request, found, now_ms),
        items=_items(request, found, now_ms, rule),
        names=FEATURES,
        fences=found.fences,
    )


def _query(found: Found, now_ms: int, rule: NeighbourRule) -> QuerySaid:
    rows = found.query_edges
    edges = summed(np.zeros(len(rows), dtype=np.int64), rows["item"].astype(np.uint64), rows, found.query_items)
    newest = edges.newest_days().get(0)
    return QuerySaid(
        known=found.query_known,
        capped=found.query_capped,
        edges=len(edges.name),
        age_ms=None if newest is None else max(0, now_ms - newest * DAY_MS),
        neighbours=edges.neighbours(rule, now_ms).get(0, []),
    )


def _items(request: FeaturesRequest, found: Found, now_ms: int, rule: NeighbourRule) -> list[ItemFeatures]:
    ids = request.ids()
    if not ids:
        return []
    rows = found.item_edges
    edges = summed(rows["owner"].astype(np.int64), rows["query"].astype(np.uint64), rows)
    near, newest = edges.neighbours(rule, now_ms), edges.newest_days()
    shown_days = dict(zip(found.query_edges["item"].tolist(), found.query_edges["day"].tolist(), strict=True))
    touched = {
        item: at_ms
        for item, at_ms, action in zip(
            found.sequence["item"].tolist(),
            found.sequence["at_ms"].tolist(),
            found.sequence["action"].tolist(),
            strict=True,
        )
        if action != SEARCH
    }
    values = matrix(_reading(request, found, now_ms)).tolist()

    def age(at_ms: int | None) -> int | None:
        return None if at_ms is None else max(0, now_ms - at_ms)

    said = []
    for place, item in enumerate(ids):
        name = hash_of(item)
        item_day, query_day = newest.get(place), shown_days.get(name)
        ages = {
            "query_edge_ms": age(None if query_day is None else query_day * DAY_MS),
            "item_edges_ms": age(None if item_day is None else item_day * DAY_MS),
            "touched_ms": age(touched.get(name)),
        }
        present = {kind.removesuffix("_ms"): value is not None for kind, value in ages.items()}
        said.append(ItemFeatures(item, present, ages, near.get(place, []), values[place]))
    return said


def _shopper(request: FeaturesRequest, found: Found, now_ms: int) -> ShopperSaid:
    records = found.sequence
    ids = {hash_of(item): item for item in request.ids()}
    query = query_of(request.query)[0] if request.query is not None else 0
    wanted = np.isin(records["item"], np.fromiter(ids, dtype=np.uint64, count=len(ids)))
    if query:
        wanted |= records["query"] == np.uint64(query)
    newest = int(records["at_ms"][-1]) if len(records) else None
    return ShopperSaid(
        known=found.shopper_known or len(records) > 0,
        records=len(records),
        age_ms=None if newest is None else max(0, now_ms - newest),
        recent=_records(_last(records, request.recent), ids, now_ms),
        relevant=_records(_last(records[wanted], request.relevant), ids, now_ms),
    )


def _last(records: NDArray[np.void], count: int) -> NDArray[np.void]:
    return records[max(0, len(records) - count) :]


def _records(records: NDArray[np.void], ids: Mapping[int, str], now_ms: int) -> list[RecordSaid]:
    rows: Sequence[tuple[int, int, int, int]] = records.tolist()
    return [
        RecordSaid(
            action=ACTIONS[action] if action < len(ACTIONS) else str(action),
            query_hash=f"{query:016x}" if query else "",
            item=ids.get(item),
            item_hash=f"{item:016x}" if item else "",
            at_ms=at_ms,
            age_ms=max(0, now_ms - at_ms),
        )
        for query, item, at_ms, action in reversed(rows)
    ]


def _reading(request: FeaturesRequest, found: Found, now_ms: int) -> Reading:
    ids = request.ids()
    prices = [np.nan if isinstance(item, str) or item.price is None else item.price for item in request.items]
    return Reading(
        now_ms=now_ms,
        query=0 if request.query is None else query_of(request.query)[0],
        items=np.fromiter(map(hash_of, ids), dtype=np.uint64, count=len(ids)),
        prices=np.array(prices, dtype=np.float32),
        student=np.full(len(ids), np.nan, dtype=np.float32),
        sequence=found.sequence,
        query_edges=found.query_edges,
        item_edges=found.item_edges,
    )
