"""Labels put together for training: each once, and without queries whose labels hardly differ."""

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from headrace.models.candidates import without_spread
from headrace.streams.identity import query_hash
from headrace.streams.pairs import FirstLabels, LabelledPair

Labels = Callable[[], Iterator[LabelledPair]]
"""Gives the labels from the beginning, whenever it is called."""


def collected(labels: Labels, teacher: str, least_spread: float, counts: Counter[str]) -> Iterator[LabelledPair]:
    """The labels that are worth training on, in their order.

    They are read twice and never held: 24 bytes of memory a label, and 90 for its name.

    Args:
        labels: gives them.
        teacher: its id, or the beginning of it; "": whichever.
        least_spread: queries whose probabilities differ by less are left out, they have no gradient.
        counts: told "labels", "doubles", "other teachers", "without spread" and "kept".
    """
    queries, probabilities = array("Q"), array("d")
    first = FirstLabels()
    wanted: list[bool] = []
    for label in labels():
        fits = label.teacher.startswith(teacher)
        new = fits and first.is_new(label)
        wanted.append(new)
        counts["labels"] += 1
        counts["other teachers"] += not fits
        counts["doubles"] += fits and not new
        if new:
            queries.append(query_hash(label.query))
            probabilities.append(label.probability)
    flat = without_spread(np.array(queries, np.uint64), np.array(probabilities, np.float64), least_spread)
    counts["without spread"] = int(flat.sum())
    counts["kept"] = len(flat) - counts["without spread"]
    worthless = iter(flat.tolist())
    for label, new in zip(labels(), wanted, strict=False):  # what came since is not looked at
        if new and not next(worthless):
            yield label


def write_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Writes a file of lines; it is there when it is whole, and the one of that name before it stays until then.

    Raises:
        OSError: it cannot be written.
    """
    aside = path.with_name(path.name + ".new")
    try:
        with aside.open("wb") as file:
            for line in lines:
                file.write(line + b"\n")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
