"""Make a part of a trained student: ONNX, int8 by rows, refused unless it scores as the student does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from headrace.commands.label_teachers import must_hold_ensemble
from headrace.commands.options import data_folder, repository, show_configuration
from headrace.commands.parts import bundle_with
from headrace.commands.training import core_terms_of, pairs_flag, pairs_of, rows_for, run, together
from headrace.models import ensemble, export, student
from headrace.models.bundle import newest_epoch, publish, write_part
from headrace.models.pair_rows import PairNeighbours, told
from headrace.models.prompts import Pair

PAIRS = 1000


@click.command
@click.argument("folder", metavar="STUDENT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@pairs_flag
@data_folder
@click.option(
    "--teacher",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="The ensemble that it learned from: its cached scores are then served too.",
)
@click.option("--exact", multiple=True, metavar="LAYER", help="A layer that stays float32, e.g. encoder.layer.0.")
@click.option(
    "--publish/--no-publish",
    "published",
    default=False,
    help="Also publish: the champion with this student; workers verify it and take it while they serve.",
)
@repository
def command(**given: Any) -> None:
    """Make a part of a trained STUDENT: ONNX, int8 by rows, refused unless it scores as the student does.

    Compared on real pairs that it did not learn from: the graph with torch, int8 with float32, a row alone with itself
    among others; with the neighbours that these pairs have, where it reads them.

    Example:
      headrace export students/first --pairs judged.jsonl --publish
    """
    show_configuration()
    if given["teacher"] is not None:
        must_hold_ensemble(given["teacher"])
    if not (given["folder"] / student.CONFIG).exists():
        raise click.ClickException(
            f"{given['folder']} holds no student that is trained to its end: `headrace train student` makes it"
        )
    with together(None, "cpu"):
        one, vocabulary = run(lambda: student.load(given["folder"]))
        held = pairs_of(given["source"], given["data"], "held")
        held = held.at(np.arange(min(PAIRS, len(held))))
        terms = run(lambda: core_terms_of(given["folder"], one))
        neighbours = _neighbours_of(given["source"], held.pairs) if one.config.neighbours else ()
        logits = student.predict(one, rows_for(one, vocabulary, held.pairs, terms))
        remarks: dict[str, object] = {"source": f"distilled from {given['teacher'] or 'labels'}"}
        if given["teacher"] is not None:
            remarks |= _said_of(given["teacher"], one.config.teachers)
        settings = export.Settings(exact=given["exact"], neighbours=neighbours, core_terms=terms, remarks=remarks)
        pairs = [(pair.query, pair.title) for pair in held.pairs]
        config = student.part_config(one)
        made = export.export(student.arrays_of(one), config, vocabulary, pairs, logits, settings)
    digest = run(lambda: write_part(given["repository"], "student", made.files))
    found = made.measured
    click.echo(
        f"At most, on {found.pairs:,} pairs: graph - torch {found.graph:.1e} in logit, int8 - float32 {found.int8:.1e}"
        f" in probability, alone - among others {found.alone:.1e} in logit"
    )
    click.echo(f"student {digest}, {sum(map(len, made.files.values())) / 1e6:.1f} MB")
    if given["published"]:
        version = bundle_with(given["repository"], digest)
        publish(given["repository"], version, newest_epoch(given["repository"]))
        click.echo(f"The champion: {version}")


def _said_of(folder: Path, learned_from: Sequence[str]) -> dict[str, object]:
    """What the part says of the teacher whose cached scores may stand beside its own.

    Raises:
        click.ClickException: it cannot be read, or the student learned from others.
    """
    try:
        error = ensemble.read(folder).calibration_error
    except (OSError, ValueError) as fault:
        raise click.ClickException(f"--teacher {folder}: {fault}") from fault
    name = ensemble.name_of(folder)
    if learned_from and name not in learned_from:
        raise click.ClickException(
            f"--teacher {folder} is {name}, but this student learned from {', '.join(learned_from)}: name that one,"
            " or label its pairs with this one and train it again"
        )
    return {"teacher": name, "calibration_error": error}


def _neighbours_of(source: str, pairs: Sequence[Pair]) -> list[PairNeighbours | None]:
    """What the student reads beside the pairs that it is compared on.

    Raises:
        click.ClickException: none of them has any.
    """
    found = [told(pair) for pair in pairs]
    if not any(found):
        raise click.ClickException(
            f"this student reads neighbours, but none of the {len(pairs):,} pairs of {source} that it is compared on"
            " has `query_neighbours` or `item_neighbours`: name a file whose pairs have them"
        )
    return found
