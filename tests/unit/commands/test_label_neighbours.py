"""What pairs are told of shoppers' behaviour: whatever items and queries are called."""

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.commands import label_neighbours
from headrace.commands.inspect import Opened
from headrace.commands.label_neighbours import Behaviour, with_behaviour
from headrace.streams.pairs import decode_pair, encode, pair_of

LED_TO = {"what is it?": ["?2", "i1", "gone"], "boot": []}
LED_BY = {"i1": ["?00000000000000ab", "? what", "?", "boot"], "?2": []}
TITLES = {"i1": "Red shoe", "?2": "Riddle"}


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    bounds = SimpleNamespace(bounds=SimpleNamespace(window_days=7))
    generation = SimpleNamespace(name="g", recipe=bounds)
    there = SimpleNamespace(wire=None, generations=SimpleNamespace(keys=str), generation=generation)
    asked = Counter[str]()

    def says(known: Mapping[str, list[str]]) -> Any:
        def facts(wire: Any, keys: Any, name: str, day: int, rule: Any) -> dict[str, Any]:
            asked[name] += 1
            assert (day, rule.window_days, asked[name]) == (20_000, 7, 1)  # each is looked up once
            return {"neighbours": [{"name": one} for one in known[name]]}

        return facts

    monkeypatch.setattr(label_neighbours, "query_facts", says(LED_TO))
    monkeypatch.setattr(label_neighbours, "item_facts", says(LED_BY))
    return Behaviour(cast(Opened, there), 20_000)


def test_only_a_query_without_a_text_is_left_out_and_no_name_that_begins_like_one(behaviour: Behaviour) -> None:
    assert behaviour.of_query("what is it?") == ("?2", "i1", "gone")
    assert behaviour.of_item("i1") == ("? what", "?", "boot")


def test_a_pair_is_told_titles_and_queries_and_nothing_where_nothing_is_known(behaviour: Behaviour) -> None:
    pairs = [pair_of("what is it?", "i1", "Red shoe"), pair_of("boot", "?2", "Riddle"), pair_of("boot", "i1", "Shoe")]
    found = list(with_behaviour(pairs, behaviour, TITLES))
    assert [one.query_neighbours for one in found] == [("Riddle", "Red shoe"), (), ()]
    assert [one.item_neighbours for one in found] == [("? what", "?", "boot"), (), ("? what", "?", "boot")]
    assert len({one.pair_id for one in (*found, *pairs)}) == 5  # the second has nothing to tell: it is the same pair
    assert all(decode_pair(None, encode(one)) == one for one in found)


def test_the_first_five_are_told_and_no_sixth_for_one_without_a_text(
    behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 5: as `serve` takes them."""
    monkeypatch.setitem(LED_TO, "many", ["i1", "gone", "?2", "i3", "i4", "i5"])
    monkeypatch.setitem(LED_BY, "i9", [*"abcd", "?00000000000000ab", "f"])
    texts = {**TITLES, "i3": "", "i4": "Boot", "i5": "Sixth"}
    [found] = with_behaviour([pair_of("many", "i9", "A title")], behaviour, texts)
    assert found.query_neighbours == ("Red shoe", "Riddle", "Boot")
    assert found.item_neighbours == tuple("abcd")
