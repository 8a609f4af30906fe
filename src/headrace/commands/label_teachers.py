"""The teacher that `headrace label` asks: its flags, and how it is opened; only then torch is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from headrace.streams.teachers import Teacher

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def teacher_flags(function: Decorated) -> Decorated:
    """Adds the flags that name a teacher, passed on as they are; ``open_teacher`` takes them."""
    for option in (
        click.option("--threads", type=click.IntRange(1, 256), default=None, help="Of torch.  [default: all cores]"),
        click.option("--device", default=None, metavar="NAME", help="cpu, cuda, cuda:1.  [default: CUDA if there]"),
        click.option(
            "--weights",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            default=None,
            metavar="FOLDER",
            help="Where pretrained weights lie now.  [default: where they lay in training]",
        ),
        click.option(
            "--batch",
            type=click.IntRange(1, 100_000),
            default=512,
            help="Pairs between two writes: what a kill costs. Larger ones are padded less.",
        ),
        click.option(
            "--teacher",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            required=True,
            metavar="FOLDER",
            help="The ensemble that is asked, as `headrace train ensemble` made it.",
        ),
    ):
        function = option(function)
    return function


def must_hold_ensemble(folder: Path) -> None:
    """Nothing, when the folder of ``--teacher`` holds an ensemble.

    Raises:
        click.ClickException: it holds none; the text says what makes one.
        ModuleNotFoundError: torch is not installed.
    """
    from headrace.models.ensemble import FILE

    if not (folder / FILE).is_file():
        raise click.ClickException(f"--teacher {folder} holds no {FILE}: `headrace train ensemble` makes it")


def open_teacher(given: dict[str, Any]) -> Teacher:
    """The teacher of these flags, ready to be asked.

    Raises:
        click.ClickException: the folder holds none, or its weights are other ones; or there is no such device.
        ModuleNotFoundError: torch, or what reads its models, is not installed.
    """
    import torch
    from safetensors import SafetensorError

    from headrace.models.ensemble import open_ensemble
    from headrace.models.fitting import device_of

    if given["threads"] is not None:
        torch.set_num_threads(given["threads"])
    try:
        torch.empty(0, device=device_of(given["device"]))
    except (RuntimeError, AssertionError) as error:
        raise click.ClickException(f"--device {given['device']}: there is none here; cpu always is") from error
    must_hold_ensemble(given["teacher"])
    try:
        found = open_ensemble(given["teacher"], given["weights"], given["device"])
    except (OSError, ValueError, SafetensorError) as error:
        raise click.ClickException(f"--teacher {given['teacher']}: {error}") from error
    click.echo(f"teacher {found.id}, prompt {found.prompt}", err=True)
    return found
