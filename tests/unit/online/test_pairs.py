import gc
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest

from headrace import BundleCorrupt, BundleMismatch
from headrace.models.bundle import replay, write_part
from headrace.models.core_terms import CoreTerms
from headrace.models.pair_graph import pair_chain
from headrace.models.pair_rows import PairNeighbours, probabilities
from headrace.online.pairs import PairScorer, answer, golden_requests, open_student
from headrace.online.scorer import Encoder
from tiny_pairs import tiny_config, tiny_pair_files, tiny_pair_tensors
from tiny_student import tiny_files

QUERIES = ["red shoe", "", "a b c", "mouse", "ünïcode", "RED  SHOE", "red shoes", "\ud800 x"]
TITLES = ["red shoes", "mouse", "d " * 30, "", "ÄÖ", "RED shoes", "a shoe [SEP] b", "x"]
TOLD = PairNeighbours((("red shoe", 0.4), ("mouse", 0.2)), (("shoes", 0.3),), 20)
TERMS = CoreTerms(frozenset({"mouse"}), frozenset({"shoe", "shoes"}), frozenset({"red"}))


def folder_of(repository: Path, changes: Mapping[str, bytes] | None = None, extras: bool = False) -> Path:
    files = {**tiny_pair_files(extras, extras), **({"core_terms.json": TERMS.to_json()} if extras else {})}
    return repository / "parts" / write_part(repository, "student", {**files, **(changes or {})})


def config(**changes: object) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(tiny_pair_files()["config.json"]) | changes)


def nan_link() -> bytes:
    tensors = {name: array * np.nan for name, array in tiny_pair_tensors().items()}
    return pair_chain(tensors, tiny_config(), "fp32")["model-02.onnx"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part that reads core terms and neighbours."""
    return folder_of(tmp_path_factory.mktemp("repository"), extras=True)


def test_probabilities_come_in_the_order_of_the_pairs(folder: Path) -> None:
    scorer = PairScorer(folder)
    scores, logits = scorer.score(QUERIES, TITLES), scorer.logits(QUERIES, TITLES)
    assert scores.shape == logits.shape == (len(QUERIES),)
    assert scores.dtype == logits.dtype == np.float32
    np.testing.assert_array_equal(scores, probabilities(tiny_config(), logits))
    for query, title, logit in zip(QUERIES, TITLES, logits, strict=True):
        np.testing.assert_allclose(scorer.logits([query], [title]), [logit], atol=1e-6)
    assert logits[0] == logits[5]  # case and blanks are not read
    assert len(set(logits.tolist())) == len(QUERIES) - 1


def test_no_pairs_are_no_scores(folder: Path) -> None:
    assert PairScorer(folder).score([], []).shape == (0,)


def test_texts_and_neighbours_of_unlike_number_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        PairScorer(folder).score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="1 neighbours of 2 pairs"):
        PairScorer(folder).score(["a", "b"], ["a", "b"], [None])


def test_threads_change_nothing_and_end_with_the_scorer(folder: Path) -> None:
    queries = [f"{query} {number}" for number in range(20) for query in QUERIES]
    before = set(threading.enumerate())
    scorer = PairScorer(folder, threads=3, batch_tokens=64)
    alone = PairScorer(folder, batch_tokens=64)
    np.testing.assert_array_equal(scorer.score(queries, TITLES * 20), alone.score(queries, TITLES * 20))
    started = set(threading.enumerate()) - before
    assert started
    del scorer
    gc.collect()
    for thread in started:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in started)


def test_many_threads_may_score_at_once(rich: Path) -> None:
    scorer, found = PairScorer(rich), [np.empty(0, np.float32)] * 8

    def run(at: int) -> None:
        found[at] = scorer.score(QUERIES, TITLES, [TOLD] * len(QUERIES))

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scores in found:
        np.testing.assert_array_equal(scores, found[0])


def test_neighbours_are_read_where_the_part_reads_them(folder: Path, rich: Path) -> None:
    given = [TOLD if place % 2 else None for place in range(len(QUERIES))]
    scorer = PairScorer(rich)
    plain, told = scorer.logits(QUERIES, TITLES), scorer.logits(QUERIES, TITLES, given)
    assert (plain != told).tolist() == [one is not None for one in given]
    poor = PairScorer(folder)
    np.testing.assert_array_equal(poor.logits(QUERIES, TITLES, given), poor.logits(QUERIES, TITLES))


def test_core_terms_are_read_where_the_part_reads_them(tmp_path: Path, rich: Path) -> None:
    rows = PairScorer(rich).tokens(["red shoe"], ["mouse"])
    assert rows.kinds == ((0, 3, 1, 0, 2, 0),)
    nobody = CoreTerms(frozenset(), frozenset(), frozenset()).to_json()
    other = PairScorer(folder_of(tmp_path, {"core_terms.json": nobody}, extras=True))
    assert other.logits(["red shoe"], ["mouse"]) != PairScorer(rich).logits(["red shoe"], ["mouse"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config.json": b"{"}, "cannot be read"),
        ({"config.json": b'{"kind": "\xff"}'}, "cannot be read"),
        ({"config.json": config(kind="bi-encoder-cosine")}, "is a bi-encoder-cosine"),
        ({"config.json": config(max_tokens=0)}, "impossible sizes"),
        ({"config.json": config(max_tokens=17)}, "does not run"),
        ({"config.json": config(core_terms=True)}, r"no file core_terms\.json"),
        (
            {"config.json": config(core_terms=True), "core_terms.json": b"[]"},
            r"core_terms\.json of part .* cannot be used",
        ),
        ({"config.json": config(core_terms=True), "core_terms.json": TERMS.to_json()}, "does not read core_ids"),
        ({"config.json": config(neighbours=True)}, "does not read item_neighbour_ids, item_neighbour_weights, neigh"),
        ({"vocab.txt": tiny_pair_files()["vocab.txt"] + b"boot\n"}, "does not run"),
        ({"vocab.txt": b"red\nshoe\n"}, "not a BERT vocabulary"),
        ({"model-02.onnx": nan_link()}, "no logits"),
        ({"model-02.onnx": b"\x00 no model"}, "cannot be opened"),
        ({"model-02.onnx": tiny_pair_files()["model-02.onnx"][:-100]}, "cannot be opened"),
        ({"model-03.onnx": tiny_pair_files()["model-02.onnx"]}, "inputs or outputs"),  # two ends
        ({"model-02.onnx": tiny_pair_files(neighbours=True)["model-02.onnx"]}, "inputs or outputs"),
    ],
)
def test_a_part_that_is_no_cross_encoder_is_a_mismatch(tmp_path: Path, changes: dict[str, bytes], reason: str) -> None:
    with pytest.raises(BundleMismatch, match=reason):
        PairScorer(folder_of(tmp_path, changes))


def test_a_part_with_a_flipped_byte_is_corrupt(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    model = folder / "model-01.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"model-01\.onnx differs"):
        open_student(folder)


@pytest.mark.parametrize("extras", [False, True])
def test_golden_requests_are_answered_alike_and_another_student_is_noticed(tmp_path: Path, extras: bool) -> None:
    scorer = PairScorer(folder_of(tmp_path, extras=extras))
    golden = golden_requests(scorer, "red shoe", TITLES[:7], [TOLD, *[None] * 5, TOLD] if extras else ())
    decoded = msgspec.json.decode(msgspec.json.encode(golden[0].request), type=dict[str, object])
    assert set(decoded) == {"query", "texts", *(("neighbours",) if extras else ())}
    assert answer(scorer, decoded) == list(golden[0].scores)
    assert replay(golden, {"student": lambda request: answer(scorer, request)}) == 1
    other = PairScorer(folder_of(tmp_path, tiny_pair_files(extras, extras, seed=1), extras))
    with pytest.raises(BundleMismatch, match="does not run the part as it was made"):
        replay(golden, {"student": lambda request: answer(other, request)})


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({}, "has no query and texts"),
        ({"query": "x"}, "has no query and texts"),
        ({"query": 1, "texts": []}, "has no query and texts"),
        ({"query": "x", "texts": [1]}, "has no query and texts"),
        ({"query": "x", "texts": ["y"], "neighbours": [3]}, "has no query and texts"),
        ({"query": "x", "texts": ["y"], "neighbours": [None, None]}, "neighbours of other texts"),
    ],
)
def test_a_golden_request_of_another_shape_is_a_mismatch(
    folder: Path, request_: dict[str, object], reason: str
) -> None:
    with pytest.raises(BundleMismatch, match=reason):
        answer(PairScorer(folder), request_)


def test_a_student_is_opened_as_what_its_config_says(tmp_path: Path, folder: Path) -> None:
    assert isinstance(open_student(folder, 2), PairScorer)
    assert isinstance(open_student(tmp_path / "parts" / write_part(tmp_path, "student", tiny_files())), Encoder)
    for content in (b"{", b'{"kind": "\xff"}', b"[" * 10_000, b"{}"):
        with pytest.raises(BundleMismatch, match="cannot be read"):
            open_student(folder_of(tmp_path, {"config.json": content}))
    with pytest.raises(BundleMismatch, match="is a tri-encoder"):
        open_student(folder_of(tmp_path, {"config.json": config(kind="tri-encoder")}))
    with pytest.raises(BundleCorrupt, match="is missing"):
        open_student(tmp_path / "parts" / ("0" * 64))
