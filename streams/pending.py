"""The join of what was served with what followed, until it is ripe.

`Pending` folds records of both topics in whatever order they come; `ripen` gives the examples whose window the
watermark has passed. Nothing is decided while records come in, only in `ripen`, so the order within a round is nothing.

A search leaves ``click_ms`` after its last record; then only the ids of its examples are kept, for corrections, until
the longest window is over.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from headrace.streams.events import Cart, Click, Impression, Purchase, ShopperEvent
from headrace.streams.feature_log import Served
from headrace.streams.held import (
    ROW_OVERHEAD_BYTES,
    Changes,
    Closed,
    Done,
    Held,
    PendingLimits,
    Row,
    Search,
    pack,
    search_key,
    unpack,
)
from headrace.streams.labels import Action, Attribution, Correction, Example, Shown, Touched, Windows, example_of

_ACTIONS: Final[dict[type, Action]] = {Click: "click", Cart: "cart", Purchase: "purchase"}


@dataclass(frozen=True, slots=True)
class Ripe:
    """What a round brought: examples in the order to learn them, (maturity, id), and corrections of older ones."""

    examples: tuple[Example, ...]
    corrections: tuple[Correction, ...]


class Pending:
    """The join of what was served with what followed.

    Args:
        windows: how long actions count.
        limits: how much may be held.
    """

    def __init__(self, windows: Windows, limits: PendingLimits) -> None:
        self.windows = windows
        self.limits = limits
        self.counts: Counter[str] = Counter()
        """What became of records and lists, by name; since this object was made."""
        self.held_bytes = 0
        self.lists = 0
        """Lists that are not ripe."""
        self._searches: dict[bytes, Search] = {}
        self._closed: OrderedDict[bytes, Closed] = OrderedDict()
        self._deadlines: list[tuple[int, int, bytes, str]] = []
        self._corrections: list[Correction] = []
        self._changes = Changes()

    def __len__(self) -> int:
        return len(self._searches)

    def serve(self, served: Served) -> None:
        """A record of the feature log was read."""
        self._take(search_key(served.client_id, served.query_id), served)

    def follow(self, event: ShopperEvent) -> None:
        """A record of the events topic was read; queries and views teach nothing and are passed over."""
        if isinstance(event, Impression):
            held: Shown | Touched = Shown(event.at_ms, event.items, event.positions)
        elif isinstance(event, (Click, Cart, Purchase)):
            held = Touched(event.at_ms, _ACTIONS[type(event)], event.item_id, event.position or 0)
        else:
            return
        if event.query_id:
            self._take(search_key(event.client_id, event.query_id), held)
        else:
            self.counts["no_query"] += 1

    def ripen(self, watermark_ms: int) -> Ripe:
        """What has matured before this watermark; called once after all records of a round."""
        examples: list[Example] = []
        while (nearest := self._nearest()) is not None and nearest[0] < watermark_ms:
            _, whole, key, request_id = nearest
            if whole:
                self._close(key, self._searches[key])
            else:
                self._mature(key, request_id, examples)
        while len(self._searches) > self.limits.searches or self.held_bytes > self.limits.held_bytes:
            self._evict()
        while self._closed:
            key, oldest = next(iter(self._closed.items()))
            if oldest.until_ms >= watermark_ms and len(self._closed) <= self.limits.closed:
                break
            del self._closed[key]
            self._changes.forgotten.append(key)
        corrections = sorted(
            set(self._corrections), key=lambda one: (one.at_ms, one.example_id, one.action, one.item_id)
        )
        self._corrections.clear()
        self.counts["examples"] += len(examples)
        self.counts["corrections"] += len(corrections)
        return Ripe(tuple(sorted(examples, key=lambda one: (one.matures_ms, one.id))), tuple(corrections))

    def changes(self) -> Changes:
        """What has changed since this was last asked."""
        found, self._changes = self._changes, Changes()
        return found

    def restore(self, rows: Iterable[Row], closed: Iterable[tuple[bytes, bytes]]) -> None:
        """Holds again what was held: rows and closed searches in the order in which they were written."""
        for row in rows:
            self._hold(row.search, unpack(row.kind, row.blob), len(row.blob))
        for key, blob in closed:
            self._closed[key] = msgspec.msgpack.decode(blob, type=Closed)

    def _take(self, key: bytes, held: Served | Shown | Touched) -> None:
        if key in self._closed:
            self._correct(self._closed[key], held)
            return
        search = self._searches.get(key)
        if search is not None and search.holds(held):
            self.counts["duplicate"] += 1
        elif search is not None and search.full_for(held, self.limits):
            self.counts["search_full"] += 1
        else:
            self._keep(key, held)

    def _keep(self, key: bytes, held: Held) -> None:
        kind, blob = pack(held)
        self._hold(key, held, len(blob))
        self._changes.rows.append(Row(key, kind, blob))

    def _hold(self, key: bytes, held: Held, size_bytes: int) -> None:
        search = self._searches.get(key)
        first = search is None
        if search is None:
            search = self._searches[key] = Search()
            self.held_bytes += search.held_bytes
        search.put(held)
        search.held_bytes += size_bytes + ROW_OVERHEAD_BYTES
        self.held_bytes += size_bytes + ROW_OVERHEAD_BYTES
        if isinstance(held, Served):
            self.lists += 1
            heapq.heappush(self._deadlines, (held.at_ms + self.windows.click_ms, 0, key, held.request_id))
        elif isinstance(held, Done):
            self.lists -= 1
        if first:
            heapq.heappush(self._deadlines, (search.last_ms + self.windows.click_ms, 1, key, ""))

    def _nearest(self) -> tuple[int, int, bytes, str] | None:
        """The nearest deadline that holds: (when, 0, search, list), or (when, 1, search, "") of a whole search."""
        while self._deadlines:
            deadline_ms, whole, key, request_id = self._deadlines[0]
            search = self._searches.get(key)
            if search is not None and not whole and request_id in search.lists and request_id not in search.done:
                break
            if search is not None and whole:
                actual_ms = search.last_ms + self.windows.click_ms
                if actual_ms == deadline_ms:
                    break
                # More came since: the deadline moves. Settled here, so that eviction sees what a restart would see.
                heapq.heapreplace(self._deadlines, (actual_ms, 1, key, ""))
            else:
                heapq.heappop(self._deadlines)
        return self._deadlines[0] if self._deadlines else None

    def _mature(self, key: bytes, request_id: str, examples: list[Example]) -> None:
        search = self._searches[key]
        served = search.lists[request_id]
        attribution = Attribution(search.lists.values(), search.shows, served.at_ms + self.windows.click_ms)
        found = example_of(served, attribution, search.touches, self.windows)
        if found is None:
            self.counts["shown_elsewhere" if search.shows else "not_shown"] += 1
            self._keep(key, Done(request_id, "", ()))
            return
        example, used = found
        examples.append(example)
        self._keep(key, Done(request_id, example.id, used))

    def _close(self, key: bytes, search: Search) -> None:
        attribution = Attribution(search.lists.values(), search.shows, search.last_ms)
        used = {touch for done in search.done.values() for touch in done.used}
        unused = [touch for touch in search.touches if touch not in used]
        if not search.lists:
            self.counts["no_features" if search.shows else "touch_only"] += 1
        else:
            self.counts["items_differ"] += attribution.homeless()
        for touch in unused:
            owner = attribution.of_touch(touch)
            done = search.done.get(owner.request_id) if owner is not None else None
            if owner is not None and done is not None and done.example_id:
                self._corrections.append(self._correction(done.example_id, owner.at_ms, touch))
            elif search.lists:
                self.counts["touch_unjoined"] += 1
        self._drop(key, search)

    def _evict(self) -> None:
        nearest = self._nearest()
        if nearest is None:
            raise AssertionError("something is held, so it has a deadline")
        search = self._searches[nearest[2]]
        self.counts["evicted_searches"] += 1
        self.counts["evicted_lists"] += len(search.lists) - len(search.done)
        self._drop(nearest[2], search)

    def _drop(self, key: bytes, search: Search) -> None:
        self.lists -= len(search.lists) - len(search.done)
        self.held_bytes -= search.held_bytes
        del self._searches[key]
        self._changes.gone.append(key)
        examples = tuple(
            (done.example_id, search.lists[request_id].at_ms)
            for request_id, done in search.done.items()
            if done.example_id
        )
        longest_ms = max(self.windows.click_ms, self.windows.cart_ms, self.windows.purchase_ms)
        closed = Closed(examples, search.last_ms + longest_ms)
        self._closed[key] = closed
        self._changes.closed.append((key, msgspec.msgpack.encode(closed)))

    def _correct(self, closed: Closed, held: Served | Shown | Touched) -> None:
        if isinstance(held, Touched) and closed.examples:
            # Which list it was is not known any more: each is told, and the item says whose it is.
            self._corrections.extend(self._correction(name, at_ms, held) for name, at_ms in closed.examples)
        else:
            late = {Served: "late_list", Shown: "late_impression", Touched: "late_touch"}
            self.counts[late[type(held)]] += 1

    def _correction(self, example_id: str, served_ms: int, touch: Touched) -> Correction:
        in_window = touch.at_ms <= served_ms + self.windows.of(touch.action)
        return Correction(example_id, touch.action, touch.item_id, touch.at_ms, in_window)
