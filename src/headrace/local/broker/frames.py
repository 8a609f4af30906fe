"""Kafka's frames: the head of a request, and an answer as bytes. Pure."""

import struct
from dataclasses import dataclass
from typing import Any

_HEAD = struct.Struct(">hhih")
HEAD_BYTES = _HEAD.size


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
        return request.decode(memoryview(frame)[at:], version=head.version)
    except (ValueError, IndexError, struct.error, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise Malformed(f"{request.name} version {head.version} cannot be read: {error!r}") from error


def answered(response: Any, correlation_id: int) -> bytes:
    """An answer as it goes over the wire, its length before it."""
    response.with_header(correlation_id=correlation_id)
    wire: bytes = response.encode(header=True, framed=True)
    return wire


def _behind_tags(frame: bytes, at: int) -> int:
    count, at = _varint(frame, at)
    for _ in range(count):
        _, at = _varint(frame, at)
        size, at = _varint(frame, at)
        at += size
    return at


def _varint(frame: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        value |= (frame[at] & 0x7F) << shift
        at += 1
        if not frame[at - 1] & 0x80:
            return value, at
    raise Malformed("a number is too long")
