"""Skew: logged features against features recomputed from the log at the fences that were read, a number per feature.

What the matrix was made of comes back in four ways:

- *recomputed*: the shopper's sequence as of the shopper's fence, the query's edges as of the query's fences, the order
  of the list, the time. They go through the reader of the state (``streams.reading``, ``lookup.found_of``) and through
  ``models.features.matrix``, so a difference is one of data and never of code. Equal means equal after float16.
- *as logged*: the student's score, which depends on a bundle. It is taken from the record and compared with nothing.
- *not recomputable*: prices stand in the request only; an item's copies carry no fence. Nothing is guessed for them.
- in some lists only: features of a query that met its bound of items, and features of the order where an item was asked
  for twice (the log names it once). Those lists are left out of these features, and counted.

For sequences the log holds the fence and not the content, so the distance is between what was read and what had
happened by the time of the request: staleness. It counts as no mismatch: a stream is always a little behind.

Shapes: B items of a list, F features.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.feature_names import FEATURES, INDEX, TABLE
from headrace.models.features import EDGE, ITEM_EDGE, Reading, matrix
from headrace.online.differences import (
    ASKED_TWICE,
    NO_QUERY_FENCE,
    NO_SHOPPER_FENCE,
    OTHER_FEATURES,
    OTHER_SOURCE,
    QUERY_CAPPED,
    Behind,
    SkewReport,
    Table,
    edit_distance,
    standing_of,
)
from headrace.online.lookup import Found, found_of
from headrace.streams import reading, sequences
from headrace.streams.as_of import Past
from headrace.streams.events import EventLimits
from headrace.streams.feature_log import Served, features_of, names_digest
from headrace.streams.identity import day_of, hash_of
from headrace.streams.ingestion import Record, Source
from headrace.streams.reading import Question
from headrace.streams.searches import StateBounds
from headrace.streams.store import Stored

Floats = NDArray[np.float32]
_NAMES: Final = names_digest(FEATURES)
_RANKS: Final = 4_096
_PRIORS: Final = [INDEX["prior_log"], INDEX["prior_reciprocal"]]
_ORDER: Final = np.array([feature.scope == "order" for feature in TABLE])
_QUERY: Final = np.array([feature.name.startswith("query_") for feature in TABLE])


class Skew:
    """Compares served lists with the log: give it the whole log, then ask for the report.

    Args:
        lists: what was served.
        source: the events topic that the state was built from.
        bounds, limits: of the generation that was read.
        window_days: older edges did not count for the worker.
        sequence: the worker read at most so many records of a shopper, the newest.
    """

    def __init__(
        self,
        lists: Iterable[Served],
        source: Source,
        bounds: StateBounds,
        limits: EventLimits,
        window_days: int = 30,
        sequence: int = 10_000,
    ) -> None:
        self._window_days, self._sequence = window_days, min(sequence, bounds.sequence)
        self._skipped: Counter[str] = Counter()
        self._partly: Counter[str] = Counter()
        self._tokens = set(source.tokens)
        self._lists = [served for served in lists if self._usable(served)]
        # Fences of one query only grow while a generation lives: in this order each increment is added once.
        self._lists.sort(key=lambda served: (served.query, sum(served.fences.get("query", {}).values())))
        fences: dict[str, set[int]] = {}
        for served in self._lists:
            fences.setdefault(served.client_id, set()).update(served.fences.get("shopper", {}).values())
        self._past = Past(source, bounds, limits, fences, {served.query for served in self._lists})

    def take(self, records: Sequence[Record]) -> None:
        """The next records of the log, of each partition in offset order."""
        self._past.take(records)

    def report(self) -> SkewReport:
        """What the comparison found, once the log was given whole."""
        table, behind = Table(), Behind()
        for served in self._lists:
            shopper = self._shopper(served)
            if shopper is None:
                self._skipped[NO_SHOPPER_FENCE] += 1
                continue
            found, capped = self._found(served, shopper)
            if found is None:
                self._skipped[NO_QUERY_FENCE] += 1
                continue
            logged = features_of(served)
            table.add(logged, recomputed(served, logged, found), self._compared(logged, capped))
            self._look_behind(served, shopper, found, behind)
        return SkewReport(
            table.lists, table.rows, dict(self._skipped), dict(self._partly), table.features(), behind.skew()
        )

    def _usable(self, served: Served) -> bool:
        why = ""
        if served.names != _NAMES or len(served.matrix) != 2 * len(served.items) * len(FEATURES):
            why = OTHER_FEATURES
        elif not all(_token(source) in self._tokens for source in served.fences.get("query", {})):
            why = OTHER_SOURCE
        if why:
            self._skipped[why] += 1
        return not why

    def _shopper(self, served: Served) -> Stored | None:
        """The shopper that was read, nothing where the record has no fence; None where the log has not that fence."""
        fences = served.fences.get("shopper", {})
        if not fences:
            return Stored(None)
        return self._past.shopper(served.client_id, min(fences.values()))

    def _found(self, served: Served, shopper: Stored) -> tuple[Found | None, bool]:
        """What the lookup gave then, but for the items' copies; and whether the query had met its bound."""
        fences = {_token(source): fence for source, fence in served.fences.get("query", {}).items()}
        query = self._past.query(served.query, fences)
        if query is None:
            return None, False
        packed = b"".join(token + fence.to_bytes(8, "little") for token, fence in fences.items())
        question = Question(served.query, served.client_id, served.items)
        replies = [
            None,
            [packed or None, b"1" if query.capped else None, *(query.edges.get(item) for item in served.items)],
            [None] * len(served.items),
            [shopper.head, shopper.log],
        ]
        answer = reading.answer(question, replies, self._sequence)
        return found_of(answer, day_of(served.at_ms), self._window_days), query.capped

    def _compared(self, logged: Floats, capped: bool) -> NDArray[np.bool_]:
        """Which features of a list are compared, bool [F]."""
        compared = _RECOMPUTED.copy()
        if capped:
            self._partly[QUERY_CAPPED] += 1
            compared &= ~_QUERY
        if asked_twice(logged):
            self._partly[ASKED_TWICE] += 1
            compared &= ~_ORDER
        return compared

    def _look_behind(self, served: Served, shopper: Stored, found: Found, behind: Behind) -> None:
        seen = len(shopper.log) // sequences.RECORD_BYTES
        log = self._past.happened(served.client_id, seen, served.at_ms)
        happened = sequences.newest(log, self._sequence)
        behind.add(len(log) // sequences.RECORD_BYTES - seen, edit_distance(found.sequence, happened))


def _token(source: str) -> bytes:
    try:
        return bytes.fromhex(source)
    except ValueError:
        return b""


_RECOMPUTED: Final = np.array([standing_of(name)[0] == "recomputed" for name in FEATURES])


def recomputed(served: Served, logged: Floats, found: Found) -> Floats:
    """The matrix again, float32 [B, F]; logged [B, F] gives the student's scores."""
    student = np.where(logged[:, INDEX["student_known"]] > 0, logged[:, INDEX["student"]], np.nan)
    return matrix(
        Reading(
            now_ms=served.at_ms,
            query=served.query,
            items=np.fromiter(map(hash_of, served.items), dtype=np.uint64, count=len(served.items)),
            prices=np.full(len(served.items), np.nan, dtype=np.float32),
            student=student.astype(np.float32),
            sequence=found.sequence,
            query_edges=found.query_edges,
            item_edges=found.item_edges,
        )
    )


def _priors(count: int) -> Floats:
    """The prior features of ranks 0 .. count - 1, as a list without anything else has them, float32 [count, 2]."""
    nothing = np.full(count, np.nan, dtype=np.float32)
    alone = Reading(
        now_ms=0,
        query=0,
        items=np.arange(count, dtype=np.uint64),
        prices=nothing,
        student=nothing,
        sequence=np.empty(0, dtype=sequences.RECORD),
        query_edges=np.empty(0, dtype=EDGE),
        item_edges=np.empty(0, dtype=ITEM_EDGE),
    )
    return matrix(alone)[:, _PRIORS]


_RANKED: Final = _priors(_RANKS)


def asked_twice(logged: Floats) -> bool:
    """Whether the ranks that a list was logged with skip places and are in order: a repeated item was left out there.

    Ranks that no repeated item explains are a difference and not this.
    """
    priors = logged[:, _PRIORS]
    if np.array_equal(priors, _RANKED[: len(priors)]):
        return False
    place = 0
    for row in priors:
        later = np.flatnonzero((_RANKED[place:] == row).all(axis=1))
        if not len(later) or (place == 0 and later[0]):
            return False
        place += int(later[0]) + 1
    return True
