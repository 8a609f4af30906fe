"""What shoppers' behaviour says around a pair, for teachers and students that read it."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from headrace.commands.inspect import Opened
from headrace.models.prompts import NEIGHBOURS
from headrace.streams.inspection import item_facts, query_facts
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.pairs import UnlabelledPair, pair_id_of

_NO_TEXT: Final = re.compile(r"\?[0-9a-f]{16}")
"""What ``item_facts`` calls a query whose text is not known."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The neighbours of queries and items in a generation as of a UTC day; each is looked up once.

    Attributes:
        there: the generation.
        day: the last one of the window.
    """

    there: Opened
    day: int
    _known: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict, init=False)

    def of_query(self, text: str) -> tuple[str, ...]:
        """The ids of the first five items that the query led to, the strongest first.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return self._once("query", text, query_facts)

    def of_item(self, item_id: str) -> tuple[str, ...]:
        """Of the first five queries that led to the item those whose text is known, normalised, the strongest first.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        found = self._once("item", item_id, item_facts)
        return tuple(text for text in found if not _NO_TEXT.fullmatch(text))

    def _once(self, kind: str, name: str, facts: Callable[..., Mapping[str, Any]]) -> tuple[str, ...]:
        if (kind, name) not in self._known:
            there = self.there
            rule = replace(NeighbourRule(), window_days=there.generation.recipe.bounds.window_days)
            found = facts(there.wire, there.generations.keys(there.generation.name), name, self.day, rule)
            # The first five, whether their texts are known or not: so `serve` takes them (law 5).
            self._known[kind, name] = tuple(one["name"] for one in found["neighbours"])[:NEIGHBOURS]
        return self._known[kind, name]


def with_behaviour(
    pairs: Iterable[UnlabelledPair], behaviour: Behaviour, texts: Mapping[str, str]
) -> Iterator[UnlabelledPair]:
    """The same pairs with their neighbours, and named with them.

    Args:
        pairs: without neighbours.
        behaviour: knows them.
        texts: of items by id, as the student reads them; one without is left out.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    for pair in pairs:
        led_to = tuple(texts[name] for name in behaviour.of_query(pair.query) if texts.get(name))
        led_by = behaviour.of_item(pair.item_id)
        yield msgspec.structs.replace(
            pair,
            pair_id=pair_id_of(pair.query, pair.item_id, pair.title, led_to, led_by),
            query_neighbours=led_to,
            item_neighbours=led_by,
        )
