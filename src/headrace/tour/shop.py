"""The shop of the tour: products and judged queries, written by hand for this project, and a plain lexical search.

Brands, products and judgments are made up. The files are package data; ``load`` checks them.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Annotated, Final, Literal

import msgspec

from headrace.streams.identity import normalise

DEPARTMENTS: Final = ("outdoor", "kitchen", "garden", "bikes", "kids", "office")
ATTRIBUTES: Final = frozenset({"brand", "colour", "material", "season"})
SEASONS: Final = ("summer", "winter", "all year")
LEAST_JUDGED: Final = 4

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
_Kind = Literal["plain", "misspelled", "ambiguous"]


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One product of the shop.

    Attributes:
        item_id: readable, so that a list of ids can be read.
        title: what the student reads.
        description: a sentence.
        department: one of DEPARTMENTS.
        attributes: brand (made up), colour, material and season (summer, winter, all year).
        price: in the shop's one currency.
    """

    item_id: _Word
    title: _Word
    description: Annotated[str, msgspec.Meta(min_length=10, max_length=200)]
    department: Literal["outdoor", "kitchen", "garden", "bikes", "kids", "office"]
    attributes: Mapping[str, _Word]
    price: Annotated[float, msgspec.Meta(gt=0, le=10_000)]


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One query, and how well products answer it.

    Attributes:
        text: as a shopper types it.
        kind: ``ambiguous``: several things may be meant, and each meaning has its products.
        held_out: the tour shows it, so nothing that makes a part may learn from it; the others are for that.
        grades: item id to 3 (what is meant), 2 (a good substitute) or 1 (related); absent: 0.
    """

    text: _Word
    kind: _Kind
    held_out: bool
    grades: Mapping[str, Annotated[int, msgspec.Meta(ge=1, le=3)]]


@dataclass(frozen=True)
class Shop:
    """Products and judged queries.

    Attributes:
        products: in catalogue order.
        queries: held out and not.
    """

    products: tuple[Product, ...]
    queries: tuple[Judged, ...]

    def product(self, item_id: str) -> Product:
        """The product with an id.

        Raises:
            KeyError: there is none.
        """
        return self._products[item_id]

    def query(self, text: str) -> Judged:
        """The judged query with a text, compared as queries are counted (case and spaces do not matter).

        Raises:
            KeyError: there is none.
        """
        return self._queries[normalise(text)]

    @cached_property
    def pieces(self) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
        """What the lexical search compares of each product: pieces of its title, and of all else that is written."""
        rest = [(one.description, one.department, *one.attributes.values()) for one in self.products]
        return tuple(
            (_pieces(product.title), _pieces(" ".join(texts)))
            for product, texts in zip(self.products, rest, strict=True)
        )

    @cached_property
    def rarity(self) -> Mapping[str, float]:
        """How much a piece counts: ln(1 + products / products that have it)."""
        counts = Counter(piece for title, rest in self.pieces for piece in title | rest)
        return {piece: math.log1p(len(self.products) / count) for piece, count in counts.items()}

    @cached_property
    def _products(self) -> Mapping[str, Product]:
        return {product.item_id: product for product in self.products}

    @cached_property
    def _queries(self) -> Mapping[str, Judged]:
        return {normalise(query.text): query for query in self.queries}


class BadShop(ValueError):
    """The files of the shop contradict themselves; the text says where."""


def load() -> Shop:
    """The shop that ships with the package.

    Raises:
        BadShop: its files are not as they should be.
    """
    return parse(_file("products.json"), _file("queries.json"))


def parse(products: bytes, queries: bytes) -> Shop:
    """A shop from the JSON of its two files.

    Raises:
        BadShop: not of these shapes, an id or a query twice, a judgment of a product that is not there.
    """
    try:
        shop = Shop(
            msgspec.json.decode(products, type=tuple[Product, ...]),
            msgspec.json.decode(queries, type=tuple[Judged, ...]),
        )
    except msgspec.DecodeError as error:
        raise BadShop(str(error)) from None
    _check(shop)
    return shop


def candidates(shop: Shop, text: str, count: int) -> tuple[str, ...]:
    """The item ids that a plain lexical search gives for a query, best first: the given order of the tour.

    It compares three-letter pieces of words, rare pieces count more, so a wrong letter costs some of a word and not
    all of it. The title counts double. What matches equally, or not at all, keeps catalogue order, so there are always
    ``count`` items.

    Args:
        shop: what is searched.
        text: the query.
        count: how many, at most the number of products.

    Raises:
        ValueError: more than there are, or less than none.
    """
    if not 0 <= count <= len(shop.products):
        raise ValueError(f"{count} candidates of {len(shop.products)} products")
    scores = matches(shop, text)
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return tuple(shop.products[place].item_id for place in order[:count])


def matches(shop: Shop, text: str) -> list[float]:
    """How well each product matches a query by its letters, in catalogue order."""
    wanted = sorted(_pieces(text))
    return [_match(wanted, fields, shop.rarity) for fields in shop.pieces]


def _match(wanted: Sequence[str], fields: tuple[frozenset[str], frozenset[str]], rarity: Mapping[str, float]) -> float:
    title, rest = fields
    found = [
        2.0 * (piece in title) / math.sqrt(len(title)) + (piece in rest) / math.sqrt(len(rest)) for piece in wanted
    ]
    return math.fsum(rarity.get(piece, 0.0) * worth for piece, worth in zip(wanted, found, strict=True))


def _pieces(text: str) -> frozenset[str]:
    words = "".join(letter if letter.isalnum() else " " for letter in normalise(text)).split()
    padded = [f" {word} " for word in words]
    return frozenset(word[at : at + 3] for word in padded for at in range(len(word) - 2))


def _check(shop: Shop) -> None:
    ids = [product.item_id for product in shop.products]
    texts = [normalise(query.text) for query in shop.queries]
    for what, names in (("product", ids), ("query", texts)):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise BadShop(f"{what} {twice[0]!r} is there twice")
    for product in shop.products:
        if product.attributes.keys() != ATTRIBUTES or product.attributes["season"] not in SEASONS:
            raise BadShop(f"product {product.item_id!r} has other attributes than {', '.join(sorted(ATTRIBUTES))}")
    for query in shop.queries:
        if missing := sorted(query.grades.keys() - set(ids)):
            raise BadShop(f"query {query.text!r} judges {missing[0]!r}, which is no product")
        if len(query.grades) < LEAST_JUDGED:
            raise BadShop(f"query {query.text!r} judges {len(query.grades)} products, fewer than {LEAST_JUDGED}")


def _file(name: str) -> bytes:
    return resources.files("headrace.tour").joinpath(name).read_bytes()
