"""What one request reads of the state: the commands it sends and the arrays that their answers become.

All commands go out before any answer is awaited, and none depends on another's answer: one round trip. Windows are cut
as of the reader's day; nothing here changes state. Formats are those of ``neighbours``, ``item_copies`` and
``searches``.

Shapes: B items, R rows of the query's edges, S rows of the items' copies, L records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.streams import item_copies, neighbours, score_cache, sequences
from headrace.streams.identity import hash_of
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.searches import Shopper, decode_shopper

QUERY_ROW: Final = np.dtype([("item", "<u8"), ("day", "<i8"), ("exposures", "<i8"), ("clicks", "<i8")])
"""One day of one of the query's edges; item is the hash of its id."""

ITEM_ROW: Final = np.dtype(
    [("owner", "<i8"), ("query", "<u8"), ("day", "<i8"), ("exposures", "<i8"), ("clicks", "<i8")]
)
"""One day of one of an item's copies; owner is the item's place in the request."""

_ROW: Final = np.dtype([("day", "<u2"), ("exposures", "<u4"), ("clicks", "<u4")])
_EDGE_HEAD, _ITEM_HEAD = neighbours.HEAD_BYTES, item_copies.HEAD_BYTES

Command = tuple[bytes | str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks about.

    Attributes:
        query: 64-bit hash of the normalised query, None without one.
        client_id: the shopper, None without one.
        item_ids: [B], in the request's order.
        whole_query: read every edge of the query (its neighbours are asked for), not only those of the items.
        scores: read what the score cache holds for the query's items.
    """

    query: int | None
    client_id: str | None
    item_ids: tuple[str, ...]
    whole_query: bool = False
    scores: bool = False

    @property
    def asks_scores(self) -> bool:
        """Whether there is anything to ask the score cache for."""
        return self.scores and self.query is not None and bool(self.item_ids)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the state holds, raw in time: rows are not cut to a window.

    Attributes:
        generation: the one that the alias names now; None when nothing was ever built.
        query_rows: QUERY_ROW [R].
        query_items: the ids behind the rows' hashes.
        query_known: the query has a key.
        query_capped: the query ever met its bound of items.
        query_fences: source token (hexadecimal) -> last offset seen.
        item_rows: ITEM_ROW [S].
        items_known: bool [B], which items have copies.
        sequence: RECORD [L], by event time, oldest first.
        shopper: searches and fence; None for an unknown one.
        scores: [B], values of the score cache, None where it has none; empty where it was not asked.
    """

    generation: str | None
    query_rows: NDArray[np.void]
    query_items: dict[int, str]
    query_known: bool
    query_capped: bool
    query_fences: dict[str, int]
    item_rows: NDArray[np.void]
    items_known: NDArray[np.bool_]
    sequence: NDArray[np.void]
    shopper: Shopper | None
    scores: tuple[bytes | None, ...] = ()


def commands(keys: Keys, question: Question) -> list[Command]:
    """Everything a request reads, to be sent as one pipeline; five commands at the most."""
    asked: list[Command] = [("GET", keys.alias)]
    if question.query is not None:
        name = keys.query(question.query)
        if question.whole_query:
            asked.append(("HGETALL", name))
        else:
            asked.append(("HMGET", name, b"\0f", b"\0c", *question.item_ids))
    if question.item_ids:
        asked.append(("MGET", *(keys.item(item_id) for item_id in question.item_ids)))
    if question.client_id is not None:
        shopper = shopper_name(question.client_id)
        # one command, and both keys in one slot: the fence and the sequence are of one moment
        asked.append(("MGET", keys.shopper(shopper), keys.log(shopper)))
    if question.asks_scores and question.query is not None:
        asked.append(score_cache.read_command(keys, question.query, question.item_ids))
    return asked


def answer(question: Question, replies: Sequence[object], limit: int) -> Answer:
    """The arrays behind the replies to ``commands``, in that order.

    Args:
        question: the one that was asked.
        replies: bytes, lists of bytes, or None, one for each command.
        limit: N, records of a sequence.

    Raises:
        ValueError: a value of another codec.
    """
    left = iter(replies)
    alias = next(left)
    fields: dict[bytes, bytes] = {}
    if question.query is not None:
        fields = _fields(question, next(left))
    values = next(left) if question.item_ids else []
    pair = next(left) if question.client_id is not None else None
    cached = next(left) if question.asks_scores else None
    head, log = pair if isinstance(pair, list) else (None, None)
    rows, items = _query_rows(fields)
    item_rows, known = _item_rows(values if isinstance(values, list) else [])
    return Answer(
        generation=alias.decode() if isinstance(alias, bytes) else None,
        query_rows=rows,
        query_items=items,
        query_known=bool(fields),
        query_capped=b"\0c" in fields,
        query_fences=_fences(fields.get(b"\0f", b"")),
        item_rows=item_rows,
        items_known=known,
        sequence=sequences.newest(log if isinstance(log, bytes) else b"", limit),
        shopper=decode_shopper(head) if isinstance(head, bytes) else None,
        scores=tuple(cached) if isinstance(cached, list) else (),
    )


def _fields(question: Question, reply: object) -> dict[bytes, bytes]:
    """The fields of a query's hash that were read and are there."""
    if not isinstance(reply, list):
        return {}
    if question.whole_query:
        return dict(zip(reply[::2], reply[1::2], strict=True))
    names = (b"\0f", b"\0c", *(item_id.encode() for item_id in question.item_ids))
    return {name: value for name, value in zip(names, reply, strict=True) if value is not None}


def _query_rows(fields: dict[bytes, bytes]) -> tuple[NDArray[np.void], dict[int, str]]:
    edges = [(name.decode(), edge) for name, edge in fields.items() if name[0] != 0]
    for _, edge in edges:
        if edge[0] != neighbours.CODEC:
            raise ValueError(f"not an edge of codec {neighbours.CODEC}: {edge[:12]!r}")
    hashes = [hash_of(item_id) for item_id, _ in edges]
    packed = np.frombuffer(b"".join([edge[_EDGE_HEAD:] for _, edge in edges]), dtype=_ROW)
    rows = np.empty(len(packed), dtype=QUERY_ROW)
    counts = [(len(edge) - _EDGE_HEAD) // neighbours.ROW_BYTES for _, edge in edges]
    rows["item"] = np.repeat(np.array(hashes, dtype=np.uint64), counts)
    for name in ("day", "exposures", "clicks"):
        rows[name] = packed[name]
    return rows, dict(zip(hashes, (item_id for item_id, _ in edges), strict=True))


def _item_rows(values: Sequence[bytes | None]) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
    known = np.array([value is not None for value in values], dtype=np.bool_)
    there = [value for value in values if value is not None]
    for value in there:
        if value[0] != item_copies.CODEC:
            raise ValueError(f"not an item of codec {item_copies.CODEC}: {value[:12]!r}")
    packed = np.frombuffer(b"".join([value[_ITEM_HEAD:] for value in there]), dtype=item_copies.ROW)
    rows = np.empty(len(packed), dtype=ITEM_ROW)
    counts = [(len(value) - _ITEM_HEAD) // item_copies.ROW_BYTES for value in there]
    rows["owner"] = np.repeat(np.flatnonzero(known), counts)
    for name in ("query", "day", "exposures", "clicks"):
        rows[name] = packed[name]
    return rows, known


def _fences(value: bytes) -> dict[str, int]:
    return {
        value[at : at + 8].hex(): int.from_bytes(value[at + 8 : at + 16], "little") for at in range(0, len(value), 16)
    }
