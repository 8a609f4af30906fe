"""Pairs to be labelled, and labels, as records: one pair of query and item in, a teacher's probability out.

Both are JSON, so that anyone may send pairs or read labels. A pair is named by what it is: ``pair_id`` is a hash of the
normalised query, the item, its title and its neighbours, and it is the record's key; so a pair that is sent twice lies
in one partition and is seen to be the same. Another title of the item, or other neighbours, make another pair. Pure.

A label belongs to (pair, teacher, prompt). A topic of labels holds each once, but for a worker that was stopped at the
worst moment (see ``labelling``): so a reader takes the first, ``FirstLabels``, and is exact.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from typing import Annotated, Final

import msgspec

from headrace import BadEvent
from headrace.models.prompts import Pair
from headrace.streams import ubi
from headrace.streams.identity import normalise

PAIR_ID_BYTES: Final = 16
DETAILS_CHARS: Final = 4_096
"""So much of a description and its attributes goes into a pair; a teacher reads a few hundred characters."""

RECORD_BYTES: Final = 256_000
"""A larger record is none; how long its texts may be stands in their types."""

_DEPTH: Final = 8
_Id = Annotated[str, msgspec.Meta(max_length=256)]
_Line = Annotated[str, msgspec.Meta(max_length=1024)]
_Long = Annotated[str, msgspec.Meta(max_length=65_536)]
_Lines = Annotated[tuple[_Line, ...], msgspec.Meta(max_length=50)]


class UnlabelledPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """A pair that a teacher should label; the value of a record of ``search.pairs.unlabelled.v1``.

    Attributes:
        pair_id: 32 hex digits, see ``pair_id_of``; the record's key.
        query: as it was typed.
        item_id: of the item.
        title: of the item.
        details: description and attributes, for teachers only.
        query_neighbours: titles that this query led to, the strongest first.
        item_neighbours: queries that led to this item, the strongest first.
        origin: who proposed the pair, e.g. ``bm25``.
    """

    pair_id: _Id
    query: _Line
    item_id: _Id
    title: _Line
    details: _Long = ""
    query_neighbours: _Lines = ()
    item_neighbours: _Lines = ()
    origin: _Id = ""


class LabelledPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a teacher said of a pair; the value of a record of ``search.pairs.labelled.v1``.

    Attributes:
        pair_id: of the pair.
        query: as it was typed.
        item_id: of the item.
        title: of the item.
        probability: calibrated, that the item is relevant.
        logit: of that probability.
        teacher: names the teacher: the digest of its weights.
        prompt: hash of the wording it was asked with.
        at_ms: when it was asked.
        query_neighbours: of the pair; a student that learns from the label may read them.
        item_neighbours: likewise.
    """

    pair_id: _Id
    query: _Line
    item_id: _Id
    title: _Line
    probability: float
    logit: float
    teacher: _Id
    prompt: _Id
    at_ms: int
    query_neighbours: _Lines = ()
    item_neighbours: _Lines = ()


class LabelName(msgspec.Struct, frozen=True, gc=False):
    """Which label this is; decoding no more than that is four times faster."""

    pair_id: _Id
    teacher: _Id
    prompt: _Id


_pair = msgspec.json.Decoder(UnlabelledPair).decode
_label = msgspec.json.Decoder(LabelledPair).decode
_name = msgspec.json.Decoder(LabelName).decode
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def pair_id_of(
    query: str, item_id: str, title: str, query_neighbours: Sequence[str] = (), item_neighbours: Sequence[str] = ()
) -> str:
    """The name of a pair: BLAKE2b, 16 bytes, of normalised query, item and title with U+001F between, in hex digits.

    With neighbours it is another pair, since a teacher says something else of it: before all then stand U+001F, the two
    lists as JSON without spaces, and U+001F.
    """
    # Neither a normalised query nor an id holds U+001F, so no two pairs join to the same text.
    text = f"{normalise(query)}\x1f{item_id}\x1f{title}"
    if query_neighbours or item_neighbours:
        text = f"\x1f{msgspec.json.encode((query_neighbours, item_neighbours)).decode()}\x1f{text}"
    return blake2b(text.encode("utf-8", "replace"), digest_size=PAIR_ID_BYTES).hexdigest()


def pair_of(query: str, item_id: str, title: str, details: str = "", origin: str = "") -> UnlabelledPair:
    """The pair of a query and an item; its details are cut to what a teacher reads."""
    return UnlabelledPair(
        pair_id_of(query, item_id, title), query, item_id, title, details[:DETAILS_CHARS], origin=origin
    )


def details_of(description: str, attributes: Mapping[str, str]) -> str:
    """What a teacher reads of an item beside its title: its attributes, then its description."""
    said = [f"{name}: {value}" for name, value in attributes.items() if value]
    return "; ".join([*said, *([description] if description else [])])[:DETAILS_CHARS]


def prompt_pair(pair: UnlabelledPair) -> Pair:
    """The pair as a teacher is asked about it: the query normalised, since all its spellings share one label."""
    return Pair(
        normalise(pair.query),
        pair.title,
        pair.details,
        query_neighbours=pair.query_neighbours,
        item_neighbours=pair.item_neighbours,
    )


def encode(record: UnlabelledPair | LabelledPair) -> bytes:
    """A record's value."""
    return msgspec.json.encode(record)


def label_key(label: LabelledPair | LabelName) -> bytes:
    """The key of a label's record: a compacted topic would keep one label of each teacher and prompt."""
    return f"{label.pair_id}/{label.teacher}/{label.prompt}".encode()


def decode_pair(key: bytes | None, value: bytes | None) -> UnlabelledPair:
    """The pair that a record holds.

    Args:
        key: the record's; None: a line of a file, which has none.
        value: its bytes.

    Raises:
        BadEvent: whatever is wrong with it; never anything else.
    """
    checked = ubi.check_bytes(value, RECORD_BYTES, _DEPTH)
    try:
        pair = _pair(checked)
    except _FAULTS as error:
        raise ubi.refusal(error, checked) from None
    for field, text in (("query", pair.query), ("title", pair.title)):
        if not text.strip():
            raise BadEvent(field, "missing", "empty")
    ubi.item_id("item_id", pair.item_id)
    if pair.pair_id != pair_id_of(*_named(pair)):
        raise BadEvent("pair_id", "key_mismatch", "it is not the hash of the pair's query, item, title and neighbours")
    if key is not None and key != pair.pair_id.encode():
        raise BadEvent("key", "key_mismatch", "it is not the pair's id")
    return pair


def _named(pair: UnlabelledPair) -> tuple[str, str, str, tuple[str, ...], tuple[str, ...]]:
    return pair.query, pair.item_id, pair.title, pair.query_neighbours, pair.item_neighbours


def decode_label(value: bytes | None) -> LabelledPair:
    """The label that a record, or a line of a file, holds.

    Raises:
        BadEvent: whatever is wrong with it; never anything else.
    """
    checked = ubi.check_bytes(value, RECORD_BYTES, _DEPTH)
    try:
        label = _label(checked)
    except _FAULTS as error:
        raise ubi.refusal(error, checked) from None
    if not 0 <= label.probability <= 1:
        raise BadEvent("probability", "out_of_range", "0 to 1")
    if not isfinite(label.logit):
        raise BadEvent("logit", "out_of_range", "finite")
    for field, text in (("pair_id", label.pair_id), ("teacher", label.teacher), ("query", label.query)):
        if not text:
            raise BadEvent(field, "missing", "empty")
    return label


def label_name(value: bytes | None) -> LabelName | None:
    """Which label a record of the topic of labels is; None when it is none that could be read."""
    try:
        return _name(value or b"")
    except _FAULTS:
        return None


class FirstLabels:
    """Says of labels in their order which ones count: the first of each (pair, teacher, prompt)."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def is_new(self, label: LabelledPair | LabelName) -> bool:
        """Whether this is the first of its name."""
        name = blake2b(label_key(label), digest_size=PAIR_ID_BYTES).digest()
        if name in self._seen:
            return False
        self._seen.add(name)
        return True
