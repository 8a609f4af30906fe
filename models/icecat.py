"""Icecat's judged lists: queries, real product titles, and how relevant people found each product (0 to 3).

Two files in the layout of the Chorus demo shop (https://github.com/querqy/chorus): ``icecat/products.jsonl.gz`` (one
JSON object a product: id, title, ...) under the Icecat Open Content Licence, and ``icecat/judgments.csv.gz`` (query,
docid, rating). A list is what was judged for one query, so a ranker is measured on re-ranking it.
"""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray


class _Product(msgspec.Struct, frozen=True):
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class JudgedList:
    """One query and what was judged for it.

    Attributes:
        query: as it was typed.
        titles: of the products, in the order of the file.
        ratings: int64 [B], 0 (irrelevant) to 3.
    """

    query: str
    titles: tuple[str, ...]
    ratings: NDArray[np.int64]


def judged_lists(data: Path) -> list[JudgedList]:
    """The lists with at least one product that somebody found relevant, in the order of the file.

    Args:
        data: the folder that holds ``icecat/``.

    Raises:
        FileNotFoundError: the files are not there; the text says where they come from.
        ValueError: a judged product is not in the catalogue.
    """
    products, judgments = data / "icecat" / "products.jsonl.gz", data / "icecat" / "judgments.csv.gz"
    for path in (products, judgments):
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: it is made of the data of https://github.com/querqy/chorus")
    with gzip.open(products, "rb") as lines:
        decode = msgspec.json.Decoder(_Product).decode
        titles = {product.id: product.title for product in map(decode, lines)}
    found: dict[str, list[tuple[str, int]]] = {}
    with gzip.open(judgments, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["docid"] not in titles:
                raise ValueError(f"{judgments} judges product {row['docid']}, which {products} has not")
            found.setdefault(row["query"], []).append((titles[row["docid"]], int(row["rating"])))
    lists = [
        JudgedList(query, tuple(title for title, _ in rows), np.array([rating for _, rating in rows], np.int64))
        for query, rows in found.items()
    ]
    return [judged for judged in lists if judged.ratings.any()]


def ndcg(scores: NDArray[np.floating] | Sequence[float], ratings: NDArray[np.int64], cut: int = 10) -> float:
    """How good the order by score is, 0 to 1, with gain 2^rating - 1; equal scores count in their worst order.

    Args:
        scores: [B].
        ratings: int64 [B], at least one above 0.
        cut: how many of the list count.

    Source:
        Järvelin, Kekäläinen 2002; the gain of Burges et al. 2005.
    """
    gains = 2.0**ratings - 1
    discounts = 1 / np.log2(np.arange(2, cut + 2))
    ours = gains[np.lexsort((ratings, -np.asarray(scores, np.float64)))][:cut]
    best = np.sort(gains)[::-1][:cut]
    return float((ours * discounts[: len(ours)]).sum() / (best * discounts[: len(best)]).sum())
