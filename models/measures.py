"""Numbers with a unit in titles and queries: ``6ft``, ``43.2 cm (17")``, ``4800 x 1200 DPI``, ``2-Pack``."""

import re
from collections.abc import Sequence
from typing import Final

AROUND: Final = "()[]{},;:!?*®™©“„‘|"
"""What may stand around a word and is no part of it; quotation marks behind a number are inches and feet."""

_LETTERS: Final = "a g h l m u v w x y"
_LENGTHS: Final = "mm cm dm km μm um μ in inch inches ft foot feet yd yard yards mil mils awg gauge ga"
_AMOUNTS: Final = (
    "pc pcs piece pieces pk pks pack packs ct count pair pairs sheet sheets page pages roll rolls port ports pin pins "
    "outlet outlets slot slots bay bays way post posts bit bits core cores channel channels cell cells step steps "
    "tier tiers person speed stage"
)
_OTHERS: Final = (
    "mg kg lb lbs oz ton tons ml cl dl gal gallon gallons qt quart quarts pt pint pints cuft sqft cf sf "
    "mv kv mw kw va kva ma mah ah wh kwh ohm ohms volt volts amp amps watt watts btu btus hp "
    "hz khz mhz ghz kb mb gb tb kbit mbit gbit kbps mbps gbps dpi ppm cpm rpm fps px pixel pixels mp megapixel "
    "lumen lumens lm psi gpm gpf gph cfm bar db ° °c °f % degree degrees "
    "min mins sec ms hr hrs hour hours day days week weeks month months year years yr yrs"
)
WORDS: Final = frozenset(f"{_LENGTHS} {_AMOUNTS} {_OTHERS}".split())
"""Units that are so also when a blank stands before them."""
_ALONE: Final = WORDS | frozenset("ghlmvw")
_BETWEEN: Final = frozenset(("linear", "lin", "lineal", "cu", "cubic", "sq", "square", "fl"))
_TIMES: Final = frozenset("x×*")
_SIDES: Final = frozenset("whdl") | _TIMES
_MARKS: Final = ("''", '"', "”", "″", "′", "'", "’")
_PLAIN: Final = r"\.?\d[\d.,/]*"
_NUMBER: Final = rf"#?[+-]?{_PLAIN}"
_UNITS: Final = "|".join(sorted(map(re.escape, [*WORDS, *_LETTERS.split(), *_MARKS, "k"]), key=len, reverse=True))
# "802.11g" is a standard, "5g" a network, "503a" a model.
_ATTACHED: Final = re.compile(
    rf"(?!802\.)(?!\d[gk]$)(?!\d{{3,}}[ax]$){_NUMBER}(?:(?:-?(?:{_UNITS}))?[x×*-]{_PLAIN})*-?(?:{_UNITS})\.?(?:-1)?"
)
_COUNTED: Final = re.compile(rf"{_NUMBER}-[a-z]{{3,}}(?:-[a-z0-9]+)*")
"""``2-Light``, ``4-Pack``, ``3-in-1``: what is counted is no matter."""
_BARE: Final = re.compile(rf"{_NUMBER}(?:[x×*-](?!0\d){_PLAIN})*")
_CHARACTERS: Final = 32
"""No measure is longer; nothing else is looked at."""


def measured(words: Sequence[str]) -> list[bool]:
    """Whether each word belongs to a number with a unit, or to sizes such as ``600 x 600``.

    Args:
        words: of a text in lower case, in their order, as blanks divide them.
    """
    plain = [bare(word) for word in words]
    found = [False] * len(plain)
    begin = -1  # where numbers begin that wait for a unit
    for place, word in enumerate(plain):
        digit = len(word) <= _CHARACTERS and any(map(str.isdigit, word[:3]))
        if digit and (_ATTACHED.fullmatch(word) or _COUNTED.fullmatch(word)):
            _mark(found, begin, place)
            begin = -1
        elif digit and _BARE.fullmatch(word):
            chained = begin >= 0 and plain[place - 1] in _TIMES
            if chained or any(sign in word for sign in _TIMES):
                _mark(found, begin if chained else place, place)
            if chained or begin < 0 or "/" not in word:  # "7 1/4" is one number
                begin = place
        elif begin >= 0 and word in _ALONE:
            _mark(found, begin, place)
            begin = -1
        elif word in _SIDES and place and (begin >= 0 or found[place - 1]):
            if begin < 0:  # behind a unit: "36 in. W", "5 m x"
                found[place], begin = True, place
        elif word not in _BETWEEN:
            begin = -1
    return found


def bare(word: str) -> str:
    """A word without what stands around it."""
    return word.replace("(s)", "s").strip(AROUND).rstrip(".,") or word


def _mark(found: list[bool], begin: int, place: int) -> None:
    for at in range(begin if begin >= 0 else place, place + 1):
        found[at] = True
