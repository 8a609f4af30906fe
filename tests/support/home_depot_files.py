"""A file of judged pairs as Home Depot's looks."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path


def write_home_depot(data: Path, rows: Iterable[tuple[str, str, float]]) -> Path:
    """Writes query, title, rating of each pair; what comes back is ``data``, the folder of public sets."""
    path = data / "homedepot" / "pairs.csv.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["id", "product_uid", "product_title", "search_term", "relevance"])
        lines.writerows([0, 0, title, query, rating] for query, title, rating in rows)
    return data
