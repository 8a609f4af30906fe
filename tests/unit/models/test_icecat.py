import gzip
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.icecat import Product, judged_lists, ndcg, products

RATED = st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 3)), min_size=1, max_size=30).filter(
    lambda rows: any(rating for _, rating in rows)
)


def write(data: Path, judgments: str) -> None:
    folder = data / "icecat"
    folder.mkdir(exist_ok=True)
    products = [{"id": f"{n}", "title": f"title {n}", "supplier": "x"} for n in range(4)]
    with gzip.open(folder / "products.jsonl.gz", "wb") as file:
        file.write(b"\n".join(msgspec.json.encode(product) for product in products))
    with gzip.open(folder / "judgments.csv.gz", "wt", encoding="utf-8") as file:
        file.write("query,docid,rating\n" + judgments)


def test_lists_without_anything_relevant_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 'mouse,1,3\nmouse,0,0\nnothing,1,0\n"a, b",2,1\nmouse,3,2\n')
    found = judged_lists(tmp_path)
    assert [judged.query for judged in found] == ["mouse", "a, b"]
    assert found[0].titles == ("title 1", "title 0", "title 3")
    assert found[0].ratings.tolist() == [3, 0, 2]


def test_data_that_is_absent_or_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"products\.jsonl\.gz is not there: .*github\.com/querqy/chorus"):
        judged_lists(tmp_path)
    write(tmp_path, "mouse,9,3\n")
    with pytest.raises(ValueError, match="judges product 9"):
        judged_lists(tmp_path)


def test_the_catalogue_tells_title_brand_and_what_describes_a_product(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"products\.jsonl\.gz is not there"):
        products(tmp_path)
    (tmp_path / "icecat").mkdir()
    row = {"id": "7", "title": "Acme cable", "supplier": "Acme", "attr_t_colour": "Red", "attr_n_weight": 3}
    row |= {"attr_t_compatibility": "Other 9", "attr_t_plug": "USB A"}
    with gzip.open(tmp_path / "icecat" / "products.jsonl.gz", "wb") as file:
        file.write(msgspec.json.encode(row))
    assert products(tmp_path) == {"7": Product("Acme cable", "Acme", ("Red", "USB A"))}


def test_ndcg_by_hand() -> None:
    ratings = np.array([0, 3, 1])
    best = 7 + 1 / math.log2(3)
    assert ndcg([0.1, 0.9, 0.5], ratings) == pytest.approx(1)
    assert ndcg([0.9, 0.5, 0.1], ratings) == pytest.approx((7 / math.log2(3) + 1 / 2) / best)
    assert ndcg([0.9, 0.5, 0.1], ratings, cut=1) == 0
    assert ndcg([0.5, 0.5, 0.5], ratings) == pytest.approx((1 / math.log2(3) + 7 / 2) / best)


@given(rows=RATED)
def test_ndcg_is_best_in_the_order_of_the_ratings_and_worst_when_all_are_equal(rows: list[tuple[float, int]]) -> None:
    scores, ratings = np.array([score for score, _ in rows]), np.array([rating for _, rating in rows])
    assert ndcg(ratings, ratings) == pytest.approx(1)
    assert ndcg(np.zeros(len(rows)), ratings) <= ndcg(scores, ratings) + 1e-12 <= 1 + 1e-9
