"""Icecat's judged lists: queries, real product titles, and how relevant people found each product (0 to 3).

Two files in the layout of the Chorus demo shop (https://github.com/querqy/chorus): ``icecat/products.jsonl.gz`` (one
JSON object a product: id, title, ...) under the Icecat Open Content Licence, and ``icecat/judgments.csv.gz`` (query,
docid, rating). A list is what was judged for one query, so a ranker is measured on re-ranking it.
"""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models import metrics


class _Product(msgspec.Struct, frozen=True):
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalogue says of a product.

    Attributes:
        title: as a shopper sees it.
        brand: its supplier.
        attributes: the texts of fields that describe it (colour, type, connector, ...), in the order of the file.
    """

    title: str
    brand: str
    attributes: tuple[str, ...]


_SILENT: Final = (
    *("brand", "certif", "code", "compat", "country", "dimension", "altitude", "family_", "humidity", "manufacturer"),
    *("model", "product_name", "product_type", "series", "temperature"),
)
"""Fields with one of these in their name do not say how a product is."""


def products(data: Path) -> dict[str, Product]:
    """The catalogue by product id, in the order of the file.

    Args:
        data: the folder that holds ``icecat/``.

    Raises:
        FileNotFoundError: the file is not there; the text says where it comes from.
    """
    path = _there(data / "icecat" / "products.jsonl.gz")
    with gzip.open(path, "rb") as lines:
        rows: Iterable[dict[str, object]] = map(msgspec.json.Decoder(dict[str, object]).decode, lines)
        return {str(row["id"]): Product(str(row["title"]), str(row["supplier"]), tuple(_told(row))) for row in rows}


def _told(row: Mapping[str, object]) -> Iterable[str]:
    for name, value in row.items():
        if name.startswith("attr_t_") and not any(silent in name for silent in _SILENT):
            yield str(value)


def _there(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: it is made of the data of https://github.com/querqy/chorus")
    return path


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
    catalogue, judgments = (_there(data / "icecat" / name) for name in ("products.jsonl.gz", "judgments.csv.gz"))
    with gzip.open(catalogue, "rb") as lines:
        decode = msgspec.json.Decoder(_Product).decode
        titles = {product.id: product.title for product in map(decode, lines)}
    found: dict[str, list[tuple[str, int]]] = {}
    with gzip.open(judgments, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["docid"] not in titles:
                raise ValueError(f"{judgments} judges product {row['docid']}, which {catalogue} has not")
            found.setdefault(row["query"], []).append((titles[row["docid"]], int(row["rating"])))
    lists = [
        JudgedList(query, tuple(title for title, _ in rows), np.array([rating for _, rating in rows], np.int64))
        for query, rows in found.items()
    ]
    return [judged for judged in lists if judged.ratings.any()]


def gains(ratings: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a product is worth in a list: 2^rating - 1 (Burges et al. 2005)."""
    return np.asarray(2.0**ratings - 1, dtype=np.float64)


def ndcg(scores: NDArray[np.floating] | Sequence[float], ratings: NDArray[np.int64], cut: int = 10) -> float:
    """``metrics.ndcg`` of ratings int64 [B], at least one above 0; equal scores count in their worst order."""
    return metrics.ndcg(scores, gains(ratings), cut, "pessimistic")
