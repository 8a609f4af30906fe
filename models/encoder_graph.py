"""A BERT-shaped sentence encoder as an ONNX graph, written operator by operator.

    input_ids, attention_mask int64 [B, T] -> embedding float32 [B, D], rows of unit length

Written as one file, or as a chain of small files, one for the embeddings and one for each layer, that hand rows on:
onnxruntime holds Python's lock while it opens a file, 125 ms for the whole of MiniLM, which a worker that swaps models
under load would feel; a link of the chain takes 10 ms, and requests go on in between.

``Layers`` is what every BERT has; ``pair_graph`` makes a cross-encoder of it. Its int8 form quantises by rows
(``graph_nodes``), so a text's embedding depends on neither its batch mates nor padding (law 6).

Letters: B texts, T tokens (padding included), R = B T rows, D dimensions, H heads, K dimensions of a head, V words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from headrace.models.graph_nodes import Floats, Graph, Precision, floats_of, weight_columns, whole_numbers_of

EMBEDDINGS = -1
"""Stands where the number of a layer would."""
MASKED = -10_000.0
"""Added to the attention score of padding: its softmax is then exactly 0 in float32."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The sizes of an encoder and of its longest input."""

    layers: int
    heads: int
    dimensions: int
    max_tokens: int
    epsilon: float


class Layers:
    """The layers of a BERT as nodes of one graph.

    Args:
        tensors: the weights by their names in a BERT checkpoint, float32.
        shape: the sizes of the checkpoint.
        precision: ``int8`` or ``fp32``.
        exact: linear maps, or all of a layer, that stay fp32, e.g. ``encoder.layer.5.output.dense``.
    """

    def __init__(
        self, tensors: Mapping[str, Floats], shape: EncoderShape, precision: Precision, exact: tuple[str, ...] = ()
    ) -> None:
        self.tensors = tensors
        self.shape = shape
        self.precision = precision
        self.exact = exact
        self.graph = Graph()
        self.size = self.graph.add("Shape", "attention_mask")
        self.tokens = self.graph.add("Slice", self.size, *map(self.graph.sizes, (1, 2)))
        self.by_head = self.heads_of(3)
        self.by_text = self.graph.add("Concat", self.size, self.graph.sizes(shape.dimensions), axis=0)
        # Zero points, one for each row that is there: [R].
        self.zeros = self.graph.add("Expand", self.graph.zero(), self.graph.add("ReduceProd", self.size, keepdims=1))

    def heads_of(self, maps: int) -> str:
        """The shape [B, T, maps, H, K]."""
        width = self.shape.dimensions // self.shape.heads
        return self.graph.add("Concat", self.size, self.graph.sizes(maps, self.shape.heads, width), axis=0)

    def linear(self, name: str, rows: str, weight: Floats, bias: Floats) -> str:
        """Rows [R, I] @ weight [I, O] + bias [O]."""
        exact = self.precision == "fp32" or any(f"{name}.".startswith(f"{kept}.") for kept in self.exact)
        return self.graph.linear(name, rows, weight, bias, "" if exact else self.zeros)

    def normalised(self, name: str, rows: str) -> str:
        """Rows of mean 0 and deviation 1, scaled and moved: [R, D]."""
        weight = self.graph.constant(name + ".weight", self.tensors[name + ".weight"])
        bias = self.graph.constant(name + ".bias", self.tensors[name + ".bias"])
        return self.graph.add("LayerNormalization", rows, weight, bias, axis=-1, epsilon=self.shape.epsilon)

    def dense(self, name: str) -> tuple[Floats, Floats]:
        """The weight [I, O] and the bias [O] of a linear map."""
        return self.tensors[name + ".weight"].T, self.tensors[name + ".bias"]

    def words(self, ids: str) -> str:
        """The word vectors of ids, with D behind the axes of the ids."""
        graph = self.graph
        words = self.tensors["embeddings.word_embeddings.weight"]
        if self.precision == "fp32":
            return graph.add("Gather", graph.constant("words", words), ids)
        # A gather does not mix rows, so the table may stay int8, one scale a word.
        steps, scales = weight_columns(words.T)
        found = graph.add("Cast", graph.add("Gather", graph.constant("words", steps.T), ids), to=1)
        scale = graph.add("Gather", graph.constant("words.scale", scales[:, None]), ids)
        return graph.add("Mul", found, scale)

    def placed(self, found: str, positions: Floats) -> str:
        """Vectors [B, T, D] and those of their positions: [B, T, D]."""
        table, begin = self.graph.constant("positions", positions), self.graph.sizes(0)
        return self.graph.add("Add", found, self.graph.add("Slice", table, begin, self.tokens, begin))

    def embedded(self, found: str) -> str:
        """The sum [B, T, D] of a token's embeddings as normalised rows: [R, D]."""
        rows = self.graph.add("Reshape", found, self.graph.sizes(-1, self.shape.dimensions))
        return self.normalised("embeddings.LayerNorm", rows)

    def projection(self, name: str, *which: str) -> tuple[Floats, Floats]:
        """The maps of an attention side by side, so that rows are quantised once; 1/sqrt(K) is part of the query."""
        shrink = np.float32((self.shape.dimensions // self.shape.heads) ** -0.5)
        found = []
        for one in which:
            weight, bias = self.dense(f"{name}.self.{one}")
            found.append((weight * shrink, bias * shrink) if one == "query" else (weight, bias))
        return np.concatenate([weight for weight, _ in found], axis=1), np.concatenate([bias for _, bias in found])

    def attended(self, name: str, rows: str, mask: str) -> str:
        """What the heads gather for each row, projected: [R, D]."""
        graph = self.graph
        joint = self.linear(f"{name}.self", rows, *self.projection(name, "query", "key", "value"))
        joint = graph.add("Reshape", joint, self.by_head)
        joint = graph.add("Transpose", joint, perm=[2, 0, 3, 1, 4])  # [3, B, H, T, K]
        queries, keys, values = (graph.add("Gather", joint, graph.place(n), axis=0) for n in range(3))
        return self.gathered(name, queries, keys, values, mask)

    def gathered(self, name: str, queries: str, keys: str, values: str, mask: str) -> str:
        """What queries [B, H, *, K] gather from keys and values [B, H, T, K], projected: [B * , D]."""
        graph = self.graph
        scores = graph.add("MatMul", queries, graph.add("Transpose", keys, perm=[0, 1, 3, 2]))
        shares = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
        gathered = graph.add("Transpose", graph.add("MatMul", shares, values), perm=[0, 2, 1, 3])
        gathered = graph.add("Reshape", gathered, graph.sizes(-1, self.shape.dimensions))
        return self.linear(f"{name}.output.dense", gathered, *self.dense(f"{name}.output.dense"))

    def layer(self, name: str, rows: str, mask: str) -> str:
        """One layer: [R, D]."""
        return self.transformed(name, rows, self.attended(f"{name}.attention", rows, mask))

    def transformed(self, name: str, rows: str, attention: str) -> str:
        """A layer after its attention: [R, D]."""
        add = self.graph.add
        rows = self.normalised(f"{name}.attention.output.LayerNorm", add("Add", rows, attention))
        inner = self.linear(f"{name}.intermediate.dense", rows, *self.dense(f"{name}.intermediate.dense"))
        inner = self.linear(f"{name}.output.dense", add("Gelu", inner), *self.dense(f"{name}.output.dense"))
        return self.normalised(f"{name}.output.LayerNorm", add("Add", rows, inner))

    def present(self) -> str:
        """The attention mask as float32 [B, T]."""
        return self.graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)

    def mask(self, present: str) -> str:
        """What is added to attention scores: [B, 1, 1, T]."""
        graph = self.graph
        absent = graph.add("Sub", graph.number(1.0), graph.add("Unsqueeze", present, graph.sizes(1, 2)))
        return graph.add("Mul", absent, graph.number(MASKED))

    def called(self, result: str, name: str) -> None:
        """Gives a result the name of an output."""
        self.graph.nodes.append(helper.make_node("Identity", [result], [name], name=name))


def encoder_model(
    tensors: Mapping[str, Floats], shape: EncoderShape, precision: Precision, layers: range | None = None
) -> bytes:
    """An ONNX file of the encoder, or of some of its layers; the same arrays give the same bytes.

    Args:
        tensors: the weights by their names in a BERT checkpoint, float32.
        shape: the sizes of the checkpoint.
        precision: ``int8`` to serve; ``fp32`` to compare with.
        layers: all, unless given, -1 being the embeddings; see ``encoder_chain``.

    Raises:
        KeyError: an array is missing.
    """
    layers = range(EMBEDDINGS, shape.layers) if layers is None else layers
    bert, width = Layers(tensors, shape, precision), shape.dimensions
    inputs, rows = [whole_numbers_of("attention_mask", "B", "T")], "rows"
    present = bert.present()
    mask = bert.mask(present)
    if EMBEDDINGS in layers:
        inputs.append(whole_numbers_of("input_ids", "B", "T"))
        # There is one sentence, so every token is of type 0: its row goes into the positions.
        positions = tensors["embeddings.position_embeddings.weight"][: shape.max_tokens]
        positions = positions + tensors["embeddings.token_type_embeddings.weight"][0]
        rows = bert.embedded(bert.placed(bert.words("input_ids"), positions))
    else:
        inputs.append(floats_of("rows", "R", width))
    for number in layers[1:] if EMBEDDINGS in layers else layers:
        rows = bert.layer(f"encoder.layer.{number}", rows, mask)
    if layers.stop == shape.layers:
        rows, output = _pooled(bert, rows, present), floats_of("embedding", "B", width)
    else:
        output = floats_of("next_rows", "R", width)
    bert.called(rows, output.name)
    return bert.graph.file("encoder", inputs, [output])


def _pooled(bert: Layers, rows: str, present: str) -> str:
    """The mean over the tokens that are there, at unit length: [B, D]."""
    graph = bert.graph
    rows = graph.add("Mul", graph.add("Reshape", rows, bert.by_text), graph.add("Unsqueeze", present, graph.sizes(2)))
    total = graph.add("ReduceSum", rows, graph.sizes(1), keepdims=0)
    # The length of the mean and of the sum differ by a factor that the division takes out again.
    length = graph.add("Max", graph.add("ReduceL2", total, graph.sizes(-1), keepdims=1), graph.number(1e-12))
    return graph.add("Div", total, length)


def encoder_chain(tensors: Mapping[str, Floats], shape: EncoderShape, precision: Precision) -> dict[str, bytes]:
    """The encoder as files to be run in the order of their names: ``model-00.onnx`` (embeddings), ``model-01.onnx``...

    Each takes ``attention_mask`` and, but for the first, as ``rows`` what the one before gave as ``next_rows``, float32
    [R, D]; the last gives ``embedding``.
    """
    return chain_of(shape.layers, lambda layers: encoder_model(tensors, shape, precision, layers))


def chain_of(layers: int, written: Callable[[range], bytes]) -> dict[str, bytes]:
    """The files of a chain by name, the embeddings first; ``written`` gives the file of some layers."""
    return {f"model-{number + 1:02}.onnx": written(range(number, number + 1)) for number in range(EMBEDDINGS, layers)}
