"""What a schedule is judged by: one clean pass over the same records, and what became of each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.streams.dump import Facts, dump, newest_day
from headrace.streams.ingestion import Ingestion, Record, Rejected, Shopping
from headrace.streams.keys import shopper_name
from headrace.streams.searches import Entry, Folded
from headrace.streams.store import MemoryStore, Stored
from shopping_logs import LIMITS, SMALL, source

Logs = Sequence[Sequence[Record]]


@dataclass(frozen=True)
class Clean:
    """One pass over the same records in memory."""

    facts: Facts
    outcomes: dict[tuple[int, int], str]
    rejected: frozenset[tuple[int, int]]


class Account:
    """What happened to each record, by (partition, offset)."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[int, int], set[str]] = {}
        self.rejected: set[tuple[int, int]] = set()

    def folded(self, partition: int, entries: Sequence[Entry], folded: Folded) -> None:
        for entry, outcome in zip(entries, folded.outcomes, strict=True):
            self.outcomes.setdefault((partition, entry.offset), set()).add(outcome)

    def reject(self, rejected: Sequence[Rejected]) -> None:
        self.rejected.update((record.partition, record.offset) for record, _ in rejected)


def accounted(ingestion: type[Ingestion], account: Account) -> type[Ingestion]:
    """The class with an eye on what its folds say."""

    class Accounted(ingestion):  # type: ignore[valid-type, misc]
        def _fold(self, todo: Mapping[Shopping, list[Entry]]) -> dict[Shopping, tuple[Stored, Folded]]:
            folds: dict[Shopping, tuple[Stored, Folded]] = super()._fold(todo)
            for shopping, (_, folded) in folds.items():
                account.folded(shopping[0], todo[shopping], folded)
            return folds

    return Accounted


def clean_pass(logs: Logs) -> Clean:
    """Every record once, in memory, partition after partition."""
    store, account = MemoryStore(SMALL), Account()
    ingestion = accounted(Ingestion, account)(store, source(len(logs)), SMALL, LIMITS, account.reject)
    for log in logs:
        if log:
            ingestion.take(log)
    assert ingestion.advance()
    outcomes = {place: outcome for place, found in account.outcomes.items() for outcome in found}
    return Clean(store.facts(), outcomes, frozenset(account.rejected))


def differences(clean: Clean, account: Account, logs: Logs, facts: Facts, days_before: int = 0) -> list[str]:
    """What is not as in the clean pass: lines of the dump, then records that are not accounted for.

    Args:
        clean: the clean pass.
        account: what the schedule saw of each record.
        logs: the records.
        facts: what the schedule left.
        days_before: dumps are taken so many days before the newest one; 0 but for a mutation.
    """
    day = max(newest_day(facts), newest_day(clean.facts)) - days_before
    expected, found = _dump(clean.facts, day).splitlines(), _dump(facts, day).splitlines()
    lines = [f"- {line}" for line in expected if line not in set(found)]
    lines += [f"+ {line}" for line in found if line not in set(expected)]
    return lines + _unaccounted(clean, account, logs, facts)


def _unaccounted(clean: Clean, account: Account, logs: Logs, facts: Facts) -> list[str]:
    lines = []
    fences = {fact.name: fact.shopper.fence for fact in facts.shoppers}
    for record in (record for log in logs for record in log):
        place = (record.partition, record.offset)
        if (place in clean.rejected) != (place in account.rejected):
            lines.append(f"record {place}: rejected in one of the two only")
        if place in clean.rejected:
            continue
        outcomes = account.outcomes.get(place, set()) - {"repeated"}
        if outcomes != {clean.outcomes[place]}:
            lines.append(f"record {place}: {sorted(outcomes)}, not {clean.outcomes[place]}")
        name = shopper_name((record.key or b"").decode())
        if fences.get(name, -1) < record.offset:
            lines.append(f"record {place}: its shopper has not seen it")
    return lines


def _dump(facts: Facts, day: int) -> str:
    """The dump; of a day before the newest one only when a mutation asks for it."""
    shown = Facts([], [], facts.shoppers, facts.texts, facts.capped_items)
    if newest_day(facts) <= day:
        return dump(facts, day, SMALL).decode()
    shown.edges = [replace(fact, rows=tuple(row for row in fact.rows if row[0] <= day)) for fact in facts.edges]
    shown.copies = [replace(fact, rows=tuple(row for row in fact.rows if row[0] <= day)) for fact in facts.copies]
    return dump(shown, day, SMALL).decode()
