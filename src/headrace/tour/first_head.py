"""The head that the tour begins with: made with the queries that the tour does not show, by `tests/bench/tour_head.py`.

It knows what counts, touches and the student are worth to simulated shoppers in general. Of the queries that are shown,
and of the shoppers that come, it knows nothing.
"""

from dataclasses import replace
from importlib import resources
from typing import Final

import msgspec
import numpy as np

from headrace.models.features import FEATURES
from headrace.models.head import Head

FILE: Final = "first_head.json"
_DIGITS: Final = 4


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head as a person can read it.

    Attributes:
        made: how, in a sentence.
        weights: of features, and of products "a * b" of two; those that are not named are 0.
        scale: slope, level, then what each moment adds.
    """

    made: str
    weights: dict[str, float]
    scale: tuple[float, ...]


def first_head() -> Head:
    """The head that ships with the tour."""
    raw = resources.files("headrace.tour").joinpath(FILE).read_bytes()
    return read(msgspec.json.decode(raw, type=Written))


def read(written: Written) -> Head:
    """The head that was written.

    Raises:
        ValueError: it names a weight that this version's heads do not have.
    """
    cold = Head.cold()
    names = _names(cold)
    if unknown := set(written.weights) - set(names):
        raise ValueError(f"no head has a weight of {sorted(unknown)}: make {FILE} again")
    weights = np.array([written.weights.get(name, 0.0) for name in names])
    return replace(cold, weights=weights, scale=np.array(written.scale))


def write(head: Head, made: str) -> Written:
    """A head as a person can read it, its numbers rounded."""
    weights = {name: round(float(weight), _DIGITS) for name, weight in zip(_names(head), head.weights, strict=True)}
    scale = tuple(round(float(value), _DIGITS) for value in head.scale)
    return Written(made, {name: weight for name, weight in weights.items() if weight}, scale)


def _names(head: Head) -> list[str]:
    return [*head.names, *(f"{FEATURES[a]} * {FEATURES[b]}" for a, b in head.pairs.tolist())]
