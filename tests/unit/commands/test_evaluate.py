import gzip
import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from headrace.commands.main import main
from headrace.models import bundle
from tiny_student import tiny_files


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "icecat"
    folder.mkdir(parents=True)
    with gzip.open(folder / "products.jsonl.gz", "wb") as file:
        for number, title in enumerate(["red shoe", "mouse", "a b c"]):
            file.write(msgspec.json.encode({"id": str(number), "title": title}) + b"\n")
    with gzip.open(folder / "judgments.csv.gz", "wt", encoding="utf-8") as file:
        file.write("query,docid,rating\nred shoe,1,0\nred shoe,0,3\nmouse,1,2\nmouse,2,0\n")
    return tmp_path / "data"


def run(folder: Path, data: Path, *arguments: str) -> Result:
    env = {"HEADRACE_REPOSITORY": str(folder / "models"), "HEADRACE_DATA": str(data)}
    return CliRunner().invoke(main, ["evaluate", "icecat", *arguments], env=env)


def test_the_champions_student_is_measured_and_written_as_numbers(tmp_path: Path, data: Path) -> None:
    repository = tmp_path / "models"
    student = bundle.write_part(repository, "student", tiny_files())
    version = bundle.write_bundle(repository, {"student": student}, [])
    bundle.publish(repository, version, 0)
    result = run(tmp_path, data, "--json", str(tmp_path / "found.json"))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["part"] == student
    assert (found["lists"], found["pairs"]) == (2, 4)
    assert found["ndcg_at_10"]["mean"] == pytest.approx(1)  # each title is its query
    assert "nDCG@10 1.0000" in result.stdout
    assert run(tmp_path, data, "--part", student).exit_code == 0


def test_what_is_absent_is_one_sentence_with_the_way_out(tmp_path: Path, data: Path) -> None:
    for where, arguments, reason in (
        (tmp_path / "nowhere", (), "name the folder with --data"),
        (data, (), "headrace parts build --publish"),
        (data, ("--part", "0" * 64), "is missing"),
    ):
        result = run(tmp_path, where, *arguments)
        assert result.exit_code == 1
        assert reason in result.stderr
        assert "Traceback" not in result.output
