"""A BERT-shaped sentence encoder as an ONNX graph, written operator by operator.

    input_ids, attention_mask int64 [B, T] -> embedding float32 [B, D], rows of unit length

Written as one file, or as a chain of small files, one for the embeddings and one for each layer, that hand rows on:
onnxruntime holds Python's lock while it opens a file, 125 ms for the whole of MiniLM, which a worker that swaps models
under load would feel; a link of the chain takes 10 ms, and requests go on in between.

Letters: B texts, T tokens (padding included), R = B T rows, D dimensions, H heads, K dimensions of a head, I inputs and
O outputs of a linear map.

The int8 form quantises every row (one token of one text) by itself: s = max|x| / 127 along the last axis, then uint8
with zero point 128, an integer product with int8 weights, the scale of each weight column, then s. So a text's
embedding depends on neither its batch mates nor padding (law 6), which a scale for the whole tensor (onnxruntime's
``quantize_dynamic``) does not give. uint8 with zero point 128 because int8 by int8 has no fast kernel on x86.

All operators are of ONNX but one: ``com.microsoft.MatMulIntegerToFloat`` is the integer product and its column scales
in one pass. Together with ``QuantizeLinear`` by rows it takes 15 to 20 % less time than the same in standard operators.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Precision = Literal["int8", "fp32"]

OPSET = 20
IR_VERSION = 9
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


class _Graph:
    """Nodes and constants as they are added; every method gives the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value.copy(order="C"), name)
        return name

    def number(self, value: float) -> str:
        return self.constant(f"number_{value!r}", np.array(value, np.float32))

    def sizes(self, *values: int) -> str:
        return self.constant("sizes_" + "_".join(map(str, values)), np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, **attributes: int | float | list[int]) -> str:
        domain, _, operator = operator.rpartition("/")
        result = f"{operator}_{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [result], name=result, domain=domain)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in sorted(attributes.items()))
        self.nodes.append(node)
        return result


def weight_columns(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """A weight [I, O] as int8 and the scale of each column [O]: weight is about int8 * scale."""
    scales = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12)) / np.float32(127)
    return np.rint(weight / scales).astype(np.int8), scales.astype(np.float32)


class _Encoder:
    def __init__(self, tensors: Mapping[str, Floats], shape: EncoderShape, precision: Precision) -> None:
        self.tensors = tensors
        self.shape = shape
        self.precision = precision
        self.graph = _Graph()
        size = self.graph.add("Shape", "attention_mask")
        self.tokens = self.graph.add("Slice", size, *map(self.graph.sizes, (1, 2)))
        width = shape.dimensions // shape.heads
        self.by_head = self.graph.add("Concat", size, self.graph.sizes(3, shape.heads, width), axis=0)
        self.by_text = self.graph.add("Concat", size, self.graph.sizes(shape.dimensions), axis=0)
        self.zero = self.graph.constant("zero_point", np.array(128, np.uint8))
        self.zeros = self.graph.add("Expand", self.zero, self.graph.add("ReduceProd", size, keepdims=1))

    def quantised(self, rows: str) -> tuple[str, str]:
        """Rows [R, D] as uint8 around 128, and the scale of each row [R, 1]."""
        add, number = self.graph.add, self.graph.number
        highest = add("ReduceMax", rows, self.graph.sizes(-1), keepdims=1)
        lowest = add("ReduceMin", rows, self.graph.sizes(-1), keepdims=1)
        scale = add("Mul", add("Max", highest, add("Neg", lowest), number(1e-12)), number(1 / 127))
        flat = add("Squeeze", scale, self.graph.sizes(1))
        return add("QuantizeLinear", rows, flat, self.zeros, axis=0), scale

    def linear(self, name: str, rows: str, weight: Floats, bias: Floats) -> str:
        """Rows [R, I] @ weight [I, O] + bias [O]."""
        graph = self.graph
        if self.precision == "fp32":
            product = graph.add("MatMul", rows, graph.constant(name + ".weight", weight))
        else:
            steps, scale = self.quantised(rows)
            columns, column_scales = weight_columns(weight)
            weights, scales = graph.constant(name + ".weight", columns), graph.constant(name + ".scale", column_scales)
            inputs = (steps, weights, graph.number(1.0), scales, self.zero)
            product = graph.add("com.microsoft/MatMulIntegerToFloat", *inputs)
            product = graph.add("Mul", product, scale)
        return graph.add("Add", product, graph.constant(name + ".bias", bias))

    def normalised(self, name: str, rows: str) -> str:
        weight = self.graph.constant(name + ".weight", self.tensors[name + ".weight"])
        bias = self.graph.constant(name + ".bias", self.tensors[name + ".bias"])
        return self.graph.add("LayerNormalization", rows, weight, bias, axis=-1, epsilon=self.shape.epsilon)

    def dense(self, name: str) -> tuple[Floats, Floats]:
        return self.tensors[name + ".weight"].T, self.tensors[name + ".bias"]

    def embedded(self) -> str:
        """The sum of word, position and type embeddings, normalised: [R, D]."""
        graph = self.graph
        words = self.tensors["embeddings.word_embeddings.weight"]
        if self.precision == "fp32":
            found = graph.add("Gather", graph.constant("words", words), "input_ids")
        else:
            # A gather does not mix rows, so the table may stay int8, one scale a word.
            steps, scales = weight_columns(words.T)
            found = graph.add("Cast", graph.add("Gather", graph.constant("words", steps.T), "input_ids"), to=1)
            scale = graph.add("Gather", graph.constant("words.scale", scales[:, None]), "input_ids")
            found = graph.add("Mul", found, scale)
        # There is one sentence, so every token is of type 0: its row goes into the positions.
        positions = self.tensors["embeddings.position_embeddings.weight"][: self.shape.max_tokens]
        positions = positions + self.tensors["embeddings.token_type_embeddings.weight"][0]
        table, begin = graph.constant("positions", positions), graph.sizes(0)
        found = graph.add("Add", found, graph.add("Slice", table, begin, self.tokens, begin))
        rows = graph.add("Reshape", found, graph.sizes(-1, self.shape.dimensions))
        return self.normalised("embeddings.LayerNorm", rows)

    def attended(self, name: str, rows: str, mask: str) -> str:
        """What the heads gather for each row, projected: [R, D]."""
        graph = self.graph
        query, key, value = (self.dense(f"{name}.self.{which}") for which in ("query", "key", "value"))
        shrink = np.float32((self.shape.dimensions // self.shape.heads) ** -0.5)
        # One product for all three: the rows are quantised once. The 1/sqrt(K) of the scores is part of the query.
        weight = np.concatenate([query[0] * shrink, key[0], value[0]], axis=1)
        joint = self.linear(f"{name}.self", rows, weight, np.concatenate([query[1] * shrink, key[1], value[1]]))
        joint = graph.add("Reshape", joint, self.by_head)
        joint = graph.add("Transpose", joint, perm=[2, 0, 3, 1, 4])  # [3, B, H, T, K]
        queries, keys, values = (
            graph.add("Gather", joint, graph.constant(f"which_{n}", np.array(n, np.int64)), axis=0) for n in range(3)
        )
        scores = graph.add("MatMul", queries, graph.add("Transpose", keys, perm=[0, 1, 3, 2]))
        shares = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
        gathered = graph.add("Transpose", graph.add("MatMul", shares, values), perm=[0, 2, 1, 3])
        gathered = graph.add("Reshape", gathered, graph.sizes(-1, self.shape.dimensions))
        return self.linear(f"{name}.output.dense", gathered, *self.dense(f"{name}.output.dense"))

    def layer(self, name: str, rows: str, mask: str) -> str:
        add = self.graph.add
        attention = self.attended(f"{name}.attention", rows, mask)
        rows = self.normalised(f"{name}.attention.output.LayerNorm", add("Add", rows, attention))
        inner = self.linear(f"{name}.intermediate.dense", rows, *self.dense(f"{name}.intermediate.dense"))
        inner = self.linear(f"{name}.output.dense", add("Gelu", inner), *self.dense(f"{name}.output.dense"))
        return self.normalised(f"{name}.output.LayerNorm", add("Add", rows, inner))

    def pooled(self, rows: str, present: str) -> str:
        """The mean over the tokens that are there, at unit length: [B, D]."""
        graph = self.graph
        rows = graph.add(
            "Mul", graph.add("Reshape", rows, self.by_text), graph.add("Unsqueeze", present, graph.sizes(2))
        )
        total = graph.add("ReduceSum", rows, graph.sizes(1), keepdims=0)
        # The length of the mean and of the sum differ by a factor that the division takes out again.
        length = graph.add("Max", graph.add("ReduceL2", total, graph.sizes(-1), keepdims=1), graph.number(1e-12))
        return graph.add("Div", total, length)

    def build(self, layers: range) -> onnx.GraphProto:
        """The graph of some layers, where -1 is the embeddings; the last layer is followed by the pooling."""
        graph, width = self.graph, self.shape.dimensions
        tokens = ["B", "T"]
        inputs = [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens)]
        present = graph.add("Cast", "attention_mask", to=TensorProto.FLOAT)
        absent = graph.add("Sub", graph.number(1.0), graph.add("Unsqueeze", present, graph.sizes(1, 2)))
        mask = graph.add("Mul", absent, graph.number(MASKED))
        rows = "rows"
        if EMBEDDINGS in layers:
            inputs.append(helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens))
            rows = self.embedded()
        else:
            inputs.append(helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["R", width]))
        for number in layers[1:] if EMBEDDINGS in layers else layers:
            rows = self.layer(f"encoder.layer.{number}", rows, mask)
        if layers.stop == self.shape.layers:
            rows = self.pooled(rows, present)
            output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", width])
        else:
            output = helper.make_tensor_value_info("next_rows", TensorProto.FLOAT, ["R", width])
        graph.nodes.append(helper.make_node("Identity", [rows], [output.name], name=output.name))
        return helper.make_graph(graph.nodes, "encoder", inputs, [output], list(graph.constants.values()))


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
    model = helper.make_model(
        _Encoder(tensors, shape, precision).build(range(EMBEDDINGS, shape.layers) if layers is None else layers),
        producer_name="headrace",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def encoder_chain(tensors: Mapping[str, Floats], shape: EncoderShape, precision: Precision) -> dict[str, bytes]:
    """The encoder as files to be run in the order of their names: ``model-00.onnx`` (embeddings), ``model-01.onnx``...

    Each takes ``attention_mask`` and, but for the first, as ``rows`` what the one before gave as ``next_rows``, float32
    [R, D]; the last gives ``embedding``.
    """
    return {
        f"model-{number + 1:02}.onnx": encoder_model(tensors, shape, precision, range(number, number + 1))
        for number in range(EMBEDDINGS, shape.layers)
    }
