"""The student at work: texts in, unit vectors out, and the cosine that is the first student's score.

Letters: B texts, D dimensions.

A text's vector depends on the text alone (law 6): rows are quantised one by one inside the part (see
``models.encoder_graph``), so how texts are put into batches is only a matter of speed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from headrace import BundleMismatch
from headrace.models.bundle import GoldenRequest, Part, open_part
from headrace.models.onnx_chain import MODEL_BYTES, Chain
from headrace.models.pair_rows import PairConfig
from headrace.models.wordpiece import readable, wordpiece

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

KIND: Final = "bi-encoder-cosine"
CONFIG_BYTES: Final = 64 << 10
VOCABULARY_BYTES: Final = 8 << 20
BATCH_TOKENS: Final = 256
"""Rows times the longest row of a batch: what a layer passes on stays in a core's cache; 1,024 take 40 % longer."""


class EncoderConfig(msgspec.Struct, frozen=True):
    """What ``config.json`` of a student part must say; other fields are remarks."""

    kind: str
    dimensions: int
    max_tokens: int
    lowercase: bool


Config = TypeVar("Config", EncoderConfig, PairConfig)


class Encoder:
    """A student part, open for encoding. Many threads may call it at once.

    Args:
        folder: the folder of the part; every byte is compared with its hash first.
        threads: how many batches of one call are computed at a time, each on one core.
        batch_tokens: see ``BATCH_TOKENS``.

    Raises:
        BundleCorrupt: bytes are missing or differ from their hash.
        BundleMismatch: it is not a bi-encoder, or not one that this onnxruntime can open.
    """

    def __init__(self, folder: Path, threads: int = 1, batch_tokens: int = BATCH_TOKENS) -> None:
        self.part: Final = open_part(folder)
        self.config: Final = read_config(self.part, EncoderConfig, KIND)
        self.batch_tokens: Final = batch_tokens
        self._tokenizer = part_tokenizer(self.part, self.config.max_tokens, self.config.lowercase)
        self._chain = part_chain(self.part, {"input_ids", "attention_mask"}, "embedding")
        self._try()
        self._pool = Pool(threads)

    def encode(self, texts: Sequence[str]) -> Floats:
        """The vectors of texts, in their order.

        Args:
            texts: any number; a text beyond ``max_tokens`` is cut, an empty one is legal.

        Returns:
            float32 [B, D], each row of unit length.
        """
        rows = self.tokens(texts)
        vectors = np.empty((len(rows), self.config.dimensions), np.float32)

        def fill(chosen: Ints) -> None:
            ids, mask = padded([rows[index] for index in chosen])
            vectors[chosen] = self.run(ids, mask)

        self._pool.run(fill, batches([len(row) for row in rows], self.batch_tokens))
        return vectors

    def run(self, ids: Ints, mask: Ints) -> Floats:
        """The vectors of one padded batch, float32 [B, D], from ids and mask, int64 [B, T]."""
        return self._chain.run({"input_ids": ids, "attention_mask": mask})

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, with [CLS] and [SEP], at most ``max_tokens``."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(map(readable, texts)))]

    def _try(self) -> None:
        # The longest text of the last word: tables that are too short for the vocabulary or max_tokens show here.
        last = self._tokenizer.get_vocab_size() - 1
        ids, mask = padded([[last] * self.config.max_tokens])
        try:
            vectors = self.run(ids, mask)
        except Exception as error:  # onnxruntime has no error of its own above these
            raise BundleMismatch(f"the model of part {self.part.digest} does not run: {error!s:.300}") from error
        if vectors.shape != (1, self.config.dimensions) or not abs(np.linalg.norm(vectors) - 1) < 1e-3:
            raise BundleMismatch(f"the model of part {self.part.digest} gives no unit vectors: build it again")


def cosine(query: Floats, items: Floats) -> Floats:
    """The cosine of a query with each item.

    Args:
        query: float32 [D], unit length.
        items: float32 [B, D], unit length; a row of NaN is an item without text.

    Returns:
        float32 [B], NaN where there was no text.
    """
    # One sum a row, always in the same order: a matrix product may add in another order for another B.
    scores: Floats = np.einsum("bd,d->b", items, query)
    return scores


def batches(lengths: Sequence[int], budget: int) -> list[Ints]:
    """The positions of all texts, cut into batches of similar length.

    Args:
        lengths: tokens of each text [B].
        budget: rows times the longest row is at most this; a text that is longer alone is a batch of its own.

    Returns:
        Positions, int64, shortest texts first; every text is in exactly one batch.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    cuts: list[Ints] = []
    begin = 0
    for end, index in enumerate(order):
        if end > begin and lengths[index] * (end - begin + 1) > budget:
            cuts.append(order[begin:end])
            begin = end
    if len(order):
        cuts.append(order[begin:])
    return cuts


def padded(rows: Sequence[Sequence[int]], width: int = 0) -> tuple[Ints, Ints]:
    """Ids and mask, int64 [B, T], where T is the longest row or the width if that is more; padding is id 0, mask 0."""
    lengths = np.array([len(row) for row in rows], np.int64)
    mask = (np.arange(max(int(lengths.max(initial=0)), width)) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask.astype(bool)] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return ids, mask


def golden_requests(encoder: Encoder, query: str, texts: Sequence[str]) -> list[GoldenRequest]:
    """What the student must answer to this query and these texts wherever it is loaded."""
    request: dict[str, object] = {"query": query, "texts": list(texts)}
    return [GoldenRequest(part="student", request=request, scores=tuple(answer(encoder, request)))]


def answer(encoder: Encoder, request: Mapping[str, object]) -> list[float]:
    """The student's scores to a golden request, for ``models.bundle.replay``.

    Raises:
        BundleMismatch: it is not a request to a bi-encoder.
    """
    query, texts = request.get("query"), request.get("texts")
    if not isinstance(query, str) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BundleMismatch("a golden request to the student has no query and texts: publish the bundle again")
    vectors = encoder.encode([query, *texts])
    return [float(score) for score in cosine(vectors[0], vectors[1:])]


def read_config(part: Part, form: type[Config], kind: str) -> Config:
    """What ``config.json`` of a part says.

    Raises:
        BundleMismatch: it cannot be read, is of another kind, or names sizes that cannot be.
    """
    try:
        config = msgspec.json.decode(part.read("config.json", CONFIG_BYTES), type=form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleMismatch(f"config.json of part {part.digest} cannot be read ({error}): build it again") from error
    if config.kind != kind:
        raise BundleMismatch(f"part {part.digest} is a {config.kind:.100}, this worker knows {kind}: upgrade headrace")
    if not (1 <= config.dimensions <= 1 << 16 and 2 <= config.max_tokens <= 1 << 14):
        raise BundleMismatch(f"config.json of part {part.digest} names impossible sizes: build it again")
    return config


def part_tokenizer(part: Part, max_tokens: int, lowercase: bool) -> Tokenizer:
    """The tokenizer of a part.

    Raises:
        BundleMismatch: its vocabulary is none of BERT.
    """
    try:
        return wordpiece(part.read("vocab.txt", VOCABULARY_BYTES), max_tokens, lowercase)
    except ValueError as error:
        raise BundleMismatch(f"vocab.txt of part {part.digest} {error}: build it again") from error


def part_chain(part: Part, given: Collection[str], result: str) -> Chain:
    """The model of a part, as ``Chain``."""
    return Chain(part.files, lambda name: part.read(name, MODEL_BYTES), given, result, f"part {part.digest}")


class Pool:
    """Computes batches, some at a time, each on one core.

    Side by side rather than with threads inside each: they are small, so the latter hardly gains. The threads end with
    the last reference to the pool.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encoder") if threads > 1 else None

    def run(self, fill: Callable[[Ints], None], cuts: Sequence[Ints]) -> None:
        """Calls ``fill`` with every batch, the longest first, so that the threads end at about the same time."""
        run = map if self._pool is None or len(cuts) < 2 else self._pool.map
        for _ in run(fill, reversed(cuts)):
            pass
