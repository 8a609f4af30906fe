from pathlib import Path

import numpy as np
import pytest
import torch

from headrace.models import ensemble, fitting, prompts, teacher
from headrace.models.calibration import Ensemble as Weights
from headrace.models.ensemble import Doubles, Member, held_error, member_of, open_ensemble, write
from headrace.models.prompts import Pair
from headrace.models.training_pairs import TrainingPairs
from tiny_transformers import PAIRS, tiny_teacher

TOLD = (
    Pair("red shoe", "shoes", query_neighbours=("red",)),
    Pair("mouse", "b"),
    Pair("b", "b", "", "", ("a",), ("c",)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two teachers, and an ensemble of both."""
    home = tmp_path_factory.mktemp("teachers")
    for name in ("llama", "mpnet"):
        teacher.save(tiny_teacher(home / "backbones", name), home / name)
    members = [Member(f"../{name}", ensemble.digest_of(home / name)) for name in ("llama", "mpnet")]
    write(home / "both", members, Weights((0.75, 0.5), -0.25, (0.0, 0.0)), 0.0125)
    return home


def test_each_teacher_is_asked_and_their_logits_are_put_together(folder: Path) -> None:
    both = open_ensemble(folder / "both", device="cpu")
    each = both.each(TOLD)
    assert each.shape == (3, 2)
    for column, name in enumerate(("llama", "mpnet")):
        one = teacher.load(folder / name)
        read = teacher.predict(one, teacher.Reader(one.config).rows(TOLD))
        if name == "mpnet":
            np.testing.assert_array_equal(each[:, column], read[:, 0])
        else:
            assert each[1, column] == read[1, 0]  # without neighbours it goes out untouched
            assert each[0, column] == pytest.approx(read[0, :2] @ [0.2, 0.8])  # there is no third stage
            assert each[2, column] == pytest.approx(read[2] @ [0.2, 0.3, 0.5])
    np.testing.assert_allclose(both.logits(TOLD), each @ [0.75, 0.5] - 0.25)
    np.testing.assert_allclose(both.probabilities(TOLD), 1 / (1 + np.exp(-both.logits(TOLD))))
    assert both.each(()).shape == (0, 2)
    assert both.probabilities(()).shape == (0,)


def test_what_is_being_done_is_told(folder: Path) -> None:
    said: list[tuple[str, int, int]] = []
    open_ensemble(folder / "both").logits(TOLD, lambda *told: said.append(told))
    assert said == [("../llama", 3, 3), ("../mpnet", 3, 3)]


def test_an_ensemble_is_named_by_all_that_its_scores_depend_on(folder: Path, tmp_path: Path) -> None:
    both = open_ensemble(folder / "both")
    assert both.id == ensemble.name_of(folder / "both") == open_ensemble(folder / "both").id
    assert both.prompt == prompts.PROMPT_HASH
    members, other = both.manifest.members, Weights((0.75, 0.5), -0.2, (0.0, 0.0))
    write(tmp_path, members, other, 0.0125)
    assert ensemble.name_of(tmp_path) != both.id


def test_other_weights_than_it_was_fitted_with_are_refused(folder: Path, tmp_path: Path) -> None:
    one = teacher.load(folder / "llama")
    teacher.save(one, tmp_path / "llama")
    write(
        tmp_path / "one", [Member("../llama", ensemble.digest_of(tmp_path / "llama"))], Weights((1.0,), 0.0, (0.0,)), 0
    )
    open_ensemble(tmp_path / "one")
    with torch.no_grad():
        one.get_parameter("head.2.bias").add_(1)
    teacher.save(one, tmp_path / "llama")
    with pytest.raises(ValueError, match="holds other weights than .*: fit the ensemble again"):
        open_ensemble(tmp_path / "one")


@pytest.mark.parametrize("content", [b"", b"{", b'{"members": []}', b" " * (ensemble.LIMIT_BYTES + 2)])
def test_a_manifest_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ensemble.FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"ensemble\.json cannot be read .*: fit the ensemble again"):
        open_ensemble(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_ensemble(tmp_path / "absent")


def test_stages_are_put_together_as_pairs_with_neighbours_say(folder: Path) -> None:
    pairs = tuple(Pair(pair.query, pair.title, query_neighbours=("red",), item_neighbours=("a",)) for pair in PAIRS)
    one = teacher.load(folder / "llama")
    read = np.random.default_rng(0).normal(size=(len(pairs), 3))
    held = TrainingPairs(pairs, (read[:, 2] > 0).astype(float))
    found = member_of("x", "d", one, read, held)
    level, weights, _ = found.aggregation
    assert weights[2] > 2 * max(weights[:2])  # the third stage alone knows
    fitted, unfitted = (ensemble.one_logit(one, read, pairs, it) for it in (found, Member("x", "d")))
    assert _loss(fitted, held.targets) < _loss(unfitted, held.targets)
    plain = TrainingPairs(PAIRS, held.targets)
    assert member_of("x", "d", one, read[:, :1], plain) == Member("x", "d")
    assert member_of("x", "d", teacher.load(folder / "mpnet"), read[:, :1], plain) == Member("x", "d")


def _loss(logits: Doubles, targets: Doubles) -> float:
    return float(np.mean(np.logaddexp(0, logits) - targets * logits))


def test_the_calibration_error_is_measured_where_nothing_was_fitted() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4_000, 2))
    targets = (random.random(4_000) < 1 / (1 + np.exp(-logits[:, 0]))).astype(float)
    lists = np.arange(4_000) // 10
    assert held_error(logits, targets, lists) < 0.05
    # Where the halves say the contrary of each other, a fit of one is no fit of the other.
    torn = np.where(lists % 2 == 1, targets, 1 - targets)
    assert held_error(logits, torn, lists) > 0.15
    assert held_error(logits[:10], targets[:10], lists[:10]) >= 0


def test_an_ensemble_is_asked_on_the_device_that_is_named(folder: Path) -> None:
    both = open_ensemble(folder / "both", folder / "backbones", "cpu")
    assert {parameter.device for one in both.teachers for parameter in one.parameters()} == {fitting.device_of("cpu")}
