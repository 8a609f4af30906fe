"""What a catalogue's fields say of core terms, and what stands in for them: names of brands, values of attributes.

Shapes: N titles, each as the words that blanks divide.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.models.core_terms import PHRASE_CHARACTERS, PHRASE_WORDS, PHRASES
from headrace.models.core_words import SMALL
from headrace.models.measures import bare

NAME_WORDS: Final = 3
VALUE_WORDS: Final = 4


@dataclass(frozen=True, slots=True)
class Least:
    """How often something must be seen to get onto a list.

    Attributes:
        titles: of a subject; of a value that their items have.
        brands: whose titles share a subject. one: most of a subject's titles that may be of one of them.
        begins: titles that a brand begins, without a field. first: share of its titles in which it stands first.
        same: share of a name's titles that go on with the same word, which then belongs to it.
        bound: share of a word's titles in which it stands behind the same name: "Home Decorators", not "Home Door".
        valued: share of a value's titles whose item has it. firm: with so many it names no product.
        ends: share of a subject's titles in which it ends a group. named: in which it is the best to name the product.
        led: share of a word's titles in which it stands before what names the product; else it describes.
        shared: titles of a word that is an attribute because several brands use it.
    """

    titles: int = 5
    brands: int = 2
    one: float = 0.9
    begins: int = 8
    first: float = 0.8
    same: float = 0.9
    bound: float = 0.5
    valued: float = 0.3
    firm: float = 0.6
    ends: float = 0.25
    named: float = 0.1
    led: float = 0.7
    shared: int = 10


def phrase(text: str) -> str:
    """A text as lists hold it: lower case, bare words, one blank between them."""
    return " ".join(bare(word) for word in text.casefold().split())


def grams(row: Sequence[str], size: int) -> Iterable[str]:
    """All runs of ``size`` words."""
    return map(" ".join, zip(*(row[at:] for at in range(size)), strict=False))


def sound(word: str) -> bool:
    """Whether something is fit for a list: not too short or long, with a letter, no small word."""
    short = 1 < len(word) <= PHRASE_CHARACTERS and word.count(" ") < PHRASE_WORDS
    return short and any(map(str.isalpha, word)) and word not in SMALL


def field_brands(brands: Sequence[str], titles: Sequence[Sequence[str]]) -> frozenset[str]:
    """The names in the brand field of items [N].

    A word that titles mostly write small ("act") is not to be taken for a name.
    """
    named = Counter(map(phrase, brands))
    cases = Counter(word for row in titles for word in row)
    found = [
        brand
        for brand, _ in named.most_common()
        if sound(brand) and cases[brand] <= cases[brand.capitalize()] + cases[brand.upper()]
    ]
    return frozenset(found[:PHRASES])


def leading_brands(titles: Sequence[Sequence[str]], least: Least) -> frozenset[str]:
    """Names that titles [N] begin with, one to three capitalised words that seldom stand elsewhere."""
    rows = [[bare(word) for word in row] for row in titles]
    seen = Counter(gram for row in rows for size in (1, 2) for gram in {*grams(row, size)})
    begins: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for size in range(1, min(NAME_WORDS, len(row)) + 1):
            begins[" ".join(row[:size])][row[size] if size < len(row) else ""] += 1
    found: dict[str, int] = {}
    alone: set[str] = set()
    for name in sorted((name for name in begins if name.count(" ") < 2), key=lambda name: name.count(" ")):
        parts, times = name.split(" "), begins[name].total()
        if times < max(least.begins, least.first * seen[name]) or not all(map(_proper, parts)):
            continue
        if len(parts) == 2 and (parts[0] in alone or times < least.bound * seen[parts[1]]):
            continue
        alone.add(name)
        found[_whole(name, begins, least).casefold()] = times
    ranked = sorted(filter(sound, found), key=lambda name: (-found[name], name))
    return frozenset(ranked[:PHRASES])


def _whole(name: str, begins: dict[str, Counter[str]], least: Least) -> str:
    """A name with the words that nearly always follow it: "Hampton Bay"."""
    while name.count(" ") + 1 < NAME_WORDS:
        word, times = begins[name].most_common(1)[0]
        if not _proper(word) or times < least.same * begins[name].total():
            break
        name = f"{name} {word}"
    return name


def _proper(word: str) -> bool:
    return len(word) > 1 and word[0].isalpha() and not word[0].islower() and word.casefold() not in SMALL


def shown_values(
    attributes: Sequence[Iterable[str]], titles: Sequence[Sequence[str]], least: Least
) -> tuple[frozenset[str], frozenset[str]]:
    """Values of items [N] that stand in their titles, and those of them that are hardly anything else.

    Args:
        attributes: of each item.
        titles: as bare words in lower case.
        least: bounds.
    """
    shown: Counter[str] = Counter()
    for values, row in zip(attributes, titles, strict=True):
        title = f" {' '.join(row)} "
        parts = {phrase(part) for value in values for part in value.replace(";", ",").split(",")}
        shown.update(part for part in parts if part and f" {part} " in title)
    titled = Counter(
        gram
        for row in titles
        for gram in {gram for size in range(1, VALUE_WORDS + 1) for gram in grams(row, size)} & shown.keys()
    )
    good = {
        value: times / titled[value]
        for value, times in sorted(shown.items(), key=lambda item: (-item[1], item[0]))
        if sound(value) and times >= max(least.titles, least.valued * titled[value]) and value.count(" ") < VALUE_WORDS
    }
    kept = list(good)[: PHRASES // 3]
    return frozenset(kept), frozenset(value for value in kept if good[value] >= least.firm)
