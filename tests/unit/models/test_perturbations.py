"""Other ways to ask the same: what each may change, and what it never does."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models import perturbations
from headrace.models.perturbations import PERTURBATIONS, SYNONYMS, UNITS, Perturbation, mistyped, perturbed

BY_NAME = {one.name: one for one in PERTURBATIONS}
PIECES = st.sampled_from(
    ["faucet", "1/2", "in.", "inch", "12v", "4 ft x 8 ft", "2'", '3"', "couch", "light bulb", "for", "GE", "x", "aaaa"]
)
QUERIES = st.lists(PIECES | st.text(max_size=8), max_size=6).map(" ".join) | st.text(max_size=30)
TYPOS = ("letters swapped", "letter dropped", "letter doubled", "neighbouring key")


def once(name: str, query: str, seed: int = 0) -> str | None:
    return perturbed([query], BY_NAME[name], seed)[0]


def ways(name: str, query: str) -> set[str | None]:
    return {once(name, query, seed) for seed in range(60)}


@pytest.mark.parametrize("one", PERTURBATIONS, ids=lambda one: one.name)
@given(query=QUERIES, seed=st.integers(0, 3))
def test_a_query_is_changed_or_left_and_never_emptied(one: Perturbation, query: str, seed: int) -> None:
    changed = perturbed([query], one, seed)[0]
    assert changed == perturbed([query], one, seed)[0], "the seed decides"
    assert changed is None or (changed != query and changed.strip())
    if changed is not None and one.keeps_words:
        assert len(changed.split()) == len(query.split())


@given(queries=st.lists(QUERIES, max_size=5))
def test_what_becomes_of_a_query_does_not_depend_on_its_mates(queries: list[str]) -> None:
    for one in PERTURBATIONS:
        assert perturbed(queries, one) == [perturbed([query], one)[0] for query in queries]


@pytest.mark.parametrize("name", TYPOS)
@given(query=QUERIES)
def test_a_typo_is_one_slip_in_one_long_word(name: str, query: str) -> None:
    changed = once(name, query)
    if changed is None:
        return
    pairs = [(a, b) for a, b in zip(query.split(), changed.split(), strict=True) if a != b]
    assert len(pairs) == 1
    assert len(pairs[0][0]) >= 4
    assert abs(len(changed) - len(query)) == {"letter dropped": 1, "letter doubled": 1}.get(name, 0)


def test_typos_by_hand() -> None:
    assert ways("letters swapped", "oak door") == {"oak doro"}
    assert ways("letter dropped", "ge abcd") == {"ge acd", "ge abd", "ge abc"}
    assert ways("letter doubled", "abcd") == {"aabcd", "abbcd", "abccd", "abcdd"}
    assert ways("neighbouring key", "Zaaa") == {"Zsaa", "Zasa", "Zaas"}
    for name in TYPOS:
        assert once(name, "pvc tee 1/2") is None, "no word is long enough"
        assert once(name, "t12ab 3-way") is None, "no word of letters alone"


@given(query=QUERIES)
def test_another_order_has_the_same_words(query: str) -> None:
    changed = once("word order", query)
    if changed is not None:
        assert Counter(changed.split()) == Counter(query.split())


def test_a_number_stays_with_its_unit_and_what_binds_words_is_left() -> None:
    assert ways("word order", "1/2 in. pipe") == {"pipe 1/2 in."}
    assert ways("word order", "plywood 4 ft x 8 ft") == {"4 ft x 8 ft plywood"}
    assert once("word order", "cover for grill") is None
    assert once("word order", "faucet") is None
    assert once("word order", "tile Tile") is None


@pytest.mark.parametrize(
    ("query", "dropped", "other"),
    [
        ("1/2 in. pipe", "1/2 pipe", {"1/2 in pipe", "1/2 inch pipe", "1/2 inches pipe"}),
        ("12v drill", "12 drill", {"12 volt drill", "12 volts drill"}),
        ("2 ml", "2", {"2 milliliter", "2 milliliters"}),
        ("drywall 4' x 8\"", "drywall 4 x 8", None),
        ("40-gallon heater", "40 heater", {"40 gal heater", "40 gal. heater", "40 gallons heater"}),
        ("2 in 1 tool", None, {None}),
        ("sink in white", None, {None}),
        ("model 12vx", None, {None}),
    ],
)
def test_units(query: str, dropped: str | None, other: set[str | None] | None) -> None:
    assert once("units dropped", query) == dropped
    if other is not None:
        assert ways("units written otherwise", query) == other


def test_another_notation_is_of_the_same_unit() -> None:

    assert sum(map(len, UNITS)) == len({name for line in UNITS for name in line}), "a notation belongs to one unit"
    for line in UNITS:
        for name in line:
            assert ways("units written otherwise", f"3 {name}") <= {f"3 {same}" for same in line}


def test_synonyms_are_found_as_whole_words_the_longest_first() -> None:
    assert ways("synonym", "grey Couch") == {"gray Couch", "grey sofa"}
    assert ways("synonym", "light bulb") == {"lamp"}
    assert once("synonym", "couching") is None
    for word, others in SYNONYMS.items():
        assert word not in others
        assert word == word.casefold()


def test_capitals_and_what_has_none() -> None:
    assert once("upper case", "oak door") == "OAK DOOR"
    assert once("upper case", "OAK 12") is None


def test_every_perturbation_says_what_it_does() -> None:
    assert len(BY_NAME) == len(PERTURBATIONS)
    assert [one.name for one in PERTURBATIONS if not one.keeps_meaning] == ["units dropped"]
    for one in PERTURBATIONS:
        assert one.change.__doc__
        assert perturbations.__dict__[one.change.__name__] is one.change


def test_a_share_of_queries_is_mistyped_each_alike_wherever_it_stands() -> None:
    queries = [f"{word} number {n}" for word in ("faucet", "garden hose", "12v") for n in range(200)]
    typed = mistyped(queries, 0.3)
    assert mistyped(queries[::-1], 0.3) == typed[::-1]
    assert mistyped(queries, 0.0) == queries
    assert 0.25 < np.mean([one != other for one, other in zip(queries, typed, strict=True)]) < 0.35
    all_typed = mistyped(queries, 1.0)
    assert all(one != other and one[0] == other[0] for one, other in zip(queries, all_typed, strict=True))
    assert {one for one in all_typed if len(one) < len("faucet number 10")}, "letters are dropped too"
    assert mistyped(["a 12v tv", ""], 1.0) == ["a 12v tv", ""], "no long word, no slip"
    assert mistyped(queries, 0.3, seed=1) != typed


def test_other_seeds_and_other_queries_give_other_slips() -> None:
    query = "stainless steel refrigerator"
    assert len(ways("letter dropped", query)) > 10
    change = BY_NAME["letter dropped"].change
    assert change(query, np.random.default_rng(1)) == change(query, np.random.default_rng(1))
