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
from onnx import TensorProto

from headrace.models.encoder_graph import EMBEDDINGS, EncoderShape, Layers, chain_of
from headrace.models.graph_nodes import Floats, Precision, floats_of, whole_numbers_of
from headrace.models.pair_rows import ALIKE_SCALE, COUNTS, SIDES, TYPICAL, PairConfig

EPSILON = 1e-12
"""Of the normalisation; every BERT has it."""


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

    def alike(self) -> str:
        """How well the words of the other text are found among the neighbours of a side: [B, 2]."""
        words, (query, title) = self._directions("input_ids"), self._own_words()
        found = [self._found(words, own, side) for side, own in zip(SIDES, (title, query), strict=True)]
        return self.graph.add("Concat", *found, axis=1)

    def _directions(self, ids: str) -> str:
        """The word vectors of ids at unit length."""
        graph, words = self.graph, self.bert.words(ids)
        length = graph.add("Max", graph.add("ReduceL2", words, graph.sizes(-1), keepdims=1), graph.number(1e-12))
        return graph.add("Div", words, length)

    def _own_words(self) -> list[str]:
        """1 at the word pieces of the query, and at those of the title, else 0: two of [B, T]."""
        graph = self.graph
        title = graph.add("Mul", "attention_mask", "token_type_ids")
        query = graph.add("Sub", "attention_mask", title)
        # A text's last place is its [SEP]: nothing of the same text follows it. The first of all is [CLS].
        query, title = (graph.add("Mul", text, self._moved(text, 0, 1)) for text in (query, title))
        return [graph.add("Cast", text, to=TensorProto.FLOAT) for text in (self._moved(query, 1, 0), title)]

    def _moved(self, text: str, before: int, behind: int) -> str:
        """All columns of [B, T] but the first, and so many of zeros around them."""
        graph = self.graph
        rest = graph.add("Slice", text, *map(graph.sizes, (1, self.config.max_tokens, 1)))
        return graph.add("Pad", rest, graph.sizes(0, before, 0, behind))

    def _found(self, words: str, own: str, side: str) -> str:
        """How well own words [B, T] of a text, ``words`` [B, T, D], are found among a side's neighbours: [B, 1]."""
        graph = self.graph
        others = graph.add("Transpose", self._directions(f"{side}_neighbour_ids"), perm=[0, 2, 1])
        there = graph.add("Greater", f"{side}_neighbour_weights", graph.number(0.0))
        cosines = graph.add("MatMul", words, others)
        cosines = graph.add("Where", graph.add("Unsqueeze", there, graph.sizes(1)), cosines, graph.number(0.0))
        highest = graph.add("Relu", graph.add("ReduceMax", cosines, graph.sizes(2), keepdims=0))
        total = graph.add("ReduceSum", graph.add("Mul", highest, own), graph.sizes(1), keepdims=1)
        count = graph.add("ReduceSum", own, graph.sizes(1), keepdims=1)
        return graph.add("Div", total, graph.add("Max", count, graph.number(1.0)))

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
        many = graph.add("Slice", "neighbour_counts", *map(graph.sizes, (1, COUNTS, 1)))
        apart = graph.add("Sub", "neighbours_alike", graph.number(TYPICAL))
        apart = graph.add("Where", graph.add("Greater", many, graph.number(0.0)), apart, graph.number(0.0))
        apart = graph.add("Mul", apart, graph.number(ALIKE_SCALE))
        read = graph.add("Concat", first, *(f"{side}_side" for side in SIDES), apart, axis=1)
        told = self.exactly("neighbours.out", graph.add("Tanh", self.exactly("neighbours.hidden", read)))
        gate = self.exactly("neighbours.gate", graph.add("Concat", score, "neighbour_counts", axis=1))
        told = graph.add("Mul", graph.add("Sigmoid", gate), told)
        there = graph.add("ReduceSum", many, graph.sizes(1), keepdims=1)
        return graph.add("Where", graph.add("Greater", there, graph.number(0.0)), told, graph.number(0.0))


def pair_link(
    tensors: Mapping[str, Floats], config: PairConfig, precision: Precision, number: int, exact: tuple[str, ...] = ()
) -> bytes:
    """The ONNX file of one layer of a cross-encoder, where -1 is the embeddings; the same arrays give the same bytes.

    Args:
        tensors: the weights by their names in a checkpoint of ``BertForSequenceClassification``, float32; those of
            core terms as ``core_embeddings.weight`` [5, D], those of neighbours as ``neighbours.hidden`` [D, 3 D + 2],
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
            outputs += _told(pairs, inputs)
    else:
        inputs.append(floats_of("rows", "R", width))
        rows = pairs.last_layer("rows") if last else pairs.bert.layer(f"encoder.layer.{number}", "rows", pairs.mask)
    if last:
        if config.neighbours:
            inputs += _neighbours(width) + [floats_of("neighbour_counts", "B", COUNTS)]
        rows, outputs = pairs.scored(rows), [floats_of("logit", "B")]
    pairs.bert.called(rows, outputs[0].name)
    return pairs.graph.file("cross-encoder", inputs, outputs)


def _neighbours(width: int) -> list[onnx.ValueInfoProto]:
    """What the first link says of the neighbours and the last one reads."""
    return [floats_of(f"{side}_side", "B", width) for side in SIDES] + [floats_of("neighbours_alike", "B", len(SIDES))]


def _told(pairs: _Pairs, inputs: list[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """The outputs that carry the neighbours to the last link; what they are made of joins the inputs."""
    for side in SIDES:
        inputs += [
            whole_numbers_of(f"{side}_neighbour_ids", "B", f"{side}_pieces"),
            floats_of(f"{side}_neighbour_weights", "B", f"{side}_pieces"),
        ]
        pairs.bert.called(pairs.side(side), f"{side}_side")
    pairs.bert.called(pairs.alike(), "neighbours_alike")
    return _neighbours(pairs.config.dimensions)


def pair_chain(
    tensors: Mapping[str, Floats], config: PairConfig, precision: Precision, exact: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """A cross-encoder as files to be run in the order of their names, as ``encoder_graph.encoder_chain``.

    The first also gives the neighbours' vectors as ``query_side`` and ``item_side``, float32 [B, D], and how like they
    are to the other text as ``neighbours_alike``, float32 [B, 2], since it holds the words; the last reads them.
    """
    return chain_of(config.layers, lambda layers: pair_link(tensors, config, precision, layers.start, exact))
