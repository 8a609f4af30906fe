"""Everything a score depends on, as numbers: a reading of the state in, one row of features an item out.

``matrix`` is the only feature code there is: the worker calls it on the request's path, and what it returns is what is
logged and what the head learns from. Values are rounded to float16 here, so that the logged matrix *is* the scored one.

A row depends on its own item, on the shopper, on the query, and on the list only through the features that say so:
``prior_*`` (the order the request came in), ``price_*`` (against the list's prices), ``touch_order`` and ``next_*``
(against the list's other touched items). No value is ever NaN; what is unknown is 0 and, where 0 could also be a value,
a feature of its own says whether it is known.

Sessions are not recorded: a *visit* is the shopper's newest records without a pause of more than 30 minutes, up to now.

Shapes: B items, L records, R query edges, S item edges, F features.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.feature_names import FEATURES, INDEX

__all__ = ["EDGE", "FEATURES", "ITEM_EDGE", "Reading", "digest", "matrix"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

EDGE: Final = np.dtype([("item", "<u8"), ("day", "<i8"), ("exposures", "<i8"), ("clicks", "<i8")])
"""One day of one of the query's edges: item hash, UTC day, exposures, clicks."""

ITEM_EDGE: Final = np.dtype(
    [("owner", "<i8"), ("query", "<u8"), ("day", "<i8"), ("exposures", "<i8"), ("clicks", "<i8")]
)
"""One edge of one of the items: index of the item in the reading, query hash, newest day, exposures, clicks."""

VISIT_PAUSE_MS: Final = 30 * 60_000
_MINUTE_MS: Final = 60_000.0
_PRIOR_EXPOSURES: Final = 20.0
_PRIOR_CTR: Final = 0.05
_FAR_PRICE: Final = 3.0
_SEARCH, _VIEW, _CLICK, _CART, _PURCHASE = range(5)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything a score depends on, and nothing else.

    Attributes:
        now_ms: time of the request, milliseconds.
        query: 64-bit hash of the normalised query; 0 when there is none.
        items: u64 [B], hashes in the order the search engine gave: the index is the prior rank.
        prices: f32 [B], any one currency; NaN = unknown.
        student: f32 [B], semantic relevance; NaN = absent.
        sequence: structured [L] with ``query``, ``item``, ``at_ms``, ``action``, oldest first; L = 0: unknown shopper.
        query_edges: EDGE [R], all days of the query's edges.
        item_edges: ITEM_EDGE [S].
    """

    now_ms: int
    query: int
    items: Hashes
    prices: Floats
    student: Floats
    sequence: NDArray[np.void]
    query_edges: NDArray[np.void]
    item_edges: NDArray[np.void]


def digest(names: tuple[str, ...] = FEATURES) -> bytes:
    """What names the features in a log record or a head: 8 bytes of BLAKE2b over the names in order."""
    return blake2b("\n".join(names).encode(), digest_size=8).digest()


def matrix(reading: Reading) -> Floats:
    """The features of every item of a reading.

    Returns:
        float32 [B, F], columns as in FEATURES; each value is finite and is exactly a float16.
    """
    count = len(reading.items)
    columns = np.zeros((len(FEATURES), count), dtype=np.float64)
    if count:
        keys, slots = np.unique(reading.items, return_inverse=True)
        _order(columns, count)
        _student(columns, reading)
        prices = _prices(columns, reading)
        _shopper(columns, reading, keys, slots, prices)
        _query_edges(columns, reading, keys, slots)
        _item_edges(columns, reading)
    half = np.nan_to_num(columns.T).clip(-1e4, 1e4).astype(np.float16)
    return np.ascontiguousarray(half, dtype=np.float32)


def _order(columns: Doubles, count: int) -> None:
    rank = np.arange(count, dtype=np.float64)
    columns[INDEX["prior_log"]] = np.log1p(rank) / 3.0
    columns[INDEX["prior_reciprocal"]] = 1.0 / (1.0 + rank)
    columns[INDEX["prior_linear"]] = np.minimum(rank / 25.0, 4.0)
    columns[INDEX["list_long"]] = np.log1p(count) / 3.0


def _student(columns: Doubles, reading: Reading) -> None:
    known = np.isfinite(reading.student)
    columns[INDEX["student"]] = np.where(known, reading.student, 0.0)
    columns[INDEX["student_known"]] = known


def _prices(columns: Doubles, reading: Reading) -> Doubles:
    """Writes the price features; returns log prices f64 [B], NaN = unknown."""
    prices = reading.prices.astype(np.float64)
    known = np.isfinite(prices) & (prices > 0)
    logs = np.full(len(prices), np.nan)
    if not known.any():
        return logs
    logs[known] = np.log(prices[known])
    values = np.sort(logs[known])
    relative = (logs - values[len(values) // 2]).clip(-_FAR_PRICE, _FAR_PRICE)
    cheaper = np.searchsorted(values, logs, side="left") / len(values)
    columns[INDEX["price_known"]] = known
    columns[INDEX["price_relative"]] = np.where(known, relative, 0.0)
    columns[INDEX["price_rank"]] = np.where(known, cheaper, 0.0)
    columns[INDEX["price_lowest"]] = known & (cheaper == 0.0)
    return logs


def _shopper(columns: Doubles, reading: Reading, keys: Hashes, slots: Ints, prices: Doubles) -> None:
    records = reading.sequence
    columns[INDEX["shopper_new"]] = 1.0
    if not len(records):
        return
    times = records["at_ms"].astype(np.int64)
    actions = records["action"]
    touches = np.flatnonzero(actions != _SEARCH)
    visit = _visit_start(times, reading.now_ms)
    if not len(touches):
        return
    columns[INDEX["shopper_new"]] = float(touches[-1] < visit)
    items = records["item"].astype(np.uint64)[touches]
    places = np.searchsorted(keys, items)
    places[places == len(keys)] = 0
    listed = keys[places] == items
    newest = touches[-1]
    if not listed.any():
        columns[INDEX["touched_elsewhere"]] = 1.0
        return
    at = touches[listed]
    owner = places[listed]
    _touched(columns, reading, at, owner, slots, len(keys), visit, int(newest))
    _anchored(columns, at, owner, slots, actions, visit, prices)


def _visit_start(times: Ints, now_ms: int) -> int:
    """Index of the first record of the visit that goes on now; len(times) when the last one has ended."""
    if now_ms - int(times[-1]) > VISIT_PAUSE_MS:
        return len(times)
    pauses = np.flatnonzero(np.diff(times) > VISIT_PAUSE_MS)
    return int(pauses[-1]) + 1 if len(pauses) else 0


def _touched(
    columns: Doubles, reading: Reading, at: Ints, owner: Ints, slots: Ints, count: int, visit: int, newest: int
) -> None:
    """What the shopper did with each item itself."""
    records = reading.sequence
    last = np.full(count, -1, dtype=np.int64)
    last[owner] = at
    seen = last >= 0
    safe = last.clip(0)
    ages = np.maximum(reading.now_ms - records["at_ms"][safe], 0) / _MINUTE_MS
    actions = records["action"][at]
    visiting = at >= visit

    def put(name: str, values: NDArray[Any]) -> None:
        columns[INDEX[name]] = values[slots]

    put("touched", seen)
    put("touched_last", last == newest)
    put("touched_visit", last >= visit)
    put("touch_fresh_5min", np.where(seen, np.exp(-ages / 5.0), 0.0))
    put("touch_fresh_1h", np.where(seen, np.exp(-ages / 60.0), 0.0))
    put("touch_fresh_1d", np.where(seen, np.exp(-ages / 1440.0), 0.0))
    put("views_visit", np.log1p(np.bincount(owner[visiting & (actions == _VIEW)], minlength=count)))
    put("clicks_visit", np.log1p(np.bincount(owner[visiting & (actions == _CLICK)], minlength=count)))
    put("views_before", np.log1p(np.bincount(owner[~visiting & (actions == _VIEW)], minlength=count)))
    put("clicks_before", np.log1p(np.bincount(owner[~visiting & (actions == _CLICK)], minlength=count)))
    put("carts", np.log1p(np.bincount(owner[actions == _CART], minlength=count)))
    put("purchases", np.log1p(np.bincount(owner[actions == _PURCHASE], minlength=count)))
    put("last_was_click", seen & (records["action"][safe] == _CLICK))
    put("last_same_query", seen & (records["query"][safe] == np.uint64(reading.query)))
    order = np.argsort(np.argsort(-last, kind="stable"), kind="stable")
    put("touch_order", np.where(seen, 1.0 / (1.0 + order), 0.0))


def _anchored(
    columns: Doubles, at: Ints, owner: Ints, slots: Ints, actions: NDArray[Any], visit: int, prices: Doubles
) -> None:
    """Where each item stands against the listed item touched (clicked) last."""
    rank = np.arange(len(slots))
    for name, chosen in (("touch", owner), ("click", owner[actions[at] == _CLICK])):
        if not len(chosen):
            continue
        anchor = int(np.flatnonzero(slots == chosen[-1])[0])
        offset = rank - anchor
        columns[INDEX[f"next_below_{name}"]] = np.where(offset > 0, np.exp(-(offset - 1) / 2.0), 0.0)
        columns[INDEX[f"next_above_{name}"]] = np.where(offset < 0, np.exp((offset + 1) / 2.0), 0.0)
        if name == "touch" and np.isfinite(prices[anchor]):
            distance = np.abs(prices - prices[anchor]).clip(0.0, _FAR_PRICE)
            columns[INDEX["price_from_touch"]] = np.where(np.isfinite(distance), distance, 0.0)


def _query_edges(columns: Doubles, reading: Reading, keys: Hashes, slots: Ints) -> None:
    edges = reading.query_edges
    if not len(edges):
        return
    items = edges["item"].astype(np.uint64)
    places = np.searchsorted(keys, items)
    places[places == len(keys)] = 0
    listed = keys[places] == items
    shown = np.bincount(places[listed], weights=edges["exposures"][listed], minlength=len(keys))
    clicked = np.bincount(places[listed], weights=edges["clicks"][listed], minlength=len(keys))
    _rates(columns, "query", shown[slots], clicked[slots])
    total = float(edges["clicks"].sum())
    if total > 0:
        columns[INDEX["query_share"]] = clicked[slots] / total


def _item_edges(columns: Doubles, reading: Reading) -> None:
    edges = reading.item_edges
    if not len(edges):
        return
    count = len(reading.items)
    owner = edges["owner"].astype(np.int64)
    shown = np.bincount(owner, weights=edges["exposures"], minlength=count)[:count]
    clicked = np.bincount(owner, weights=edges["clicks"], minlength=count)[:count]
    _rates(columns, "item", shown, clicked)


def _rates(columns: Doubles, name: str, shown: Doubles, clicked: Doubles) -> None:
    rate = (clicked + _PRIOR_CTR * _PRIOR_EXPOSURES) / (shown + _PRIOR_EXPOSURES)
    known = shown > 0
    columns[INDEX[f"{name}_known"]] = known
    columns[INDEX[f"{name}_rate"]] = np.where(known, np.log(rate / _PRIOR_CTR), 0.0)
    columns[INDEX[f"{name}_shown"]] = np.log1p(shown) / 3.0
    columns[INDEX[f"{name}_clicked"]] = np.log1p(clicked) / 3.0
