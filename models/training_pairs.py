"""Pairs to learn from, as a file: JSON lines, one pair a line, compressed where the name ends in ``.gz``.

    {"query": "angle bracket", "title": "12-Gauge Angle", "label": 0.83, "details": "galvanised steel"}

``label``, 0 (irrelevant) to 1, is a person's grade mapped to that range; a file of a teacher's labels has
``probability`` in its place, and ``teacher`` names whose. What else there may be only teachers read, ``details`` and
``terms``; or teachers and students that are told to, ``query_neighbours`` and ``item_neighbours``. Other fields are
ignored.

Who learns and who is measured is told apart by query, never by row: ``side_of`` says which side a query is on, from its
text alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.json_lines import numbered_lines
from headrace.models.prompts import Pair

Side = Literal["train", "held", "test"]
Doubles = NDArray[np.float64]

_SALT: Final = b"homedepot"
"""Any word would do, but another one is another split: every number that was measured belongs to this one."""
ROWS: Final = 20_000_000
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class BadTrainingPairs(ValueError):
    """A file that does not hold pairs to learn from; the text names file, line and reason."""


class _Row(msgspec.Struct, frozen=True):
    query: str
    title: str
    label: _Share | None = None
    probability: _Share | None = None
    teacher: str = ""
    details: str = ""
    terms: str = ""
    query_neighbours: tuple[str, ...] = ()
    item_neighbours: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Pairs with targets.

    Attributes:
        pairs: [N], as a teacher reads them. targets: float64 [N], 0 to 1.
        teachers: whose probabilities the targets are, as the file says, in the order of their names.
    """

    pairs: tuple[Pair, ...]
    targets: Doubles
    teachers: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    def at(self, places: Sequence[int] | NDArray[np.int64]) -> "TrainingPairs":
        """The pairs at some places."""
        chosen = np.asarray(places, dtype=np.int64)
        return replace(self, pairs=tuple(self.pairs[place] for place in chosen), targets=self.targets[chosen])

    def some(self, rows: int, seed: int = 0) -> "TrainingPairs":
        """At least ``rows`` pairs of whole queries, drawn at random, in their order; all where there are fewer."""
        owners = [pair.query for pair in self.pairs]
        names = sorted(set(owners))
        order = {names[place]: rank for rank, place in enumerate(np.random.default_rng(seed).permutation(len(names)))}
        places = sorted(range(len(self)), key=lambda place: order[owners[place]])
        end = min(rows, len(places))
        while 0 < end < len(places) and owners[places[end]] == owners[places[end - 1]]:
            end += 1
        return self.at(sorted(places[:end]))

    def of(self, *sides: Side) -> "TrainingPairs":
        """The pairs whose query is on one of these sides."""
        return self.at([place for place, pair in enumerate(self.pairs) if side_of(pair.query) in sides])

    def digest(self) -> str:
        """Names these pairs, with their targets and in their order: 16 hex digits."""
        found = hashlib.blake2b(self.targets.tobytes(), digest_size=8)
        for pair in self.pairs:
            found.update(msgspec.json.encode(pair))
        return found.hexdigest()

    def lists(self) -> NDArray[np.int64]:
        """Which query each pair belongs to, int64 [N], numbered as they come."""
        seen: dict[str, int] = {}
        return np.array([seen.setdefault(pair.query, len(seen)) for pair in self.pairs], dtype=np.int64)


def side_of(query: str, test: int = 20, held: int = 8) -> Side:
    """Which side of the split a query is on: ``test`` and ``held`` of 100, the rest to learn from.

    Queries that differ in case or spaces alone are on the same side.
    """
    named = hashlib.blake2b(" ".join(query.casefold().split()).encode(), digest_size=8, person=_SALT)
    share = int.from_bytes(named.digest(), "little") % 100
    return "test" if share < test else "held" if share < test + held else "train"


def read(path: Path) -> TrainingPairs:
    """The pairs of a file.

    Raises:
        BadTrainingPairs: a line cannot be read, or there is none.
        OSError: the file cannot be opened.
    """
    decode = msgspec.json.Decoder(_Row).decode
    pairs: list[Pair] = []
    targets: list[float] = []
    teachers: set[str] = set()
    for number, line in numbered_lines(path, BadTrainingPairs, ROWS):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadTrainingPairs(f"{path}, line {number}: {error}") from error
        target = row.label if row.label is not None else row.probability
        if target is None:
            raise BadTrainingPairs(f"{path}, line {number}: neither `label` nor `probability`, 0 to 1")
        pairs.append(Pair(row.query, row.title, row.details, row.terms, row.query_neighbours, row.item_neighbours))
        targets.append(target)
        teachers.add(row.teacher if row.label is None else "")
    if not pairs:
        raise BadTrainingPairs(f"{path} holds no pairs")
    return TrainingPairs(tuple(pairs), np.array(targets), tuple(sorted(teachers - {""})))
