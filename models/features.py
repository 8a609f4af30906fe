"""Everything a score depends on, as numbers: a reading of the state in, one row of features an item out.

``matrix`` is the only feature code there is: the worker calls it on the request's path, and what it returns is what is
logged and what the head learns from. Values are rounded to float16 here, so that the logged matrix *is* the scored one.

``feature_names`` has the table: each feature's unit, its meaning, what stands there when it is unknown (never NaN: 0,
and where 0 could be a value a feature of its own tells) and what of the list it depends on.

A *touch* is a view, click, cart or purchase. Sessions are not recorded: a *visit* is the shopper's newest records
without a pause of more than 30 minutes, up to now. Times after now count as now.

Shapes: B items, L records, R query edges, S item edges, F features.
"""

import math
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
_PRIOR_RATE: Final = 0.05
_FAR_PRICE: Final = 3.0
_BOUND: Final = 1e4  # a float16 ends at 65,504
_SEARCH, _VIEW, _CLICK, _CART, _PURCHASE = range(5)
_BEFORE = 5
_COUNTS: Final = ("views_visit", "clicks_visit", "views_before", "clicks_before", "carts", "purchases")
_COUNTED: Final = np.array([0, 0, 1, 4, 5, 0, 2, 3, 4, 5])
"""Which count an action adds to, in this visit (0 .. 4) and before it (5 .. 9)."""


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
        _order(columns, count)
        _student(columns, reading)
        prices = _prices(columns, reading)
        _shopper(columns, reading, prices)
        _query_edges(columns, reading)
        _item_edges(columns, reading)
    half = columns.clip(-_BOUND, _BOUND, out=columns).astype(np.float16)
    return np.ascontiguousarray(half.T, dtype=np.float32)


def _order(columns: Doubles, count: int) -> None:
    rank = np.arange(count, dtype=np.float64)
    columns[INDEX["prior_log"]] = np.log1p(rank) / 3.0
    columns[INDEX["prior_reciprocal"]] = 1.0 / (1.0 + rank)


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
    lowest = np.minimum.accumulate(np.where(known, logs, np.inf))
    columns[INDEX["price_known"]] = known
    columns[INDEX["price_relative"]] = np.where(known, relative, 0.0)
    columns[INDEX["price_rank"]] = np.where(known, cheaper, 0.0)
    columns[INDEX["price_record"]][1:] = known[1:] & (logs[1:] < lowest[:-1])
    return logs


@dataclass(frozen=True, slots=True)
class _Touches:
    """The shopper's touches of listed items, oldest first; T touches, K different items.

    Attributes:
        at: [T], places in the sequence.
        owner: [T], which of the K items.
        action: [T].
        slots: [B], which of the K items each row is.
        newest: place of the newest touch of all, listed or not.
        visit: where the visit begins.
    """

    at: Ints
    owner: Ints
    action: NDArray[np.uint8]
    slots: Ints
    newest: int
    visit: int


def _shopper(columns: Doubles, reading: Reading, prices: Doubles) -> None:
    records = reading.sequence
    columns[INDEX["untouched"]] = 1.0
    if not len(records):
        return
    actions = records["action"]
    searches = np.flatnonzero(actions == _SEARCH)
    if len(searches):
        age_s = max(reading.now_ms - int(records["at_ms"][searches[-1]]), 0) / 1000.0
        columns[INDEX["search_15s"]] = math.exp(-age_s / 15.0)
        columns[INDEX["search_5min"]] = math.exp(-age_s / 300.0)
    if len(searches) == len(records):
        return
    keys, slots = np.unique(reading.items, return_inverse=True)
    places, listed = _placed(records["item"].astype(np.uint64), keys)
    listed &= actions != _SEARCH
    at = np.flatnonzero(listed)
    if not len(at):
        return
    newest = len(records) - 1 - int(np.argmax(actions[::-1] != _SEARCH))
    touches = _Touches(at, places[at], actions[at], slots, newest, _visit_start(records["at_ms"], reading.now_ms))
    columns[INDEX["untouched"]] = 0.0
    if at[-1] == newest:
        _moment(columns, reading, newest)
    _touched(columns, reading, touches)
    _counted(columns, touches)
    _anchored(columns, touches, prices)


def _visit_start(times: NDArray[np.int64], now_ms: int) -> int:
    """Index of the first record of the visit that goes on now; len(times) when the last one has ended."""
    if now_ms - int(times[-1]) > VISIT_PAUSE_MS:
        return len(times)
    pauses = np.flatnonzero(times[1:] - times[:-1] > VISIT_PAUSE_MS)
    return int(pauses[-1]) + 1 if len(pauses) else 0


def _moment(columns: Doubles, reading: Reading, newest: int) -> None:
    """How the shopper's newest touch, of a listed item, was left; the same for all items."""
    record = reading.sequence[newest]
    age_min = max(reading.now_ms - int(record["at_ms"]), 0) / _MINUTE_MS
    if record["action"] == _VIEW:
        columns[INDEX["after_view"]] = 1.0
        columns[INDEX["after_view_1min"]] = math.exp(-age_min)
    else:
        columns[INDEX["after_click"]] = 1.0
        columns[INDEX["after_click_1min"]] = math.exp(-age_min)
        columns[INDEX["after_click_10min"]] = math.exp(-age_min / 10.0)
    columns[INDEX["after_same_query"]] = float(int(record["query"]) == reading.query != 0)


def _touched(columns: Doubles, reading: Reading, touches: _Touches) -> None:
    """How and when the shopper touched each item last."""
    records, count = reading.sequence, int(touches.slots.max()) + 1
    last = np.full(count, -1, dtype=np.int64)
    last[touches.owner] = touches.at  # oldest first: the newest stays
    mine = last[touches.slots]
    rows = np.flatnonzero(mine >= 0)
    at = mine[rows]
    touched_ms = records["at_ms"][at]
    left_ms = np.where(at + 1 < len(records), records["at_ms"][np.minimum(at + 1, len(records) - 1)], reading.now_ms)
    age_min = np.maximum(reading.now_ms - touched_ms, 0) / _MINUTE_MS
    stay_s = (left_ms - touched_ms).clip(0, VISIT_PAUSE_MS) / 1000.0
    columns[INDEX["touched_last"], rows] = at == touches.newest
    columns[INDEX["touch_fresh_5min"], rows] = np.exp(-age_min / 5.0)
    columns[INDEX["touch_fresh_1d"], rows] = np.exp(-age_min / 1440.0)
    columns[INDEX["touch_stay"], rows] = np.log1p(stay_s) / 3.0
    if reading.query:
        columns[INDEX["last_same_query"], rows] = records["query"][at] == np.uint64(reading.query)
    newest_first = np.sort(-last[last >= 0])
    columns[INDEX["touch_order"], rows] = 1.0 / (1.0 + np.searchsorted(newest_first, -at))
    columns[INDEX["below_touched"]][1:] = mine[:-1] >= 0


def _counted(columns: Doubles, touches: _Touches) -> None:
    """How often the shopper did what with each item."""
    count = int(touches.slots.max()) + 1
    what = _COUNTED[touches.action.clip(0, _PURCHASE) + _BEFORE * (touches.at < touches.visit)]
    counts = np.bincount(touches.owner * len(_COUNTS) + what, minlength=count * len(_COUNTS))
    table = np.log1p(counts.reshape(count, len(_COUNTS)).astype(np.float64))[touches.slots]
    for place, name in enumerate(_COUNTS):
        columns[INDEX[name]] = table[:, place]


def _anchored(columns: Doubles, touches: _Touches, prices: Doubles) -> None:
    """Where each item stands against the listed item touched last, and against the one clicked last."""
    anchor = int(np.argmax(touches.slots == touches.owner[-1]))
    below, above = _beside(anchor, len(prices))
    columns[INDEX["next_below_touch"]], columns[INDEX["next_above_touch"]] = below, above
    if math.isfinite(prices[anchor]):
        columns[INDEX["price_from_touch"]] = np.nan_to_num(np.abs(prices - prices[anchor])).clip(0.0, _FAR_PRICE)
    clicked = touches.owner[touches.action >= _CLICK]
    if len(clicked):
        below, _ = _beside(int(np.argmax(touches.slots == clicked[-1])), len(prices))
        columns[INDEX["next_below_click"]] = below


def _beside(anchor: int, count: int) -> tuple[Doubles, Doubles]:
    """exp(-(places - 1) / 2) for the rows below a row, and for those above it; 0 elsewhere."""
    fading = np.exp(np.arange(count, dtype=np.float64) / -2.0)
    below, above = np.zeros(count), np.zeros(count)
    below[anchor + 1 :] = fading[: count - anchor - 1]
    above[:anchor] = fading[:anchor][::-1]
    return below, above


def _query_edges(columns: Doubles, reading: Reading) -> None:
    edges = reading.query_edges
    if not len(edges):
        return
    keys, slots = np.unique(reading.items, return_inverse=True)
    places, listed = _placed(edges["item"].astype(np.uint64), keys)
    shown = _sums(places[listed], edges["exposures"][listed], len(keys))
    clicked = _sums(places[listed], edges["clicks"][listed], len(keys))
    _rates(columns, "query", shown[slots], clicked[slots])
    total = float(clicked.sum())
    if total > 0:
        columns[INDEX["query_share"]] = clicked[slots] / total


def _item_edges(columns: Doubles, reading: Reading) -> None:
    edges = reading.item_edges
    if not len(edges):
        return
    count, owner = len(reading.items), edges["owner"].astype(np.int64)
    _rates(columns, "item", _sums(owner, edges["exposures"], count), _sums(owner, edges["clicks"], count))


def _placed(items: Hashes, keys: Hashes) -> tuple[Ints, NDArray[np.bool_]]:
    """For each item its place in the sorted keys, and whether it is there at all."""
    places = np.searchsorted(keys, items)
    places[places == len(keys)] = 0
    return places, keys[places] == items


def _sums(places: Ints, values: NDArray[Any], count: int) -> Doubles:
    return np.bincount(places, weights=values, minlength=count).astype(np.float64)


def _rates(columns: Doubles, name: str, shown: Doubles, clicked: Doubles) -> None:
    rate = (clicked + _PRIOR_RATE * _PRIOR_EXPOSURES) / (shown + _PRIOR_EXPOSURES)
    columns[INDEX[f"{name}_rate"]] = np.log(rate / _PRIOR_RATE)
    columns[INDEX[f"{name}_shown"]] = np.log1p(shown) / 3.0
