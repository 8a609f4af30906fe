"""Which pairs of query and item a teacher should label: proposals of retrievers that disagree.

A student learns most where rankers differ, and in the tail. So a query gets the best titles by words (BM25), the best
by meaning (vectors), some of their middle ranks, some titles that share its head word, and some of any kind. A title
that two retrievers propose goes to the first and the second proposes its next, so little of the mix is spent on what
they agree on.

Shapes: N titles, Q queries, D dimensions, C candidates of a query.

Source:
    The mix is ours, after Walmart's paper (https://arxiv.org/abs/2505.07105), which says what is augmented and not how.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from headrace.models.bm25 import Bm25, best, words

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Origin = Literal["bm25", "vectors", "bm25-middle", "vectors-middle", "same-head", "random"]
"""Which retriever proposed a pair."""

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
FEWEST: Final = 8
MOST: Final = 60
"""Bounds of a query's candidates: fewer teach little of an order, more are mostly irrelevant."""
NEAR_DUPLICATE: Final = 0.98
"""Titles whose vectors have a larger cosine are variants of one item (a colour, a pack)."""
AGREEMENT: Final = 10
"""The first so many of two retrievers are compared."""

_DEPTH: Final = 200
_MIDDLE: Final = 50
_ROUNDS: Final = 8


def distinct(texts: Iterable[str]) -> list[int]:
    """The places of texts that differ in more than case, spaces and punctuation: the first of each kind, in order.

    Texts without a word are left out.
    """
    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        seen.setdefault(" ".join(words(text)), place)
    return [place for key, place in seen.items() if key]


def sample_queries(frequencies: Doubles, count: int, random: np.random.Generator) -> Ints:
    """Places of so many queries, each once, drawn with weight 1 / sqrt(frequency): the tail more often than its share.

    Args:
        frequencies: [Q], 1 or more.
        count: how many; all of them where there are fewer.
        random: decides.

    Source:
        Efraimidis and Spirakis 2006: the smallest Exp(1) / weight.
    """
    keys = random.exponential(size=len(frequencies)) * np.sqrt(np.maximum(frequencies, 1.0))
    return np.sort(np.argsort(keys, kind="stable")[:count])


def without_spread(
    queries: Sequence[str] | NDArray[np.uint64], probabilities: Doubles, least: float = 0.05
) -> NDArray[np.bool_]:
    """Which labels are worth nothing, bool [N]: those of queries whose largest and smallest probability differ by less.

    A loss of margins has no gradient there.

    Args:
        queries: [N], one a label, or hashes of them.
        probabilities: [N], the teacher's.
        least: spread that a query needs.
    """
    names = queries if isinstance(queries, np.ndarray) else np.asarray(queries, dtype=object)
    _, owner = np.unique(names, return_inverse=True)
    owners = int(owner.max(initial=-1)) + 1
    high, low = np.full(owners, -np.inf), np.full(owners, np.inf)
    np.maximum.at(high, owner, probabilities)
    np.minimum.at(low, owner, probabilities)
    return np.asarray((high - low)[owner] < least, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Mix:
    """How many candidates of a query come from where, 8 to 60 in all; what one cannot give, the next ones do.

    Attributes:
        bm25: best by words. vectors: best by meaning.
        middle: from rank 50 on (of a short list its second half), half of them by words, half by meaning.
        same_head: any that have the query's head word. random: any.
    """

    bm25: int = 6
    vectors: int = 6
    middle: int = 5
    same_head: int = 4
    random: int = 3

    def __post_init__(self) -> None:
        if min(self.bm25, self.vectors, self.middle, self.same_head, self.random) < 0:
            raise ValueError("a mix has no negative parts")
        if not FEWEST <= self.total <= MOST:
            raise ValueError(f"{self.total} candidates a query: {FEWEST} to {MOST} are useful")

    @property
    def total(self) -> int:
        """Candidates of a query."""
        return self.bm25 + self.vectors + self.middle + self.same_head + self.random

    @classmethod
    def of(cls, total: int) -> "Mix":
        """The usual mix for another number of candidates: a quarter by words, a quarter by meaning, half others."""
        best, middle, head = total // 4, total // 5, total // 6
        return cls(best, best, middle, head, total - 2 * best - middle - head)


def nearest(queries: Floats, items: Floats, most: int, block: int = 256) -> Iterator[Ints]:
    """For each query the places of the items with the largest inner products, best first, int64 [at most ``most``].

    Exact, by matrix products of so many queries at a time: 4 * block * N bytes.

    Args:
        queries: float32 [Q, D], rows of unit length for the cosine.
        items: float32 [N, D].
        most: how many of each.
        block: queries of one product.
    """
    everything = np.arange(len(items))
    for begin in range(0, len(queries), block):
        for scores in queries[begin : begin + block] @ items.T:
            yield best(scores, everything, most)


def overlap(first: Ints, second: Ints, depth: int = AGREEMENT) -> float:
    """How far two ranked lists agree: of their first ``depth``, the share of both among those of either; 0 of none."""
    one, other = set(first[:depth].tolist()), set(second[:depth].tolist())
    return len(one & other) / max(1, len(one | other))


@dataclass(frozen=True, slots=True)
class Proposed:
    """The candidates of one query.

    Attributes:
        places: of titles, [C], each once.
        origins: [C], who proposed each.
        agreement: overlap of BM25's list with that of the vectors; NaN without vectors.
    """

    places: tuple[int, ...]
    origins: tuple[Origin, ...]
    agreement: float


class Proposer:
    """Proposes candidates from one catalogue.

    Args:
        titles: [N], see ``distinct``.
        vectors: float32 [N, D] of unit length; None: no retriever by meaning, and no looking for variants.
        mix: how many come from where.
    """

    def __init__(self, titles: Sequence[str], vectors: Floats | None = None, mix: Mix | None = None) -> None:
        self._bm25, self._vectors, self._mix = Bm25(titles), vectors, mix or Mix()
        self._titles = len(titles)

    def propose(
        self, queries: Sequence[str], vectors: Floats | None, random: np.random.Generator
    ) -> Iterator[Proposed]:
        """The candidates of each query, in order; the same ones for the same seed.

        Args:
            queries: [Q].
            vectors: float32 [Q, D] where the titles have some.
            random: decides what is left to chance.

        Raises:
            ValueError: only one side has vectors.
        """
        if (vectors is None) != (self._vectors is None):
            raise ValueError("queries and titles both have vectors, or neither")
        if vectors is None or self._vectors is None:
            for query in queries:
                yield self._proposed(query, None, random)
            return
        for query, near in zip(queries, nearest(vectors, self._vectors, _DEPTH), strict=True):
            yield self._proposed(query, near, random)

    def _proposed(self, query: str, near: Ints | None, random: np.random.Generator) -> Proposed:
        ranked = self._bm25.best(query, _DEPTH)
        by_meaning = np.empty(0, np.int64) if near is None else near
        half = self._mix.middle // 2
        parts: tuple[tuple[Origin, int, Iterable[int]], ...] = (
            ("bm25", self._mix.bm25, ranked),
            ("vectors", self._mix.vectors, by_meaning),
            ("bm25-middle", half, random.permutation(_middle(ranked))),
            ("vectors-middle", self._mix.middle - half, random.permutation(_middle(by_meaning))),
            ("same-head", self._mix.same_head, self._same_head(query, random)),
            ("random", self._mix.random, self._any(random)),
        )
        taken: dict[int, Origin] = {}
        wanted = 0
        for origin, share, places in parts:
            wanted += share  # what the ones before could not give, this one may
            taken |= dict.fromkeys(islice(self._new(places, taken), wanted - len(taken)), origin)
        agreement = float("nan") if near is None else overlap(ranked, near)
        return Proposed(tuple(taken), tuple(taken.values()), agreement)

    def _new(self, places: Iterable[int], taken: dict[int, Origin]) -> Iterator[int]:
        """Those of some places that are neither taken nor a variant of one that is."""
        chosen = list(taken)
        for place in map(int, places):
            if place in chosen or (self._vectors is not None and self._is_variant(place, chosen)):
                continue
            chosen.append(place)
            yield place

    def _is_variant(self, place: int, chosen: list[int]) -> bool:
        assert self._vectors is not None
        return bool(chosen) and float((self._vectors[chosen] @ self._vectors[place]).max()) > NEAR_DUPLICATE

    def _same_head(self, query: str, random: np.random.Generator) -> Ints:
        having = self._bm25.having(self._bm25.head_of(query))
        return having[random.permutation(len(having))[:_DEPTH]]

    def _any(self, random: np.random.Generator) -> Iterator[int]:
        if self._titles <= _DEPTH:
            yield from random.permutation(self._titles).tolist()
            return
        for _ in range(_ROUNDS):  # of a large catalogue a draw is nearly always new
            yield from random.integers(self._titles, size=MOST).tolist()


def _middle(ranked: Ints) -> Ints:
    return ranked[min(_MIDDLE, len(ranked) // 2) :]
