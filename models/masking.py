"""Masked language modelling: a short pass over titles that moves the vectors of new words to where they belong.

A share of the tokens of each title is hidden, and the encoder, with a head that ends in its own word vectors, guesses
them. What is hidden at a step is a function of seed and step, so a pass that was killed goes on to the same weights.

Shapes: B titles, T tokens, V words of the vocabulary, D dimensions, K hidden tokens.

Source:
    BERT (https://arxiv.org/abs/1810.04805): 15 % of the tokens; of these 80 % masked, 10 % replaced.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from headrace.models import fitting, inputs, vocabulary
from headrace.models.wordpiece import readable, wordpiece

Ints = NDArray[np.int64]

_MASKED, _OTHER = 0.8, 0.9
"""Below the first a hidden token becomes [MASK], between the two another word, above it stays."""
_STREAM: Final = 0x6D61736B
"""Keeps what is hidden apart from other things drawn with the same seed."""


@dataclass(frozen=True, slots=True)
class MaskingCourse:
    """How long and how fast.

    Attributes:
        steps: in all. rows: titles of a step. share: of the tokens that are hidden. max_tokens: of a title.
        learning_rate, warmup, head_rate: as in ``fitting.Course``; the head begins at random.
    """

    steps: int
    rows: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    head_rate: float = 10.0
    share: float = 0.15
    max_tokens: int = 64
    seed: int = 0


class MaskedModel(nn.Module):
    """An encoder and a head that guesses words with the encoder's own vectors."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.table = _table(encoder)
        words, dimensions = self.table.weight.shape
        self.head = nn.Sequential(nn.Linear(dimensions, dimensions), nn.GELU(), nn.LayerNorm(dimensions))
        self.head_bias = nn.Parameter(torch.zeros(words))

    def forward(self, ids: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        """Logits float32 [K, V] of the hidden tokens (bool [B, T]) of rows [B, T]."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        found: Tensor = functional.linear(self.head(states[hidden]), self.table.weight, self.head_bias)
        return found.float()


def extend(encoder: PreTrainedModel, content: bytes, words: Sequence[str], lowercase: bool = True) -> bytes:
    """Gives an encoder more words, and gives back its new ``vocab.txt``; see ``vocabulary.extended``.

    Raises:
        ValueError: the vocabulary is not the encoder's, or has one of the words.
    """
    new = vocabulary.extended(content, words)
    old = _table(encoder)
    table = vocabulary.extended_table(old.weight.detach().cpu().numpy(), content, words, lowercase)
    count, dimensions = table.shape
    longer = nn.Embedding(count, dimensions, padding_idx=old.padding_idx).to(old.weight)
    with torch.no_grad():
        longer.weight.copy_(torch.from_numpy(table))
    encoder.set_input_embeddings(longer)
    encoder.config.vocab_size = count
    return new


def _table(encoder: PreTrainedModel) -> nn.Embedding:
    found = encoder.get_input_embeddings()
    if not isinstance(found, nn.Embedding):
        raise TypeError(f"{type(encoder).__name__} has no table of word vectors")
    return found


def hide(
    ids: Ints, free: NDArray[np.bool_], share: float, words: tuple[int, int], random: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """Ids with some tokens hidden, int64 [B, T], and which, bool [B, T]; at least one where any is free.

    Args:
        ids: int64 [B, T].
        free: tokens that may be hidden, bool [B, T]: no padding, no ends.
        share: of the free ones.
        words: the id of [MASK], and how many words there are.
        random: decides.
    """
    draws = np.where(free, random.random(ids.shape), np.inf)
    hidden = free & (draws <= max(share, draws.min(initial=np.inf)))
    how = random.random(ids.shape)
    mask, most = words
    shown = np.where(hidden & (how < _MASKED), mask, ids)
    other = random.integers(0, most, ids.shape)
    return np.where(hidden & (how >= _MASKED) & (how < _OTHER), other, shown), hidden


def between_ends(there: Ints) -> NDArray[np.bool_]:
    """Which tokens are a title's own, bool [B, T]: neither padding nor [CLS] and [SEP].

    Args:
        there: the mask of rows that are padded on the right, int64 [B, T], each with its two ends.
    """
    found = there.astype(bool)
    found[:, 0] = False
    found[np.arange(len(there)), there.sum(axis=1) - 1] = False
    return found


def adapt(
    encoder: PreTrainedModel,
    content: bytes,
    titles: Sequence[str],
    course: MaskingCourse,
    folder: Path,
    say: fitting.Say,
    lowercase: bool = True,
) -> None:
    """Trains an encoder, in place, to guess hidden words of titles; goes on from the checkpoint in ``folder``.

    Args:
        encoder: of BERT's kind, on its device, with its word vectors extended already.
        content: its ``vocab.txt``.
        titles: to read, at least one with a word in it.
        course: how long.
        folder: keeps the checkpoint.
        say: as in ``fitting.fit``.
        lowercase: as the encoder was trained.

    Raises:
        ValueError: there is nothing to read, or the vocabulary has no [MASK].
        fitting.WrongCheckpoint: the folder holds the checkpoint of another training.
    """
    rows, words = _read(content, titles, course.max_tokens, lowercase)
    torch.manual_seed(course.seed)  # the head begins at random
    model = MaskedModel(encoder).to(encoder.device).train()
    plan = _plan([len(row) for row in rows], course)

    def loss_of(step: int) -> Tensor:
        ids, there = inputs.padded([rows[place] for place in plan[step]])
        random = np.random.default_rng([_STREAM, course.seed, step])
        shown, hidden = hide(ids, between_ends(there), course.share, words, random)
        own = fitting.own_share(np.arange(len(ids)))
        given = [torch.from_numpy(array[own]).to(encoder.device) for array in (shown, there, hidden)]
        aims = torch.from_numpy(ids[own][hidden[own]]).to(encoder.device)
        with fitting.low_precision(encoder.device):
            logits = model(*given)
        return functional.cross_entropy(logits, aims, reduction="sum") / int(hidden.sum())

    pace = fitting.Course(
        course.steps, course.learning_rate, course.warmup, seed=course.seed, head_rate=course.head_rate
    )
    read = hashlib.blake2b(repr(rows).encode(), digest_size=8).hexdigest()
    fitting.fit(model, pace, loss_of, folder, say, {**asdict(course), "titles": read})


def _read(
    content: bytes, titles: Sequence[str], max_tokens: int, lowercase: bool
) -> tuple[list[list[int]], tuple[int, int]]:
    """The tokens of titles with a word in them, the id of [MASK] and how many words there are."""
    tokenizer = wordpiece(content, max_tokens, lowercase)
    mask = tokenizer.token_to_id("[MASK]")
    rows = [row.ids for row in tokenizer.encode_batch_fast([readable(title) for title in titles]) if len(row.ids) > 2]
    if mask is None or not rows:
        raise ValueError("there is nothing to guess: no title with a word, or no [MASK] in the vocabulary")
    return rows, (mask, tokenizer.get_vocab_size())


def _plan(lengths: Sequence[int], course: MaskingCourse) -> list[Ints]:
    found: list[Ints] = []
    epoch = 0
    while len(found) < course.steps:
        found += inputs.shuffled_batches(lengths, course.rows, np.random.default_rng([_STREAM, course.seed, 0, epoch]))
        epoch += 1
    return found[: course.steps]
