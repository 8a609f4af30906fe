"""A cross-encoder at work: queries and titles in, calibrated probabilities of relevance out.

Letters: B pairs, T tokens.

A pair's score depends on the pair alone (law 6): rows are quantised one by one inside the part (see
``models.graph_nodes``), so how pairs are put into batches and how far they are padded is only a matter of speed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace import BundleMismatch
from headrace.models import core_terms, folders, pair_rows
from headrace.models.bundle import GoldenRequest, Part, open_part
from headrace.models.core_terms import CoreTerms
from headrace.models.pair_rows import Arrays, PairConfig, PairNeighbours, PairRows
from headrace.online.scorer import (
    BATCH_TOKENS,
    CONFIG_BYTES,
    Encoder,
    Pool,
    batches,
    part_chain,
    part_tokenizer,
    read_config,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Neighbours = Sequence[PairNeighbours | None]


class PairScorer:
    """A student part that reads query and title together, open for scoring. Many threads may call it at once.

    Args:
        folder: the folder of the part; every byte is compared with its hash first.
        threads: how many batches of one call are computed at a time, each on one core.
        batch_tokens: rows times the longest row of a batch is at most this.

    Raises:
        BundleCorrupt: bytes are missing or differ from their hash.
        BundleMismatch: it is not a cross-encoder, or not one that this onnxruntime can open.
    """

    def __init__(self, folder: Path, threads: int = 1, batch_tokens: int = BATCH_TOKENS) -> None:
        self.part: Final = open_part(folder)
        self.config: Final = read_config(self.part, PairConfig, pair_rows.KIND)
        self.batch_tokens: Final = batch_tokens
        self._tokenizer = part_tokenizer(self.part, self.config.max_tokens, self.config.lowercase)
        self._core_terms = _core_terms(self.part) if self.config.core_terms else None
        self._chain = part_chain(self.part, self.config.inputs(), "logit")
        self._try()
        self._pool = Pool(threads)

    def score(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours | None = None) -> Floats:
        """The calibrated probability that each title is relevant for its query, float32 [B]; see ``logits``."""
        return pair_rows.probabilities(self.config, self.logits(queries, titles, neighbours))

    def logits(self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours | None = None) -> Floats:
        """The logits of pairs, in their order, before calibration.

        Args:
            queries: of each pair; an empty text is legal.
            titles: likewise; a pair beyond ``max_tokens`` is cut.
            neighbours: of each pair, None for a pair without; a part that does not read neighbours leaves them out.

        Returns:
            float32 [B].
        """
        rows = self.tokens(queries, titles)
        given = neighbours if neighbours is not None else [None] * len(rows)
        if len(given) != len(rows):
            raise ValueError(f"{len(given)} neighbours of {len(rows)} pairs")
        found = np.empty(len(rows), np.float32)

        def fill(chosen: Ints) -> None:
            arrays = rows.arrays(chosen, rows.width(chosen, self.config.max_tokens))
            found[chosen] = self.run(arrays, [given[place] for place in chosen])

        self._pool.run(fill, batches(rows.lengths().tolist(), self.batch_tokens))
        return found

    def run(self, arrays: Arrays, neighbours: Neighbours) -> Floats:
        """The logits of one padded batch, float32 [B], from what ``PairRows.arrays`` gives and its neighbours."""
        if self.config.neighbours:
            arrays = arrays | pair_rows.neighbour_arrays(self._tokenizer, neighbours)
        return self._chain.run(arrays)

    def tokens(self, queries: Sequence[str], titles: Sequence[str]) -> PairRows:
        """The word pieces of each pair, at most ``max_tokens``."""
        return pair_rows.pair_rows(self._tokenizer, queries, titles, self._core_terms)

    def _try(self) -> None:
        # The longest row of the last word: tables that are too short for the vocabulary or max_tokens show here.
        longest, last = self.config.max_tokens, self._tokenizer.get_vocab_size() - 1
        kinds = ((pair_rows.CORE_KINDS - 1,) * longest,) if self.config.core_terms else ()
        rows = PairRows(((last,) * longest,), (1,), kinds)
        word = self._tokenizer.id_to_token(last)
        for given in (None, PairNeighbours(((word, 1.0),), ((word, 1.0),), 1.0)):
            try:
                logits = self.run(rows.arrays([0]), [given])
            except Exception as error:  # onnxruntime has no error of its own above these
                raise BundleMismatch(f"the model of part {self.part.digest} does not run: {error!s:.300}") from error
            if logits.shape != (1,) or not np.isfinite(logits).all():
                raise BundleMismatch(f"the model of part {self.part.digest} gives no logits: build it again")


def _core_terms(part: Part) -> CoreTerms:
    try:
        return core_terms.of_json(part.read("core_terms.json", core_terms.BYTES))
    except ValueError as error:
        raise BundleMismatch(
            f"core_terms.json of part {part.digest} cannot be used ({error}): build it again"
        ) from error


def golden_requests(
    scorer: PairScorer, query: str, texts: Sequence[str], neighbours: Neighbours = ()
) -> list[GoldenRequest]:
    """What the student must answer to this query and these titles wherever it is loaded."""
    asked = _Asked(query, tuple(texts), tuple(neighbours))
    request: dict[str, object] = msgspec.to_builtins(asked)
    return [GoldenRequest(part="student", request=request, scores=tuple(answer(scorer, request)))]


def golden_neighbours(scorer: PairScorer, query: str, texts: Sequence[str]) -> Neighbours:
    """Neighbours to ask golden requests with, made up of the request's own texts: both sides, one side, none, in turn.

    () for a part that reads none. Without them the weights that read neighbours would stay unasked.
    """
    if not scorer.config.neighbours:
        return ()
    titles = tuple((text, 1.0) for text in texts[:2])
    turns = (PairNeighbours(titles, ((query, 1.0),)), PairNeighbours(titles), None)
    return [turns[place % len(turns)] for place in range(len(texts))]


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    query: str
    texts: tuple[str, ...]
    neighbours: tuple[PairNeighbours | None, ...] = ()


def answer(scorer: PairScorer, request: Mapping[str, object]) -> list[float]:
    """The student's scores to a golden request, for ``models.bundle.replay``.

    Raises:
        BundleMismatch: it is not a request to a cross-encoder.
    """
    try:
        asked = msgspec.convert(request, _Asked)
    except msgspec.ValidationError as error:
        raise BundleMismatch(
            f"a golden request to the student has no query and texts ({error}): publish the bundle again"
        ) from error
    if asked.neighbours and len(asked.neighbours) != len(asked.texts):
        raise BundleMismatch("a golden request to the student has neighbours of other texts: publish the bundle again")
    scores = scorer.score([asked.query] * len(asked.texts), asked.texts, asked.neighbours or None)
    return [float(score) for score in scores]


def open_student(folder: Path, threads: int = 1) -> Encoder | PairScorer:
    """The student part in a folder, as what its config says it is.

    Raises:
        BundleCorrupt, BundleMismatch: as ``Encoder`` and ``PairScorer``.
    """
    try:
        kind = msgspec.json.decode(folders.read_file(folder / "config.json", CONFIG_BYTES), type=_Kind).kind
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = ""  # Encoder compares it with its hash and then says what is wrong
    return PairScorer(folder, threads) if kind == pair_rows.KIND else Encoder(folder, threads)


class _Kind(msgspec.Struct, frozen=True):
    kind: str
