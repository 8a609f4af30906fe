"""The logs that the law tests replay really meet what they are about: else a green law says nothing."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from random import Random

import pytest

from headrace.streams import searches
from headrace.streams.dump import Facts
from headrace.streams.ingestion import Ingestion, Rejected
from headrace.streams.searches import Entry, Folded, Shopper, StateBounds
from headrace.streams.store import MemoryStore
from headrace.streams.writes import EdgeWrite, Write
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source

LOGS = 150


class Watched(MemoryStore):
    """Counts what only the store sees."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__(SMALL)
        self.seen = seen
        self.days: dict[tuple[int, str], set[int]] = {}

    def _apply(self, write: Write) -> object:  # type: ignore[override]
        reply = super()._apply(write)
        if isinstance(write, EdgeWrite):
            self.seen["copy"] += 1
        for query, edges in self._edges.items():
            for item, rows in edges.items():
                days = self.days.setdefault((query, item), set())
                days.update(row[0] for row in rows)
                self.seen["window trims"] += len(days) > len(rows)
                self.seen["below the floor"] += sum(row[1] for row in rows) < SMALL.floor
                self.seen["edge of several days"] += len(rows) > 1
        return reply


def observe(seen: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts what happens to shoppers, event by event."""
    real = searches._step

    def step(folded: Folded, entry: Entry, bounds: StateBounds) -> searches.Outcome:
        shopper = folded.shopper
        before = {search.query_id for search in shopper.searches}
        seen["clock stands still"] += entry.event.at_ms < shopper.clock_ms
        outcome = real(folded, entry, bounds)
        ids = [search.query_id for search in shopper.searches]
        kind = type(entry.event).__name__
        seen[f"{kind} {outcome}"] += 1
        if kind == "Query" and outcome == "applied":
            seen["search leaves by number"] += len(before - set(ids))
            seen["search never opens"] += entry.event.query_id not in ids
            seen["search opens before others"] += bool(ids) and entry.event.query_id in ids[:-1]
        for search in shopper.searches:
            seen["items of a search full"] += len(search.flags) == bounds.search_items
            seen["touches of a search full"] += len(search.touches) == 8 * bounds.search_touches
        return outcome

    def evict(shopper: Shopper, bounds: StateBounds) -> None:
        held, before = len(shopper.searches), shopper.searches[:]
        evict_really(shopper, bounds)
        if before and held <= bounds.searches and len(shopper.searches) < held:
            seen["search leaves by time"] += 1

    evict_really = searches._evict
    monkeypatch.setattr(searches, "_evict", evict)
    monkeypatch.setattr(searches, "_step", step)


def facts_seen(seen: Counter[str], facts: Facts) -> None:
    for shopper in facts.shoppers:
        records = len(shopper.log) // 25
        seen["sequence above N"] += records > SMALL.sequence
        seen["sequence was cut"] += shopper.shopper.length >= SMALL.sequence
    stored = {(fact.query, fact.item_id): fact.rows for fact in facts.edges}
    for copy in facts.copies:
        seen["copy is stale"] += stored[copy.query, copy.item_id] != copy.rows


EXPECTED: tuple[tuple[str, int], ...] = (
    # what is seen, and at least how often in 150 logs of 60 events
    ("Query applied", 500),
    ("Query duplicate", 100),
    ("Impression applied", 500),
    ("Impression duplicate", 100),
    ("Impression unattributed", 100),
    ("Click applied", 500),
    ("Click duplicate", 50),
    ("Click unattributed", 100),
    ("Cart applied", 50),
    ("Purchase applied", 50),
    ("View unattributed", 50),
    ("View applied", 20),
    ("search leaves by time", 200),
    ("search leaves by number", 100),
    ("search never opens", 20),
    ("search opens before others", 50),
    ("clock stands still", 200),
    ("items of a search full", 100),
    ("touches of a search full", 100),
    ("edge of several days", 500),
    ("window trims", 100),
    ("below the floor", 500),
    ("copy", 500),
    ("copy is stale", 5),
    ("sequence above N", 100),
    ("sequence was cut", 100),
    ("late", 20),
    ("bad.future", 20),
    ("bad.misrouted", 20),
    ("bad.empty", 20),
    ("bad.not_json", 10),
)


def test_every_bound_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[str] = Counter()
    observe(seen, monkeypatch)
    for seed in range(LOGS):
        store = Watched(seen)
        rejected: list[Rejected] = []
        ingestion = Ingestion(store, source(2), SMALL, LIMITS, rejected.extend)
        for record in sorted(chain(*make_log(Random(seed), LogShape())), key=lambda record: record.timestamp_ms):
            ingestion.take([record])
            assert ingestion.advance(), ingestion.last_failure
        seen.update({name: count for name, count in ingestion.outcomes.items() if name[0] in "lb"})
        facts_seen(seen, store.facts())
    print(seen)
    assert missing(seen) == []
    kept = sum(seen[name] for name in seen if name.endswith(" applied"))
    lost = sum(seen[name] for name in seen if name.endswith(" unattributed"))
    assert kept > 2 * lost, "most events should belong to a search"


def missing(seen: Counter[str]) -> list[str]:
    """What was seen less often than it should be, with how often."""
    wanted: Iterable[tuple[str, int]] = EXPECTED
    return [f"{name}: {seen[name]} < {least}" for name, least in wanted if seen[name] < least]
