import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from headrace.commands.main import main
from headrace.models import ensemble, student
from headrace.models.bundle import champion
from headrace.models.calibration import Ensemble
from headrace.models.prompts import Pair
from headrace.online.pairs import PairScorer
from tiny_pairs import VOCABULARY
from tiny_transformers import rows_of, tiny_student

QUERIES = [f"{'red ' * (number % 7)}shoe {number}" for number in range(200)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    one = tiny_student(student.StudentConfig(max_tokens=16, slope=0.9, level=-0.1))
    student.save(one.eval(), VOCABULARY, tmp_path / "student")
    return tmp_path / "student"


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    file = tmp_path / "judged.jsonl"
    rows = [
        {"query": query, "title": f"{'a ' * (place % 5)}red mouse", "label": place / 200}
        for place, query in enumerate(QUERIES)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_trained_student_becomes_a_part_that_scores_as_it_does(tmp_path: Path, saved: Path, judged: Path) -> None:
    repository = tmp_path / "models"
    given = ["export", str(saved), "--pairs", str(judged), "--repository", str(repository)]
    result = CliRunner().invoke(main, [*given, "--publish"])
    assert result.exit_code == 0, result.output
    assert "At most, on" in result.output
    current = champion(repository)
    assert current is not None and f"The champion: {current.version}" in result.output
    [folder] = [path for path in (repository / "parts").iterdir() if (path / "vocab.txt").exists()]
    one, vocabulary = student.load(saved)
    assert vocabulary == VOCABULARY
    logits = student.predict(one, rows_of(one, [Pair(query, "red shoes") for query in QUERIES[:20]]))
    expected = 1 / (1 + np.exp(-(0.9 * logits - 0.1)))
    found = PairScorer(folder).score(QUERIES[:20], ["red shoes"] * 20)
    assert np.abs(found - expected).max() <= 0.05


def test_a_teacher_that_is_not_there_is_one_sentence(tmp_path: Path, saved: Path, judged: Path) -> None:
    (tmp_path / "teacher").mkdir()
    given = ["export", str(saved), "--pairs", str(judged), "--repository", str(tmp_path / "models")]
    result = CliRunner().invoke(main, [*given, "--teacher", str(tmp_path / "teacher")])
    assert result.exit_code == 1
    assert "holds no ensemble.json" in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_student_names_the_teacher_that_it_learned_from_and_no_other(tmp_path: Path, judged: Path) -> None:
    for name in ("own", "other"):
        weights = Ensemble((1.0,), float(name == "own"), (0.0,))
        ensemble.write(tmp_path / name, [ensemble.Member("teacher", "00")], weights, 0.01)
    own = ensemble.name_of(tmp_path / "own")
    config = student.StudentConfig(max_tokens=16, teachers=("another", own))
    student.save(tiny_student(config).eval(), VOCABULARY, tmp_path / "student")
    given = ["export", str(tmp_path / "student"), "--pairs", str(judged), "--repository", str(tmp_path / "models")]
    result = CliRunner().invoke(main, [*given, "--teacher", str(tmp_path / "other")])
    assert result.exit_code == 1
    assert f"but this student learned from another, {own}: name that one" in result.output
    assert not (tmp_path / "models" / "parts").exists()
    assert CliRunner().invoke(main, [*given, "--teacher", str(tmp_path / "own")]).exit_code == 0
    [folder] = (tmp_path / "models" / "parts").iterdir()
    assert json.loads((folder / "config.json").read_bytes())["teacher"] == own


def test_a_folder_that_holds_no_student_is_one_sentence(tmp_path: Path, judged: Path) -> None:
    (tmp_path / "students").mkdir()
    given = ["export", str(tmp_path / "students"), "--pairs", str(judged), "--repository", str(tmp_path / "models")]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 1
    assert "holds no student that is trained to its end" in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_student_or_a_teacher_that_is_torn_is_one_sentence(tmp_path: Path, saved: Path, judged: Path) -> None:
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "ensemble.json").write_text('{"members": 3}')
    given = ["export", str(saved), "--pairs", str(judged), "--repository", str(tmp_path / "models")]
    result = CliRunner().invoke(main, [*given, "--teacher", str(tmp_path / "teacher")])
    assert (result.exit_code, "fit the ensemble again" in result.output) == (1, True)
    config = json.loads((saved / student.CONFIG).read_text())
    (saved / student.CONFIG).write_text(json.dumps({**config, "core_terms": True}))
    result = CliRunner().invoke(main, given)
    assert (result.exit_code, "holds weights of another model, or of an earlier version" in result.output) == (1, True)
    (saved / student.CONFIG).write_text(json.dumps(config))
    (saved / student.WEIGHTS).write_bytes(b"torn")
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 1
    assert "Error: " in result.output
