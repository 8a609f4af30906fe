"""The three folders at the top are one package, once, and a wheel of it is complete."""

import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("streams", "models", "online")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_link_leads_to_its_folder(name: str) -> None:
    link = ROOT / "src" / "headrace" / name
    if not link.is_symlink():
        pytest.skip("a checkout without symbolic links; the package-dir map in pyproject.toml serves it")
    assert link.readlink() == Path("../..") / name
    assert link.resolve() == (ROOT / name).resolve()
    assert link.is_dir()


def test_every_folder_with_modules_is_in_the_wheel() -> None:
    held = {"headrace." + ".".join((name, *below)) for name in FOLDERS for below in folders_with_modules(ROOT / name)}
    source = ROOT / "src" / "headrace"
    for child in source.iterdir():
        if child.name not in FOLDERS and child.is_dir():
            held |= {"headrace." + ".".join((child.name, *below)) for below in folders_with_modules(child)}
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({"headrace", *(name.rstrip(".") for name in held)})


def test_every_file_that_is_not_python_is_in_the_wheel() -> None:
    given = PYPROJECT["tool"]["setuptools"]["package-data"]
    tour = ROOT / "src" / "headrace" / "tour"
    for top in [*(ROOT / name for name in FOLDERS), ROOT / "src" / "headrace"]:
        for file in top.rglob("*"):
            if file.is_file() and file.suffix not in {".py", ".pyc"}:
                inside = str(file.relative_to(tour)) if file.is_relative_to(tour) else ""
                named = [fnmatch.fnmatch(file.name, pattern) for pattern in given["*"]]
                named += [fnmatch.fnmatch(inside, pattern) for pattern in given["headrace.tour"]]
                assert any(named), f"{file} would be left out"


def test_every_package_has_a_place() -> None:
    places = PYPROJECT["tool"]["setuptools"]["package-dir"]
    assert places == {"headrace": "src/headrace"} | {f"headrace.{name}": name for name in FOLDERS}


def test_nothing_is_imported_twice() -> None:
    program = (
        "import sys, headrace.streams, headrace.models, headrace.online\n"
        "twice = {'streams', 'models', 'online'} & set(sys.modules)\n"
        "assert not twice, twice\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_this_run_imported_nothing_twice() -> None:
    assert not {"streams", "models", "online"} & set(sys.modules)


@pytest.mark.parametrize("package", ["headrace.streams", "headrace.online"])
def test_serving_and_streaming_load_no_torch(package: str) -> None:
    # A torch that fails when it is imported stands in the way, installed or not.
    program = (
        "import importlib, pkgutil, sys\n"
        "sys.modules['torch'] = None\n"
        f"package = importlib.import_module({package!r})\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def folders_with_modules(top: Path) -> set[tuple[str, ...]]:
    """The folders at and below `top` that hold modules, as their path from it; () is `top` itself."""
    return {file.relative_to(top).parts[:-1] for file in top.rglob("*.py")}
