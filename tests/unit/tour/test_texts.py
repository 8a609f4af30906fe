import pytest

from headrace.models.bundle import open_part
from headrace.online.pairs import PairScorer
from headrace.tour import texts
from headrace.tour.flow import listed
from headrace.tour.shop import Shop, load
from headrace.tour.shoppers import ClickModel

LIMIT_BYTES = 8_000_000


@pytest.fixture(scope="module")
def shop() -> Shop:
    return load()


def test_the_shipped_student_is_whole_small_and_says_where_it_comes_from() -> None:
    part = open_part(texts.shipped())
    assert part.kind == "student"
    assert sum(entry.size_bytes for entry in part.files.values()) <= LIMIT_BYTES
    assert b"tests/bench/tour_student.py" in part.read("config.json")


def test_the_shipped_student_is_better_than_chance_on_queries_it_was_not_taught(shop: Shop) -> None:
    scorer = PairScorer(texts.shipped())
    shown = [query.text for query in shop.queries if query.held_out]
    found = {}
    for text in shown:
        items = listed(shop, text)
        scores = scorer.score([text] * len(items), [item.title for item in items])
        found[text] = {item.item_id: float(score) for item, score in zip(items, scores, strict=True)}
    by_chance = {text: {item: -place for place, item in enumerate(sorted(row))} for text, row in found.items()}
    assert texts.judged(shop, found) > texts.judged(shop, by_chance) + 0.3
    assert texts.judged(shop, found) > 0.85


def test_the_written_grades_decide_how_good_an_order_is(shop: Shop) -> None:
    query = next(query for query in shop.queries if query.held_out)
    items = [item.item_id for item in listed(shop, query.text)]
    best = {query.text: {item: float(query.grades.get(item, 0)) for item in items}}
    worst = {query.text: {item: -float(query.grades.get(item, 0)) for item in items}}
    assert texts.judged(shop, best) == 1.0
    assert texts.judged(shop, worst) < 0.5
    assert ClickModel().relevance == texts.GAINS
