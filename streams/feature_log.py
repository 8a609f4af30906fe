"""What a request was answered with: one record of ``search.features.v1`` for each request, key = ``client_id``.

Training reads the features from here and never computes them again, so the matrix must be what the score was made of:
a worker scores what `rounded` gives back. Float16 halves the log; its rounding then is part of serving, not a
difference between serving and training.

Shapes: B items of the request, in the order in which they were asked for; F features.

On the wire: the codec byte ``0x01``, then `Served` as a msgpack array in the order of its fields. Other fields need
another codec byte.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace import BadEvent
from headrace.streams.identity import hash64

CODEC = b"\x01"
LARGEST = 65504.0  # of float16: a larger feature is logged, and so scored, as this

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureLogLimits:
    """What a record of the feature log may be at most.

    A larger one is a BadEvent for whoever reads: a worker that may answer larger requests needs larger limits here too.
    """

    record_bytes: int = 1_000_000
    items: int = 1_000
    features: int = 256
    id_chars: int = 256
    entries: int = 256  # of each map: fences, missing, ages


class Served(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One answered request.

    Attributes:
        request_id: names the request; the example that comes of it is named after it.
        client_id: the shopper; the record's key.
        query_id: the search this list belongs to, as in the events that follow.
        at_ms: event time of the request.
        query: 64-bit hash of the normalised query.
        items: ids in the order asked, B of them, each once.
        matrix: float16 [B, F], little endian, row after row; finite.
        names: digest of the F feature names and their order, see `names_digest`.
        scores: float32 [B], little endian; what was answered.
        version: bundle that scored.
        arm: arm of the rollout, "" without one.
        fences: what was read, as {kind: {source: last offset it had seen}}; of many keys of a kind the smallest.
        missing: feature family -> for how many of the B items it was absent.
        ages_ms: feature family -> age of the oldest value that was used.
        degraded: why the answer is less than it could be, in the order of the steps taken; empty = it is not.
    """

    request_id: str
    client_id: str
    query_id: str
    at_ms: int
    query: int
    items: tuple[str, ...]
    matrix: bytes
    names: int
    scores: bytes
    version: str
    arm: str = ""
    fences: dict[str, dict[str, int]] = {}
    missing: dict[str, int] = {}
    ages_ms: dict[str, int] = {}
    degraded: tuple[str, ...] = ()


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(Served)


def names_digest(names: Sequence[str]) -> int:
    """The number that stands for these feature names in this order, 0 .. 2**64 - 1."""
    return hash64("\n".join(names))


def pack_features(features: Floats) -> bytes:
    """The matrix of a record: float16 [B, F], little endian; larger values become the largest of float16.

    Raises:
        ValueError: a feature is not finite; then the caller has a bug, for absent features have a value of their own.
    """
    if not np.isfinite(features).all():
        raise ValueError("features must be finite")
    return np.clip(features, -LARGEST, LARGEST).astype("<f2").tobytes()


def rounded(features: Floats) -> Floats:
    """The features as the log will hold them, float32 [B, F]: what a worker scores, so training sees the same."""
    return np.frombuffer(pack_features(features), "<f2").reshape(features.shape).astype(np.float32)


def pack_scores(scores: Floats) -> bytes:
    """The scores of a record: float32 [B], little endian."""
    return scores.astype("<f4").tobytes()


def features_of(served: Served) -> Floats:
    """The logged features, float32 [B, F]."""
    return np.frombuffer(served.matrix, "<f2").reshape(len(served.items), -1).astype(np.float32)


def scores_of(served: Served) -> Floats:
    """The logged scores, float32 [B]."""
    return np.frombuffer(served.scores, "<f4").astype(np.float32)


def encode(served: Served) -> bytes:
    """The record's value. The key is ``served.client_id`` in UTF-8, the Kafka timestamp ``served.at_ms``."""
    return CODEC + _ENCODER.encode(served)


def decode(value: bytes | None, limits: FeatureLogLimits) -> Served:
    """The request that a record of the feature log tells of.

    Raises:
        BadEvent: not of this codec, too large, or not whole: wrong lengths, an item twice, numbers that are not finite.
    """
    if not value:
        raise BadEvent("", "empty")
    if len(value) > limits.record_bytes:
        raise BadEvent("", "too_large", f"{len(value)} bytes")
    if value[:1] != CODEC:
        raise BadEvent("", "codec", f"byte {value[0]:#04x}")
    try:
        served = _DECODER.decode(memoryview(value)[1:])
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise BadEvent("", "not_msgpack", str(fault)[:200]) from None
    _check_texts(served, limits)
    _check_maps(served, limits)
    _check_numbers(served, limits)
    return served


def _check_texts(served: Served, limits: FeatureLogLimits) -> None:
    for field in ("request_id", "client_id", "query_id"):
        text: str = getattr(served, field)
        if not text:
            raise BadEvent(field, "empty")
        if len(text) > limits.id_chars:
            raise BadEvent(field, "too_long")
    if len(served.version) > limits.id_chars or len(served.arm) > limits.id_chars:
        raise BadEvent("version", "too_long")
    if not 1 <= len(served.items) <= limits.items:
        raise BadEvent("items", "count", str(len(served.items)))
    if len(set(served.items)) != len(served.items):
        raise BadEvent("items", "repeated")
    if any(not 1 <= len(item) <= limits.id_chars for item in served.items):
        raise BadEvent("items", "too_long")


def _check_maps(served: Served, limits: FeatureLogLimits) -> None:
    maps: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("fences", served.fences),
        ("missing", served.missing),
        ("ages_ms", served.ages_ms),
        *((f"fences.{kind}"[:80], sources) for kind, sources in served.fences.items()),
    )
    for field, entries in maps:
        if len(entries) > limits.entries:
            raise BadEvent(field, "count", str(len(entries)))
    if len(served.degraded) > limits.entries:
        raise BadEvent("degraded", "count")


def _check_numbers(served: Served, limits: FeatureLogLimits) -> None:
    rows = len(served.items)
    width, rest = divmod(len(served.matrix), 2 * rows)
    if rest or not 1 <= width <= limits.features:
        raise BadEvent("matrix", "shape", f"{len(served.matrix)} bytes for {rows} items")
    if len(served.scores) != 4 * rows:
        raise BadEvent("scores", "shape", f"{len(served.scores)} bytes for {rows} items")
    if not np.isfinite(np.frombuffer(served.matrix, "<f2")).all():
        raise BadEvent("matrix", "not_finite")
    if not np.isfinite(np.frombuffer(served.scores, "<f4")).all():
        raise BadEvent("scores", "not_finite")
    if served.at_ms < 0 or served.query < 0:
        raise BadEvent("at_ms" if served.at_ms < 0 else "query", "negative")
