"""The leak guard: which neighbours a model is not shown while it learns.

A pair that shoppers chose is its own neighbour, and has none while it is new. A model that always sees neighbours as
they are learns "is a neighbour" and no more; so some rows to learn from lose their own edge, and some lose all.
"""

import unicodedata
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from headrace.models.prompts import Pair


@dataclass(frozen=True, slots=True)
class Guard:
    """What training rows are not shown, so that a model does not learn "is a neighbour" alone.

    Attributes:
        self_edge: share of rows without the edge of the pair itself, on either side.
        all_edges: share of rows without any neighbour.
    """

    self_edge: float = 0.5
    all_edges: float = 0.3


OPEN: Final = Guard(0.0, 0.0)
"""As served: nothing is kept back."""


def guarded(pair: Pair, random: np.random.Generator, guard: Guard) -> Pair:
    """A pair to learn from without what ``guard`` keeps back; its own edge goes from both sides together.

    Two numbers are drawn, whatever the pair. Texts that differ in case, spaces or the width of letters alone are one.
    """
    hidden, torn = random.random() < guard.all_edges, random.random() < guard.self_edge
    if hidden:
        return pair.alone()
    if not torn:
        return pair
    query, title = _plain(pair.query), _plain(pair.title)
    return replace(
        pair,
        query_neighbours=tuple(one for one in pair.query_neighbours if _plain(one) != title),
        item_neighbours=tuple(one for one in pair.item_neighbours if _plain(one) != query),
    )


def _plain(text: str) -> str:
    # As queries are counted: a neighbour comes from the state, the pair's own query as somebody typed it.
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
