"""Where an imported record came from, as it says itself: what makes an import that broke off go on without doubles.

Each record that is copied from another topic carries a header with its source and offset. An import that goes on reads
what lies in the target behind the place where it was last sure, and leaves out what is there already. Pure.
"""

from collections.abc import Sequence
from typing import Final

ORIGIN: Final = "x-import"
_OFFSET_BYTES: Final = 8


def origin(token: bytes, offset: int) -> tuple[tuple[str, bytes], ...]:
    """The header of a record from an offset of a source, named by the 8 bytes of ``keys.source_token``."""
    return ((ORIGIN, token + offset.to_bytes(_OFFSET_BYTES, "little")),)


def read_origin(headers: Sequence[tuple[str, bytes | None]]) -> tuple[bytes, int] | None:
    """(source, offset) that a record's headers name; None: it was not imported from a topic."""
    for name, value in headers:
        if name == ORIGIN and value is not None and len(value) == 2 * _OFFSET_BYTES:
            return value[:_OFFSET_BYTES], int.from_bytes(value[_OFFSET_BYTES:], "little")
    return None


class Landed:
    """Which offsets of some sources lie in the target already: a bit each, behind where the import goes on.

    Args:
        begins: source -> the offset that is read next; what lies before is not asked for.
        ends: source -> the end of its log; a stranger's header can name no offset behind it.
    """

    def __init__(self, begins: dict[bytes, int], ends: dict[bytes, int]) -> None:
        self.count = 0
        self._begins, self._ends = begins, ends
        self._bits = {token: bytearray() for token in begins}

    def add(self, token: bytes, offset: int) -> None:
        """This one is there; one of another source, or from before the beginning, is nothing to us."""
        if not self._begins.get(token, 0) <= offset < self._ends.get(token, 0):
            return
        bits, (at, bit) = self._bits[token], divmod(offset - self._begins[token], 8)
        if at >= len(bits):
            bits.extend(bytes(at + 1 - len(bits)))
        if not bits[at] >> bit & 1:
            bits[at] |= 1 << bit
            self.count += 1

    def has(self, token: bytes, offset: int) -> bool:
        """Whether this one is there."""
        at, bit = divmod(offset - self._begins[token], 8)
        bits = self._bits[token]
        return 0 <= at < len(bits) and bool(bits[at] >> bit & 1)
