"""A cross-encoder of two small layers with random weights: real files, built in milliseconds."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from headrace.models.graph_nodes import Precision
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import CORE_KINDS, PairConfig, written
from tiny_student import SHAPE, WORDS, tiny_tensors

Floats = NDArray[np.float32]
VOCABULARY = "".join(f"{word}\n" for word in WORDS).encode()


def tiny_config(core_terms: bool = False, neighbours: bool = False) -> PairConfig:
    """The config of a part."""
    return PairConfig(
        kind="cross-encoder",
        layers=SHAPE.layers,
        heads=SHAPE.heads,
        dimensions=SHAPE.dimensions,
        max_tokens=SHAPE.max_tokens,
        lowercase=True,
        core_terms=core_terms,
        neighbours=neighbours,
        slope=1.25,
        level=-0.5,
    )


def tiny_pair_tensors(seed: int = 0) -> Mapping[str, Floats]:
    """Weights with all extras by their names in a checkpoint."""
    random, width = np.random.default_rng([seed, 1]), SHAPE.dimensions
    sizes: dict[str, tuple[int, ...]] = {"core_embeddings.weight": (CORE_KINDS, width)}
    for name, outputs, inputs in (
        ("bert.pooler.dense", width, width),
        ("classifier", 1, width),
        ("neighbours.hidden", width, 3 * width + 2),
        ("neighbours.out", 1, width),
        ("neighbours.gate", 1, 4),
    ):
        sizes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    made = {name: (random.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32) for name, size in sizes.items()}
    return {f"bert.{name}": value for name, value in tiny_tensors(seed).items()} | made


@cache
def tiny_pair_files(
    core_terms: bool = False, neighbours: bool = False, precision: Precision = "int8", seed: int = 0
) -> Mapping[str, bytes]:
    """The files of a student part."""
    config = tiny_config(core_terms, neighbours)
    chain = pair_chain(tiny_pair_tensors(seed), config, precision)
    return chain | {"vocab.txt": VOCABULARY, "config.json": written(config, {"license": "none"})}
