"""What shoppers' behaviour says around a pair, for teachers and students that read it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from headrace.commands.inspect import Opened
from headrace.models.prompts import NEIGHBOURS
from headrace.streams.inspection import item_facts, query_facts
from headrace.streams.neighbours import NeighbourRule
from headrace.streams.pairs import UnlabelledPair


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
        """The ids of items that the query led to, the strongest first.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return self._once("query", text, query_facts)

    def of_item(self, item_id: str) -> tuple[str, ...]:
        """The queries, normalised, that led to the item, the strongest first; one whose text is not known is left out.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        return self._once("item", item_id, item_facts)

    def _once(self, kind: str, name: str, facts: Callable[..., Mapping[str, Any]]) -> tuple[str, ...]:
        if (kind, name) not in self._known:
            there = self.there
            rule = replace(NeighbourRule(), window_days=there.generation.recipe.bounds.window_days)
            found = facts(there.wire, there.generations.keys(there.generation.name), name, self.day, rule)
            names = (one["name"] for one in found["neighbours"])
            self._known[kind, name] = tuple(one for one in names if not one.startswith("?"))
        return self._known[kind, name]


def with_behaviour(
    pairs: Iterable[UnlabelledPair], behaviour: Behaviour, titles: Mapping[str, str]
) -> Iterator[UnlabelledPair]:
    """The same pairs with their neighbours; items that have no title here are none.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    for pair in pairs:
        led_to = [titles[name] for name in behaviour.of_query(pair.query) if name in titles]
        yield msgspec.structs.replace(
            pair,
            query_neighbours=tuple(led_to[:NEIGHBOURS]),
            item_neighbours=behaviour.of_item(pair.item_id)[:NEIGHBOURS],
        )
