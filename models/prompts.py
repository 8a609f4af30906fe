"""What a teacher reads of a pair: one text that grows stage by stage (ProRBP's progressive prompts).

Stage 1 is the plain question: the query, the item. Stage 2 adds what shoppers of this query chose, stage 3 which
queries led to the item. Each stage is the one before and more, so one causal pass over the longest answers all of them,
read at the end of each. Without neighbours only stage 1 is there: the prompt is exactly the plain one.

The paper's own wording is not public; this one is ours, and ``PROMPT_HASH`` names it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

STAGES: Final = 3
NEIGHBOURS: Final = 5
"""So many of each side are read, the strongest first."""
ASK: Final = "\nrelevant:"
"""What every stage ends with; scores are read at its last token."""
_QUERY, _TERMS, _ITEM, _MORE = "query: ", "\nterms: ", "\nproduct: ", "\ndetails: "
_CHOSEN, _FOUND_BY = "\nshoppers with this query chose: ", "\nthis product was chosen for: "
PROMPT_HASH: Final = hashlib.blake2b(
    "\0".join((_QUERY, _TERMS, _ITEM, _MORE, _CHOSEN, _FOUND_BY, ASK)).encode(), digest_size=8
).hexdigest()
"""Names the wording: teachers, labels and caches made with another one are others."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and an item, as a teacher is asked about them.

    Attributes:
        query: as it was typed.
        title: of the item.
        details: description and attributes of the item, "" where there are none; a student never sees them.
        terms: the query's attributes or core terms, "" where there are none.
        query_neighbours: titles of items that this query led to, the strongest first.
        item_neighbours: queries that led to this item, the strongest first.
    """

    query: str
    title: str
    details: str = ""
    terms: str = ""
    query_neighbours: tuple[str, ...] = ()
    item_neighbours: tuple[str, ...] = ()

    def alone(self) -> "Pair":
        """The same pair without neighbours."""
        return Pair(self.query, self.title, self.details, self.terms)


def stages(pair: Pair) -> tuple[str, ...]:
    """The pieces of a pair's prompt, each ending where a score is read; one where there are no neighbours.

    A side that has no neighbours leaves its stage out, so every piece adds something.
    """
    terms = f"{_TERMS}{pair.terms}" if pair.terms else ""
    details = f"{_MORE}{pair.details}" if pair.details else ""
    found = [f"{_QUERY}{pair.query}{terms}{_ITEM}{pair.title}{details}{ASK}"]
    for lead, neighbours in ((_CHOSEN, pair.query_neighbours), (_FOUND_BY, pair.item_neighbours)):
        if neighbours:
            found.append(f"{lead}{_joined(neighbours)}{ASK}")
    return tuple(found)


def present(pair: Pair) -> tuple[bool, bool, bool]:
    """Which of the three stages a pair's prompt has."""
    return True, bool(pair.query_neighbours), bool(pair.item_neighbours)


def _joined(texts: Sequence[str]) -> str:
    return "; ".join(texts[:NEIGHBOURS])
