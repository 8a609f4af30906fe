"""Home Depot's judged pairs: real queries, product titles, and how relevant people found each title (1 to 3).

``homedepot/pairs.csv.gz``: id, product_uid, product_title, search_term, relevance (the mean of some raters), from the
training file of https://www.kaggle.com/competitions/home-depot-product-search-relevance. Private use under the
competition's rules: neither the rows nor weights that were trained on them may be passed on. There are titles only, no
descriptions.

One split for everything that learns (``training_pairs.side_of``): of 100 queries 20 are for testing, 8 for calibration
and for choosing, 72 for training. Whoever trains, labels or calibrates, nothing of a test query has been seen.
"""

import csv
import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.training_pairs import Side, side_of

HOME_DEPOT: Final = "homedepot"
"""Stands for these pairs where a command wants a file."""
SOURCE: Final = "https://www.kaggle.com/competitions/home-depot-product-search-relevance"
_COLUMNS: Final = ("search_term", "product_title", "relevance")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Judged pairs.

    Attributes:
        queries: [N], as they were typed.
        titles: [N], of the products.
        ratings: float64 [N], 1 (irrelevant) to 3 (a perfect match).
    """

    queries: tuple[str, ...]
    titles: tuple[str, ...]
    ratings: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.queries)

    def at(self, places: Sequence[int] | NDArray[np.int64]) -> "Pairs":
        """The pairs at some places."""
        return Pairs(
            tuple(self.queries[place] for place in places),
            tuple(self.titles[place] for place in places),
            self.ratings[np.asarray(places, dtype=np.int64)],
        )

    def of(self, side: Side) -> "Pairs":
        """The pairs whose query belongs to one side of the split."""
        return self.at([place for place, query in enumerate(self.queries) if side_of(query) == side])


def targets(ratings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Soft targets of ratings, [N] from 1..3 to 0..1, not rounded: thirds are most of the rows."""
    return (ratings - 1) / 2


def rounded_targets(ratings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Targets {0, .5, 1}, the coarse table of Walmart's teacher, for comparison; halves go up."""
    return np.floor(targets(ratings) * 2 + 0.5) / 2


def judged_pairs(data: Path) -> Pairs:
    """All pairs, in the order of the file.

    Args:
        data: the folder that holds ``homedepot/``.

    Raises:
        FileNotFoundError: the file is not there; the text says where it comes from.
        ValueError: it has other columns, or a rating that is no number from 1 to 3.
    """
    path = data / "homedepot" / "pairs.csv.gz"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: it is made of train.csv of {SOURCE}")
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            missing = set(_COLUMNS) - set(rows.fieldnames or ())
            if missing:
                raise ValueError(f"{path} has no column {', '.join(sorted(missing))}: it is not the file of {SOURCE}")
            found = [(row[_COLUMNS[0]], row[_COLUMNS[1]], float(row[_COLUMNS[2]] or "nan")) for row in rows]
    except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error}): fetch it again from {SOURCE}") from error
    ratings = np.array([rating for _, _, rating in found], dtype=np.float64)
    if not ((ratings >= 1) & (ratings <= 3)).all():
        raise ValueError(f"{path} has a relevance that is none from 1 to 3: it is not the file of {SOURCE}")
    return Pairs(tuple(query for query, _, _ in found), tuple(title for _, title, _ in found), ratings)
