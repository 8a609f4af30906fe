"""The student at work: texts in, unit vectors out, and the cosine that is the first student's score.

Letters: B texts, D dimensions.

A text's vector depends on the text alone (law 6): rows are quantised one by one inside the part (see
``models.encoder_graph``), so how texts are put into batches is only a matter of speed.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from headrace import BundleError, BundleMismatch
from headrace.models.bundle import GoldenRequest, Part, open_part

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

KIND: Final = "bi-encoder-cosine"
CONFIG_BYTES: Final = 64 << 10
VOCABULARY_BYTES: Final = 8 << 20
MODEL_BYTES: Final = 1 << 30
TEXT_CHARACTERS: Final = 4096
"""No more of a text is tokenised; 128 tokens of ordinary text end long before."""
BATCH_TOKENS: Final = 256
"""Rows times the longest row of a batch: what a layer passes on stays in a core's cache; 1,024 take 40 % longer."""


class EncoderConfig(msgspec.Struct, frozen=True):
    """What ``config.json`` of a student part must say; other fields are remarks."""

    kind: str
    dimensions: int
    max_tokens: int
    lowercase: bool


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
        self.config: Final = _config(self.part)
        self.batch_tokens: Final = batch_tokens
        self._tokenizer = _tokenizer(self.part, self.config)
        self._links = _chain(self.part)
        self._try()
        # Batches side by side rather than threads inside each: they are small, so the latter hardly gains.
        # The pool's threads end with the last reference to it.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encoder") if threads > 1 else None

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

        cuts = batches([len(row) for row in rows], self.batch_tokens)
        run = map if self._pool is None or len(cuts) < 2 else self._pool.map
        for _ in run(fill, reversed(cuts)):  # the longest first, so that the threads end at about the same time
            pass
        return vectors

    def run(self, ids: Ints, mask: Ints) -> Floats:
        """The vectors of one padded batch, float32 [B, D], from ids and mask, int64 [B, T]."""
        values: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        for link in self._links:
            values[link.gives] = link.session.run([link.output], {name: values[name] for name in link.inputs})[0]
        vectors: Floats = values["embedding"]
        return vectors

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, with [CLS] and [SEP], at most ``max_tokens``."""
        # Half a surrogate pair is legal in a string of Python and in no encoding: it becomes a question mark.
        cut = [text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cut)]

    def _try(self) -> None:
        # The longest text of the last word: tables that are too short for the vocabulary or max_tokens show here.
        last = self._tokenizer.get_vocab_size() - 1
        ids, mask = padded([[last] * self.config.max_tokens])
        try:
            vectors = self.run(ids, mask)
        except Exception as error:  # as in _session
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


def _config(part: Part) -> EncoderConfig:
    try:
        config = msgspec.json.decode(part.read("config.json", CONFIG_BYTES), type=EncoderConfig)
    except msgspec.DecodeError as error:
        raise BundleMismatch(f"config.json of part {part.digest} cannot be read ({error}): build it again") from error
    if config.kind != KIND:
        raise BundleMismatch(f"part {part.digest} is a {config.kind:.100}, this worker knows {KIND}: upgrade headrace")
    if not (1 <= config.dimensions <= 1 << 16 and 2 <= config.max_tokens <= 1 << 14):
        raise BundleMismatch(f"config.json of part {part.digest} names impossible sizes: build it again")
    return config


def _tokenizer(part: Part, config: EncoderConfig) -> Tokenizer:
    try:
        return _shared_tokenizer(part.read("vocab.txt", VOCABULARY_BYTES), config)
    except ValueError as error:
        raise BundleMismatch(f"vocab.txt of part {part.digest} {error}: build it again") from error


@lru_cache(maxsize=2)
def _shared_tokenizer(content: bytes, config: EncoderConfig) -> Tokenizer:
    # Shared, since a new student mostly comes with the old vocabulary, and Python's lock is held for 20 ms here.
    # What is not UTF-8 becomes a word that no text has.
    words = content.decode("utf-8", "replace").split("\n")
    vocabulary = {word: number for number, word in enumerate(words) if word}
    if not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= vocabulary.keys() or vocabulary["[PAD]"] != 0:
        raise ValueError("is not a BERT vocabulary")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # No special tokens are announced, so a "[SEP]" that stands in somebody's title is three plain words.
    ends = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.enable_truncation(max_length=config.max_tokens)
    return tokenizer


def products_overflow(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this x86 processor may add uint8 x int8 products in 16 bits, where they overflow.

    Those without VNNI do. They then multiply exactly by an instruction twice as slow, which is also what happens where
    nothing can be found out; other architectures are exact by themselves and ignore the setting.
    """
    try:
        return "vnni" not in cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return True


@dataclass(frozen=True, slots=True)
class _Link:
    """One file of a part's chain: what it reads by name, what it gives, and how the next one calls that."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    output: str
    gives: str


def _chain(part: Part) -> list[_Link]:
    names = sorted(name for name in part.files if name.startswith("model") and name.endswith(".onnx"))
    if not names:
        raise BundleMismatch(f"part {part.digest} has no model.onnx: build it again")
    links, known = [], {"input_ids", "attention_mask"}
    for name in names:
        session = _session(part, name)
        inputs = tuple(value.name for value in session.get_inputs())
        outputs = [value.name for value in session.get_outputs()]
        wanted = "embedding" if name == names[-1] else "next_rows"
        if not known.issuperset(inputs) or outputs != [wanted]:
            raise BundleMismatch(f"{name} of part {part.digest} has other inputs or outputs: build it again")
        links.append(_Link(session, inputs, wanted, wanted.removeprefix("next_")))
        known.add("rows")
    return links


def _session(part: Part, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    if products_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Shapes vary from call to call: a plan by shape and an arena that never shrinks only grow with every swap.
    options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(part.read(name, MODEL_BYTES), options, providers=["CPUExecutionProvider"])
    except BundleError:
        raise
    except Exception as error:  # onnxruntime has no error of its own above these
        raise BundleMismatch(f"{name} of part {part.digest} cannot be opened: {error!s:.300}") from error
