"""What lies in a generation, as plain values that people and JSON can read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from headrace.streams import item_copies, neighbours, sequences
from headrace.streams.identity import DAY_MS, hash64, normalise, query_hash
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.neighbours import NeighbourRule, Row
from headrace.streams.reading import Question, answer, commands
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import StateBounds
from headrace.streams.ubi import rfc3339

Facts = dict[str, Any]

_TEXTS_AT_ONCE: Final = 1_000


def query_facts(wire: Wire, keys: Keys, text: str, as_of_day: int, rule: NeighbourRule) -> Facts:
    """A query's edges, those with most exposures first, and which of them are neighbours as of a day."""
    question = Question(query_hash(text), None, (), whole_query=True)
    found = answer(question, wire.call(commands(keys, question)), 0)
    rows: dict[str, list[Row]] = defaultdict(list)
    for item, day, exposures, clicks in (row.item() for row in found.query_rows):
        rows[found.query_items[item]].append((day, exposures, clicks))
    return {
        "query": normalise(text),
        "hash": f"{query_hash(text):016x}",
        "known": found.query_known,
        "capped": found.query_capped,
        "fences": found.query_fences,
        "as_of": _date(as_of_day),
        "neighbours": _neighbours(rows.items(), as_of_day, rule),
        "edges": _edges(rows),
    }


def item_facts(wire: Wire, keys: Keys, item_id: str, as_of_day: int, rule: NeighbourRule) -> Facts:
    """The queries that lead to an item, as its copies say."""
    value = wire.call([("GET", keys.item(item_id))])[0]
    held = value if isinstance(value, bytes) else b""
    found = item_copies.copies(held) if held else []
    texts = texts_of(wire, keys, [query for query, _ in found])
    rows = {texts.get(query, f"?{query:016x}"): days for query, days in found}
    return {
        "item": item_id,
        "hash": f"{hash64(item_id):016x}",
        "known": bool(held),
        "capped": bool(held) and item_copies.is_capped(held),
        "as_of": _date(as_of_day),
        "neighbours": _neighbours(rows.items(), as_of_day, rule),
        "edges": _edges(rows),
    }


def shopper_facts(wire: Wire, keys: Keys, client_id: str, bounds: StateBounds, newest: int) -> Facts:
    """A shopper's open searches and the newest records of the sequence, newest first."""
    question = Question(None, client_id, ())
    found = answer(question, wire.call(commands(keys, question)), bounds.sequence)
    shopper, records = found.shopper, [row.item() for row in found.sequence[::-1][:newest]]
    searches = [] if shopper is None else shopper.searches
    named = [name for record in records for name in record[:2]] + [search.query for search in searches]
    texts = texts_of(wire, keys, named)
    return {
        "shopper": client_id,
        "name": shopper_name(client_id).hex(),
        "known": shopper is not None,
        "fence": None if shopper is None else shopper.fence,
        "clock": None if shopper is None or shopper.clock_ms < 0 else rfc3339(shopper.clock_ms),
        "kept_increments": 0 if shopper is None else len(shopper.kept),
        "searches": [
            {
                "at": rfc3339(search.at_ms),
                "query_id": search.query_id,
                "query": texts.get(search.query, f"?{search.query:016x}"),
                "items": len(search.flags),
            }
            for search in searches
        ],
        "records": len(found.sequence),
        "newest": [
            {
                "at": rfc3339(at_ms),
                "action": sequences.ACTIONS[action],
                "query": texts.get(query, f"?{query:016x}") if query else None,
                "item": texts.get(item, f"?{item:016x}") if item else None,
            }
            for query, item, at_ms, action in records
        ],
    }


def texts_of(wire: Wire, keys: Keys, names: Iterable[int]) -> dict[int, str]:
    """The texts behind hashes, of those that are known."""
    wanted = sorted({name for name in names if name})
    found = {}
    for first in range(0, len(wanted), _TEXTS_AT_ONCE):
        some = wanted[first : first + _TEXTS_AT_ONCE]
        for name, text in zip(some, wire.call([("GET", keys.text(name)) for name in some]), strict=True):
            if isinstance(text, bytes):
                found[name] = text.decode()
    return found


def _neighbours(edges: Iterable[tuple[str, list[Row]]], as_of_day: int, rule: NeighbourRule) -> list[Facts]:
    return [
        {"name": one.name, "exposures": one.exposures, "clicks": one.clicks, "wilson": round(one.wilson, 4)}
        for one in neighbours.neighbours(edges, as_of_day, rule)
    ]


def _edges(rows: Mapping[str, list[Row]]) -> list[Facts]:
    edges = [
        {
            "name": name,
            "exposures": sum(row[1] for row in days),
            "clicks": sum(row[2] for row in days),
            "newest_day": _date(days[-1][0]),
            "days": len(days),
        }
        for name, days in rows.items()
    ]
    return sorted(edges, key=lambda edge: (-int(str(edge["exposures"])), str(edge["name"])))


def _date(day: int) -> str:
    return rfc3339(day * DAY_MS)[:10]
