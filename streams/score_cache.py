"""The score cache's format: what is kept of a (query, item) pair's relevance, and when it may be used.

One hash per query beside its edges, in the same slot: field = item id, value = at most one record of each source. A
record says what it was made of, and that is compared after the read: a score whose model, item text or neighbours are
no longer those of the worker is none. So nothing has to be deleted when a model or a text changes, and whoever writes
needs to ask nobody. The pair that is scored is the *normalised* query and the text that the student reads of the item.

A cache and not state: the canonical dump leaves it out, and it lies outside every generation, since a score depends on
none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from struct import Struct, pack
from typing import Final, Literal

from headrace.streams.keys import Keys

Source = Literal["teacher", "student"]

CODEC: Final = 1
PART_BYTES: Final = 8
MAX_AGE_MS: Final = 7 * 86_400_000
"""An older record is not used, and a query that nobody asked for so long leaves Redis as a whole."""
ITEMS: Final = 1_000
"""So many items of one query are kept at most."""

_RECORD: Final = Struct("<BB8sQQfq")
RECORD_BYTES: Final = _RECORD.size
SOURCE_AT: Final = 1
"""Where in a record its source stands: one that is written replaces only the record of its own source."""
_NUMBERS: Final[dict[Source, int]] = {"teacher": 1, "student": 2}
_SOURCES: Final[dict[int, Source]] = {number: source for source, number in _NUMBERS.items()}
_HEX_DIGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Cached:
    """One score as it is kept.

    Attributes:
        part: 8 bytes that name the model (``part_name``).
        content: stamp of the item's text (``stamp_of``).
        neighbours: hash of the behaviour neighbours that the model read (``neighbours_hash``), 0 when none.
        source: who computed it.
        score: calibrated probability that the item is relevant to the query; float32.
        written_ms: when.
    """

    part: bytes
    content: int
    neighbours: int
    source: Source
    score: float
    written_ms: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """Whose scores a model may use.

    Attributes:
        student: name of its student part.
        teacher: name of the teacher that its student learned from; None when it names none.
        max_age_ms: older ones are not used.
    """

    student: bytes
    teacher: bytes | None = None
    max_age_ms: int = MAX_AGE_MS


def part_name(digest: str) -> bytes:
    """The 8 bytes that stand for a model: the beginning of a part's digest, else a hash of the name."""
    if len(digest) == _HEX_DIGEST:
        try:
            return bytes.fromhex(digest)[:PART_BYTES]
        except ValueError:
            pass
    return blake2b(digest.encode(), digest_size=PART_BYTES).digest()


def stamp_of(text: str) -> int:
    """The 64-bit stamp of an item's text, 0 .. 2**64 - 1: another text has another one, in every process the same."""
    # Half a surrogate pair is legal in a string of Python and in no encoding.
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")


def neighbours_hash(query: Sequence[str], item: Sequence[str]) -> int:
    """The 64-bit hash of the neighbours that a model reads, 0 when there are none; in every process the same.

    Args:
        query: titles of items that the query led to, in the order they are read.
        item: queries that led to the item, likewise.
    """
    if not query and not item:
        return 0
    texts = [text.encode("utf-8", "surrogatepass") for text in (*query, *item)]
    # Numbers and lengths first: what is one text and what two, and whose side it stands on, is part of it.
    head = pack(f"<{len(texts) + 2}I", len(query), len(item), *map(len, texts))
    return int.from_bytes(blake2b(head + b"".join(texts), digest_size=8).digest(), "little") or 1


def encode(cached: Cached) -> bytes:
    """The record, 38 bytes.

    Raises:
        ValueError: a score that is no probability, or a name that is not 8 bytes.
    """
    if not (isfinite(cached.score) and 0 <= cached.score <= 1):
        raise ValueError(f"{cached.score} is no probability")
    if len(cached.part) != PART_BYTES:
        raise ValueError(f"a model is named by {PART_BYTES} bytes, not {len(cached.part)}")
    number = _NUMBERS[cached.source]
    return _RECORD.pack(CODEC, number, cached.part, cached.content, cached.neighbours, cached.score, cached.written_ms)


def decode(value: bytes) -> tuple[Cached, ...]:
    """The records of a value; none where it has another codec: a cache may always be ignored."""
    if len(value) % RECORD_BYTES:
        return ()
    found = []
    for codec, number, part, content, neighbours, score, written_ms in _RECORD.iter_unpack(value):
        source = _SOURCES.get(number)
        if codec == CODEC and source is not None and 0 <= score <= 1:
            found.append(Cached(part, content, neighbours, source, score, written_ms))
    return tuple(found)


def usable(
    value: bytes | None, content: int, accepted: Accepted, now_ms: int, neighbours: int = 0
) -> tuple[float, Source] | None:
    """The score that may stand for computing it, and whose; the teacher's before the student's. None: compute it.

    Args:
        value: what the cache holds for the pair.
        content: stamp of the item's text as the worker knows it now.
        accepted: the models of the bundle that answers.
        now_ms: to tell what is too old.
        neighbours: hash of those that the student would read now; the teacher's score is used whatever it read.
    """
    if not value or len(value) % RECORD_BYTES:
        return None
    found: tuple[float, Source] | None = None
    for codec, number, part, stamp, read, score, written_ms in _RECORD.iter_unpack(value):
        if codec != CODEC or stamp != content or now_ms - written_ms > accepted.max_age_ms or not 0 <= score <= 1:
            continue
        if number == _NUMBERS["teacher"] and part == accepted.teacher:
            return score, "teacher"
        if number == _NUMBERS["student"] and part == accepted.student and read == neighbours:
            found = score, "student"
    return found


def read_command(keys: Keys, query: int, item_ids: Sequence[str]) -> tuple[bytes | str, ...]:
    """Reads the values of some items of a query: a list of bytes or None, in their order."""
    return ("HMGET", keys.scores(query), *item_ids)
