"""The feature log's codec: golden bytes, a round trip, and what is refused."""

import msgspec
import numpy as np
import pytest

from headrace import BadEvent
from headrace.streams.feature_log import (
    CODEC,
    FeatureLogLimits,
    Served,
    decode,
    encode,
    features_of,
    names_digest,
    pack_features,
    pack_scores,
    rounded,
    scores_of,
)

LIMITS = FeatureLogLimits()
MATRIX = np.array([[1.0, 0.5, -2.0], [0.0, 3.25, 1e6]], np.float32)

SERVED = Served(
    request_id="r1",
    client_id="c1",
    query_id="q1",
    at_ms=1_541_548_800_000,
    query=7,
    items=("a", "b"),
    matrix=pack_features(MATRIX),
    names=names_digest(("x", "y", "z")),
    scores=pack_scores(np.array([0.25, -1.5], np.float32)),
    version="v1",
    arm="",
    fences={"query": {"s/0": 41}},
    missing={"student": 2},
    ages_ms={"query": 1200},
    degraded=("no_student",),
)

GOLDEN = (
    "019fa27231a26331a27131cf00000166eb77f8000792a161a162c40c003c003800c000008042ff7bcfca72e805e401ae12c408000080"
    "3e0000c0bfa27631a081a5717565727981a3732f302981a773747564656e740281a57175657279cd04b091aa6e6f5f73747564656e74"
)


def test_golden_bytes() -> None:
    value = encode(SERVED)
    assert value.hex() == GOLDEN
    assert decode(bytes.fromhex(GOLDEN), LIMITS) == SERVED


def test_the_order_of_a_map_is_not_in_the_bytes() -> None:
    one = msgspec.structs.replace(SERVED, missing={"a": 1, "b": 2})
    two = msgspec.structs.replace(SERVED, missing={"b": 2, "a": 1})
    assert encode(one) == encode(two)


def test_features_come_back_as_they_were_scored() -> None:
    again = features_of(decode(encode(SERVED), LIMITS))
    assert again.dtype == np.float32
    assert np.array_equal(again, rounded(MATRIX))
    assert again[1, 2] == 65504.0
    assert scores_of(SERVED).tolist() == [0.25, -1.5]


def test_names_digest_depends_on_order() -> None:
    assert names_digest(("a", "b")) != names_digest(("b", "a"))


def test_features_that_are_not_finite_are_not_packed() -> None:
    with pytest.raises(ValueError, match="finite"):
        pack_features(np.array([[np.nan]], np.float32))


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"client_id": ""}, "client_id", "empty"),
        ({"query_id": "q" * 257}, "query_id", "too_long"),
        ({"items": ("a", "a")}, "items", "repeated"),
        ({"items": ()}, "items", "count"),
        ({"items": ("a", "")}, "items", "too_long"),
        ({"matrix": SERVED.matrix[:-1]}, "matrix", "shape"),
        ({"matrix": b""}, "matrix", "shape"),
        ({"matrix": np.array([[np.inf] * 3] * 2, "<f2").tobytes()}, "matrix", "not_finite"),
        ({"scores": SERVED.scores[:-4]}, "scores", "shape"),
        ({"scores": np.array([np.nan, 0], "<f4").tobytes()}, "scores", "not_finite"),
        ({"at_ms": -1}, "at_ms", "negative"),
        ({"missing": {str(n): n for n in range(300)}}, "missing", "count"),
        ({"fences": {"items": {str(n): n for n in range(300)}}}, "fences.items", "count"),
    ],
)
def test_what_is_not_whole_is_refused(change: dict[str, object], field: str, reason: str) -> None:
    with pytest.raises(BadEvent) as raised:
        decode(encode(msgspec.structs.replace(SERVED, **change)), LIMITS)
    assert (raised.value.field, raised.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\x02" + encode(SERVED)[1:], "codec"),
        (b"{}", "codec"),
        (CODEC, "not_msgpack"),
        (encode(SERVED)[:-3], "not_msgpack"),
        (CODEC + b"\x91" * 500_000, "not_msgpack"),
        (CODEC + b"\x90", "not_msgpack"),
        (encode(SERVED) + b"\x00", "not_msgpack"),
        (CODEC + b"x" * 1_000_000, "too_large"),
    ],
)
def test_what_is_no_record_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(BadEvent) as raised:
        decode(value, LIMITS)
    assert raised.value.reason == reason
