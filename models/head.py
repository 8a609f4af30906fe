"""The head: features of the listed items in, the probability of a click for each out; it learns from clicks.

A margin is linear in the features and in products of a *moment* (the shopper has just clicked a listed item, has just
viewed one, never touched any, ...) with a feature: one linear model for each moment on top of a common one. The served
score is ``sigmoid(slope * margin + levels . moments)`` with slope > 0; moments are the same for all rows of a list, so
the order is the margins', and since slope and levels are fitted to clicks it is a probability, whichever loss the
margins learned from. A row's score comes from that row alone (law 6).

The listwise loss of a list is ``-sum y log softmax(margin)``, y = clicked / number of clicks: it compares the items of
one list, and a list without a click teaches the margins nothing (it does teach slope and levels). The click loss is
the logistic loss summed over the list's rows.

Shapes: B items of one list, F features, X crosses, W = F + X weights, M moments.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from headrace import BundleCorrupt, BundleMismatch
from headrace.models.feature_names import FEATURES, MOMENTS
from headrace.models.features import digest
from headrace.models.margins import expand, level, moments_in, sigmoid, softmax, weigh
from headrace.models.optimisers import AdaGrad, Ftrl, Newton, Optimiser

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

CODEC: Final = 1

INITIAL: Final[Mapping[str, float]] = {
    "touched_last": 4.0,
    "touch_order": 1.0,
    "prior_log": -1.5,
    "prior_reciprocal": 1.0,
    "student": 8.0,
    "student_known": -2.8,
}
"""The head before it has learned anything: the prior it learns from.

The item touched last comes first (its 5.0 outweigh any difference of prior order within 1,000 items), those touched
before it move up a little, else the prior order stands. Where there is a student score, .1 of cosine weighs .8: a few
places of prior order at the top, many further down; an item without one stands as if it had a cosine of .35."""

_JUST: Final = ("untouched", "after_view", "after_view_1min", "after_click", "after_click_1min", "after_click_10min")
_ALSO: Final = ("search_15s", "search_5min", "after_same_query")
_PLAIN: Final = (*MOMENTS, "student_known", "price_known", "carts", "purchases")
_FEW: Final = (
    "prior_log", "prior_reciprocal", "student", "touched_last", "touch_order", "touch_fresh_5min", "price_rank",
    "price_relative",
)  # fmt: skip
CROSSES: Final[tuple[tuple[str, str], ...]] = (
    *((moment, name) for moment in _JUST for name in FEATURES if name not in _PLAIN),
    *((moment, name) for moment in _ALSO for name in _FEW),
)
"""Which moments multiply which features; docs/results-head.md has what each group is worth."""

_HEAD = struct.Struct("<B8sHHH")
_LEARNER = struct.Struct("<BBB5dQI")


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Weights that serve; never changed once made.

    Attributes:
        names: the F features it reads, in order.
        pairs: [X, 2], which features are multiplied.
        weights: float64 [W].
        scale: float64 [2 + M]: slope (> 0, from margin to log odds), level, then what each moment adds to the level.
    """

    names: tuple[str, ...]
    pairs: NDArray[np.intp]
    weights: Doubles
    scale: Doubles

    @classmethod
    def cold(
        cls,
        names: tuple[str, ...] = FEATURES,
        initial: Mapping[str, float] = INITIAL,
        crosses: tuple[tuple[str, str], ...] = CROSSES,
    ) -> "Head":
        """The head before anything was learned: the initial weights and nothing else; unknown names are left out."""
        place = {name: at for at, name in enumerate(names)}
        pairs = np.array(
            [(place[a], place[b]) for a, b in crosses if a in place and b in place], dtype=np.intp
        ).reshape(-1, 2)
        weights = np.zeros(len(names) + len(pairs))
        for name in initial.keys() & place.keys():
            weights[place[name]] = initial[name]
        scale = np.zeros(2 + len(moments_in(names)))
        scale[:2] = 1.0, -3.0
        return cls(names, pairs, weights, scale)

    def margin(self, features: Floats) -> Doubles:
        """What the rows are ordered by, float64 [B]: finer than the score where that rounds to 0 or 1."""
        return weigh(expand(features, self.pairs), self.weights)

    def score(self, features: Floats) -> Floats:
        """The probability of a click for each row, float32 [B]; features float32 [B, F]. Never NaN."""
        inputs = level(self.margin(features), features, moments_in(self.names))
        return sigmoid(weigh(inputs, self.scale)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """Little endian: codec u8, digest of the names 8 bytes, F, X, M u16, pairs u16, weights f64, scale f64."""
        count, crosses, moments = len(self.names), len(self.pairs), len(self.scale) - 2
        fixed = _HEAD.pack(CODEC, digest(self.names), count, crosses, moments)
        numbers = np.concatenate([self.weights, self.scale])
        return fixed + self.pairs.astype("<u2").tobytes() + numbers.astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...] = FEATURES) -> "Head":
        """Reads what ``to_bytes`` wrote.

        Raises:
            BundleCorrupt: bytes are missing, too many, or no usable numbers.
            BundleMismatch: another codec, or made for other features than ``names``.
        """
        if len(data) < _HEAD.size:
            raise BundleCorrupt(f"head: {len(data)} bytes are too few")
        codec, made_for, count, crosses, moments = _HEAD.unpack_from(data)
        if codec != CODEC:
            raise BundleMismatch(f"head: codec {codec}, this version reads {CODEC}")
        if made_for != digest(names) or count != len(names) or moments != len(moments_in(names)):
            raise BundleMismatch("head: made for other features than this version computes")
        size = _HEAD.size + 4 * crosses + 8 * (count + crosses + 2 + moments)
        if len(data) != size:
            raise BundleCorrupt(f"head: {len(data)} bytes instead of {size}")
        pairs = np.frombuffer(data, "<u2", 2 * crosses, _HEAD.size).astype(np.intp).reshape(-1, 2)
        numbers = np.frombuffer(data, "<f8", offset=_HEAD.size + 4 * crosses).astype(np.float64)
        weights, scale = numbers[: count + crosses], numbers[count + crosses :]
        if (pairs >= count).any() or not np.isfinite(numbers).all() or scale[0] <= 0:
            raise BundleCorrupt("head: its weights are no usable numbers")
        return cls(names, pairs, weights, scale)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a learner learns; the defaults were chosen by measurement (docs/results-head.md).

    Attributes:
        loss: of the margins.
        optimiser: of the margins.
        rate: AdaGrad and FTRL: step size. Newton: how far a weight is expected to move from its start, squared.
        l1: FTRL: pulls single weights back to their start.
        l2: AdaGrad and FTRL: pulls all weights back to their start.
        damping: AdaGrad and FTRL: added to the root of the squared gradients.
        forgetting: Newton: how fast what was learned long ago stops to hold weights in place.
    """

    loss: Literal["listwise", "click"] = "listwise"
    optimiser: Literal["newton", "adagrad", "ftrl"] = "newton"
    rate: float = 0.3
    l1: float = 0.0
    l2: float = 0.0
    damping: float = 1.0
    forgetting: float = 1e-7


_LOSSES: Final[tuple[Literal["listwise", "click"], ...]] = ("listwise", "click")
_OPTIMISERS: Final[tuple[Literal["newton", "adagrad", "ftrl"], ...]] = ("newton", "adagrad", "ftrl")
_SCALE_VARIANCE: Final = 1.0


class Learner:
    """Learns a head from lists and clicks, one list at a time; the same lists in the same order give the same bytes.

    Score first, then learn (law 4): ``head()`` before ``learn`` is what was known before this list.

    Where ``shown_position`` differs from the prior rank, the difference has weights of its own in learning: they take
    up what the place on the page did to the clicks. They are not part of the head: in serving the difference is 0, and
    it is 0 too where items were shown as they came, so nothing is learned twice.
    """

    def __init__(self, head: Head | None = None, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._start = head or Head.cold()
        self._prior = [self._start.names.index(name) for name in ("prior_log", "prior_reciprocal")]
        self._weights = np.concatenate([self._start.weights, np.zeros(2)])
        self._scale = self._start.scale.copy()
        self._optimiser = _optimiser(self.settings, self._weights)
        self._scaler = Newton(self._scale, _SCALE_VARIANCE, self.settings.forgetting)
        self.lists = 0
        """How many lists were learned from."""

    def head(self) -> Head:
        """The head as it is now, to serve; learning on does not change it."""
        return replace(self._start, weights=self._weights[:-2].copy(), scale=self._scale.copy())

    def learn(
        self, features: Floats, clicked: NDArray[np.bool_], shown_position: NDArray[np.int64] | None = None
    ) -> None:
        """Takes one list in.

        Args:
            features: float32 [B, F], as they were served.
            clicked: bool [B].
            shown_position: [B], where each item stood on the page, 1 = top, 0 = not said.
        """
        if not len(features):
            return
        inputs = np.concatenate(
            [expand(features, self._start.pairs), self._displaced(features, shown_position)], axis=1
        )
        target = clicked.astype(np.float64)
        margin = weigh(inputs, self._weights)
        self._fit_scale(weigh(inputs[:, :-2], self._weights[:-2]), features, target)
        errors = _errors(self.settings.loss, margin, target)
        if errors is not None:
            gradient = np.add.reduce(inputs * errors[:, None], axis=0)
            self._weights = self._optimiser.step(self._weights, gradient)
        self.lists += 1

    def _displaced(self, features: Floats, shown_position: NDArray[np.int64] | None) -> Doubles:
        """How far each item was shown from where it came, in the units of the two prior features: float64 [B, 2]."""
        if shown_position is None or bool((shown_position == np.arange(1, len(features) + 1)).all()):
            return np.zeros((len(features), 2))  # shown as it came
        above = np.maximum(shown_position.astype(np.float64) - 1.0, 0.0)
        shown = np.stack([np.log1p(above) / 3.0, 1.0 / (1.0 + above)], axis=1).astype(np.float16)
        moved = shown.astype(np.float64) - expand(features, self._start.pairs)[:, self._prior]
        return np.where(shown_position[:, None] > 0, moved, 0.0)

    def _fit_scale(self, margin: Doubles, features: Floats, target: Doubles) -> None:
        inputs = level(margin, features, moments_in(self._start.names))
        errors = sigmoid(weigh(inputs, self._scale)) - target
        self._scale = self._scaler.step(self._scale, np.add.reduce(inputs * errors[:, None], axis=0))
        self._scale[0] = min(max(self._scale[0], 0.05), 20.0)

    def to_bytes(self) -> bytes:
        """The whole learner, to go on later as if it had never stopped: settings, start, weights, sums."""
        s = self.settings
        start = self._start.to_bytes()
        fixed = _LEARNER.pack(
            CODEC, _LOSSES.index(s.loss), _OPTIMISERS.index(s.optimiser), s.rate, s.l1, s.l2, s.damping, s.forgetting,
            self.lists, len(start),
        )  # fmt: skip
        numbers = np.concatenate([self._weights, self._scale, self._scaler.state(), self._optimiser.state()])
        return fixed + start + numbers.astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, names: tuple[str, ...] = FEATURES) -> "Learner":
        """Reads what ``to_bytes`` wrote; raises as ``Head.from_bytes`` does."""
        if len(data) < _LEARNER.size:
            raise BundleCorrupt(f"learner: {len(data)} bytes are too few")
        codec, loss, optimiser, rate, l1, l2, damping, forgetting, lists, length = _LEARNER.unpack_from(data)
        if codec != CODEC:
            raise BundleMismatch(f"learner: codec {codec}, this version reads {CODEC}")
        if loss >= len(_LOSSES) or optimiser >= len(_OPTIMISERS):
            raise BundleCorrupt("learner: unknown loss or optimiser")
        start = Head.from_bytes(data[_LEARNER.size : _LEARNER.size + length], names)
        learner = cls(start, Settings(_LOSSES[loss], _OPTIMISERS[optimiser], rate, l1, l2, damping, forgetting))
        parts = [len(learner._weights), len(learner._scale), len(learner._scaler.state())]
        ends = np.cumsum([*parts, len(learner._optimiser.state())]).tolist()
        if len(data) != _LEARNER.size + length + 8 * ends[-1]:
            raise BundleCorrupt("learner: its numbers are not whole")
        numbers = np.frombuffer(data, "<f8", offset=_LEARNER.size + length).astype(np.float64)
        if not np.isfinite(numbers).all():
            raise BundleCorrupt("learner: not finite")
        learner._weights, learner._scale = numbers[: ends[0]].copy(), numbers[ends[0] : ends[1]].copy()
        learner._scaler.restore(numbers[ends[1] : ends[2]])
        learner._optimiser.restore(numbers[ends[2] :])
        learner.lists = lists
        return learner


def _optimiser(settings: Settings, start: Doubles) -> Optimiser:
    s = settings
    match s.optimiser:
        case "newton":
            return Newton(start, s.rate, s.forgetting)
        case "adagrad":
            return AdaGrad(start, s.rate, s.damping, s.l2)
        case "ftrl":
            return Ftrl(start, s.rate, s.damping, s.l1, s.l2)


def _errors(loss: str, margin: Doubles, target: Doubles) -> Doubles | None:
    """The gradient by the margins, float64 [B]; None where the list teaches nothing."""
    if loss == "click":
        return sigmoid(margin) - target
    clicks = target.sum()
    if not clicks > 0 or len(target) < 2:
        return None
    return np.asarray(softmax(margin) - target / clicks, dtype=np.float64)
