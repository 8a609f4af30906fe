"""`headrace label run` with a real ensemble, of random models: its labels are what the ensemble says."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from headrace.commands.main import main
from headrace.models import ensemble, teacher
from headrace.streams.label_files import labels_of
from headrace.streams.pairs import encode, pair_of, prompt_pair
from tiny_transformers import tiny_ensemble

PAIRS = [pair_of(query, f"i{n}", f"red shoes {n}", "a b c") for query in ("red shoe", "Mouse") for n in range(4)]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An ensemble of a causal and of an encoder teacher."""
    tiny_ensemble(tmp_path)
    (tmp_path / "pairs.jsonl").write_bytes(b"".join(encode(pair) + b"\n" for pair in PAIRS))
    return tmp_path


def run(folder: Path, teacher_folder: Path) -> Result:
    where = (str(folder / "pairs.jsonl"), str(folder / "labels.jsonl"))
    return CliRunner().invoke(main, ["label", "run", *where, "--teacher", str(teacher_folder), "--device", "cpu"])


def test_labels_are_the_calibrated_probabilities_of_the_ensemble_and_name_it(folder: Path) -> None:
    result = run(folder, folder / "both")
    assert result.exit_code == 0, result.output
    found = list(labels_of(folder / "labels.jsonl"))
    asked = ensemble.open_ensemble(folder / "both", device="cpu")
    said = asked.probabilities([prompt_pair(pair) for pair in PAIRS])
    assert [label.probability for label in found] == pytest.approx(said, abs=1e-6)
    assert {(label.teacher, label.prompt) for label in found} == {(asked.id, asked.prompt)}
    assert asked.id == ensemble.name_of(folder / "both")
    assert np.ptp(said) > 0
    assert "0 pairs labelled, 8 had their label" in run(folder, folder / "both").output


def test_a_folder_without_an_ensemble_and_weights_that_changed_are_a_sentence(folder: Path) -> None:
    nothing = run(folder, folder / "llama")
    assert nothing.exit_code == 1
    assert f"Error: --teacher {folder / 'llama'}" in nothing.output
    with (folder / "mpnet" / teacher.WEIGHTS).open("ab") as file:
        file.write(b"x")
    changed = run(folder, folder / "both")
    assert changed.exit_code == 1
    assert "other weights" in changed.output
    assert not (folder / "labels.jsonl").exists()


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_a_sentence(folder: Path, device: str) -> None:
    where = (str(folder / "pairs.jsonl"), str(folder / "labels.jsonl"))
    result = CliRunner().invoke(main, ["label", "run", *where, "--teacher", str(folder / "both"), "--device", device])
    assert result.exit_code == 1
    assert f"Error: --device {device}: there is none here" in result.output
