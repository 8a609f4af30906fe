"""BERT's WordPiece from a vocabulary file, as students are trained and as they serve: one set-up for both."""

from functools import lru_cache
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

TEXT_CHARACTERS: Final = 4096
"""No more of a text is tokenised; 128 tokens of ordinary text end long before."""


@lru_cache(maxsize=4)
def wordpiece(vocabulary: bytes, max_tokens: int, lowercase: bool = True) -> Tokenizer:
    """A tokenizer that gives ``[CLS] text [SEP]``, or ``[CLS] query [SEP] title [SEP]`` of a pair, types 0 and 1.

    Shared between callers, since a new student mostly comes with the old vocabulary and Python's lock is held for 20 ms
    here: never change its settings.

    Args:
        vocabulary: the content of ``vocab.txt``, one word a line; what is not UTF-8 becomes a word that no text has.
        max_tokens: longer rows are cut, of a pair the longer text first.
        lowercase: as the model was trained.

    Raises:
        ValueError: it is no vocabulary of BERT.
    """
    words = vocabulary.decode("utf-8", "replace").split("\n")
    known = {word: number for number, word in enumerate(words) if word}
    if not {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= known.keys() or known["[PAD]"] != 0:
        raise ValueError("is not a BERT vocabulary")
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # No special tokens are announced, so a "[SEP]" that stands in somebody's title is three plain words.
    ends = [(word, known[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.enable_truncation(max_length=max_tokens, strategy="longest_first")
    return tokenizer


def readable(text: str) -> str:
    """A text that can be tokenised: cut to a bound; half a surrogate pair, legal in Python alone, is replaced."""
    return text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
