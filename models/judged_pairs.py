"""Judged pairs with scores, as a file: JSON lines, one pair a line, compressed where the name ends in ``.gz``.

    {"query": "angle bracket", "title": "12-Gauge Angle", "label": 0.83, "scores": {"student": 0.71, "bm25": 9.2}}

``label`` is 0 (irrelevant) to 1; ``scores`` name as many models as there are, the same in every line; ``exposures``,
where it is given in every line, is how often the query was asked. Files of several models can be put side by side when
they hold the same pairs in the same order.
"""

import gzip
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np

from headrace.models import folders
from headrace.models.evaluation import Judged
from headrace.models.json_lines import numbered_lines

ROWS: Final = 2_000_000


class BadPairs(ValueError):
    """A file that does not hold judged pairs; the text names file, line and reason."""


class _Row(msgspec.Struct, frozen=True, omit_defaults=True):
    query: str
    title: str
    label: Annotated[float, msgspec.Meta(ge=0, le=1)]
    scores: dict[str, float] = {}
    exposures: Annotated[float, msgspec.Meta(ge=0)] | None = None


def read(paths: Sequence[Path]) -> Judged:
    """The pairs of files that hold the same ones, with the scores of all of them.

    Args:
        paths: at least one.

    Raises:
        BadPairs: a line cannot be read or has other scores than the first; files differ in their pairs or share a
            model.
        OSError: a file cannot be opened.
    """
    found = _read(paths[0])
    for path in paths[1:]:
        found = _beside(found, _read(path), path)
    if not len(found):
        raise BadPairs(f"{paths[0]} holds no pairs")
    return found


def write(path: Path, judged: Judged) -> None:
    """Writes pairs and scores so that ``read`` gives them again, in one step."""
    encode = msgspec.json.Encoder().encode
    columns = {name: scores.tolist() for name, scores in judged.scores.items()}
    exposures = [None] * len(judged) if judged.exposures is None else judged.exposures.tolist()
    lines = [
        encode(_Row(query, title, label, {name: column[place] for name, column in columns.items()}, exposures[place]))
        for place, (query, title, label) in enumerate(
            zip(judged.queries, judged.titles, judged.labels.tolist(), strict=True)
        )
    ]
    content = b"".join(line + b"\n" for line in lines)
    folders.place_file(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _read(path: Path) -> Judged:
    rows: list[_Row] = []
    decode = msgspec.json.Decoder(_Row).decode
    for number, line in numbered_lines(path, BadPairs, ROWS):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadPairs(f"{path}, line {number}: {error}") from error
        _check(row, rows[0] if rows else row, f"{path}, line {number}")
        rows.append(row)
    names = list(rows[0].scores) if rows else []
    given = rows and rows[0].exposures is not None
    return Judged(
        tuple(row.query for row in rows),
        tuple(row.title for row in rows),
        np.array([row.label for row in rows], dtype=np.float64),
        {name: np.array([row.scores[name] for row in rows], dtype=np.float64) for name in names},
        np.array([row.exposures for row in rows], dtype=np.float64) if given else None,
    )


def _check(row: _Row, first: _Row, where: str) -> None:
    if row.scores.keys() != first.scores.keys():
        other = sorted(row.scores.keys() ^ first.scores.keys())
        raise BadPairs(f"{where}: scores of {', '.join(other)} are not in every line")
    if (row.exposures is None) != (first.exposures is None):
        raise BadPairs(f"{where}: exposures are not in every line")
    for name, score in row.scores.items():
        if not math.isfinite(score):
            raise BadPairs(f"{where}: the score of {name} is no finite number")


def _beside(one: Judged, other: Judged, path: Path) -> Judged:
    if len(one) != len(other):
        raise BadPairs(f"{path} holds {len(other):,} pairs, the first file {len(one):,}: they must hold the same")
    same = zip(one.queries, other.queries, one.titles, other.titles, one.labels, other.labels, strict=True)
    for place, (query, query2, title, title2, label, label2) in enumerate(same, 1):
        if query != query2 or title != title2 or abs(label - label2) > 1e-6:
            raise BadPairs(
                f"{path}, pair {place}: {query2!r:.100} is another pair, or another label, than in the first"
            )
    if shared := sorted(one.scores.keys() & other.scores.keys()):
        raise BadPairs(f"{path} has scores of {', '.join(shared)}, which a file before it has too: rename one")
    exposures = one.exposures if one.exposures is not None else other.exposures
    return replace(one, scores={**one.scores, **other.scores}, exposures=exposures)
