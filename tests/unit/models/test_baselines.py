"""What served lists are compared with knows only what happened before."""

from headrace.models.baselines import NAMES, Baselines

ITEMS = ("a", "b", "c", "d")
NAN = float("nan")


def order(scores: object) -> str:
    values = list(scores)  # type: ignore[call-overload]
    return "".join(sorted(ITEMS, key=lambda item: -values[ITEMS.index(item)]))


def test_before_anything_happened_all_but_price_are_the_shown_order() -> None:
    scores = Baselines().scores("s", ITEMS, (3.0, 1.0, NAN, 2.0))
    assert tuple(scores) == NAMES
    assert order(scores["last touched"]) == order(scores["shown order"]) == order(scores["popularity"]) == "abcd"
    assert order(scores["cheapest"]) == "bdac"


def test_the_last_touched_item_that_is_listed_comes_first_in_its_session_only() -> None:
    baselines = Baselines()
    baselines.see("s", "b", clicked=False)
    baselines.see("s", "c", clicked=False)
    baselines.see("s", "elsewhere", clicked=False)
    assert order(baselines.scores("s", ITEMS, (1.0,) * 4)["last touched"]) == "cabd"
    assert order(baselines.scores("other", ITEMS, (1.0,) * 4)["last touched"]) == "abcd"


def test_popularity_counts_clicks_of_everybody_and_ties_keep_the_shown_order() -> None:
    baselines = Baselines()
    baselines.see("s", "d", clicked=True)
    baselines.see("t", "b", clicked=False)
    assert order(baselines.scores("u", ITEMS, (2.0, 1.0, 1.0, 1.0))["popularity"]) == "dabc"
    assert order(baselines.scores("u", ITEMS, (2.0, 1.0, 1.0, 1.0))["cheapest"]) == "bcda"
