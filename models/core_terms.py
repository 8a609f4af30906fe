"""Core terms: what the words of a title or a query are.

Product type (the subject), brand, attribute, number with unit, or something else. A recogniser is three lists of
phrases (``core_lists`` makes them of a catalogue) and rules: brands wherever they stand; numbers with units; product
types before what a product is *for* or comes *with*, else the last noun of the first group; attributes from their list,
or behind "in". Rules and lists are in lower case, so that queries are read as titles are.

Source:
    ei-SRC's core terms (https://arxiv.org/abs/2406.02135). Kinds and rules are ours: its recogniser is not public.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, get_args

import msgspec

from headrace.models.core_words import DASHES, FOR, SMALL, USUAL, WITH
from headrace.models.measures import bare, measured

OTHER, SUBJECT, BRAND, ATTRIBUTE, NUMBER = range(5)
KINDS: Final = ("other", "subject", "brand", "attribute", "number")
"""By their numbers, which are those of ``core_ids``."""

List = Literal["brands", "subjects", "attributes"]
LISTS: Final[tuple[List, ...]] = get_args(List)
BYTES: Final = 256 << 10
PHRASES: Final = 4096
PHRASE_CHARACTERS: Final = 64
PHRASE_WORDS: Final = 5
KNOWN_TEXTS: Final = 4096
KNOWN_CHARACTERS: Final = 512
"""The kinds of so many recent texts, each of no more characters, are remembered: the same titles come again."""

_IN_WORDS: Final = 4
"""No more words behind "in" are an attribute ("in Brushed Nickel")."""
WHOLE, HAS, ELSE = range(3)
"""Regions of a title: what says what the product is, what it has or how it is, what speaks of another product."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    brands: list[str]
    subjects: list[str]
    attributes: list[str]


@dataclass(frozen=True, slots=True)
class CoreTerms:
    """A recogniser of core terms.

    Attributes:
        brands, subjects, attributes: phrases in lower case, words divided by one blank, as ``measures.bare`` has them.
    """

    brands: frozenset[str]
    subjects: frozenset[str]
    attributes: frozenset[str]
    _reach: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)
    _known: Callable[[str, str], tuple[int, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lists: dict[str, Iterable[str]] = {name: getattr(self, name) for name in LISTS}
        object.__setattr__(self, "_reach", {name: _reach(phrases) for name, phrases in lists.items()})
        object.__setattr__(self, "_known", lru_cache(KNOWN_TEXTS)(self._read))

    def kinds(self, words: Sequence[str], brand: str = "") -> list[int]:
        """The kind of each word, 0 to 4.

        Args:
            words: of a title or a query, as blanks divide them.
            brand: of the item, where the catalogue has a field for it; found in the title even if no list has it.
        """
        plain = [bare(word.casefold()) for word in words]
        where = regions(words, plain)
        kinds = self.listed(words, plain, where, brand)
        if SUBJECT not in kinds:
            _before_prepositions(kinds, words, plain)
        if SUBJECT not in kinds:
            _last_noun(kinds, words, plain, where)
        return kinds

    def listed(self, words: Sequence[str], plain: Sequence[str], where: Sequence[int], brand: str = "") -> list[int]:
        """The kind of each word without a guess at a subject that no list has.

        Args:
            words: as in ``kinds``.
            plain: the same, bare and in lower case.
            where: their ``regions``.
            brand: as in ``kinds``.
        """
        numbers = measured([word.casefold() for word in words])
        kinds = [NUMBER if number else OTHER for number in numbers]
        _put(kinds, plain, self.subjects, self._reach["subjects"], SUBJECT, [at == WHOLE for at in where])
        described = [at != ELSE for at in where]
        self._compounds(kinds, plain, described)
        _put(kinds, plain, self.attributes, self._reach["attributes"], ATTRIBUTE, described)
        _in_phrases(kinds, words, plain)
        _described(kinds, plain, where)
        _put_brand(kinds, plain, [bare(word) for word in brand.casefold().split()])
        names = [not number or place == 0 for place, number in enumerate(numbers)]  # "3M" only where it stands first
        _put(kinds, plain, self.brands, self._reach["brands"], BRAND, names)
        return kinds

    def token_kinds(self, text: str, spans: Sequence[tuple[int, int]], brand: str = "") -> list[int]:
        """The kind of each word piece of a text.

        Args:
            text: a title or a query.
            spans: where each piece begins and ends in it, in characters, as a tokenizer says; ascending.
            brand: as in ``kinds``.
        """
        words = text.split()
        kinds = (self._known if len(text) <= KNOWN_CHARACTERS else self._read)(text, brand)
        found, at, end = [], -1, 0
        for begin, _ in spans:
            while begin >= end and at + 1 < len(words):
                at += 1
                end = text.index(words[at], end) + len(words[at])
            found.append(kinds[at] if at >= 0 else OTHER)
        return found

    def _read(self, text: str, brand: str) -> tuple[int, ...]:
        return tuple(self.kinds(text.split(), brand))

    def _compounds(self, kinds: list[int], plain: Sequence[str], described: Sequence[bool]) -> None:
        # "headphones/headset", "Black,Silver".
        for place, word in enumerate(plain):
            if kinds[place] != OTHER or not ("/" in word or "," in word or "&" in word):
                continue
            parts = word.replace(",", "/").replace("&", "/").split("/")
            if any(part in self.subjects for part in parts):
                kinds[place] = SUBJECT
            elif described[place] and all(part in self.attributes for part in parts):
                kinds[place] = ATTRIBUTE

    def to_json(self) -> bytes:
        """The lists as JSON, sorted.

        Raises:
            ValueError: a list or the whole is above its bound.
        """
        content = msgspec.json.encode({name: sorted(getattr(self, name)) for name in LISTS})
        of_json(content)
        return content


def of_json(content: bytes) -> CoreTerms:
    """The recogniser that ``CoreTerms.to_json`` wrote.

    Raises:
        ValueError: it is none, or above a bound; the text says which.
    """
    if len(content) > BYTES:
        raise ValueError(f"core terms of {len(content)} bytes: {BYTES} are allowed")
    try:
        read = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"core terms cannot be read: {error}") from error
    for name in LISTS:
        phrases: list[str] = getattr(read, name)
        if len(phrases) > PHRASES:
            raise ValueError(f"core terms have {len(phrases)} {name}: {PHRASES} are allowed")
        for phrase in phrases:
            if not _sound(phrase):
                raise ValueError(f"core terms have {phrase!r:.80} among their {name}: no phrase in lower case")
    return CoreTerms(*(frozenset(getattr(read, name)) for name in LISTS))


def _sound(phrase: str) -> bool:
    words = phrase.split(" ")
    short = len(phrase) <= PHRASE_CHARACTERS and len(words) <= PHRASE_WORDS
    return short and all(words) and phrase.split() == words and phrase == phrase.casefold()


def _reach(phrases: Iterable[str]) -> dict[str, int]:
    """How many words the longest phrase that begins with a word has."""
    found: dict[str, int] = {}
    for phrase in phrases:
        words = phrase.split(" ")
        found[words[0]] = max(found.get(words[0], 0), len(words))
    return found


def _put(
    kinds: list[int],
    plain: Sequence[str],
    phrases: frozenset[str],
    reach: dict[str, int],
    kind: int,
    where: Sequence[bool],
) -> None:
    """Sets the kind of phrases, the longest first from the left, within the words that ``where`` allows.

    A brand takes the place of another kind, any other kind goes to words that have none.
    """
    place = 0
    while place < len(plain):
        longest = min(reach.get(plain[place], 0), len(plain) - place)
        for size in range(longest, 0, -1):
            span = range(place, place + size)
            free = all(where[at] and (kind == BRAND or kinds[at] == OTHER) for at in span)
            if free and " ".join(plain[place : place + size]) in phrases:
                for at in span:
                    kinds[at] = kind
                place += size - 1
                break
        place += 1


def _put_brand(kinds: list[int], plain: Sequence[str], brand: Sequence[str]) -> None:
    for place in range(len(plain) - len(brand) + 1 if brand else 0):
        if list(plain[place : place + len(brand)]) == list(brand):
            kinds[place : place + len(brand)] = [BRAND] * len(brand)


def regions(words: Sequence[str], plain: Sequence[str]) -> list[int]:
    """For each word whether it says what the product is, what it has, or speaks of another product."""
    found, now, inside = [], WHOLE, False
    for place, (word, bared) in enumerate(zip(words, plain, strict=True)):
        before = words[place - 1] if place else ""
        if place and (bared in DASHES or (before[-1] in ",;:." and len(before) > 3)):  # "ft." ends nothing
            now = WHOLE
        if bared in FOR and place:
            now = ELSE
        elif bared in WITH and place:
            now = HAS
        inside = inside or word[0] in "(["
        found.append(max(now, HAS) if inside else now)
        inside = inside and word.rstrip(",.;:")[-1:] not in (")", "]")
    return found


def _described(kinds: list[int], plain: Sequence[str], where: Sequence[int]) -> None:
    # What stands behind "with" tells what a product has; "Self-Propelled", "USB-Powered" tell how it is.
    for place, word in enumerate(plain):
        told = where[place] == HAS or ("-" in word[2:-2] and where[place] != ELSE)
        if told and kinds[place] == OTHER and len(word) > 2 and word.replace("-", "").isalpha() and word not in SMALL:
            kinds[place] = ATTRIBUTE


def _in_phrases(kinds: list[int], words: Sequence[str], plain: Sequence[str]) -> None:
    # "Faucet in Brushed Nickel (Valve Not Included)": up to the next sign or small word.
    for place, word in enumerate(plain):
        if word != "in" or kinds[place] != OTHER or not place:
            continue
        end = place + 1
        while (
            end < len(plain)
            and plain[end] not in SMALL
            and kinds[end] in (OTHER, ATTRIBUTE)
            and words[end][0] not in "(["
        ):
            end += 1
            if words[end - 1][-1] in ",;:.":
                break
        if end - place - 1 <= _IN_WORDS:
            kinds[place + 1 : end] = [ATTRIBUTE] * (end - place - 1)


def _before_prepositions(kinds: list[int], words: Sequence[str], plain: Sequence[str]) -> None:
    # "Rigid Tie Connector with Screws": where nothing is listed the noun before the first of these names the product.
    for place in range(1, len(plain)):
        if plain[place] == "in" or plain[place] in FOR or plain[place] in WITH:
            if words[place - 1][-1] not in ",;:.)" and _noun(kinds, plain, place - 1, ATTRIBUTE):
                kinds[place - 1] = SUBJECT
            return


def _last_noun(kinds: list[int], words: Sequence[str], plain: Sequence[str], where: Sequence[int]) -> None:
    # Nothing known names the product: the last plain word of its first group does, else the last that describes it.
    models = any(kind == OTHER and any(map(str.isdigit, word)) for kind, word in zip(kinds, plain, strict=True))
    for most in (OTHER,) if models else (OTHER, ATTRIBUTE):  # a model's number can stand for its name
        best = -1
        for place, word in enumerate(plain):
            if where[place] != WHOLE or (best >= 0 and word in SMALL):
                break
            if _noun(kinds, plain, place, most):
                best = place
            if best >= 0 and words[place][-1] in ",;:":
                break
        if best >= 0:
            kinds[best] = SUBJECT
            return


def _noun(kinds: Sequence[int], plain: Sequence[str], place: int, most: int) -> bool:
    """Whether a word may name a product: letters alone, no usual description, no number of a model behind it."""
    word = plain[place]
    model = place + 1 < len(plain) and kinds[place + 1] == OTHER and any(map(str.isdigit, plain[place + 1]))
    loose = kinds[place] in (OTHER, most) and not model and word not in SMALL and word not in USUAL
    return loose and len(word) > 2 and word.replace("-", "").isalpha()
