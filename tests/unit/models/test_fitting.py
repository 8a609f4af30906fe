import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.models import fitting
from headrace.models.fitting import Course, WrongCheckpoint, fit
from tiny_transformers import kept, quiet, teach

PROCESS = Path(__file__).parents[2] / "support" / "training_process.py"
STEPS = {"lora": 8, "full": 8, "student": 6}
Weights = Mapping[str, NDArray[np.float32]]


class Stopped(Exception):
    """What a test stops a training with."""


def stopping_at(step: int) -> Callable[[int, int, float], None]:
    def say(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Stopped

    return say


def differences(ours: Weights, theirs: Weights) -> float:
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trainings")


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> Callable[[str], Weights]:
    """The weights of trainings that were never stopped, each made once."""
    made: dict[str, Weights] = {}

    def of(what: str) -> Weights:
        if what not in made:
            made[what] = teach(what, folder, out=folder / "unbroken" / what)
        return made[what]

    return of


@pytest.mark.parametrize("what", STEPS)
def test_stopped_at_any_step_and_begun_again_it_comes_to_the_same_weights(
    folder: Path, unbroken: Callable[[str], Weights], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "SAVE_S", 0.0)
    out = folder / "stopped" / what
    for step in range(1, STEPS[what] + 1, 2):
        with pytest.raises(Stopped):
            teach(what, folder, stopping_at(step), out=out)
    found = teach(what, folder, out=out)
    assert differences(found, unbroken(what)) == 0
    assert differences(found, kept(out)) == 0
    assert [path.name for path in out.glob("aside*")] == []


def test_killed_in_the_middle_it_comes_to_the_same_weights(folder: Path, unbroken: Callable[[str], Weights]) -> None:
    out = folder / "killed"
    assert start(out, "student", "--kill-at=4").wait(200) == -signal.SIGKILL
    assert torch.load(out / "student" / fitting.STATE, weights_only=True)["step"] == 3
    assert differences(teach("student", out), unbroken("student")) == 0


def start(out: Path, *words: str, **environment: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(PROCESS), str(out), *words], env=os.environ | environment)


def start_two(out: Path, *words: str, last: Sequence[str] = ()) -> list["subprocess.Popen[bytes]"]:
    """Two processes that divide each batch; ``last``: words for the second alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
    return [start(out, *words, *more, RANK=str(rank), **where) for rank, more in enumerate(((), last))]


def test_two_processes_come_to_the_weights_of_one_also_where_one_was_told_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "low_precision", lambda device: nullcontext())
    whats, out = ("student", "full"), folder / "both"
    alone = {what: teach(what, folder, dropout=0.0, out=folder / "alone" / what) for what in whats}
    out.mkdir()
    ended = start_two(out, *whats, "--exact", last=("--end-at", "3"))
    assert [one.wait(200) for one in ended] == [3, 3]
    assert torch.load(out / "student" / fitting.STATE, weights_only=True)["step"] == 3
    assert [one.wait(200) for one in start_two(out, *whats, "--exact")] == [0, 0]
    for what in whats:
        found = kept(out / what)
        # A bias of keys changes no score: its gradients are rounding, of which AdamW makes whole steps.
        scored = {name: value for name, value in found.items() if not name.endswith(("key.bias", "attn.k.bias"))}
        assert differences(scored, {name: alone[what][name] for name in scored}) < 1e-5


class Line(nn.Module):
    """The smallest model: one number out of three, and a head."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(width, 2)
        self.head = nn.Linear(2, 1)
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)


COURSE = Course(6, 0.1)


def lessons(model: Line, rows: int = 3) -> Callable[[int], Tensor]:
    given = torch.randn((6, 5, rows), generator=torch.Generator().manual_seed(1))

    def loss_of(step: int) -> Tensor:
        found: Tensor = model.head(torch.tanh(model.body(given[step]))).squeeze(1) - given[step, :, 0]
        return found.square().mean()

    return loss_of


def fitted(folder: Path, course: Course = COURSE, say: fitting.Say = quiet, **about: str | int | float) -> Line:
    model = Line()
    fit(model, course, lessons(model), folder, say, about, 0.0)
    return model


@pytest.mark.parametrize(
    ("course", "about", "named"),
    [
        (replace(COURSE, learning_rate=0.2), {"data": "a"}, "learning_rate"),
        (replace(COURSE, seed=1, steps=5), {"data": "a"}, "seed, steps"),
        (COURSE, {"data": "b"}, "data"),
        (COURSE, {}, "data"),
        (COURSE, {"data": "a", "batch": 3}, "batch"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused_by_what_differs(
    tmp_path: Path, course: Course, about: dict[str, Any], named: str
) -> None:
    fitted(tmp_path, data="a")
    with pytest.raises(WrongCheckpoint) as error:
        fitted(tmp_path, course, **about)
    assert str(error.value) == (
        f"{tmp_path}/state.pt belongs to another training (it differs in {named}): name another folder, or remove it"
    )


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half an archive"])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / fitting.STATE).write_bytes(content)
    with pytest.raises(WrongCheckpoint, match=r"state\.pt cannot be read: remove it to begin anew"):
        fitted(tmp_path)


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    fitted(tmp_path)
    wider = Line(4)
    with pytest.raises(WrongCheckpoint, match=r"body\.weight is \(2, 3\), the model has \(2, 4\)"):
        fit(wider, COURSE, lessons(wider, 4), tmp_path, quiet, {})


def test_a_finished_training_does_nothing_again(tmp_path: Path) -> None:
    first = fitted(tmp_path)
    said: list[int] = []
    again = fitted(tmp_path, say=lambda done, total, loss: said.append(done))
    assert said == []
    assert torch.equal(first.body.weight, again.body.weight)


def test_only_what_learns_is_kept(tmp_path: Path) -> None:
    fitted(tmp_path)
    assert kept(tmp_path).keys() == {"body.weight", "body.bias", "head.weight", "head.bias"}


def test_each_step_is_told_and_the_loss_falls(tmp_path: Path) -> None:
    said: list[tuple[int, int, float]] = []
    fitted(tmp_path, say=lambda *told: said.append(told))
    assert [told[:2] for told in said] == [(step, 6) for step in range(1, 7)]
    assert said[-1][2] < said[0][2]


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    course = Course(100, 1.0, warmup=0.1)
    rates = [course.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert [Course(1, 1.0).rate_at(0), Course(2, 1.0, warmup=0.0).rate_at(0)] == [1.0, 1.0]


def test_what_begins_at_random_may_learn_faster_and_only_matrices_decay(tmp_path: Path) -> None:
    rates: dict[str, float] = {}
    for rate in (1.0, 10.0):
        begun, found = Line(), fitted(tmp_path / str(rate), replace(COURSE, steps=1, head_rate=rate, weight_decay=0.0))
        for name in ("body.weight", "head.weight"):
            rates[f"{name} {rate}"] = float((found.state_dict()[name] - begun.state_dict()[name]).detach().abs().max())
    assert rates["head.weight 10.0"] == pytest.approx(10 * rates["head.weight 1.0"], rel=1e-3)
    assert rates["body.weight 10.0"] == pytest.approx(rates["body.weight 1.0"], rel=1e-3)


def test_what_a_kill_left_aside_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "aside-state.pt").write_bytes(b"half")
    fitted(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    with pytest.raises(RuntimeError, match="broken off"), fitting.aside(tmp_path / "state.pt") as path:
        path.write_bytes(b"half")
        raise RuntimeError("broken off")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").stat().st_size > 100


def test_a_processor_says_whether_it_multiplies_bfloat16(tmp_path: Path) -> None:
    for name, flags, fast in (("a", "fma avx512_bf16 vnni", True), ("b", "amx_bf16", True), ("c", "avx2", False)):
        (tmp_path / name).write_text(f"flags : {flags}\n", encoding="utf-8")
        assert fitting.bf16_processor(tmp_path / name) is fast
    assert fitting.bf16_processor(tmp_path / "absent") is False


def test_one_process_takes_the_whole_batch() -> None:
    assert fitting.own_share(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert fitting.first()
    assert fitting.device_of("cpu").type == "cpu"
