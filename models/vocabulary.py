"""A WordPiece vocabulary of a domain: longer by the words that its titles use, or shorter by those that nobody needs.

Words that are put into the vocabulary itself stay whole, so titles have fewer tokens; their vectors begin as the mean
of those of their old pieces. Old words keep their ids. Texts that a vocabulary was cut to are read as before the cut.

Shapes: V words of a vocabulary, D dimensions.

Source:
    ei-SRC's vocabulary extension (https://arxiv.org/abs/2406.02135); how many words and which are ours.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.wordpiece import readable, wordpiece

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LEAST_TITLES: Final = 20
MOST_WORDS: Final = 2000
SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_TOKENS: Final = 4096
"""More than any text has: nothing is cut here."""


def domain_words(
    titles: Iterable[str],
    vocabulary: bytes,
    least_titles: int = LEAST_TITLES,
    most: int = MOST_WORDS,
    lowercase: bool = True,
) -> list[str]:
    """The words that a vocabulary should have for these titles, the most valuable first.

    A word is worth how often it stands in titles, times the pieces that are saved when it stays whole; of equals the
    first by the alphabet goes first.

    Args:
        titles: a title that comes twice counts once.
        vocabulary: the content of ``vocab.txt``.
        least_titles: of a word.
        most: words at most.
        lowercase: as the model was trained.

    Returns:
        Words as the tokenizer normalises them, each of two pieces or more today.

    Raises:
        ValueError: it is no vocabulary of BERT.
    """
    tokenizer = wordpiece(vocabulary, _TOKENS, lowercase)
    times: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for title in set(titles):
        normal = tokenizer.normalizer.normalize_str(readable(title))
        words = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
        times.update(words)
        seen.update(set(words))
    often = sorted(word for word, count in seen.items() if count >= least_titles)
    saved = dict(zip(often, (len(pieces) - 1 for pieces in _pieces(vocabulary, often, lowercase)), strict=True))
    worth = {word: times[word] * pieces for word, pieces in saved.items() if pieces > 0}
    return sorted(worth, key=lambda word: (-worth[word], word))[:most]


def extended(vocabulary: bytes, words: Sequence[str]) -> bytes:
    """The content of ``vocab.txt`` with more words at its end; what was there keeps its id.

    Raises:
        ValueError: a word is there already or comes twice, is empty, or could not stand on a line.
    """
    lines = _lines(vocabulary)
    known = set(lines)
    for word in words:
        if word in known or word.split() != [word]:
            raise ValueError(f"{word!r:.80} cannot be put into the vocabulary: it is there already, or no single word")
        known.add(word)
    return "".join(f"{line}\n" for line in (*lines, *words)).encode()


def extended_table(table: Floats, vocabulary: bytes, words: Sequence[str], lowercase: bool = True) -> Floats:
    """The vectors of ``extended(vocabulary, words)``, float32 [V + n, D]: each new one is the mean of its old pieces'.

    Args:
        table: the vectors of the old vocabulary, float32 [V, D].
        vocabulary: the old one.
        words: [n].
        lowercase: as the model was trained.

    Raises:
        ValueError: table and vocabulary do not belong together.
    """
    _check(table, vocabulary)
    new = [table[pieces].mean(axis=0, dtype=np.float64) for pieces in _pieces(vocabulary, words, lowercase)]
    return np.concatenate([table, np.array(new, dtype=np.float32).reshape(len(words), table.shape[1])])


@dataclass(frozen=True, slots=True)
class Cut:
    """A vocabulary that was cut.

    Attributes:
        vocabulary: the content of the new ``vocab.txt``.
        table: its vectors, float32 [V, D].
        kept: int64 [V], the old id of each new one, ascending.
    """

    vocabulary: bytes
    table: Floats
    kept: Ints


def cut(vocabulary: bytes, table: Floats, texts: Iterable[str], common: int = 2000, lowercase: bool = True) -> Cut:
    """What given texts need of a vocabulary, so that they have the same pieces as before.

    Kept are the special words, every piece of the texts, all single characters with their ``##`` forms (so that hardly
    a text is unreadable), and the first whole words of the vocabulary, which are the most common ones in BERT's.

    Args:
        vocabulary: the content of ``vocab.txt``.
        table: its vectors, float32 [V, D].
        texts: titles and queries.
        common: so many whole words are kept in any case.
        lowercase: as the model was trained.

    Raises:
        ValueError: table and vocabulary do not belong together, or it is no vocabulary of BERT.
    """
    _check(table, vocabulary)
    tokenizer = wordpiece(vocabulary, _TOKENS, lowercase)
    words = _lines(vocabulary)
    keep = {number for number, word in enumerate(words) if word in SPECIAL or len(word.removeprefix("##")) == 1}
    for row in tokenizer.encode_batch_fast([readable(text) for text in texts]):
        keep.update(row.ids)
    whole = [number for number, word in enumerate(words) if len(word) > 1 and word.isalpha()]
    kept = np.array(sorted(keep.union(whole[:common])), dtype=np.int64)
    text = "".join(f"{words[number]}\n" for number in kept)
    return Cut(text.encode(), np.ascontiguousarray(table[kept]), kept)


def _lines(vocabulary: bytes) -> list[str]:
    return vocabulary.decode("utf-8", "replace").removesuffix("\n").split("\n")


def _check(table: Floats, vocabulary: bytes) -> None:
    lines = len(_lines(vocabulary))
    if table.ndim != 2 or len(table) != lines:
        raise ValueError(f"a table of shape {table.shape} does not belong to a vocabulary of {lines} words")


def _pieces(vocabulary: bytes, words: Sequence[str], lowercase: bool) -> list[list[int]]:
    tokenizer = wordpiece(vocabulary, _TOKENS, lowercase)
    return [row.ids[1:-1] for row in tokenizer.encode_batch_fast(list(words))]
