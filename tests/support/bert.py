"""The sentence encoder once more, one text at a time, in plain numpy: what the ONNX graph is compared with."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.models.encoder_graph import EncoderShape

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def embedding(tensors: Mapping[str, Floats], shape: EncoderShape, ids: Sequence[int]) -> Doubles:
    """The unit vector of one text, float64 [D], from its token ids, without padding."""

    def dense(name: str, rows: Doubles) -> Doubles:
        mapped: Doubles = rows @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]
        return mapped

    def normalised(name: str, rows: Doubles) -> Doubles:
        centred = rows - rows.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + shape.epsilon)
        scaled: Doubles = centred / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
        return scaled

    tables = {which: tensors[f"embeddings.{which}_embeddings.weight"] for which in ("word", "position", "token_type")}
    rows = np.stack([tables["word"][token] for token in ids]).astype(np.float64)
    rows = normalised("embeddings.LayerNorm", rows + tables["position"][: len(ids)] + tables["token_type"][0])
    width = shape.dimensions // shape.heads
    for layer in range(shape.layers):
        name = f"encoder.layer.{layer}"
        query, key, value = (dense(f"{name}.attention.self.{part}", rows) for part in ("query", "key", "value"))
        gathered = np.empty_like(rows)
        for head in range(shape.heads):
            own = slice(head * width, (head + 1) * width)
            scores = query[:, own] @ key[:, own].T / math.sqrt(width)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            gathered[:, own] = shares / shares.sum(axis=1, keepdims=True) @ value[:, own]
        attended = dense(f"{name}.attention.output.dense", gathered)
        rows = normalised(f"{name}.attention.output.LayerNorm", rows + attended)
        inner = dense(f"{name}.intermediate.dense", rows)
        inner = 0.5 * inner * (1 + _erf(inner / math.sqrt(2)))
        rows = normalised(f"{name}.output.LayerNorm", rows + dense(f"{name}.output.dense", inner))
    mean = rows.mean(axis=0)
    unit: Doubles = mean / np.linalg.norm(mean)
    return unit
