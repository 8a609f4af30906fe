"""A cross-encoder as an ONNX graph: a BERT that reads query and title together and gives one number.

    input_ids, attention_mask, token_type_ids, core_ids int64 [B, T], neighbours -> logit float32 [B]

The names of its inputs are those of ``pair_rows.PairConfig.inputs``. It is the graph of a
``BertForSequenceClassification`` with one label; core terms and neighbours are parts of it only where the config says.

Only the first token of a row, [CLS], is read at the end. So the last layer computes keys and values for every token and
all the rest for the first one alone: exactly the same number, without five sixths of that layer's work.

What comes after the layers (pooler, classifier, neighbours) stays fp32: it is a thousandth of the work, and nothing
behind it would take back a rounding.

Letters: B pairs, T tokens (padding included), R = B T rows, D dimensions, H heads, K dimensions of a head.
"""

from collections.abc import Mapping

import onnx

from headrace.models.encoder_graph import EMBEDDINGS, EncoderShape, Layers, chain_of
from headrace.models.graph_nodes import Floats, Precision, floats_of, whole_numbers_of
from headrace.models.pair_rows import PairConfig

EPSILON = 1e-12
"""Of the normalisation; every BERT has it."""
SIDES = ("query", "item")


class _Pairs:
    """Nodes that a cross-encoder has beside the layers of a BERT."""

    def __init__(
        self, tensors: Mapping[str, Floats], config: PairConfig, precision: Precision, exact: tuple[str, ...]
    ) -> None:
        self.tensors = tensors
        self.config = config
        encoder = {name.removeprefix("bert."): value for name, value in tensors.items() if name.startswith("bert.")}
        shape = EncoderShape(config.layers, config.heads, config.dimensions, config.max_tokens, EPSILON)
        self.bert = Layers(encoder, shape, precision, exact)
        self.graph = self.bert.graph
        self.mask = self.bert.mask(self.bert.present())

    def embedded(self) -> str:
        """The sum of word, position, type and core-term embeddings, normalised: [R, D]."""
        graph, tables = self.graph, self.bert.tensors
        found = self.bert.words("input_ids")
        positions = tables["embeddings.position_embeddings.weight"][: self.config.max_tokens]
        found = self.bert.placed(found, positions)
        types = graph.constant("types", tables["embeddings.token_type_embeddings.weight"])
        found = graph.add("Add", found, graph.add("Gather", types, "token_type_ids"))
        if self.config.core_terms:
            kinds = graph.constant("core_terms", self.tensors["core_embeddings.weight"])
            found = graph.add("Add", found, graph.add("Gather", kinds, "core_ids"))
        return self.bert.embedded(found)

    def side(self, side: str) -> str:
        """The text vector of the neighbours on one side: [B, D]."""
        graph = self.graph
        words = self.bert.words(f"{side}_neighbour_ids")
        weights = graph.add("Unsqueeze", f"{side}_neighbour_weights", graph.sizes(1))
        return graph.add("Squeeze", graph.add("MatMul", weights, words), graph.sizes(1))

    def last_layer(self, rows: str) -> str:
        """The last layer for the first token of each text: [B, D] of [R, D]."""
        graph, bert, name = self.graph, self.bert, f"encoder.layer.{self.config.layers - 1}"
        attention = f"{name}.attention"
        joint = bert.linear(f"{attention}.self", rows, *bert.projection(attention, "key", "value"))
        joint = graph.add("Reshape", joint, bert.heads_of(2))
        joint = graph.add("Transpose", joint, perm=[2, 0, 3, 1, 4])  # [2, B, H, T, K]
        keys, values = (graph.add("Gather", joint, graph.place(n), axis=0) for n in range(2))
        first = graph.add("Gather", graph.add("Reshape", rows, bert.by_text), graph.place(0), axis=1)
        # From here on there is one row a text.
        bert.zeros = graph.add("Expand", graph.zero(), graph.add("Slice", bert.size, *map(graph.sizes, (0, 1))))
        query = bert.linear(f"{attention}.self.query", first, *bert.projection(attention, "query"))
        width = self.config.dimensions // self.config.heads
        query = graph.add("Reshape", query, graph.sizes(-1, self.config.heads, 1, width))
        return bert.transformed(name, first, bert.gathered(attention, query, keys, values, self.mask))

    def exactly(self, name: str, rows: str) -> str:
        """A linear map in float32."""
        return self.graph.linear(name, rows, self.tensors[f"{name}.weight"].T, self.tensors[f"{name}.bias"])

    def scored(self, first: str) -> str:
        """The logit [B] of the first token's state [B, D]."""
        pooled = self.graph.add("Tanh", self.exactly("bert.pooler.dense", first))
        score = self.exactly("classifier", pooled)
        if self.config.neighbours:
            score = self.graph.add("Add", score, self.told(score, first))
        return self.graph.add("Squeeze", score, self.graph.sizes(1))

    def told(self, score: str, first: str) -> str:
        """What the neighbours add to a score [B, 1]: exactly 0 where there are none."""
        graph = self.graph
        sides = graph.add("Concat", first, *(f"{side}_side" for side in SIDES), axis=1)
        told = self.exactly("neighbours.out", graph.add("Tanh", self.exactly("neighbours.hidden", sides)))
        gate = self.exactly("neighbours.gate", graph.add("Concat", score, "neighbour_counts", axis=1))
        told = graph.add("Mul", graph.add("Sigmoid", gate), told)
        many = graph.add("Slice", "neighbour_counts", *map(graph.sizes, (1, 3, 1)))
        there = graph.add("ReduceSum", many, graph.sizes(1), keepdims=1)
        return graph.add("Where", graph.add("Greater", there, graph.number(0.0)), told, graph.number(0.0))


def pair_link(
    tensors: Mapping[str, Floats], config: PairConfig, precision: Precision, number: int, exact: tuple[str, ...] = ()
) -> bytes:
    """The ONNX file of one layer of a cross-encoder, where -1 is the embeddings; the same arrays give the same bytes.

    Args:
        tensors: the weights by their names in a checkpoint of ``BertForSequenceClassification``, float32; those of
            core terms as ``core_embeddings.weight`` [5, D], those of neighbours as ``neighbours.hidden`` [D, 3 D],
            ``neighbours.out`` [1, D] and ``neighbours.gate`` [1, 4], each with a bias.
        config: its sizes and extras.
        precision: ``int8`` to serve; ``fp32`` to compare with.
        number: which layer.
        exact: linear maps that stay fp32 in ``int8``, see ``Layers``.

    Raises:
        KeyError: an array is missing.
    """
    pairs, width = _Pairs(tensors, config, precision, exact), config.dimensions
    last = number == config.layers - 1
    inputs, outputs = [whole_numbers_of("attention_mask", "B", "T")], [floats_of("next_rows", "R", width)]
    if number == EMBEDDINGS:
        given = [name for name in config.inputs() if name.endswith("_ids") and "neighbour" not in name]
        inputs += [whole_numbers_of(name, "B", "T") for name in given]
        rows = pairs.embedded()
        if config.neighbours:
            outputs += _sides(pairs, inputs)
    else:
        inputs.append(floats_of("rows", "R", width))
        rows = pairs.last_layer("rows") if last else pairs.bert.layer(f"encoder.layer.{number}", "rows", pairs.mask)
    if last:
        if config.neighbours:
            inputs += [floats_of(f"{side}_side", "B", width) for side in SIDES] + [
                floats_of("neighbour_counts", "B", 3)
            ]
        rows, outputs = pairs.scored(rows), [floats_of("logit", "B")]
    pairs.bert.called(rows, outputs[0].name)
    return pairs.graph.file("cross-encoder", inputs, outputs)


def _sides(pairs: _Pairs, inputs: list[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """The outputs that carry the neighbours' vectors to the last link; what they are made of joins the inputs."""
    found = []
    for side in SIDES:
        inputs += [
            whole_numbers_of(f"{side}_neighbour_ids", "B", f"{side}_pieces"),
            floats_of(f"{side}_neighbour_weights", "B", f"{side}_pieces"),
        ]
        pairs.bert.called(pairs.side(side), f"{side}_side")
        found.append(floats_of(f"{side}_side", "B", pairs.config.dimensions))
    return found


def pair_chain(
    tensors: Mapping[str, Floats], config: PairConfig, precision: Precision, exact: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """A cross-encoder as files to be run in the order of their names, as ``encoder_graph.encoder_chain``.

    The first also gives the neighbours' vectors as ``query_side`` and ``item_side``, float32 [B, D], since it holds the
    words; the last reads them.
    """
    return chain_of(config.layers, lambda layers: pair_link(tensors, config, precision, layers.start, exact))
