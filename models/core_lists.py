"""The lists of a core-term recogniser, learned from a catalogue: titles, brands and attribute values where it has them.

- Brands: the field's; without one the capitalised words that many titles begin with and that seldom stand elsewhere.
- Subjects: groups of words that end what titles of several brands say first, before a number, a comma, "with".
- Attributes: values of fields that stand in titles; words that titles of several brands share and that name no product.

Counts are of different titles, so that a product that is listed often counts once.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.models.core_fields import Least, field_brands, leading_brands, phrase, shown_values, sound
from headrace.models.core_terms import BRAND, ELSE, OTHER, PHRASES, WHOLE, CoreTerms, regions
from headrace.models.core_words import USUAL
from headrace.models.measures import bare

_NONE: Final[frozenset[str]] = frozenset()
_LONGEST: Final = 4
"""Words of a subject."""
_ROUNDS: Final = 5
_FALL: Final = 0.2
_DOUBT: Final = 3
"""Titles that a word must first make up for: what is seen once or twice is no rule."""


def learned(
    titles: Sequence[str],
    brands: Sequence[str] = (),
    attributes: Sequence[Iterable[str]] = (),
    least: Least | None = None,
) -> CoreTerms:
    """The recogniser of a catalogue of N items.

    Args:
        titles: [N].
        brands: [N], or () without such a field.
        attributes: [N], the values of each item, or () without such fields.
        least: how often something must be seen.
    """
    bounds = least or Least()
    rows = list({title: place for place, title in reversed(list(enumerate(titles)))}.values())
    whole = [titles[row].split() for row in rows]
    words = [[bare(word.casefold()) for word in row] for row in whole]
    makers = [phrase(brands[row]) for row in rows] if brands else [""] * len(rows)
    known = field_brands(makers, whole) if brands else leading_brands(whole, bounds)
    values, firm = shown_values([attributes[row] for row in rows], words, bounds) if attributes else (_NONE, _NONE)
    first = CoreTerms(known, _NONE, firm | USUAL)
    found = [_title(*one, first) for one in zip(whole, words, makers, strict=True)]
    subjects = _subjects(found, values, bounds)
    return CoreTerms(known, subjects, (values | USUAL | _shared(found, subjects, bounds)) - subjects)


@dataclass(frozen=True, slots=True)
class _Title:
    """A title as lists are learned from it.

    Attributes:
        words: bare and in lower case. owner: the item's brand, "" where it is not known.
        plain: words of no kind, but for those that tell of other products.
        places: where nouns may stand that name the product, ascending. ends: those of them that end a group of words.
    """

    words: Sequence[str]
    owner: str
    plain: Collection[str]
    places: Mapping[int, None]
    ends: Collection[int]

    def falling(self) -> Iterable[tuple[str, float]]:
        """The words at ``places`` with a number that falls with each end of a group before them, from 1."""
        groups = 0
        for place in self.places:
            yield self.words[place], 1 / (1 + _FALL * groups)
            groups += place in self.ends

    def leading(self, heads: Collection[str]) -> set[str]:
        """The words that stand before one of ``heads`` in its group."""
        return {self.words[at] for place in self.places if self.words[place] in heads for at in self._before(place)}

    def groups(self, heads: Collection[str], leads: Collection[str]) -> set[str]:
        """The groups of two words and more that end with one of ``heads``, all before it in ``leads``."""
        found = set()
        for place in self.places:
            for at in self._before(place) if self.words[place] in heads else ():
                if self.words[at] not in leads:
                    break
                found.add(" ".join(self.words[at : place + 1]))
        return found

    def _before(self, place: int) -> Iterable[int]:
        at = place - 1
        while at in self.places and at not in self.ends and place - at < _LONGEST:
            yield at
            at -= 1


def _title(whole: Sequence[str], words: Sequence[str], maker: str, first: CoreTerms) -> _Title:
    where = regions(whole, words)
    kinds = first.listed(whole, words, where)
    free = [kind == OTHER for kind in kinds]
    model = [_model(words, free, place + 1) for place in range(len(words))]
    places = dict.fromkeys(
        place
        for place, word in enumerate(words)
        if free[place] and where[place] == WHOLE and sound(word) and word.replace("-", "").isalpha()
    )
    ends = {place for place in places if (place + 1 not in places and not model[place]) or whole[place][-1] in ",;:."}
    plain = {word for place, word in enumerate(words) if free[place] and where[place] != ELSE and not model[place]}
    return _Title(words, maker or _first_brand(words, kinds), plain, places, ends)


def _model(words: Sequence[str], free: Sequence[bool], place: int) -> bool:
    """Whether the number of a model stands at a place: what stands before it is a name ("LaserJet 4250")."""
    return place < len(words) and free[place] and len(words[place]) > 2 and any(map(str.isdigit, words[place]))


def _first_brand(words: Sequence[str], kinds: Sequence[int]) -> str:
    begin = kinds.index(BRAND) if BRAND in kinds else len(words)
    end = begin
    while end < len(words) and kinds[end] == BRAND:
        end += 1
    return " ".join(words[begin:end])


def _subjects(titles: Sequence[_Title], soft: frozenset[str], least: Least) -> frozenset[str]:
    """Groups of words that name products; those of ``soft`` do not by themselves: "photo paper", not "paper"."""
    chosen = Counter(_heads(titles))
    seen = Counter(word for title in titles for word in {*title.words})
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    for title in titles:
        for word in {title.words[end] for end in title.ends}:
            ends[word][title.owner] += 1
    heads: set[str] = set()
    led: Counter[str] = Counter()
    for _ in range(2):  # a word that leads another one ("toner cartridge") may name a product where it stands alone
        for word, owners in ends.items():
            alone = seen[word] - led[word]
            often = owners.total() >= max(least.titles, least.ends * alone) and chosen[word] >= least.named * alone
            if often and word not in soft and _several(owners, least):
                heads.add(word)
        led = Counter(word for title in titles for word in title.leading(heads | soft))
    leads = {word for word, times in led.items() if times >= least.led * seen[word] or word in heads}
    wide = Counter(group for title in titles for group in title.groups(heads | soft, leads))
    found = {word: ends[word].total() for word in heads}
    found |= {group: times for group, times in wide.items() if times >= least.titles and sound(group)}
    return frozenset(sorted(found, key=lambda group: (-found[group], group))[:PHRASES])


def _several(owners: Counter[str], least: Least) -> bool:
    """Whether something belongs to several brands: to four, or to two of which none has nearly all."""
    few = len(owners) >= least.brands and max(owners.values()) <= least.one * owners.total()
    return few or len(owners) >= 2 * least.brands


def _heads(titles: Sequence[_Title]) -> list[str]:
    """The word of each title that names the product, "" where there is none.

    Of the words of a title the one that is most often the one, over all titles; it begins with how often each ends a
    group. What stands behind the end of a group is less likely it: most titles say what a product is, then how it is.
    """
    seen = Counter(word for title in titles for word in {title.words[place] for place in title.places})
    times = Counter(word for title in titles for word in {title.words[end] for end in title.ends})
    orders = [list(title.falling()) for title in titles]
    heads: list[str] = []
    for _ in range(_ROUNDS):
        share = {word: times[word] / (seen[word] + _DOUBT) for word in seen}
        heads = [max(((share[word] * faith, word) for word, faith in order), default=(0.0, ""))[1] for order in orders]
        times = Counter(filter(None, heads))
    return heads


def _shared(titles: Sequence[_Title], subjects: frozenset[str], least: Least) -> frozenset[str]:
    """Words of no kind that titles of several brands share."""
    owners: dict[str, Counter[str]] = defaultdict(Counter)
    for title in titles:
        for word in title.plain:
            owners[word][title.owner] += 1
    good = [
        word
        for word, brands in owners.items()
        if brands.total() >= least.shared and _several(brands, least) and word not in subjects and sound(word)
    ]
    return frozenset(sorted(good, key=lambda word: (-owners[word].total(), word))[: PHRASES // 2])
