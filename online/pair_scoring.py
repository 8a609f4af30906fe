"""A pair that is to be scored, what its score is made of, and who scores it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.models.pair_rows import PairNeighbours
from headrace.online.catalogue import Text
from headrace.online.pair_neighbours import Told

Floats = NDArray[np.float32]
Neighbours = Sequence[PairNeighbours | None] | None
MadeOf = tuple[int, int]
"""Stamp of the item's text, hash of the neighbours: what a score was made of beside the query."""

NOTHING: Final = Told()


class PairScoring(Protocol):
    """Pairs in, calibrated probabilities out; rows independent of each other, safe to call from several threads."""

    def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
        """float32 [B], each within 0 .. 1, in the order of the pairs."""


class Closed:
    """Stands where a scorer was."""

    def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None) -> Floats:
        """Says so."""
        raise RuntimeError("this student was closed while a request held its model")


CLOSED: Final = Closed()


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair to score.

    Attributes:
        query, query_hash: normalised. item_id, text: whose text it is.
        tokens: about how many both have. told: what is told beside them.
        blind: nothing is told because the state was not known: there may be neighbours.
    """

    query: str
    query_hash: int
    item_id: str
    text: Text
    tokens: int
    told: Told = NOTHING
    blind: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is asked for by."""
        return self.query, self.item_id

    @property
    def made_of(self) -> MadeOf:
        """What its score is made of: a score made of something else is none of it."""
        return self.text.stamp, self.told.hash
