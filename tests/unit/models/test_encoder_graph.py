from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import bert
from headrace.models.encoder_graph import encoder_chain, encoder_model
from headrace.models.graph_nodes import Precision, weight_columns
from headrace.models.parts import write_part
from headrace.online.scorer import Encoder, padded
from tiny_student import SHAPE, WORDS, tiny_files, tiny_tensors

RANDOM = np.random.default_rng(7)
ROWS = [[2, *RANDOM.integers(4, len(WORDS), length).tolist(), 3] for length in (0, 1, 5, 14, 3)]


def vectors(model: bytes, rows: list[list[int]], width: int = 0) -> bert.Floats:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ids, mask = padded(rows, width)
    found: bert.Floats = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return found


def test_the_fp32_graph_is_the_encoder() -> None:
    wanted = np.stack([bert.embedding(tiny_tensors(), SHAPE, row) for row in ROWS])
    np.testing.assert_allclose(vectors(tiny_files("fp32")["model.onnx"], ROWS), wanted, atol=1e-5)


def test_the_int8_graph_is_close_to_it() -> None:
    fp32, int8 = (vectors(tiny_files(precision)["model.onnx"], ROWS) for precision in ("fp32", "int8"))
    assert ((fp32 * int8).sum(axis=1) > 0.995).all()
    assert (np.abs(fp32 - int8) > 1e-4).any()  # else it is no int8 at all


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_know_nothing_of_each_other(precision: Precision) -> None:
    model = tiny_files(precision)["model.onnx"]
    together = vectors(model, ROWS, SHAPE.max_tokens)
    for row, vector in zip(ROWS, together, strict=True):
        np.testing.assert_allclose(vectors(model, [row])[0], vector, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_the_chain_is_the_whole(tmp_path: Path) -> None:
    chain = encoder_chain(tiny_tensors(), SHAPE, "int8")
    assert list(chain) == ["model-00.onnx", "model-01.onnx", "model-02.onnx"]
    rest = {name: content for name, content in tiny_files().items() if name != "model.onnx"}
    found = []
    for files in (chain | rest, tiny_files()):
        encoder = Encoder(tmp_path / "parts" / write_part(tmp_path, "student", files))
        found.append(encoder.run(*padded(ROWS)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_equal_weights_give_equal_bytes() -> None:
    assert encoder_model(tiny_tensors(), SHAPE, "int8") == tiny_files()["model.onnx"]
    assert encoder_model(tiny_tensors(1), SHAPE, "int8") != tiny_files()["model.onnx"]


def test_the_int8_file_holds_no_large_float_but_the_positions() -> None:
    model = onnx.load_model_from_string(tiny_files()["model.onnx"])
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert {tensor.name for tensor in floats if np.prod(tensor.dims) > 4 * SHAPE.dimensions} == {"positions"}


def test_a_weight_that_is_missing_is_a_key_error() -> None:
    tensors = dict(tiny_tensors())
    del tensors["encoder.layer.1.output.dense.bias"]
    with pytest.raises(KeyError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        encoder_model(tensors, SHAPE, "int8")


def test_columns_have_their_own_scale() -> None:
    weight = np.array([[0.5, 0.0, -100.0], [-0.25, 0.0, 50.0]], np.float32)
    steps, scales = weight_columns(weight)
    assert steps.tolist() == [[127, 0, -127], [-64, 0, 64]]
    np.testing.assert_allclose(steps * scales, weight, atol=np.abs(weight).max(axis=0).max() / 254)
