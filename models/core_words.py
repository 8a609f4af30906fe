"""Small and common words as core terms are told by them: what they open, close or say by themselves.

They are English. A catalogue in another language brings its own brands, subjects and attributes, but not these.
"""

from typing import Final


def _listed(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


FOR: Final = _listed("for f/ fits replaces compatible equivalent instead suitable")
"""Behind these stands another product."""
WITH: Final = _listed("with w/ without w/o including includes featuring")
"""Behind these stands what a product has, not what it is."""
DASHES: Final = _listed("- – — -- / | : ->")
SMALL: Final = (
    FOR
    | WITH
    | DASHES
    | _listed(
        "a an and as at by from in is it no. not of on only or over the to & + x",
        "edition gen model new plus pro series type version",
    )
)
"""Words that are no term by themselves."""
USUAL: Final = _listed(
    "black white gray grey silver red blue green yellow orange purple pink brown beige tan cream ivory cyan",
    "magenta gold bronze nickel chrome brass copper pewter charcoal espresso walnut oak cherry maple mahogany",
    "cedar pine bamboo clear wood wooden steel stainless aluminum aluminium metal plastic vinyl pvc rubber",
    "leather cotton polyester nylon wool glass ceramic porcelain stone marble granite concrete brushed polished",
    "satin matte matt gloss glossy galvanized unfinished prefinished small medium large mini wireless wired",
    "electric portable indoor outdoor waterproof adjustable rechargeable cordless colour color multicolor",
    "multicolour transparent round square oval rectangular",
)
"""Words that describe in every catalogue: colours, materials, finishes, sizes, forms."""
