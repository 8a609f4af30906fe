"""Small bundles that take milliseconds to make and to open, for tests of serving and swapping."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.bundle import GoldenRequest, claim_epoch, publish, write_bundle, write_part
from headrace.models.champion import newest_epoch
from headrace.models.encoder_graph import EncoderShape, encoder_model
from headrace.models.features import FEATURES
from headrace.models.head import INITIAL, Head
from headrace.models.pair_rows import written
from headrace.online import pairs
from headrace.online.pairs import PairScorer
from headrace.online.scorer import Encoder, golden_requests
from tiny_pairs import tiny_config, tiny_pair_files

WORDS = ["red", "blue", "green", "shoe", "shoes", "boot", "coat", "warm", "cold", "rain", "hat", "the", "of", "for"]
LETTERS = [chr(number) for number in range(ord("a"), ord("z") + 1)] + list("0123456789")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
SHAPE = EncoderShape(layers=1, heads=2, dimensions=32, max_tokens=64, epsilon=1e-12)


def tensors(seed: int, shape: EncoderShape = SHAPE) -> dict[str, NDArray[np.float32]]:
    """Random weights of the names that a BERT checkpoint has."""
    random = np.random.default_rng(seed)
    wide = 4 * shape.dimensions

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return random.normal(0, 0.5, (rows, columns)).astype(np.float32)

    def norm(name: str) -> dict[str, NDArray[np.float32]]:
        ones, zeros = np.ones(shape.dimensions, np.float32), np.zeros(shape.dimensions, np.float32)
        return {f"{name}.weight": ones, f"{name}.bias": zeros}

    def dense(name: str, outputs: int, inputs: int) -> dict[str, NDArray[np.float32]]:
        return {f"{name}.weight": matrix(outputs, inputs), f"{name}.bias": np.zeros(outputs, np.float32)}

    found = {
        "embeddings.word_embeddings.weight": matrix(len(VOCABULARY), shape.dimensions),
        "embeddings.position_embeddings.weight": matrix(shape.max_tokens, shape.dimensions),
        "embeddings.token_type_embeddings.weight": matrix(2, shape.dimensions),
        **norm("embeddings.LayerNorm"),
    }
    for number in range(shape.layers):
        layer = f"encoder.layer.{number}"
        for part in ("query", "key", "value"):
            found |= dense(f"{layer}.attention.self.{part}", shape.dimensions, shape.dimensions)
        found |= dense(f"{layer}.attention.output.dense", shape.dimensions, shape.dimensions)
        found |= norm(f"{layer}.attention.output.LayerNorm")
        found |= dense(f"{layer}.intermediate.dense", wide, shape.dimensions)
        found |= dense(f"{layer}.output.dense", shape.dimensions, wide)
        found |= norm(f"{layer}.output.LayerNorm")
    return found


def write_student(repository: Path, seed: int) -> str:
    """The digest of a student part with random weights."""
    config = {
        "kind": "bi-encoder-cosine",
        "dimensions": SHAPE.dimensions,
        "max_tokens": SHAPE.max_tokens,
        "lowercase": True,
    }
    files = {
        "model.onnx": encoder_model(tensors(seed), SHAPE, "int8"),
        "vocab.txt": "\n".join(VOCABULARY).encode(),
        "config.json": msgspec.json.encode(config),
    }
    return write_part(repository, "student", files)


def write_pair_student(
    repository: Path, seed: int, teacher: str = "", calibration_error: float | None = None, neighbours: bool = False
) -> str:
    """The digest of a cross-encoder's part with random weights, and what it says of its teacher and its scale."""
    remarks: dict[str, object] = {"teacher": teacher} if teacher else {}
    if calibration_error is not None:
        remarks["calibration_error"] = calibration_error
    files = {**tiny_pair_files(False, neighbours, seed=seed)}
    files["config.json"] = written(tiny_config(neighbours=neighbours), remarks)
    return write_part(repository, "student", files)


def pair_golden(repository: Path, digest: str) -> list[GoldenRequest]:
    """Golden requests to a cross-encoder's part."""
    scorer = PairScorer(repository / "parts" / digest)
    return pairs.golden_requests(scorer, "red shoe", ["red shoes", "a warm coat for the rain"])


def student_golden(repository: Path, digest: str) -> list[GoldenRequest]:
    """Golden requests to a student part."""
    encoder = Encoder(repository / "parts" / digest)
    return golden_requests(encoder, "red shoe", ["red shoes", "a warm coat for the rain"])


def head(seed: int = 0) -> Head:
    """A head; 0 is the one that has learned nothing, others differ a little."""
    random = np.random.default_rng(seed)
    return Head.cold(initial={name: weight + (seed and random.normal(0, 0.01)) for name, weight in INITIAL.items()})


def write_head(repository: Path, made: Head) -> str:
    """The digest of a head part."""
    return write_part(repository, "head", {"head.bin": made.to_bytes()})


def head_golden(made: Head) -> list[GoldenRequest]:
    """A golden request to a head."""
    rows = np.random.default_rng(1).uniform(-1, 1, (3, len(FEATURES))).astype(np.float16).astype(np.float32)
    scores = tuple(float(score) for score in made.score(rows))
    return [GoldenRequest(part="head", request={"features": rows.tolist()}, scores=scores)]


def write_tiny(repository: Path, head_seed: int = 0, student_seed: int | None = None) -> str:
    """The version of a bundle of a small head and, with a seed, a small student."""
    made = head(head_seed)
    parts, golden = {"head": write_head(repository, made)}, head_golden(made)
    if student_seed is not None:
        parts["student"] = write_student(repository, student_seed)
        golden += student_golden(repository, parts["student"])
    return write_bundle(repository, parts, golden, {"head": head_seed})


def write_tiny_pairs(repository: Path, head_seed: int = 0, student_seed: int = 0, **remarks: Any) -> str:
    """The version of a bundle of a small head and a small cross-encoder."""
    made = head(head_seed)
    student = write_pair_student(repository, student_seed, **remarks)
    golden = head_golden(made) + pair_golden(repository, student)
    return write_bundle(repository, {"head": write_head(repository, made), "student": student}, golden)


def publish_tiny_pairs(repository: Path, head_seed: int = 0, student_seed: int = 0, **remarks: Any) -> str:
    """The same, made the champion."""
    version = write_tiny_pairs(repository, head_seed, student_seed, **remarks)
    publish(repository, version, newest_epoch(repository) or claim_epoch(repository))
    return version


def publish_tiny(repository: Path, head_seed: int = 0, student_seed: int | None = None) -> str:
    """The same, made the champion."""
    version = write_tiny(repository, head_seed, student_seed)
    publish(repository, version, newest_epoch(repository) or claim_epoch(repository))
    return version
