"""Kafka's protocol by hand: one request, one answer, both as plain dictionaries, over one connection."""

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from kafka.protocol.metadata import ApiVersionsRequest
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

WAIT_S = 20.0
FIRST_ATTRIBUTE = 61
"""Where the first record of a batch begins; a byte behind it is under the checksum."""


def filled(kind: Any, told: Mapping[str, Any]) -> Any:
    """A request, or a part of one, from a dictionary with the names of Kafka's schemas; unknown names are errors."""
    fields = {}
    for name, value in told.items():
        field = kind._struct.fields[name]
        if field.is_struct_array() and value is not None:
            value = [filled(field.data_class, one) for one in value]
        elif field.is_struct():
            value = filled(field.data_class, value)
        fields[name] = value
    return kind(**fields)


def batch(
    values: Sequence[bytes], producer: tuple[int, int, int] = (-1, -1, -1), at_ms: int = 1_700_000_000_000
) -> bytes:
    """A batch of records; `producer` is (id, epoch, sequence of the first)."""
    made = DefaultRecordBatchBuilder(2, 0, False, *producer, batch_size=1 << 22)
    for place, value in enumerate(values):
        made.append(place, at_ms + place, None, value, [])
    return bytes(made.build())


def records(data: bytes | None) -> list[tuple[int, bytes]]:
    """(offset, value) of the whole batches in a Fetch answer; a last one that is cut off is left out."""
    found, at = [], 0
    view = memoryview(data or b"")
    while len(view) - at >= FIRST_ATTRIBUTE:
        (size,) = struct.unpack_from(">i", view, at + 8)
        if len(view) - at < size + 12:
            break
        found += [(one.offset, bytes(one.value)) for one in DefaultRecordBatch(view[at : at + size + 12])]
        at += size + 12
    return found


class Wire:
    """One connection to a broker."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(":")
        self._socket = socket.create_connection((host, int(port)), WAIT_S)
        self._asked = 0
        answer = self.ask(ApiVersionsRequest, 0, {})
        self.versions = {one["api_key"]: (one["min_version"], one["max_version"]) for one in answer["api_keys"]}

    def close(self) -> None:
        self._socket.close()

    def ask(self, kind: Any, version: int, told: Mapping[str, Any]) -> dict[str, Any]:
        """What the broker answers."""
        self._asked += 1
        request = filled(kind, told)
        request.API_VERSION = version
        request.with_header(correlation_id=self._asked, client_id="wire")
        self._socket.sendall(request.encode(framed=True, header=True))
        (size,) = struct.unpack(">i", self._exactly(4))
        response: Any = request.header.get_response_class()
        answer = response.decode(self._exactly(size), version=version, header=True)
        assert answer.header.correlation_id == self._asked
        found: dict[str, Any] = answer.to_dict(json=False)
        return found

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            more = self._socket.recv(count - len(got))
            if not more:
                raise ConnectionError("the broker closed the connection")
            got += more
        return got
