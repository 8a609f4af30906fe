"""Names of things as fixed-size numbers: what keys and records hold instead of text."""

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

_SPACE = re.compile(r"\s+")

DAY_MS = 86_400_000


def normalise(text: str) -> str:
    """The query as it is counted: NFKC, casefolded, runs of white space made one space, ends trimmed.

    Two texts with the same result are the same query; changing this function needs a new generation.
    """
    if text.isascii():  # NFKC leaves ASCII alone and is the slow part
        return _SPACE.sub(" ", text.lower()).strip()
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def hash64(text: str) -> int:
    """The 64-bit hash of a text, 0 .. 2**64 - 1: BLAKE2b with an 8-byte digest, little endian."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


hash_of = lru_cache(maxsize=1 << 17)(hash64)
"""``hash64`` that remembers: the same items come again and again, a hash costs 1 us and a look 0.1 us."""


def query_hash(text: str) -> int:
    """The 64-bit hash of the normalised query."""
    return hash64(normalise(text))


def day_of(at_ms: int) -> int:
    """The UTC day of a time, counted from 1970-01-01."""
    return at_ms // DAY_MS
