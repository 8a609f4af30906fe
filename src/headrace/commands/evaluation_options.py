"""Flags that the verbs of `headrace evaluate` share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from headrace.commands.options import json_file
from headrace.models import folders

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


threads_flag = click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=1,
    help="Batches computed at a time; of a teacher, the threads of torch.",
)
teacher_flag = click.option(
    "--teacher",
    multiple=True,
    metavar="[NAME=]FOLDER",
    help="Measure a teacher too, an ensemble as `headrace train ensemble` made it, called as its folder if there"
    " is no NAME. May be given many times."
    " Needs torch.",
)


def part_flag(what: str) -> Callable[[Decorated], Decorated]:
    """Adds ``--part``, passed as a tuple of texts; ``what`` begins its help."""
    return click.option(
        "--part",
        multiple=True,
        metavar="[NAME=]DIGEST",
        help=f"{what}. May be given many times; those called NAME/0, NAME/1 are seeds of one, and their numbers are "
        "averaged.",
    )


def parts_flags(function: Decorated) -> Decorated:
    """Adds ``--part``, ``--against`` and ``--threads``: which student parts, passed as tuples of texts, and how."""
    for option in (
        threads_flag,
        click.option(
            "--against",
            multiple=True,
            metavar="[NAME=]DIGEST",
            help="The student that the others are compared with, paired; with seeds as --part.",
        ),
        part_flag("A student to measure; the champion's if not given"),
    ):
        function = option(function)
    return function


def draws_flags(function: Decorated) -> Decorated:
    """Adds ``--resamples`` and ``--seed``, of the intervals."""
    for option in (
        click.option("--seed", type=click.IntRange(0), default=0, help="Of all that is drawn."),
        click.option(
            "--resamples", type=click.IntRange(2, 100_000), default=1_000, help="How often queries are drawn anew."
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where what was found is written, None for nowhere: Markdown, a PNG, numbers."""

    report: Path | None
    plot: Path | None
    json_file: Path | None

    def write(self, markdown: str, draw: Callable[[Path], None], numbers: Mapping[str, Any]) -> None:
        """Writes what was asked for; folders are made.

        Raises:
            click.ClickException: a file cannot be written.
        """
        try:
            if self.report is not None:
                folders.place_file(self.report, markdown.encode())
            if self.plot is not None:
                draw(self.plot)
            if self.json_file is not None:
                folders.place_file(self.json_file, (json.dumps(numbers, indent=2) + "\n").encode())
        except OSError as error:
            raise click.ClickException(str(error)) from error


def outputs_flags(function: Decorated) -> Decorated:
    """Adds ``--report``, ``--plot`` and ``--json``, passed as ``outputs: Outputs``."""

    @wraps(function)
    def gathered(*args: Any, **values: Any) -> Any:
        files = Outputs(values.pop("report"), values.pop("plot"), values.pop("json_file"))
        return function(*args, outputs=files, **values)

    decorated: Any = json_file(gathered)
    for name, help_text in (("--plot", "Draw it there, as a PNG."), ("--report", "Write it there, as Markdown.")):
        decorated = click.option(
            name,
            type=click.Path(dir_okay=False, path_type=Path),
            default=None,
            metavar="FILE",
            callback=_drawable if name == "--plot" else None,
            help=help_text,
        )(decorated)
    return cast("Decorated", decorated)


def positive_flag(function: Decorated) -> Decorated:
    """Adds ``--positive``, the label from which on a row is a positive of the AUC."""
    return click.option(
        "--positive",
        type=click.FloatRange(0, 1),
        default=0.66,
        help="Rows with at least this label are positives of the AUC: two thirds, with room for rounded ratings.",
    )(function)


def _drawable(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    if value is not None:
        import matplotlib  # noqa: F401 -- absent, it is to be said now and not after the work
    return value
