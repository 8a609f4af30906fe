"""The arithmetic that serving and learning share: what weights multiply, sums by row, log odds to probabilities.

Everything is bounded here, so that no input, however large or undefined, makes a score or a weight that is no number.

Shapes: B items of one list, F features, X crosses, W = F + X weights, M moments.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.feature_names import MOMENTS

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Places = NDArray[np.intp]

BOUND: Final = 16.0
"""No feature counts beyond +- this."""
MARGIN_BOUND: Final = 30.0
"""No margin counts beyond +- this in a probability."""


def expand(features: Floats, pairs: Places) -> Doubles:
    """What the weights multiply: float64 [B, W], each feature within BOUND; NaN reads as 0."""
    plain = _held(features)
    return np.concatenate([plain, plain[:, pairs[:, 0]] * plain[:, pairs[:, 1]]], axis=1)


def level(margin: Doubles, features: Floats, moments: Places) -> Doubles:
    """What the scale multiplies: margin, 1, moments; float64 [B, 2 + M]."""
    held = np.clip(margin, -MARGIN_BOUND, MARGIN_BOUND)
    return np.concatenate([held[:, None], np.ones((len(margin), 1)), _held(features[:, moments])], axis=1)


def weigh(inputs: Doubles, weights: Doubles) -> Doubles:
    """Inputs [B, W] times weights [W], summed row by row: a matrix product rounds differently for other B (law 6)."""
    return np.asarray(np.add.reduce(inputs * weights, axis=1), dtype=np.float64)


def sigmoid(values: Doubles) -> Doubles:
    """1 / (1 + exp(-v)), v held within MARGIN_BOUND."""
    held = np.clip(values, -MARGIN_BOUND, MARGIN_BOUND)
    return np.asarray(1.0 / (1.0 + np.exp(-held)), dtype=np.float64)


def softmax(margin: Doubles) -> Doubles:
    """Shares of the margins of one list, float64 [B]; their sum is 1."""
    powers = np.exp(margin - margin.max())
    return np.asarray(powers / powers.sum(), dtype=np.float64)


@lru_cache(maxsize=8)
def moments_in(names: tuple[str, ...]) -> Places:
    """The places of the moments among the names, [M]."""
    places = np.array([at for at, name in enumerate(names) if name in MOMENTS], dtype=np.intp)
    places.flags.writeable = False
    return places


def _held(features: Floats) -> Doubles:
    return np.clip(np.nan_to_num(features.astype(np.float64), nan=0.0), -BOUND, BOUND)
