"""Kafka's frames: the head of a request, and an answer as bytes. Pure."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from kafka.protocol.schemas.fields.codecs import UnsignedVarInt32
from kafka.protocol.schemas.fields.struct import StructField

_HEAD = struct.Struct(">hhih")
HEAD_BYTES = _HEAD.size
_SAID = 200  # letters of a reason: that a text is none says all its bytes


class Malformed(ValueError):
    """These bytes are no request."""


@dataclass(frozen=True)
class Head:
    """The head of a request.

    Attributes:
        size_bytes: of the head up to, and without, its tagged fields.
    """

    api_key: int
    version: int
    correlation_id: int
    client_id: str
    size_bytes: int


def head_of(frame: bytes) -> Head:
    """The head of a request.

    Raises:
        Malformed: there is none.
    """
    if len(frame) < HEAD_BYTES:
        raise Malformed("a request's head is cut off")
    key, version, correlation, length = _HEAD.unpack_from(frame)
    end = HEAD_BYTES + max(0, length)
    if len(frame) < end:
        raise Malformed("a request's client id is cut off")
    try:
        client_id = frame[HEAD_BYTES:end].decode()
    except UnicodeDecodeError as error:
        raise Malformed("a request's client id is no text") from error
    return Head(key, version, correlation, client_id, end)


def body_of(frame: bytes, head: Head, request: Any) -> Any:
    """The request behind its head.

    Args:
        frame: the whole frame.
        head: as ``head_of`` has read it.
        request: the generated class of the request.

    Raises:
        Malformed: it cannot be read.
    """
    at = head.size_bytes
    try:
        if request.flexible_version_q(head.version):
            at = _behind_tags(frame, at)
        return _decoder(request, head.version)(memoryview(frame), at)[0]
    except (ValueError, IndexError, struct.error, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise Malformed(f"{request.name} version {head.version} cannot be read: {repr(error)[:_SAID]}") from error


def answered(response: Any, correlation_id: int) -> bytes:
    """An answer as it goes over the wire, its length before it."""
    response.with_header(correlation_id=correlation_id)
    wire: bytes = response.encode(header=True, framed=True)
    return wire


@cache
def _decoder(request: Any, version: int) -> Callable[[memoryview, int], tuple[Any, int]]:
    """kafka-python's reader of that request, made to read strangers' bytes in time that grows with their number."""
    flexible = request.flexible_version_q(version)
    with _bounded():
        read: Callable[[memoryview, int], tuple[Any, int]] = request._struct.compiled_decode_from(
            version, compact=flexible, tagged=flexible, data_class=request
        )
    return read


@contextmanager
def _bounded() -> Iterator[None]:
    """Makes the readers that are generated meanwhile bounded.

    As they are, a number without an end takes time that grows with the square of the frame: 1 MB takes minutes. So do
    tagged fields, each of which copies the rest of the frame; nothing that the broker answers looks at one.
    """

    def varint(ctx: Any, name: str, indent: str) -> None:
        ctx.globs["_varint"] = _varint
        ctx.emit(indent, f"{name}, pos = _varint(data, pos)")

    def tags(_self: Any, ctx: Any, _name: str, indent: str, _version: int) -> None:
        ctx.globs["_behind_tags"] = _behind_tags
        ctx.emit(indent, "pos = _behind_tags(data, pos)")

    plain_varint, plain_tags = UnsignedVarInt32.__dict__["emit_decode_from"], StructField._emit_tagged_decode
    UnsignedVarInt32.emit_decode_from, StructField._emit_tagged_decode = staticmethod(varint), tags
    try:
        yield
    finally:
        UnsignedVarInt32.emit_decode_from, StructField._emit_tagged_decode = plain_varint, plain_tags


def _behind_tags(frame: bytes | memoryview, at: int) -> int:
    count, at = _varint(frame, at)
    for _ in range(count):
        _, at = _varint(frame, at)
        size, at = _varint(frame, at)
        at += size
    return at


def _varint(frame: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        value |= (frame[at] & 0x7F) << shift
        at += 1
        if not frame[at - 1] & 0x80:
            return value, at
    raise Malformed("a number is too long")
