"""A bi-encoder at work: an encoder, the vectors of items it has met, the vectors of recent queries.

Item vectors are computed once and kept within a bound, the least recently used leaves first. A vector is used only for
the very text it was made of. Vectors belong to one student part: another student starts with its own.

Everything but ``warm`` belongs to the event loop's thread.

Shapes: B items, D dimensions.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace import BundleMismatch, Overloaded
from headrace.online.batch import Batcher, DeadlinePassed
from headrace.online.catalogue import Catalogue, Text
from headrace.online.messages import Student as StudentState
from headrace.online.scored import COMPUTED, Known, nothing_known
from headrace.online.scorer import cosine
from headrace.online.students import Asked
from headrace.streams.score_cache import Accepted

Floats = NDArray[np.float32]
QUERIES = 4_096
FIRST_ROWS = 1_024


class Encoder(Protocol):
    """Texts in, unit vectors out; rows independent of each other (law 6), safe to call from several threads."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """float32 [B, D], each of length 1, in the order of the texts."""


class Vectors:
    """Vectors by item id in one array that grows up to a bound."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._rows: OrderedDict[str, int] = OrderedDict()
        self._matrix: Floats = np.empty((0, 0), dtype=np.float32)
        self._stamps: NDArray[np.uint64] = np.empty(0, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Whether another vector would push one out."""
        return self._matrix.size > 0 and len(self._rows) >= self._most(self._matrix.shape[1])

    @property
    def size_bytes(self) -> int:
        """What the vectors take."""
        return int(self._matrix.nbytes + self._stamps.nbytes)

    def put(self, item_id: str, stamp: int, vector: Floats) -> None:
        """Keeps a vector that was made of the text with this stamp."""
        row = self._rows.get(item_id)
        if row is None:
            row = self._free_row(len(vector))
        self._rows[item_id] = row
        self._rows.move_to_end(item_id)
        self._matrix[row] = vector
        self._stamps[row] = stamp

    def rows(self, item_ids: Sequence[str], texts: Sequence[Text | None]) -> NDArray[np.int64]:
        """Where each item's vector lies, int64 [B]; -1 where there is none of that very text."""
        found = np.full(len(item_ids), -1, dtype=np.int64)
        for place, (item_id, text) in enumerate(zip(item_ids, texts, strict=True)):
            row = self._rows.get(item_id)
            if row is not None and text is not None and self._stamps[row] == text.stamp:
                found[place] = row
                self._rows.move_to_end(item_id)
        return found

    def cosine(self, rows: NDArray[np.int64], query: Floats) -> Floats:
        """Inner products with the query, float32 [B]; NaN where the row is -1. Each from its own row alone."""
        scores = np.full(len(rows), np.nan, dtype=np.float32)
        known = rows >= 0
        if known.any():
            scores[known] = cosine(query, self._matrix[rows[known]])
        return scores

    def _free_row(self, dimensions: int) -> int:
        if not self._matrix.size:
            self._matrix = np.empty((min(FIRST_ROWS, self._most(dimensions)), dimensions), dtype=np.float32)
            self._stamps = np.zeros(len(self._matrix), dtype=np.uint64)
        used = len(self._rows)
        if used < len(self._matrix):
            return used
        most = self._most(dimensions)
        if used >= most:
            return self._rows.popitem(last=False)[1]
        size = min(2 * used, most)
        self._matrix = np.concatenate([self._matrix, np.empty((size - used, dimensions), dtype=np.float32)])
        self._stamps = np.concatenate([self._stamps, np.zeros(size - used, dtype=np.uint64)])
        return used

    def _most(self, dimensions: int) -> int:
        return max(1, self._limit_bytes // (4 * dimensions + 8))


class _Closed:
    """Stands where an encoder was."""

    def encode(self, texts: Sequence[str]) -> Floats:
        raise RuntimeError("this student was closed while a request held its model")


_CLOSED = _Closed()


@dataclass(slots=True)
class Student:
    """One open student part that compares the vector of a query with those of items.

    Attributes:
        encoder: whose vectors these are.
        vectors: of items.
    """

    encoder: Encoder
    vectors: Vectors
    _queries: "OrderedDict[str, Floats]" = field(default_factory=OrderedDict, init=False)
    _pending: dict[str, int] = field(default_factory=dict, init=False)

    @property
    def accepted(self) -> Accepted | None:
        """None: a cosine is of no scale that others share, and costs less than to read it from a cache."""
        return None

    @property
    def neighbours(self) -> bool:
        """No: a vector is of one text."""
        return False

    @property
    def calibration_error(self) -> float | None:
        """None: a cosine is no probability."""
        return None

    def close(self) -> None:
        """Lets go of the vectors; the encoder's session is freed with the last reference to it."""
        self.vectors = Vectors(0)
        self._queries.clear()
        self.encoder = _CLOSED

    def pending(self) -> int:
        """How many item vectors are being made."""
        return len(self._pending)

    def held(self) -> tuple[int, int]:
        """How many item vectors it keeps, and the bytes they take."""
        return len(self.vectors), self.vectors.size_bytes

    def prefill(self, catalogue: Catalogue, fillers: Batcher, room: int) -> int:
        """Has vectors of at most so many new texts made before anybody asks; of how many."""
        if self.vectors.full:
            return 0
        return self.fill(catalogue.take_fresh(room), fillers)

    async def known(self, asked: Asked) -> Known:
        """The cosines that can be had in time; missing item vectors are made behind the request.

        Raises:
            Overloaded: too many wait for the encoder.
        """
        ids, texts = asked.ids, asked.texts
        rows = self.vectors.rows(ids, texts)
        absent = np.array([text is None for text in texts], dtype=np.bool_)
        missing, no_text = (rows < 0) & ~absent, int(absent.sum())
        wanted = [(ids[place], text) for place in np.flatnonzero(missing).tolist() if (text := texts[place])]
        if wanted:
            self.fill(wanted, asked.fillers)
        if no_text + len(wanted) == len(ids):
            return nothing_known(len(ids), "absent", "", no_text, missing)
        try:
            vector, waited_s, ran_s = await self.query(asked.query, asked.encoders, asked.until_s)
        except DeadlinePassed:
            return nothing_known(len(ids), "skipped", "deadline", no_text, missing)
        if ran_s:  # others had the array meanwhile: a row may be another item's now
            rows = self.vectors.rows(ids, texts)
        state: StudentState = "partial" if no_text or wanted else "computed"
        known = nothing_known(len(ids), state, "", no_text, missing)
        known.sources[rows >= 0] = COMPUTED
        stages = {"queue": waited_s, "infer": ran_s}
        return replace(known, scores=self.vectors.cosine(rows, vector), stages=stages)

    async def query(self, text: str, batcher: Batcher, until_s: float) -> tuple[Floats, float, float]:
        """The vector of a query, float32 [D], with the seconds it waited and ran; both 0 when it was known.

        Raises:
            Overloaded: the encoder's queue is full.
            DeadlinePassed: it could not be had before ``until_s`` of the monotonic clock.
        """
        known = self._queries.get(text)
        if known is not None:
            self._queries.move_to_end(text)
            return known, 0.0, 0.0
        future = batcher.submit(self.encoder.encode, self, text, until_s)
        left_s = until_s - time.monotonic()
        try:
            vector, waited_s, ran_s = await asyncio.wait_for(future, left_s)
        except TimeoutError:
            raise DeadlinePassed("the query's vector was not there in time") from None
        self._queries[text] = vector
        if len(self._queries) > QUERIES:
            self._queries.popitem(last=False)
        return vector, waited_s, ran_s

    def fill(self, wanted: Sequence[tuple[str, Text]], batcher: Batcher) -> int:
        """Has missing item vectors made behind the requests; gives how many were newly asked for.

        What does not fit into the queue is left for the next request that misses it.
        """
        asked = 0
        for item_id, text in wanted:
            if self._pending.get(item_id) == text.stamp:
                continue
            try:
                future = batcher.submit(self.encoder.encode, self, text.text, math.inf)
            except Overloaded:
                break
            self._pending[item_id] = text.stamp
            future.add_done_callback(self._keeper(item_id, text.stamp))
            asked += 1
        return asked

    def warm(
        self,
        items: Sequence[tuple[str, Text]],
        batch: int = 8,
        rest: float = 0.0,
        ending: Callable[[], bool] = lambda: False,
    ) -> int:
        """Makes the vectors of some items before this student serves; from the thread that opens it, and only then.

        Args:
            items: whose texts to encode.
            batch: so many at a time.
            rest: pause after each batch, in times of what it took: the cores belong to the requests.
            ending: whether to leave off, asked before each batch.

        Raises:
            BundleMismatch: a vector is not finite.
        """
        for start in range(0, len(items), batch):
            if ending():
                return start
            part = items[start : start + batch]
            began_s = time.monotonic()
            made = self.encoder.encode([text.text for _, text in part])
            if rest:
                time.sleep(rest * (time.monotonic() - began_s))
            if not np.isfinite(made).all():
                raise BundleMismatch(f"the student gives vectors that are not finite, e.g. of {part[0][1].text!r:.80}")
            for (item_id, text), vector in zip(part, made, strict=True):
                self.vectors.put(item_id, text.stamp, vector)
        return len(items)

    def _keeper(self, item_id: str, stamp: int) -> "Callable[[asyncio.Future[tuple[Floats, float, float]]], None]":
        def keep(future: "asyncio.Future[tuple[Floats, float, float]]") -> None:
            if self._pending.get(item_id) == stamp:
                del self._pending[item_id]
            if not future.cancelled() and future.exception() is None:
                self.vectors.put(item_id, stamp, future.result()[0])

        return keep
