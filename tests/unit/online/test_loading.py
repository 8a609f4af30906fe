"""A bundle serves only after every check; else the model before goes on and the reason is known."""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headrace.models.bundle import GoldenRequest, claim_epoch, write_bundle, write_part
from headrace.models.champion import Champion, place_champion
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.models.pair_rows import written
from headrace.online.catalogue import Catalogue
from headrace.online.ladder import PairCosts
from headrace.online.loading import Loader, LoadingConfig, Watcher
from headrace.online.meters import new_meters
from headrace.online.opening import Opened
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer, open_student
from headrace.online.registry import Registry
from headrace.online.student import Student
from headrace.online.worker import Model
from headrace.streams.events import ItemChanged
from headrace.streams.score_cache import Accepted, part_name
from tiny_models import (
    head,
    head_golden,
    pair_golden,
    publish_tiny,
    publish_tiny_pairs,
    student_golden,
    write_head,
    write_pair_student,
    write_student,
    write_tiny,
)
from tiny_pairs import tiny_config, tiny_pair_files


class Opener:
    """Opens students and counts them."""

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def __call__(self, folder: Path) -> Opened:
        self.folders.append(folder)
        return open_student(folder)


@pytest.fixture
def opened() -> Opener:
    return Opener()


@pytest.fixture
def watcher(tmp_path: Path, opened: Opener) -> Watcher:
    catalogue = Catalogue()
    catalogue.apply([(ItemChanged("a", 1, "red shoe", "", {}, None), None)])
    loader = Loader(LoadingConfig(tmp_path), opened, catalogue)
    registry: Registry[Model] = Registry()
    return Watcher(registry, loader, new_meters())


def serving(watcher: Watcher) -> str:
    model = watcher.registry.current()
    assert model is not None
    return model.version


def force_champion(repository: Path, version: str) -> None:
    """As a publisher does that verified the bundle before it was damaged."""
    place_champion(repository, Champion(version, 1))


def test_an_empty_repository_is_no_fault(watcher: Watcher) -> None:
    assert not watcher.look()
    assert watcher.registry.current() is None
    assert watcher.refusal is None


def test_a_new_champion_serves_and_its_student_is_warm(watcher: Watcher, tmp_path: Path) -> None:
    version = publish_tiny(tmp_path, 0, student_seed=1)
    assert watcher.look()
    assert not watcher.look()
    with watcher.registry.acquire() as model:
        assert model.version == version
        assert isinstance(model.student, Student)
        texts = watcher.loader.catalogue.texts(["a"])
        assert model.student.vectors.rows(["a"], texts)[0] >= 0


def test_a_refreshed_head_opens_no_student_again(watcher: Watcher, tmp_path: Path, opened: Opener) -> None:
    publish_tiny(tmp_path, 0, student_seed=1)
    watcher.look()
    with watcher.registry.acquire() as before:
        for seed in range(1, 6):
            publish_tiny(tmp_path, seed, student_seed=1)
            assert watcher.look()
        after = watcher.registry.current()
        assert after is not None and after.student is before.student and after.version != before.version
    assert len(opened.folders) == 1
    publish_tiny(tmp_path, 6, student_seed=2)
    assert watcher.look()
    assert len(opened.folders) == 2
    watcher.look()
    assert watcher.loader.shelf.digests() == {watcher.registry.current().parts["student"]}  # type: ignore[union-attr]


def damaged(repository: Path, version: str, kind: str) -> Path:
    manifest = json.loads((repository / "bundles" / version / "manifest.json").read_bytes())
    name = {"student": "model.onnx", "head": "head.bin"}[kind]
    return repository / "parts" / str(manifest["parts"][kind]) / name


def bit_flipped(repository: Path, version: str) -> None:
    path = damaged(repository, version, "student")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def half_copied(repository: Path, version: str) -> None:
    path = damaged(repository, version, "student")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def part_missing(repository: Path, version: str) -> None:
    shutil.rmtree(damaged(repository, version, "head").parent)


def manifest_missing(repository: Path, version: str) -> None:
    shutil.rmtree(repository / "bundles" / version)


@pytest.mark.parametrize("damage", [bit_flipped, half_copied, part_missing, manifest_missing])
def test_a_damaged_bundle_is_refused_and_taken_once_it_is_whole(
    watcher: Watcher, tmp_path: Path, damage: Callable[[Path, str], None]
) -> None:
    first = publish_tiny(tmp_path, 0, student_seed=1)
    watcher.look()
    second = write_tiny(tmp_path, 1, student_seed=2)
    whole = tmp_path.parent / f"{tmp_path.name}-whole"
    shutil.copytree(tmp_path, whole)
    damage(tmp_path, second)
    force_champion(tmp_path, second)
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and watcher.refusal.version == second
    assert watcher.meters.registry.get_sample_value("headrace_model_swap_total", {"result": "corrupt"}) == 1
    assert not watcher.look()  # not tried again at once
    assert watcher.meters.registry.get_sample_value("headrace_model_swap_total", {"result": "corrupt"}) == 1
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, ignore=lambda *_: ["champion.json"])
    assert watcher.look()  # its files changed: the copy was completed
    assert serving(watcher) == second
    assert watcher.refusal is None


def other_format(repository: Path) -> str:
    part = write_part(repository, "head", {"head.bin": b"\x63" + head().to_bytes()[1:]})
    return write_bundle(repository, {"head": part}, [])


def other_features(repository: Path) -> str:
    made = Head.cold(names=FEATURES[:-1])
    return write_bundle(repository, {"head": write_part(repository, "head", {"head.bin": made.to_bytes()})}, [])


def no_head(repository: Path) -> str:
    return write_bundle(repository, {"student": write_student(repository, 5)}, [])


def other_golden_head(repository: Path) -> str:
    return write_bundle(repository, {"head": write_head(repository, head(3))}, head_golden(head(0)) * 3)


def other_golden_student(repository: Path) -> str:
    parts = {"head": write_head(repository, head()), "student": write_student(repository, 6)}
    golden = student_golden(repository, write_student(repository, 7))
    return write_bundle(repository, parts, golden)


def no_onnx(repository: Path) -> str:
    files = {"model.onnx": b"not a graph", "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]", "config.json": CONFIG}
    parts = {"head": write_head(repository, head()), "student": write_part(repository, "student", files)}
    return write_bundle(repository, parts, [])


def unknown_golden(repository: Path) -> str:
    golden = [GoldenRequest("head", {"features": [[1.0]]}, (0.5,))]
    return write_bundle(repository, {"head": write_head(repository, head())}, golden)


CONFIG = b'{"kind":"bi-encoder-cosine","dimensions":32,"max_tokens":64,"lowercase":true}'


@pytest.mark.parametrize(
    "wrong",
    [other_format, other_features, no_head, other_golden_head, other_golden_student, no_onnx, unknown_golden],
)
def test_a_whole_bundle_that_may_not_serve_is_refused(
    watcher: Watcher, tmp_path: Path, wrong: Callable[[Path], str]
) -> None:
    first = publish_tiny(tmp_path, 0, student_seed=1)
    watcher.look()
    version = wrong(tmp_path)
    force_champion(tmp_path, version)
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and watcher.refusal.version == version and watcher.refusal.reason
    assert watcher.meters.registry.get_sample_value("headrace_model_swap_total", {"result": "mismatch"}) == 1
    assert watcher.loader.shelf.digests() == {watcher.registry.current().parts["student"]}  # type: ignore[union-attr]
    force_champion(tmp_path, first)  # somebody turns back
    assert not watcher.look()
    assert watcher.refusal is None


def student_of(watcher: Watcher) -> PairStudent:
    model = watcher.registry.current()
    assert model is not None and isinstance(model.student, PairStudent)
    return model.student


def test_a_cross_encoder_serves_and_says_whose_scores_it_may_use(watcher: Watcher, tmp_path: Path) -> None:
    version = publish_tiny_pairs(tmp_path, 0, student_seed=1, teacher="smollm2", calibration_error=0.04)
    assert watcher.look()
    student, model = student_of(watcher), watcher.registry.current()
    assert model is not None and model.version == version
    assert student.accepted == Accepted(part_name(model.parts["student"]), part_name("smollm2"))
    assert student.calibration_error == 0.04
    assert student.max_tokens == 16
    assert student.costs.token_s != PairCosts().token_s  # it has worked


def test_a_new_cross_encoder_begins_with_the_pairs_that_were_asked_for_last(watcher: Watcher, tmp_path: Path) -> None:
    publish_tiny_pairs(tmp_path, 0, student_seed=1)
    watcher.look()
    before, text = student_of(watcher), watcher.loader.catalogue.texts(["a"])[0]
    assert text is not None
    for query, item in (("red hat", "a"), ("red hat", "gone"), ("shoe", "a")):
        before.scores.put(query, item, text.stamp, 0.5)
    publish_tiny_pairs(tmp_path, 0, student_seed=2)
    watcher.look()
    after = student_of(watcher)
    assert after is not before
    assert sorted(after.scores.recent(10)) == [("red hat", "a"), ("shoe", "a")]
    assert after.scores.of("shoe")["a"][1] != 0.5  # its own
    watcher.look()
    assert before.held() == (0, 0)  # closed


def test_students_of_both_kinds_follow_each_other(watcher: Watcher, tmp_path: Path) -> None:
    kinds = []
    for publish in (publish_tiny, publish_tiny_pairs, publish_tiny):
        publish(tmp_path, 0, student_seed=3)
        assert watcher.look()
        kinds.append(type(watcher.registry.current().student))  # type: ignore[union-attr]
    assert kinds == [Student, PairStudent, Student]
    watcher.look()
    assert len(watcher.loader.shelf.digests()) == 1


def other_golden_pairs(repository: Path) -> str:
    parts = {"head": write_head(repository, head()), "student": write_pair_student(repository, 6)}
    return write_bundle(repository, parts, pair_golden(repository, write_pair_student(repository, 7)))


def golden_of_the_other_kind(repository: Path) -> str:
    parts = {"head": write_head(repository, head()), "student": write_pair_student(repository, 6)}
    return write_bundle(repository, parts, student_golden(repository, write_student(repository, 7)))


def wrong_remarks(repository: Path) -> str:
    files = {**tiny_pair_files(), "config.json": written(tiny_config(), {"teacher": 7})}
    parts = {"head": write_head(repository, head()), "student": write_part(repository, "student", files)}
    return write_bundle(repository, parts, [])


@pytest.mark.parametrize("wrong", [other_golden_pairs, golden_of_the_other_kind, wrong_remarks])
def test_a_cross_encoder_that_may_not_serve_is_refused(
    watcher: Watcher, tmp_path: Path, wrong: Callable[[Path], str]
) -> None:
    first = publish_tiny_pairs(tmp_path, 0, student_seed=1)
    watcher.look()
    force_champion(tmp_path, wrong(tmp_path))
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and watcher.refusal.reason
    assert watcher.meters.registry.get_sample_value("headrace_model_swap_total", {"result": "mismatch"}) == 1


def test_a_cross_encoder_of_nan_is_refused(watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = publish_tiny(tmp_path, 0)
    watcher.look()
    parts = {"head": write_head(tmp_path, head()), "student": write_pair_student(tmp_path, 8)}
    monkeypatch.setattr(PairScorer, "score", lambda self, queries, titles: np.full(len(queries), np.nan, np.float32))
    force_champion(tmp_path, write_bundle(tmp_path, parts, []))
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and "probabilities" in watcher.refusal.reason


def test_a_head_of_nan_is_refused(watcher: Watcher, tmp_path: Path) -> None:
    first = publish_tiny(tmp_path, 0)
    watcher.look()
    made = head()
    broken = bytearray(made.to_bytes())
    broken[-8:] = np.array([np.nan], "<f8").tobytes()
    version = write_bundle(tmp_path, {"head": write_part(tmp_path, "head", {"head.bin": bytes(broken)})}, [])
    force_champion(tmp_path, version)
    assert not watcher.look()
    assert serving(watcher) == first


def test_a_student_of_nan_is_refused(watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = publish_tiny(tmp_path, 0)
    watcher.look()
    version = write_tiny(tmp_path, 0, student_seed=8)
    monkeypatch.setattr(
        "headrace.online.scorer.Encoder.encode", lambda self, texts: np.full((len(texts), 32), np.nan, np.float32)
    )
    force_champion(tmp_path, version)
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and "nan" in watcher.refusal.reason


def test_a_pointer_that_cannot_be_read_changes_nothing(watcher: Watcher, tmp_path: Path) -> None:
    first = publish_tiny(tmp_path, 0)
    watcher.look()
    (tmp_path / "champion.json").write_bytes(b'{"content":{')
    assert not watcher.look()
    assert serving(watcher) == first


def test_a_refused_version_is_tried_again_more_and_more_seldom(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    force_champion(tmp_path, other_format(tmp_path))
    now = [1_000.0]
    monkeypatch.setattr("headrace.online.loading.time.monotonic", lambda: now[0])
    tried = []
    for _ in range(3_000):
        watcher.look()
        total = watcher.meters.registry.get_sample_value("headrace_model_swap_total", {"result": "mismatch"})
        tried.append(total)
        now[0] += 0.2
    assert 8 <= tried[-1] <= 20  # type: ignore[operator] # 600 s: at 1, 3, 7, 15, 31, 63, 123, then every minute


def test_a_failure_that_is_no_bundle_error_does_not_end_the_watcher(
    watcher: Watcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_tiny(tmp_path, 0)
    watcher.look()
    publish_tiny(tmp_path, 1)

    def full(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr("headrace.online.loading.read_bundle", full)
    assert not watcher.look()
    assert serving(watcher) == first
    assert watcher.refusal is not None and "no memory" in watcher.refusal.reason


def test_what_a_worker_holds_does_not_grow_with_the_number_of_swaps(watcher: Watcher, tmp_path: Path) -> None:
    versions = [publish_tiny(tmp_path, seed, student_seed=1) for seed in range(10)]
    claim_epoch(tmp_path)

    watcher.look()

    def swap(times: int) -> int:
        for number in range(times):
            force_champion(tmp_path, versions[number % 10])
            with watcher.registry.acquire():
                watcher.look()
        watcher.look()
        gc.collect()
        return len(gc.get_objects())

    before = swap(101)
    after = swap(1_000)
    assert after - before < 200  # one object a swap would be 1,000
    assert watcher.registry.waiting() == 0
    assert watcher.loader.shelf.digests() == {watcher.registry.current().parts["student"]}  # type: ignore[union-attr]


def test_a_process_that_ends_does_not_wait_for_a_warm_up(watcher: Watcher, tmp_path: Path) -> None:
    watcher.loader.ending.set()
    publish_tiny(tmp_path, 0, student_seed=1)
    assert watcher.look()
    model = watcher.registry.current()
    assert model is not None and model.student is not None and model.student.held()[0] == 0
