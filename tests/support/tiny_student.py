"""A student of two small layers with random weights: real files, built in milliseconds, without the wheel."""

from collections.abc import Mapping
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.encoder_graph import EncoderShape, encoder_model
from headrace.models.graph_nodes import Precision

Floats = NDArray[np.float32]

SHAPE = EncoderShape(layers=2, heads=4, dimensions=32, max_tokens=16, epsilon=1e-12)
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz0123456789[]", "red", "shoe", "##s", "mouse")


def tiny_tensors(seed: int = 0) -> Mapping[str, Floats]:
    """Weights by their names in a BERT checkpoint, as large as a trained one's relative to the width."""
    random = np.random.default_rng(seed)
    width, inner = SHAPE.dimensions, 4 * SHAPE.dimensions
    sizes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), width),
        "embeddings.position_embeddings.weight": (2 * SHAPE.max_tokens, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(SHAPE.layers):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
        dense = [(f"{name}.attention.self.{which}", width, width) for which in ("query", "key", "value")]
        dense += [(f"{name}.attention.output.dense", width, width)]
        dense += [(f"{name}.intermediate.dense", inner, width), (f"{name}.output.dense", width, inner)]
        for name, outputs, inputs in dense:
            sizes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    sizes |= {f"{name}.{which}": (width,) for name in norms for which in ("weight", "bias")}
    scale = 1.5 / np.sqrt(width)
    tensors = {name: (scale * random.standard_normal(size)).astype(np.float32) for name, size in sizes.items()}
    return tensors | {f"{name}.weight": tensors[f"{name}.weight"] + np.float32(1) for name in norms}


@cache
def tiny_files(precision: Precision = "int8", seed: int = 0) -> Mapping[str, bytes]:
    """The files of a student part."""
    config = {"kind": "bi-encoder-cosine", "dimensions": SHAPE.dimensions, "max_tokens": SHAPE.max_tokens}
    return {
        "model.onnx": encoder_model(tiny_tensors(seed), SHAPE, precision),
        "vocab.txt": "".join(f"{word}\n" for word in WORDS).encode(),
        "config.json": msgspec.json.encode(config | {"lowercase": True}),
    }
