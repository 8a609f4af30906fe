import struct

import msgspec
import numpy as np
import pytest

from headrace.models.weights import HEADER_BYTES, TENSORS, read_tensors

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def safetensors(header: object, data: bytes = b"\0" * 24) -> bytes:
    raw = msgspec.json.encode(header)
    return struct.pack("<Q", len(raw)) + raw + data


def test_arrays_come_out_as_they_went_in() -> None:
    first, second = np.arange(6, dtype="<f4").reshape(2, 3), np.array(7, dtype="<f4")
    header = {
        "__metadata__": {"format": "pt"},
        "a": ENTRY,
        "positions": {"dtype": "I64", "shape": [1], "data_offsets": [28, 36]},
        "b": {"dtype": "F32", "shape": [], "data_offsets": [24, 28]},
    }
    found = read_tensors(safetensors(header, first.tobytes() + second.tobytes() + b"\0" * 8))
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"], first)
    np.testing.assert_array_equal(found["b"], second)


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 28]},  # beyond the end
        {"data_offsets": [-24, 0]},
        {"data_offsets": [24, 0]},
        {"data_offsets": [0, 20]},  # fewer bytes than the shape
        {"shape": [2, -3]},
        {"shape": [-2, -3]},
        {"shape": [1 << 62, 1 << 62]},
        {"shape": [1] * 9 + [2, 3]},
        {"shape": ["2"]},
        {"surprise": 1},
    ],
)
def test_an_array_that_does_not_fit_its_bytes_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a safetensors file|does not fit its bytes"):
        read_tensors(safetensors({"a": ENTRY | change}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", HEADER_BYTES + 1) + b" " * (HEADER_BYTES + 1),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 3) + b"{}",
        struct.pack("<Q", 2) + b"\xff\xfe",
    ],
)
def test_what_has_no_header_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_tensors(content)


def test_the_number_of_arrays_is_bounded() -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    with pytest.raises(ValueError, match="are allowed"):
        read_tensors(safetensors({f"a{n}": empty for n in range(TENSORS + 1)}))
