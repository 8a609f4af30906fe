"""What shoppers do to a query without meaning anything else: slips of the finger, other words, other notations.

A perturbation is a function from a query and a source of randomness to another query, or None where it does not apply
(no long word, no unit, no known synonym). It never empties a query and gives the same for the same seed. Whether it
keeps the meaning is said by each one; where that holds only mostly, its text says when it does not.

The words and units are those of English retail: home improvement, electronics, household.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

Change = Callable[[str, np.random.Generator], str | None]

SHORTEST: Final = 4
"""A typo is made in a word of at least so many letters: in a shorter one it mostly makes another word."""

_WORD = re.compile(rf"(?<![\w/-])[A-Za-z]{{{SHORTEST},}}(?![\w/-])")
_ROWS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

UNITS: Final[tuple[tuple[str, ...], ...]] = (
    ("in", "in.", "inch", "inches"),
    ("ft", "ft.", "foot", "feet"),
    ("gal", "gal.", "gallon", "gallons"),
    ("qt", "quart", "quarts"),
    ("oz", "oz.", "ounce", "ounces"),
    ("lb", "lb.", "lbs", "pound", "pounds"),
    ("ml", "milliliter", "milliliters"),
    ("l", "liter", "liters"),
    ("mm", "millimeter", "millimeters"),
    ("cm", "centimeter", "centimeters"),
    ("kg", "kilogram", "kilograms"),
    ("v", "volt", "volts"),
    ("w", "watt", "watts"),
    ("amp", "amps", "ampere"),
    ("hp", "horsepower"),
    ("gb", "gigabyte"),
    ("tb", "terabyte"),
)
"""Notations of one unit; all of a line mean the same."""
_MARKS: Final = {'"': "in", "''": "in", "'": "ft"}
_UNIT_OF: Final = {name: line for line in UNITS for name in line} | {
    mark: line for mark, name in _MARKS.items() for line in UNITS if line[0] == name
}
_NUMBER: Final = r"(?<![\w./-])(?:\d+[ -])?\d+(?:[./]\d+)?"
_NAMES: Final = "|".join(re.escape(name) for name in sorted(_UNIT_OF, key=len, reverse=True))
# "2 in 1" is no length: a bare "in" between numbers is a word.
_MEASURE = re.compile(rf"({_NUMBER})([ -]?)(?!in\s+\d)({_NAMES})(?![\w'\"])", re.IGNORECASE)
_CHUNK = re.compile(
    rf"{_NUMBER}(?:[ -]?(?:{_NAMES})(?![\w'\"]))?(?:\s*x\s*{_NUMBER}(?:[ -]?(?:{_NAMES})(?![\w'\"]))?)*(?=\s|$)|\S+",
    re.IGNORECASE,
)
_BINDING: Final = frozenset(
    ("for", "with", "without", "to", "from", "of", "on", "in", "under", "over", "and", "or", "no", "not", "by")
    + ("into", "onto", "w/", "w/o")
)

SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "ac": ("air conditioner",),
    "air conditioner": ("ac",),
    "aluminum": ("aluminium",),
    "barbecue": ("bbq",),
    "bathtub": ("tub",),
    "bbq": ("barbecue",),
    "cell phone": ("mobile phone",),
    "color": ("colour",),
    "cordless": ("battery powered",),
    "couch": ("sofa",),
    "curtains": ("drapes",),
    "diaper": ("nappy",),
    "drapes": ("curtains",),
    "drywall": ("plasterboard", "sheetrock"),
    "faucet": ("tap",),
    "flash drive": ("usb stick",),
    "flashlight": ("torch",),
    "fridge": ("refrigerator",),
    "garbage": ("trash",),
    "garbage disposal": ("waste disposer",),
    "gray": ("grey",),
    "grey": ("gray",),
    "hard drive": ("hard disk",),
    "headset": ("headphones with microphone",),
    "indoor": ("interior",),
    "laptop": ("notebook",),
    "lawn mower": ("grass cutter",),
    "light bulb": ("lamp",),
    "mobile phone": ("cell phone",),
    "notebook": ("laptop",),
    "outdoor": ("exterior",),
    "outlet": ("receptacle",),
    "patio furniture": ("garden furniture",),
    "refrigerator": ("fridge",),
    "sawzall": ("reciprocating saw",),
    "sheetrock": ("drywall",),
    "sneakers": ("trainers",),
    "sofa": ("couch",),
    "spigot": ("outdoor faucet",),
    "ssd": ("solid state drive",),
    "stroller": ("pushchair",),
    "television": ("tv",),
    "toilet": ("commode",),
    "trash": ("garbage",),
    "tv": ("television",),
    "usb stick": ("flash drive",),
    "vacuum": ("vacuum cleaner",),
    "washing machine": ("clothes washer",),
    "weed eater": ("string trimmer",),
    "wifi": ("wireless lan",),
    "wooden": ("wood",),
}
"""Words and what else shoppers call the same thing; longer entries are looked for first."""
_KNOWN = re.compile(
    r"(?<![\w-])(?:" + "|".join(re.escape(word) for word in sorted(SYNONYMS, key=len, reverse=True)) + r")(?![\w-])",
    re.IGNORECASE,
)


def swapped_letters(query: str, random: np.random.Generator) -> str | None:
    """Two neighbouring letters of a word change places, never the first: faucet, fuacet."""
    return _slip(query, random, lambda w: [w[:i] + w[i + 1] + w[i] + w[i + 2 :] for i in range(1, len(w) - 1)])


def dropped_letter(query: str, random: np.random.Generator) -> str | None:
    """A letter of a word is left out, never the first: faucet, fauet."""
    return _slip(query, random, lambda w: [w[:i] + w[i + 1 :] for i in range(1, len(w))])


def doubled_letter(query: str, random: np.random.Generator) -> str | None:
    """A letter of a word is typed twice: faucet, fauccet."""
    return _slip(query, random, lambda w: [w[: i + 1] + w[i:] for i in range(len(w))])


def neighbouring_key(query: str, random: np.random.Generator) -> str | None:
    """A letter of a word, never the first, becomes one beside it on the keyboard: faucet, fauvet."""
    return _slip(query, random, lambda w: [w[:i] + k + w[i + 1 :] for i in range(1, len(w)) for k in _beside(w[i])])


def word_order(query: str, random: np.random.Generator) -> str | None:
    """The words in another order; a number stays with its unit, and sizes such as 4 ft x 8 ft stay whole.

    None where a word binds two others (cover for grill is no grill for cover). Names of things may still change
    (door handle, handle door): mostly the words say enough.
    """
    words = _CHUNK.findall(query)
    if _BINDING & {word.casefold() for word in words}:
        return None
    folded = [word.casefold() for word in words]
    if len(set(folded)) < 2:
        return None
    for _ in range(100):  # all but at once: of two different words every second order is another one
        order = random.permutation(len(words))
        if [folded[at] for at in order] != folded:
            return " ".join(words[at] for at in order)
    return " ".join(reversed(words)) if folded != folded[::-1] else None


def dropped_units(query: str, random: np.random.Generator) -> str | None:
    """Units are left out, their numbers stay: 1/2 in. pipe, 1/2 pipe. It loses a part of the meaning."""
    changed = _MEASURE.sub(lambda found: found[1], query)
    return changed if changed != query else None


def other_units(query: str, random: np.random.Generator) -> str | None:
    """Units in another notation of the same meaning: 1/2 in. pipe, 1/2 inch pipe; 12v, 12 volt."""

    def other(found: "re.Match[str]") -> str:
        line = _UNIT_OF[found[3].casefold()]
        choices = [name for name in line if name != found[3].casefold()]
        return f"{found[1]} {choices[int(random.integers(len(choices)))]}"

    changed = _MEASURE.sub(other, query)
    return changed if changed != query else None


def synonyms(query: str, random: np.random.Generator) -> str | None:
    """A word becomes another one for the same thing: couch, sofa. A few are not the same in every country (torch)."""
    found = list(_KNOWN.finditer(query))
    if not found:
        return None
    one = found[int(random.integers(len(found)))]
    choices = SYNONYMS[one[0].casefold()]
    return query[: one.start()] + choices[int(random.integers(len(choices)))] + query[one.end() :]


def upper_case(query: str, random: np.random.Generator) -> str | None:
    """Everything in capitals; a model that reads lower case only cannot notice."""
    changed = query.upper()
    return changed if changed != query else None


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A way to ask the same otherwise.

    Attributes:
        name: what it is called in reports.
        change: the function; its docstring says what it does, with an example.
        keeps_meaning: whether the answer should be the same.
        keeps_words: whether the number of words stays.
    """

    name: str
    change: Change
    keeps_meaning: bool = True
    keeps_words: bool = True


PERTURBATIONS: Final = (
    Perturbation("letters swapped", swapped_letters),
    Perturbation("letter dropped", dropped_letter),
    Perturbation("letter doubled", doubled_letter),
    Perturbation("neighbouring key", neighbouring_key),
    Perturbation("word order", word_order),
    Perturbation("units dropped", dropped_units, keeps_meaning=False, keeps_words=False),
    Perturbation("units written otherwise", other_units, keeps_words=False),
    Perturbation("synonym", synonyms, keeps_words=False),
    Perturbation("upper case", upper_case),
)


def perturbed(queries: Sequence[str], perturbation: Perturbation, seed: int = 0) -> list[str | None]:
    """Each query as the perturbation leaves it, None where it does not apply.

    What becomes of a query depends on the seed, the perturbation and the query alone, not on its place or its mates.
    """
    return [perturbation.change(query, _random(seed, perturbation.name, query)) for query in queries]


SLIPS: Final = (swapped_letters, dropped_letter, doubled_letter, neighbouring_key)


def mistyped(queries: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """About this share of the queries with one slip of the finger, the others as they are, for a student to learn from.

    As in ``perturbed`` a query's fate depends on the seed and the query alone.
    """
    return [_mistyped(query, share, _random(seed, "mistyped", query)) for query in queries]


def _mistyped(query: str, share: float, random: np.random.Generator) -> str:
    if random.random() >= share:
        return query
    slips = (SLIPS[place](query, random) for place in random.permutation(len(SLIPS)))
    return next((slip for slip in slips if slip is not None), query)


def _random(seed: int, name: str, query: str) -> np.random.Generator:
    said = hashlib.blake2b(f"{seed}\0{name}\0{query}".encode("utf-8", "replace"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(said, "little"))


def _slip(query: str, random: np.random.Generator, ways: Callable[[str], list[str]]) -> str | None:
    words = list(_WORD.finditer(query))
    if not words:
        return None
    for at in random.permutation(len(words)):
        word = words[at]
        found = [way for way in ways(word[0]) if way.casefold() != word[0].casefold()]
        if found:
            return query[: word.start()] + found[int(random.integers(len(found)))] + query[word.end() :]
    return None


def _beside(letter: str) -> list[str]:
    for row in _ROWS:
        at = row.find(letter.lower())
        if at >= 0:
            keys = [row[place] for place in (at - 1, at + 1) if 0 <= place < len(row)]
            return [key.upper() if letter.isupper() else key for key in keys]
    return []
