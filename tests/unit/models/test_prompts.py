from hypothesis import given
from hypothesis import strategies as st

from headrace.models.prompts import ASK, NEIGHBOURS, STAGES, Pair, present, stages

TEXTS = st.text(max_size=12)
MANY = st.lists(TEXTS.filter(bool), max_size=NEIGHBOURS + 2).map(tuple)
PAIRS = st.builds(Pair, TEXTS, TEXTS, TEXTS, TEXTS, MANY, MANY)


@given(PAIRS)
def test_without_neighbours_the_prompt_is_the_plain_one(pair: Pair) -> None:
    plain = stages(pair.alone())
    assert len(plain) == 1
    assert stages(pair)[0] == plain[0]
    assert not any((pair.alone().query_neighbours, pair.alone().item_neighbours))


@given(PAIRS)
def test_each_stage_that_is_there_adds_something_and_ends_with_the_question(pair: Pair) -> None:
    found = stages(pair)
    assert len(found) == sum(present(pair)) <= STAGES
    assert all(text.endswith(ASK) and len(text) > len(ASK) for text in found)


def test_the_prompt_says_what_is_known_in_its_order() -> None:
    pair = Pair("red shoe", "Red shoes", "leather", "colour: red", ("Boots", "Sandals"), ("shoes",))
    assert "|".join(stages(pair)) == (
        "query: red shoe\nterms: colour: red\nproduct: Red shoes\ndetails: leather\nrelevant:"
        "|\nshoppers with this query chose: Boots; Sandals\nrelevant:"
        "|\nthis product was chosen for: shoes\nrelevant:"
    )
    assert "terms" not in stages(Pair("q", "t"))[0]
    assert "details" not in stages(Pair("q", "t"))[0]


def test_only_the_strongest_neighbours_are_read() -> None:
    many = tuple(f"n{number}" for number in range(NEIGHBOURS + 3))
    _, chosen = stages(Pair("q", "t", query_neighbours=many))
    assert f"n{NEIGHBOURS - 1}" in chosen
    assert f"n{NEIGHBOURS}" not in chosen
