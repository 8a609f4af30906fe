"""Arrays out of a safetensors file, read with numpy alone.

The format: eight bytes with the length of a JSON header, the header (name -> dtype, shape, byte range), then the bytes.
It runs nothing and says the size of everything, so it can be checked before a byte is used.
"""

import math
import struct
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 4 << 20
TENSORS = 10_000
_DTYPE = np.dtype("<f4")


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(content: bytes) -> Mapping[str, NDArray[np.float32]]:
    """The float32 arrays of a safetensors file by name; arrays of other types are left out. Views, not copies.

    Raises:
        ValueError: the header is not one, is too large, or names bytes that are not there.
    """
    if len(content) < 8:
        raise ValueError("not a safetensors file: shorter than its first number")
    (header_bytes,) = struct.unpack_from("<Q", content)
    if header_bytes > min(HEADER_BYTES, len(content) - 8):
        raise ValueError(f"not a safetensors file: a header of {header_bytes} bytes")
    try:
        header = msgspec.json.decode(content[8 : 8 + header_bytes], type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(entry, type=_Entry) for name, entry in header.items()}
    except msgspec.DecodeError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    if len(entries) > TENSORS:
        raise ValueError(f"{len(entries)} arrays, {TENSORS} are allowed")
    return {
        name: _array(name, entry, memoryview(content)[8 + header_bytes :])
        for name, entry in entries.items()
        if entry.dtype == "F32"
    }


def _array(name: str, entry: _Entry, content: memoryview) -> NDArray[np.float32]:
    begin, end = entry.data_offsets
    sized = len(entry.shape) <= 8 and all(size >= 0 for size in entry.shape)
    if not (0 <= begin <= end <= len(content) and sized and end - begin == math.prod(entry.shape) * _DTYPE.itemsize):
        raise ValueError(f"array {name:.100} of shape {entry.shape} does not fit its bytes {begin} to {end}")
    return np.frombuffer(content[begin:end], dtype=_DTYPE).reshape(entry.shape)
