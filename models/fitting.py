"""A training loop that can be killed at any step and goes on to the same weights.

What a step does is a function of the seed and the step's number alone: which rows it takes is planned before, dropout
is seeded by it. A checkpoint holds the weights that learn, the optimiser's state (until the last step) and the number
of steps done; it is written aside and renamed.

Several processes that torchrun started divide each batch. Their gradients are added up, so they stay the same; the
first writes, and all go on from what it wrote: their folder must be one folder.
"""

import contextlib
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

STATE: Final = "state.pt"
SAVE_S = 300.0
_STEPS_PER_SEED: Final = 1_000_003
"""Steps of neighbouring seeds must not meet: a prime above any number of steps."""
_SEEDS: Final = 1_000_003
"""Processes drop other units, each as if it had a seed so far above the first one's."""
_HEADS: Final = ("head", "classifier", "core_embeddings", "neighbours")

Say = Callable[[int, int, float], None]


class WrongCheckpoint(RuntimeError):
    """A checkpoint that belongs to another training; the text says what differs and the way out."""


@dataclass(frozen=True, slots=True)
class Course:
    """How weights move.

    Attributes:
        steps: in all.
        learning_rate: at its highest; it rises over the first ``warmup`` of the steps, then falls to 0 in a straight
            line.
        warmup: share of the steps.
        weight_decay: AdamW's, on matrices only.
        clip: bound of the gradient's norm.
        seed: of dropout, and of whatever the plan drew.
        head_rate: times the learning rate for what no pretrained weights were there for.
    """

    steps: int
    learning_rate: float
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    head_rate: float = 1.0

    def rate_at(self, step: int) -> float:
        """The share of the learning rate that step ``step`` (0 = first) takes."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return (step + 1) / rising
        return max(0.0, (self.steps - step) / max(1, self.steps - rising))


def device_of(name: str | None = None) -> torch.device:
    """The device to train on: as named, else CUDA where there is one, else the processor."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def low_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 where it is faster: on every CUDA device, on processors with AVX-512 bf16; nothing elsewhere."""
    fast = device.type == "cuda" or (device.type == "cpu" and bf16_processor())
    return torch.autocast(device.type, dtype=torch.bfloat16) if fast else contextlib.nullcontext()


@cache
def bf16_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 itself; without it autocast is slower than float32."""
    try:
        flags = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def fit(
    model: nn.Module,
    course: Course,
    loss_of: Callable[[int], Tensor],
    folder: Path,
    say: Say,
    about: Mapping[str, str | int | float],
    save_s: float | None = None,
) -> None:
    """Trains the parameters of a model that want gradients, from the checkpoint in ``folder`` if there is one.

    Args:
        model: on its device, in the mode it trains in.
        course: how.
        loss_of: this process's share of the loss of step n (shares are added up); rows come from a plan made before.
        folder: keeps the checkpoint.
        say: is told steps done, steps in all, and the loss, after each step; where it raises KeyboardInterrupt, in
            whichever process, all end after this step, and a checkpoint is written first.
        about: what this training is; a checkpoint of another one is refused.
        save_s: seconds between checkpoints; None: ``SAVE_S``.

    Raises:
        KeyboardInterrupt: ``say`` did.
        WrongCheckpoint: the folder holds the checkpoint of another training, or none that can be read; or torchrun's
            processes see other folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimiser = torch.optim.AdamW(_groups(model, course), lr=course.learning_rate, fused=True)
    rates = [group["lr"] for group in optimiser.param_groups]
    named = {**asdict(course), **about}
    done = _restore(folder, model, optimiser, named)
    _same_everywhere(done, model, folder)
    saved_s, pause_s = time.monotonic(), SAVE_S if save_s is None else save_s
    for step in range(done, course.steps):
        torch.manual_seed((course.seed + _rank() * _SEEDS) * _STEPS_PER_SEED + step)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * course.rate_at(step)
        loss = loss_of(step)
        torch.autograd.backward(loss)
        _add_up(model)
        nn.utils.clip_grad_norm_(learning(model), course.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ended = _ended(say, step + 1, course.steps, float(loss.detach()))
        if ended or step + 1 == course.steps or time.monotonic() - saved_s >= pause_s:
            _keep(folder, model, optimiser, step + 1, named)
            saved_s = time.monotonic()
        if ended:
            raise KeyboardInterrupt


def _ended(say: Say, done: int, steps: int, loss: float) -> bool:
    """Whether any process was told to end. All must hear of it: the others would wait for its gradients for ever."""
    ended = False
    try:
        say(done, steps, loss)
    except KeyboardInterrupt:
        ended = True
    if distributed.is_initialized():
        device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        anywhere = torch.tensor(ended, device=device).int()
        distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
        ended = bool(anywhere.item())
    return ended


def first() -> bool:
    """Whether this process is the one that writes: the only one, or the first of those that torchrun started."""
    return _rank() == 0


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def own_share(batch: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of a batch that this process takes: all, or its share of what torchrun's processes divide."""
    if not distributed.is_initialized():
        return batch
    return batch[distributed.get_rank() :: distributed.get_world_size()]


def nothing(device: torch.device) -> Tensor:
    """The loss of no rows: what a process gives whose share of a batch is empty."""
    return torch.zeros((), device=device, requires_grad=True)


def _add_up(model: nn.Module) -> None:
    """Sums gradients over torchrun's processes: each had its own rows of the batch."""
    if not distributed.is_initialized():
        return
    own = learning(model)
    # What has no gradient anywhere keeps none: AdamW leaves it alone then, as it does in one process.
    there = torch.tensor([parameter.grad is not None for parameter in own], device=own[0].device).int()
    distributed.all_reduce(there)
    for parameter, processes in zip(own, there.tolist(), strict=True):
        if processes:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            distributed.all_reduce(parameter.grad)


def _same_everywhere(done: int, model: nn.Module, folder: Path) -> None:
    if not distributed.is_initialized():
        return
    bounds = torch.tensor([done, -done], device=learning(model)[0].device)
    distributed.all_reduce(bounds, distributed.ReduceOp.MAX)
    if bounds.sum().item():
        raise WrongCheckpoint(f"not all processes see the same checkpoint in {folder}: name a folder that they share")


def learning(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training moves."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def learned(model: nn.Module) -> dict[str, Tensor]:
    """The weights that training moved, by name, on the processor."""
    return {name: value.detach().cpu() for name, value in model.named_parameters() if value.requires_grad}


def take(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts weights as ``learned`` gave them into a model of the same shape.

    Raises:
        WrongCheckpoint: they are those of another model.
    """
    own = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if own.keys() != weights.keys():
        other = sorted(own.keys() ^ weights.keys())[:3]
        raise WrongCheckpoint(f"these weights belong to another model: {', '.join(other)} on one side only")
    with torch.no_grad():
        for name, value in own.items():
            if value.shape != weights[name].shape:
                raise WrongCheckpoint(f"{name} is {tuple(weights[name].shape)}, the model has {tuple(value.shape)}")
            value.copy_(weights[name])


def _groups(model: nn.Module, course: Course) -> Iterable[dict[str, Any]]:
    own = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    for head in (False, True):
        for matrix in (False, True):
            chosen = [v for name, v in own if _of_head(name, course) is head and (v.ndim > 1) is matrix]
            if chosen:
                rate = course.learning_rate * (course.head_rate if head else 1.0)
                yield {"params": chosen, "lr": rate, "weight_decay": course.weight_decay if matrix else 0.0}


def _of_head(name: str, course: Course) -> bool:
    return course.head_rate != 1 and name.startswith(_HEADS)


def _restore(folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, named: Mapping[str, Any]) -> int:
    path = folder / STATE
    if not path.exists():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WrongCheckpoint(f"{path} cannot be read: remove it to begin anew") from error
    if state["about"] != named:
        other = sorted(key for key in {*state["about"], *named} if state["about"].get(key) != named.get(key))
        raise WrongCheckpoint(
            f"{path} belongs to another training (it differs in {', '.join(other)}): name another folder, or remove it"
        )
    take(model, state["weights"])
    if state["optimiser"]:
        optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def _keep(
    folder: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, named: Mapping[str, Any]
) -> None:
    if not first():
        return
    # After the last step nobody goes on: two thirds of the file would be the optimiser's.
    moments = optimiser.state_dict() if step < named["steps"] else {}
    state = {"about": dict(named), "step": step, "weights": learned(model), "optimiser": moments}
    with aside(folder / STATE) as path:
        torch.save(state, path)


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A path to write to; what was written there takes the place of ``path`` in one step at the end.

    The name is always the same, so what a kill leaves lying is written over the next time. One writer at a time.
    """
    written = path.with_name(f"aside-{path.name}")  # torch refuses names that begin with a dot
    try:
        yield written
        with written.open("rb+") as file:
            os.fsync(file.fileno())
        written.replace(path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
