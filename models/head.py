"""The head: features of the listed items in, probability of a click for each out; it learns from clicks as they come.

A margin is linear in the features and in products of pairs of them (``crosses``). The served score is
``sigmoid(slope * margin + level)`` with slope > 0: the same order as the margins, and a probability because slope and
level are fitted to clicks. Each row's score comes from that row alone.

The listwise loss is ``-sum_i y_i log softmax(margin)_i`` over one list, y = clicked / number of clicks: it compares items of one
list only, and a list without a click teaches it nothing. The click loss is the mean logistic loss over the list's rows.
Optimisers: AdaGrad (Duchi et al., 2011) and FTRL-proximal (McMahan et al., 2013), both around the initial weights,
which are the prior: an untouched head ranks by student score, then last touched first, then as the request came.

Shapes: B items of one list, F features, X crosses, W = F + X weights.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from headrace import BundleCorrupt, BundleMismatch
from headrace.models.features import FEATURES, digest

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

CODEC: Final = 1
BOUND: Final = 16.0
"""No feature counts beyond +- this."""
MARGIN_BOUND: Final = 30.0

INITIAL: Final[Mapping[str, float]] = {
    "student": 8.0,
    "touched_last": 4.0,
    "touch_order": 1.0,
    "prior_log": -1.5,
    "prior_reciprocal": 1.0,
}
"""The head before it has learned anything. `touched_last` outweighs any difference of prior order, so the first list of
a shopper comes in prior order and later ones with the last touched item on top; a student score, where there is one,
moves an item as far as eight `touched_last` halves."""

CROSSES: Final[tuple[tuple[str, str], ...]] = ()

_HEAD = struct.Struct("<B8sHHdd")
_LEARNER = struct.Struct("<BBBxddddddQ")
_LOSSES: Final = ("listwise", "click")
_OPTIMISERS: Final = ("adagrad", "ftrl")


def expand(features: Floats, pairs: NDArray[np.intp]) -> Doubles:
    """The head's inputs: f64 [B, W], bounded and finite, whatever came in; NaN reads as 0."""
    plain = np.clip(np.nan_to_num(features.astype(np.float64), nan=0.0), -BOUND, BOUND)
    if not len(pairs):
        return plain
    return np.concatenate([plain, plain[:, pairs[:, 0]] * plain[:, pairs[:, 1]]], axis=1)


def margins(inputs: Doubles, weights: Doubles) -> Doubles:
    """Linear margins f64 [B]; summed row by row, since a matrix product rounds differently for other row counts."""
    total: Doubles = np.add.reduce(inputs * weights, axis=1)
    return total


def sigmoid(values: Doubles) -> Doubles:
    """1 / (1 + exp(-v)), v held within +-MARGIN_BOUND."""
    out: Doubles = 1.0 / (1.0 + np.exp(-np.clip(values, -MARGIN_BOUND, MARGIN_BOUND)))
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Weights that serve; never changed once made.

    Attributes:
        names: the F features it reads, in order.
        pairs: [X, 2], which features are multiplied.
        weights: f64 [W].
        slope: > 0, from margin to log odds.
        level: log odds at margin 0.
    """

    names: tuple[str, ...]
    pairs: NDArray[np.intp]
    weights: Doubles
    slope: float = 1.0
    level: float = -3.0

    @classmethod
    def cold(
        cls,
        names: tuple[str, ...] = FEATURES,
        initial: Mapping[str, float] = INITIAL,
        crosses: tuple[tuple[str, str], ...] = CROSSES,
    ) -> "Head":
        """The head before anything was learned: the initial weights, nothing else."""
        place = {name: at for at, name in enumerate(names)}
        pairs = np.array([(place[a], place[b]) for a, b in crosses], dtype=np.intp).reshape(-1, 2)
        weights = np.zeros(len(names) + len(pairs))
        for name, weight in initial.items():
            weights[place[name]] = weight
        return cls(names, pairs, weights)

    def score(self, features: Floats) -> Floats:
        """Probability of a click for each row, float32 [B]; features float32 [B, F]. Never NaN."""
        return sigmoid(self.slope * self.margin(features) + self.level).astype(np.float32)

    def margin(self, features: Floats) -> Doubles:
        """What the rows are ordered by, float64 [B]: finer than the score where that rounds to 0 or 1."""
        return margins(expand(features, self.pairs), self.weights)

    def to_bytes(self) -> bytes:
        """codec u8, digest of the names 8 bytes, F u16, X u16, slope f64, level f64, pairs u16, weights f64."""
        head = _HEAD.pack(CODEC, digest(self.names), len(self.names), len(self.pairs), self.slope, self.level)
        return head + self.pairs.astype("<u2").tobytes() + self.weights.astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...] = FEATURES) -> "Head":
        """Reads what ``to_bytes`` wrote.

        Raises:
            BundleCorrupt: bytes are missing, too many, or not numbers.
            BundleMismatch: another codec, or made for other features than ``names``.
        """
        if len(data) < _HEAD.size:
            raise BundleCorrupt(f"head: {len(data)} bytes are too few")
        codec, made_for, count, crosses, slope, level = _HEAD.unpack_from(data)
        if codec != CODEC:
            raise BundleMismatch(f"head: codec {codec}, this version reads {CODEC}")
        if made_for != digest(names) or count != len(names):
            raise BundleMismatch("head: made for other features than this version computes")
        pairs_bytes, weights_bytes = 4 * crosses, 8 * (count + crosses)
        if len(data) != _HEAD.size + pairs_bytes + weights_bytes:
            raise BundleCorrupt(f"head: {len(data)} bytes instead of {_HEAD.size + pairs_bytes + weights_bytes}")
        pairs = np.frombuffer(data, "<u2", 2 * crosses, _HEAD.size).astype(np.intp).reshape(-1, 2)
        weights = np.frombuffer(data, "<f8", count + crosses, _HEAD.size + pairs_bytes).astype(np.float64)
        if (pairs >= count).any() or not np.isfinite([*weights, slope, level]).all() or slope <= 0:
            raise BundleCorrupt("head: weights are not usable numbers")
        return cls(names, pairs, weights, slope, level)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a learner learns; chosen by measurement (docs/results-head.md).

    Attributes:
        loss: ``listwise`` or ``click``.
        optimiser: ``adagrad`` or ``ftrl``.
        rate: step size.
        l1: FTRL only: pulls single weights back to where they began.
        l2: pulls all weights back to where they began.
        damping: added to the root of the squared gradients.
        calibration_rate: step size for slope and level.
    """

    loss: Literal["listwise", "click"] = "listwise"
    optimiser: Literal["adagrad", "ftrl"] = "adagrad"
    rate: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    damping: float = 1.0
    calibration_rate: float = 0.05


class Learner:
    """Learns a head from lists and clicks, one list at a time; the same lists in the same order give the same bytes.

    ``learn`` follows ``score``: whoever measures scores the list with ``head()`` first (law 4).
    """

    def __init__(self, head: Head | None = None, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._start = head or Head.cold()
        size = len(self._start.weights)
        self._weights = self._start.weights.copy()
        self._squares = np.zeros(size)
        self._sums = np.zeros(size)  # FTRL: gradients so far, less what the steps took back
        self._scale = np.array([self._start.slope, self._start.level])
        self._scale_squares = np.zeros(2)
        self.lists = 0
        """How many lists were learned from."""

    def head(self) -> Head:
        """The head as it is now, to serve; later learning does not change it."""
        return replace(
            self._start, weights=self._weights.copy(), slope=float(self._scale[0]), level=float(self._scale[1])
        )

    def learn(
        self, features: Floats, clicked: NDArray[np.bool_], shown_position: NDArray[np.int64] | None = None
    ) -> None:
        """One list: features float32 [B, F] as they were served, clicked bool [B], optionally where each was shown [B]."""
        if not len(features):
            return
        inputs = expand(features, self._start.pairs)
        target = clicked.astype(np.float64)
        margin = margins(inputs, self._weights)
        self._calibrate(margin, target)
        gradient = self._gradient(inputs, margin, target)
        if gradient is not None:
            self._step(gradient)
        self.lists += 1

    def _gradient(self, inputs: Doubles, margin: Doubles, target: Doubles) -> Doubles | None:
        if self.settings.loss == "click":
            errors = sigmoid(margin) - target
            return np.add.reduce(inputs * errors[:, None], axis=0) / len(errors)
        clicks = target.sum()
        if clicks == 0 or len(target) < 2:
            return None
        powers = np.exp(margin - margin.max())
        errors = powers / powers.sum() - target / clicks
        return np.add.reduce(inputs * errors[:, None], axis=0)

    def _step(self, gradient: Doubles) -> None:
        s = self.settings
        if s.optimiser == "adagrad":
            gradient = gradient + s.l2 * (self._weights - self._start.weights)
            self._squares += gradient * gradient
            self._weights -= s.rate * gradient / (s.damping + np.sqrt(self._squares))
            return
        before = np.sqrt(self._squares)
        self._squares += gradient * gradient
        after = np.sqrt(self._squares)
        offset = self._weights - self._start.weights
        self._sums += gradient - (after - before) / s.rate * offset
        shrunk = np.sign(self._sums) * np.maximum(np.abs(self._sums) - s.l1, 0.0)
        self._weights = self._start.weights - shrunk / ((s.damping + after) / s.rate + s.l2)

    def _calibrate(self, margin: Doubles, target: Doubles) -> None:
        bounded = np.clip(margin, -MARGIN_BOUND, MARGIN_BOUND)
        errors = sigmoid(self._scale[0] * bounded + self._scale[1]) - target
        gradient = np.array([np.mean(errors * bounded), np.mean(errors)])
        self._scale_squares += gradient * gradient
        self._scale -= self.settings.calibration_rate * gradient / (1e-3 + np.sqrt(self._scale_squares))
        self._scale[0] = min(max(self._scale[0], 0.05), 20.0)

    def to_bytes(self) -> bytes:
        """The whole learner, to go on later as if it had never stopped: settings, head, start, sums."""
        s = self.settings
        settings = _LEARNER.pack(
            CODEC, _LOSSES.index(s.loss), _OPTIMISERS.index(s.optimiser), s.rate, s.l1, s.l2, s.damping,
            s.calibration_rate, 0.0, self.lists,
        )  # fmt: skip
        start = self._start.to_bytes()
        arrays = np.concatenate([self._weights, self._squares, self._sums, self._scale, self._scale_squares])
        return settings + struct.pack("<I", len(start)) + start + arrays.astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...] = FEATURES) -> "Learner":
        """Reads what ``to_bytes`` wrote; raises as ``Head.from_bytes`` does."""
        fixed = _LEARNER.size + 4
        if len(data) < fixed:
            raise BundleCorrupt(f"learner: {len(data)} bytes are too few")
        codec, loss, optimiser, rate, l1, l2, damping, calibration, _, lists = _LEARNER.unpack_from(data)
        if codec != CODEC:
            raise BundleMismatch(f"learner: codec {codec}, this version reads {CODEC}")
        if loss >= len(_LOSSES) or optimiser >= len(_OPTIMISERS):
            raise BundleCorrupt("learner: unknown loss or optimiser")
        (length,) = struct.unpack_from("<I", data, _LEARNER.size)
        start = Head.from_bytes(data[fixed : fixed + length], names)
        size = len(start.weights)
        if len(data) != fixed + length + 8 * (3 * size + 4):
            raise BundleCorrupt("learner: its arrays are not whole")
        settings = Settings(_LOSSES[loss], _OPTIMISERS[optimiser], rate, l1, l2, damping, calibration)
        learner = cls(start, settings)
        arrays = np.frombuffer(data, "<f8", offset=fixed + length).astype(np.float64)
        if not np.isfinite(arrays).all():
            raise BundleCorrupt("learner: not finite")
        learner._weights, learner._squares, learner._sums = (arrays[i * size : (i + 1) * size].copy() for i in range(3))
        learner._scale, learner._scale_squares = arrays[3 * size : 3 * size + 2].copy(), arrays[3 * size + 2 :].copy()
        learner.lists = lists
        return learner
