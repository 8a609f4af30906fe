"""What a cross-encoder reads of pairs: word pieces of query and title, kinds of core terms, neighbours; and its config.

    [CLS] query [SEP] title [SEP]      type 0 up to the first [SEP], type 1 behind it; positions count from 0

Shapes: N rows, B rows of a batch, T tokens (padding included), M word pieces of the neighbours of one side.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from headrace.models.core_terms import KINDS, CoreTerms
from headrace.models.prompts import NEIGHBOURS, Pair
from headrace.models.wordpiece import readable, wordpiece

Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
"""By the names of a graph's inputs."""

KIND: Final = "cross-encoder"
LANES: Final = 8
CORE_KINDS: Final = len(KINDS)
NEIGHBOUR_TOKENS: Final = 32
"""No more word pieces of a neighbour's text are read."""
SIDES: Final = ("query", "item")
"""Whose neighbours they are: titles that the query led to, queries that led to the item."""
COUNTS: Final = 3
"""What ``neighbour_counts`` says of a pair."""
TYPICAL: Final = 1 / 3
"""How like a side's neighbours are to the other text in the mean, on MiniLM's words: no more than this says nothing."""
ALIKE_SCALE: Final = 128.0
"""A likeness is read so many times larger. The weights that read it begin near .02 and AdamW moves each by 1e-4 a step
at most, all 384 of them together: so it weighs several logits after the 300 steps that few pairs allow. As it is, next
to a state of [CLS] of length 8, it would weigh nothing."""


class PairConfig(msgspec.Struct, frozen=True):
    """What ``config.json`` of a cross-encoder must say; other fields are remarks.

    Attributes:
        core_terms, neighbours: whether it reads them.
        slope, level: the calibrated probability of relevance is sigmoid(slope * logit + level).
    """

    kind: str
    layers: int
    heads: int
    dimensions: int
    max_tokens: int
    lowercase: bool
    core_terms: bool = False
    neighbours: bool = False
    slope: float = 1.0
    level: float = 0.0

    def inputs(self) -> tuple[str, ...]:
        """The names of what its graph reads."""
        found = ["input_ids", "attention_mask", "token_type_ids"]
        if self.core_terms:
            found.append("core_ids")
        if self.neighbours:
            found += [f"{side}_neighbour_{what}" for side in ("query", "item") for what in ("ids", "weights")]
            found.append("neighbour_counts")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class PairNeighbours:
    """The neighbours of one pair.

    Attributes:
        query: titles of items that the query led to, with their weights, the strongest first.
        item: queries that led to the item, likewise.
        exposures: how often the item was shown for the query.
    """

    query: tuple[tuple[str, float], ...] = ()
    item: tuple[tuple[str, float], ...] = ()
    exposures: float = 0.0


@dataclass(frozen=True, slots=True)
class PairRows:
    """Pairs as word pieces.

    Attributes:
        ids: [N] rows.
        firsts: [N], how many word pieces of a row are of type 0.
        kinds: [N] rows as ``ids``, their core terms; () where these are not read.
    """

    ids: tuple[tuple[int, ...], ...]
    firsts: tuple[int, ...]
    kinds: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def lengths(self) -> Ints:
        """Word pieces of each row, [N]."""
        return np.array([len(row) for row in self.ids], dtype=np.int64)

    def width(self, places: Sequence[int] | Ints, most: int) -> int:
        """How wide a batch of these rows is padded where it is served: a multiple of ``LANES``, at most ``most``.

        onnxruntime takes what is left over behind whole vectors another way, which may move a last bit, and int8 turns
        that into a step: 7 of 7,128 pairs scored otherwise alone than among others by up to .002 in logit, none so.
        """
        longest = max(len(self.ids[place]) for place in places)
        return min(-(-longest // LANES) * LANES, most)

    def arrays(self, places: Sequence[int] | Ints, width: int = 0) -> Arrays:
        """The arrays of some rows by the names of the graph's inputs, int64 [B, T].

        T is the longest of these rows, or ``width`` if that is more. Padding stands behind a row: id 0, mask 0.
        """
        lengths = np.array([len(self.ids[place]) for place in places], np.int64)
        firsts = np.array([self.firsts[place] for place in places], np.int64)
        at = np.arange(max(int(lengths.max(initial=0)), width))
        there = at < lengths[:, None]
        found: Arrays = {
            "input_ids": _filled(there, [self.ids[place] for place in places]),
            "attention_mask": there.astype(np.int64),
            "token_type_ids": (there & (at >= firsts[:, None])).astype(np.int64),
        }
        if self.kinds:
            found["core_ids"] = _filled(there, [self.kinds[place] for place in places])
        return found


def _filled(there: NDArray[np.bool_], rows: Sequence[Sequence[int]]) -> Ints:
    found = np.zeros(there.shape, np.int64)
    found[there] = np.concatenate([np.asarray(row, np.int64) for row in rows]) if rows else 0
    return found


def pair_rows(
    tokenizer: Tokenizer, queries: Sequence[str], titles: Sequence[str], core_terms: CoreTerms | None = None
) -> PairRows:
    """Pairs of a query and a title [N] as rows.

    Args:
        tokenizer: ``models.wordpiece``'s; what is too long for it is cut, the longer text first.
        queries: any text; an empty one is legal.
        titles: likewise.
        core_terms: says their kinds; without it there are none.
    """
    pairs = [(readable(query), readable(title)) for query, title in zip(queries, titles, strict=True)]
    # The fast form gives no spans, which only core terms need.
    found = (tokenizer.encode_batch if core_terms else tokenizer.encode_batch_fast)(pairs)
    ids = tuple(tuple(one.ids) for one in found)
    firsts = tuple(one.type_ids.count(0) for one in found)
    if core_terms is None:
        return PairRows(ids, firsts)
    return PairRows(ids, firsts, tuple(_kinds(core_terms, pair, one) for pair, one in zip(pairs, found, strict=True)))


def _kinds(core_terms: CoreTerms, pair: tuple[str, str], row: Encoding) -> tuple[int, ...]:
    kinds = [0] * len(row.ids)
    owners, offsets = row.sequence_ids, row.offsets  # each makes a list anew
    for number, text in enumerate(pair):
        places = [place for place, owner in enumerate(owners) if owner == number]
        said = core_terms.token_kinds(text, [offsets[place] for place in places])
        for place, kind in zip(places, said, strict=True):
            kinds[place] = kind
    return tuple(kinds)


def told(pair: Pair) -> PairNeighbours | None:
    """The neighbours that a pair names, the first of each side alike; None where it names none."""
    if pair == pair.alone():
        return None
    return PairNeighbours(
        equal_shares(pair.query_neighbours[:NEIGHBOURS]), equal_shares(pair.item_neighbours[:NEIGHBOURS])
    )


def equal_shares(texts: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """One side's texts with equal weights, as a student is told them in training and in serving (law 5).

    A Wilson weight of each would say more, but a line of a file has texts alone. They stand in their own order, since
    which of them is the strongest changes daily and means nothing to the student.
    """
    return tuple([(text, 1.0) for text in sorted(texts)])


def neighbour_arrays(vocabulary: Tokenizer, given: Sequence[PairNeighbours | None]) -> Arrays:
    """The neighbours of a batch's pairs [B] by the names of the graph's inputs.

    A neighbour's weight is shared by its word pieces, those of a side sum to 1. A text without a word piece is none.

    Args:
        vocabulary: ``models.wordpiece``'s tokenizer.
        given: None is a pair without neighbours.

    Returns:
        ``query_neighbour_ids`` int64 [B, M] and ``query_neighbour_weights`` float32 [B, M], the same of ``item``, and
        ``neighbour_counts`` float32 [B, 3]: log(1 + exposures), and how many neighbours each side has.
    """
    pairs = [one or PairNeighbours() for one in given]
    counts = np.zeros((len(pairs), 3), np.float32)
    counts[:, 0] = np.log1p([one.exposures for one in pairs])
    known: dict[str, list[int]] = {}
    found: Arrays = {}
    for column, side in enumerate(("query", "item"), start=1):
        rows = [_side(vocabulary, one.query if side == "query" else one.item, known) for one in pairs]
        counts[:, column] = [count for _, _, count in rows]
        width = max([1, *(len(ids) for ids, _, _ in rows)])
        ids, weights = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.float32)
        for row, (pieces, shares, _) in enumerate(rows):
            ids[row, : len(pieces)], weights[row, : len(pieces)] = pieces, shares
        found |= {f"{side}_neighbour_ids": ids, f"{side}_neighbour_weights": weights}
    return found | {"neighbour_counts": counts}


def _side(
    vocabulary: Tokenizer, texts: Sequence[tuple[str, float]], known: dict[str, list[int]]
) -> tuple[list[int], list[float], int]:
    ids: list[int] = []
    shares: list[float] = []
    for text, _ in texts[:NEIGHBOURS]:
        if text not in known:
            encoding = vocabulary.encode(readable(text), add_special_tokens=False)
            known[text] = encoding.ids[:NEIGHBOUR_TOKENS]
    there = [(known[text], weight) for text, weight in texts[:NEIGHBOURS] if known[text] and weight > 0]
    total = sum(weight for _, weight in there)
    for pieces, weight in there:
        ids += pieces
        shares += [weight / total / len(pieces)] * len(pieces)
    return ids, shares, len(there)


def tokenizer_of(vocabulary: bytes, config: PairConfig) -> Tokenizer:
    """The tokenizer of a cross-encoder.

    Raises:
        ValueError: it is no vocabulary of BERT.
    """
    return wordpiece(vocabulary, config.max_tokens, config.lowercase)


def probabilities(config: PairConfig, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The calibrated probabilities of relevance, float32 [B], of logits [B]."""
    aims = config.slope * logits.astype(np.float64) + config.level
    return (0.5 * (1 + np.tanh(0.5 * aims))).astype(np.float32)


def written(config: PairConfig, remarks: Mapping[str, object]) -> bytes:
    """``config.json``: the config, and remarks beside it."""
    return msgspec.json.encode({**remarks, **msgspec.structs.asdict(config)}, order="sorted")
