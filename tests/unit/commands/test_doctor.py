"""What the doctor finds on its own machine: models, room, packages, and what it says of a generation."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.commands import doctor, main
from headrace.models.bundle import publish, write_bundle, write_part
from headrace.models.head import Head
from headrace.streams.generations import Generation, Recipe
from headrace.streams.topics import Source

GENERATION = Generation("g1", Recipe(), Source("t", "c", "i", 1), (0,), False, 0, "ready")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose champion has a head only."""
    parts = {"head": write_part(tmp_path, "head", {"head.bin": Head.cold().to_bytes()})}
    publish(tmp_path, write_bundle(tmp_path, parts, [], {}), 0)
    return tmp_path


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    (found,) = doctor.repository_findings(tmp_path / "none")
    assert (found.level, "parts build --publish" in found.do) == ("warn", True)


def test_a_repository_without_champion(tmp_path: Path) -> None:
    found = doctor.repository_findings(tmp_path)[0]
    assert (found.level, "no champion" in found.says) == ("warn", True)


def test_a_champion_without_student(repository: Path) -> None:
    found = doctor.repository_findings(repository)[0]
    assert (found.level, "no student" in found.says) == ("warn", True)


def test_a_champion_with_all_parts(repository: Path) -> None:
    parts = {"head": write_part(repository, "head", {"head.bin": Head.cold().to_bytes()})}
    parts["student"] = write_part(repository, "student", {"model.onnx": b"any bytes"})
    publish(repository, write_bundle(repository, parts, [], {}), 0)
    found = doctor.repository_findings(repository)[0]
    assert (found.level, "(head, student), every hash right" in found.says) == ("ok", True)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


@pytest.mark.parametrize("broken", ["champion.json", "parts/*/head.bin", "bundles/*/manifest.json"])
def test_one_flipped_bit_is_found(repository: Path, broken: str) -> None:
    (file,) = repository.glob(broken)
    flip(file)
    found = doctor.repository_findings(repository)[0]
    assert found.level == "fail"
    assert "publish" in found.do


@pytest.mark.parametrize(("free_bytes", "level"), [(10 << 30, "ok"), (1 << 30, "warn"), (100 << 20, "fail")])
def test_room(free_bytes: int, level: str) -> None:
    assert doctor.room_finding(Path("."), free_bytes).level == level


@pytest.mark.parametrize(
    ("name", "generation", "level", "do"),
    [
        (None, None, "warn", "headrace consume"),
        ("g1", None, "fail", "headrace rebuild"),
        ("g1", GENERATION, "ok", ""),
        ("g1", Generation("g1", Recipe(), GENERATION.source, (5,), True, 0, "ready"), "warn", "wanted"),
        (
            "g1",
            Generation("g1", Recipe(fold_version=0), GENERATION.source, (0,), False, 0, "ready"),
            "fail",
            "headrace rebuild",
        ),
    ],
)
def test_generations(name: str | None, generation: Generation | None, level: str, do: str) -> None:
    found = doctor.generation_finding("shop", name, generation)
    assert found.level == level
    assert do in found.do
    assert bool(found.do) == (level != "ok")


def test_packages_are_compared_as_pip_compares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["click>=8.1", "numpy>=2.0", "msgspec>=0.19", 'faust-streaming<0.16,>=0.15.3; extra == "streams"']
    asked += ['torch==2.13.0; extra == "train"', 'onnxruntime>=1.20; extra == "serve"']
    there = {"click": "8.1.post1", "numpy": "1.26.4", "faust-streaming": "0.16.0", "onnxruntime": "1.30.0"}

    def version(name: str) -> str:
        if name not in there:
            raise importlib.metadata.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: asked)
    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {one.name: one.fits for one in doctor.packages()}
    assert found == {"click": True, "numpy": False, "msgspec": False, "faust-streaming": False, "onnxruntime": True}


def test_what_is_installed_here_fits() -> None:
    found = list(doctor.packages())
    assert len(found) > 15
    assert [one.name for one in found if not one.fits] == []


def test_nothing_answers_and_it_says_so_in_a_line_each(tmp_path: Path) -> None:
    flags = ["--bootstrap-servers", "127.0.0.1:1", "--redis-url", "unix:///nowhere", "--repository", str(tmp_path)]
    result = CliRunner().invoke(main.main, ["doctor", *flags, "--json", str(tmp_path / "found.json")])
    assert result.exit_code == 1
    assert "fail  redis: Redis cannot be reached" in result.output
    assert "fail  kafka: No answer from Kafka at 127.0.0.1:1" in result.output
    found = {one["check"]: one["level"] for one in json.loads((tmp_path / "found.json").read_text())}
    assert (found["redis"], found["kafka"], found["models"]) == ("fail", "fail", "warn")
