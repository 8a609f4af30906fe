"""What texts alone say in the tour: the distilled student beside the cosine of the encoder that it began as.

Judged by the grades that were written for the queries that are shown; neither was taught by them.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np

from headrace.online.scorer import Encoder, cosine
from headrace.tour.flow import listed
from headrace.tour.quality import ndcg
from headrace.tour.shop import Shop

GAINS: Final = (0.0, 0.1, 0.4, 1.0)
"""What a product is worth by its grade, as to the simulated shoppers."""

Scores = Mapping[str, Mapping[str, float]]
"""Text -> item -> score, of the candidates."""


def shipped() -> Path:
    """The folder of the student part that ships with the tour; ``tests/bench/tour_student.py`` makes it.

    Raises:
        FileNotFoundError: the package was built without it.
    """
    place = Path(str(resources.files("headrace.tour"))) / "student"
    found = sorted(path for path in place.glob("*") if path.is_dir()) if place.is_dir() else []
    if len(found) != 1:
        raise FileNotFoundError(f"{place} does not hold the tour's student: install Headrace again")
    return found[0]


def cosines(part: Path, shop: Shop, texts: list[str]) -> dict[str, dict[str, float]]:
    """The cosine of each query with each of its candidates' titles.

    Args:
        part: the folder of the bi-encoder's part.
        shop: whose products they are.
        texts: the queries.
    """
    encoder = Encoder(part, threads=2)
    titles = encoder.encode([product.title for product in shop.products])
    places = {product.item_id: place for place, product in enumerate(shop.products)}
    found = {}
    for text, vector in zip(texts, encoder.encode(texts), strict=True):
        items = [product.item_id for product in listed(shop, text)]
        scores = cosine(vector, titles[[places[item] for item in items]])
        found[text] = dict(zip(items, map(float, scores), strict=True))
    return found


def judged(shop: Shop, scores: Scores) -> float:
    """The mean nDCG@10 of queries' candidates in the order of their scores, 0 to 1, by the written grades."""
    values = []
    for text, row in scores.items():
        grades = shop.query(text).grades
        gains = np.array([GAINS[grades.get(item, 0)] for item in row])
        if gains.max(initial=0.0) > 0:
            values.append(ndcg(np.array(list(row.values())), gains))
    return float(np.mean(values)) if values else float("nan")
