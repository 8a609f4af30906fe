import gc
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest

from headrace import BundleCorrupt, BundleMismatch
from headrace.models.bundle import replay, write_part
from headrace.models.encoder_graph import encoder_chain, encoder_model
from headrace.models.onnx_chain import products_overflow
from headrace.online.scorer import Encoder, answer, batches, cosine, golden_requests, padded
from tiny_student import SHAPE, tiny_files, tiny_tensors

TEXTS = ["red shoe", "", "a b c d e f g h i j k l m n o p", "mouse", "ünïcode ÄÖ", "RED  SHOE", "red shoes", "\ud800 x"]


def folder_of(repository: Path, changes: Mapping[str, bytes] | None = None) -> Path:
    return repository / "parts" / write_part(repository, "student", {**tiny_files(), **(changes or {})})


def config(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(tiny_files()["config.json"]) | changes)


def chain() -> dict[str, bytes]:
    return encoder_chain(tiny_tensors(), SHAPE, "int8")


def nan_model() -> bytes:
    return encoder_model({name: array * np.nan for name, array in tiny_tensors().items()}, SHAPE, "fp32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("repository"))


def test_vectors_come_in_the_order_of_the_texts(folder: Path) -> None:
    vectors = Encoder(folder).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), SHAPE.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(Encoder(folder).encode([text])[0], vector, atol=1e-6)
    np.testing.assert_allclose(vectors[0], vectors[5], atol=1e-6)


def test_no_texts_are_no_vectors(folder: Path) -> None:
    assert Encoder(folder).encode([]).shape == (0, SHAPE.dimensions)


def test_threads_change_nothing_and_end_with_the_encoder(folder: Path) -> None:
    texts = [f"{text} {number}" for number in range(20) for text in TEXTS]
    before = set(threading.enumerate())
    encoder = Encoder(folder, threads=3, batch_tokens=64)
    np.testing.assert_array_equal(encoder.encode(texts), Encoder(folder, batch_tokens=64).encode(texts))
    started = set(threading.enumerate()) - before
    assert started
    del encoder
    gc.collect()
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)


def test_long_texts_are_cut_before_they_cost(folder: Path) -> None:
    encoder = Encoder(folder)
    long, cut = encoder.tokens(["a " * 1_000_000, "a " * SHAPE.max_tokens])
    assert long == cut
    assert len(long) == SHAPE.max_tokens


def test_the_names_of_special_tokens_are_plain_text(folder: Path) -> None:
    words = Encoder(folder).tokens(["[SEP]"])[0]
    assert words[0] == 2
    assert 3 not in words[1:-1]
    assert words[-1] == 3


def test_many_threads_may_encode_at_once(folder: Path) -> None:
    encoder, found = Encoder(folder), [np.empty(0, np.float32)] * 8

    def run(at: int) -> None:
        found[at] = encoder.encode(TEXTS)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vectors in found:
        np.testing.assert_array_equal(vectors, found[0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config.json": b"{"}, "cannot be read"),
        ({"config.json": config(kind="cross-encoder")}, "is a cross-encoder"),
        ({"config.json": config(max_tokens=0)}, "impossible sizes"),
        ({"config.json": config(max_tokens=17)}, "does not run"),
        ({"config.json": config(dimensions=16)}, "no unit vectors"),
        ({"vocab.txt": tiny_files()["vocab.txt"] + b"boot\n"}, "does not run"),
        ({"model.onnx": nan_model()}, "no unit vectors"),
        ({"vocab.txt": b"red\nshoe\n"}, "not a BERT vocabulary"),
        ({"vocab.txt": b"\xff\xfe"}, "not a BERT vocabulary"),
        ({"model.onnx": b"\x00 no model"}, "cannot be opened"),
        ({"model.onnx": tiny_files()["model.onnx"].replace(b"attention_mask", b"attention_MASK")}, "inputs or outputs"),
        ({"model.onnx": tiny_files()["model.onnx"][:-100]}, "cannot be opened"),
        ({"model-0.onnx": tiny_files()["model.onnx"]}, "inputs or outputs"),  # two ends
        ({"model.onnx": chain()["model-01.onnx"]}, "inputs or outputs"),  # no beginning
    ],
)
def test_a_part_that_is_no_student_is_a_mismatch(tmp_path: Path, changes: dict[str, bytes], reason: str) -> None:
    with pytest.raises(BundleMismatch, match=reason):
        Encoder(folder_of(tmp_path, changes))


def test_a_part_without_a_model_is_a_mismatch(tmp_path: Path) -> None:
    files = {name: content for name, content in tiny_files().items() if name != "model.onnx"}
    digest = write_part(tmp_path, "student", files)
    with pytest.raises(BundleMismatch, match=r"has no model\.onnx"):
        Encoder(tmp_path / "parts" / digest)


def test_a_part_with_a_flipped_byte_is_corrupt(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"model\.onnx differs"):
        Encoder(folder)


def test_golden_requests_are_answered_alike_and_another_student_is_noticed(tmp_path: Path, folder: Path) -> None:
    encoder = Encoder(folder)
    golden = golden_requests(encoder, "red shoe", TEXTS[1:7])
    decoded = msgspec.json.decode(msgspec.json.encode(golden[0].request), type=dict[str, object])
    assert answer(encoder, decoded) == list(golden[0].scores)
    assert replay(golden, {"student": lambda request: answer(encoder, request)}) == 1
    other = Encoder(folder_of(tmp_path, tiny_files(seed=1)))
    with pytest.raises(BundleMismatch, match="does not run the part as it was made"):
        replay(golden, {"student": lambda request: answer(other, request)})


@pytest.mark.parametrize("request_", [{}, {"query": "x"}, {"query": 1, "texts": []}, {"query": "x", "texts": [1]}])
def test_a_golden_request_of_another_shape_is_a_mismatch(folder: Path, request_: dict[str, object]) -> None:
    with pytest.raises(BundleMismatch, match="has no query and texts"):
        answer(Encoder(folder), request_)


def test_cosine_of_what_has_no_text_is_nan() -> None:
    items = np.array([[1, 0], [np.nan, np.nan], [0.6, 0.8]], np.float32)
    scores = cosine(np.array([0, 1], np.float32), items)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, np.array([0, np.nan, 0.8], np.float32))
    assert cosine(items[0], np.empty((0, 2), np.float32)).shape == (0,)


def test_padding_is_behind_the_row() -> None:
    ids, mask = padded([[2, 5, 3], [2, 3]], 4)
    assert ids.tolist() == [[2, 5, 3, 0], [2, 3, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_batches_are_sorted_and_cut() -> None:
    assert [cut.tolist() for cut in batches([5, 1, 9, 2, 30], 10)] == [[1, 3], [0], [2], [4]]
    assert batches([], 10) == []


def test_processors_without_vnni_multiply_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx2 avx512f\n", encoding="ascii")
    assert products_overflow(cpuinfo)
    cpuinfo.write_text("flags : fpu avx2 avx512f avx512_vnni\n", encoding="ascii")
    assert not products_overflow(cpuinfo)
    assert products_overflow(tmp_path / "absent")

    entries: list[tuple[str, str]] = []
    options = onnxruntime.SessionOptions

    class Spied(options):  # type: ignore[misc, valid-type]
        def add_session_config_entry(self, key: str, value: str) -> None:
            entries.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(onnxruntime, "SessionOptions", Spied)
    for overflow in (True, False):
        monkeypatch.setattr("headrace.models.onnx_chain.products_overflow", lambda overflow=overflow: overflow)
        Encoder(folder_of(tmp_path))
    assert entries == [("session.x64quantprecision", "1")]


def test_the_runtime_neither_writes_into_home_nor_tells_its_maker(tmp_path: Path) -> None:
    kept = {
        name: value for name, value in os.environ.items() if name not in {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    }
    program = "import headrace.online.scorer, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"
    assert list(tmp_path.rglob("*")) == []
