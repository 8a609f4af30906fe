"""Measure relevance: students and teachers on public data, scores in a file, robustness to other ways of asking."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from headrace.commands import evaluation_report, robustness_report
from headrace.commands.evaluation_options import (
    Outputs,
    draws_flags,
    outputs_flags,
    part_flag,
    parts_flags,
    positive_flag,
    teacher_flag,
    threads_flag,
)
from headrace.commands.options import data_folder, repository
from headrace.commands.progress import ProgressLine
from headrace.commands.scored_parts import (
    ScoredPart,
    compared,
    home_depot_pairs,
    icecat_pairs,
    named,
    open_parts,
    pairs_of,
    plain,
    whole_pairs_of,
)
from headrace.models import judged_pairs
from headrace.models.evaluation import Evaluation, Judged, Scale, arms_of, check_arm, evaluate
from headrace.models.perturbations import PERTURBATIONS
from headrace.models.prompts import Pair
from headrace.models.robustness import Changed, asked_otherwise, changed, robustness
from headrace.models.training_pairs import side_of

_HIGHEST: Final = 3
"""Icecat's ratings are 0 to 3."""


@click.group
def command() -> None:
    """Measure relevance: students on public data, scores in a file, robustness to other ways of asking.

    Every number has a 95 % interval over queries, every difference is paired. docs/evaluation.md says what each is.

    Example:
      headrace evaluate icecat --data ../shared/data
      headrace evaluate pairs scored.jsonl --against bm25 --report report.md --plot report.png
    """


@command.command
@repository
@data_folder
@parts_flags
@draws_flags
@outputs_flags
def icecat(
    repository: Path,
    data: Path,
    part: tuple[str, ...],
    against: tuple[str, ...],
    threads: int,
    resamples: int,
    seed: int,
    outputs: Outputs,
) -> None:
    """Re-rank Icecat's judged lists by a student's score of the title; nothing was ever trained on them.

    Example:
      headrace evaluate icecat --data ../shared/data --threads 2 --json icecat.json
    """
    judged = icecat_pairs(data, _HIGHEST)
    opened = open_parts(repository, part, against, threads)
    arm = compared(opened, against)
    scores, speeds = {}, {}
    for one in opened:
        began = time.perf_counter()
        scores[one.name] = one.of(plain(judged))
        speeds[one.name] = len(judged) / (time.perf_counter() - began)
    scale = Scale(span=_HIGHEST, absolute=False)
    found = _evaluated(judged.scored(scores), scale, arm, seed, resamples)
    for name, speed in speeds.items():
        click.echo(f"{name}: {speed:,.0f} pairs a second, {threads} at a time")
    first = next(iter(found.arms.values()))[f"nDCG@{scale.cut}"]
    numbers = {
        "part": opened[0].digest,
        "lists": found.ranked,
        "pairs": len(judged),
        "ndcg_at_10": {"mean": first.value, "low": first.low, "high": first.high},
        "pairs_per_s": speeds,
        "threads": threads,
    }
    _keep(outputs, "Icecat, zero-shot", found, scale, named(opened), numbers)


@command.command
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--against", default="", metavar="NAME", help="The model that the others are compared with, paired.")
@positive_flag
@click.option(
    "--span",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    help="Rating points between label 0 and 1, 2 for ratings 1 to 3: RMSE is in them, an item is worth 2^(span x label)"
    " - 1.",
)
@click.option("--cut", type=click.IntRange(1, 10_000), default=10, help="Places that nDCG counts.")
@click.option(
    "--side",
    type=click.Choice(["all", "train", "held", "test"]),
    default="all",
    help="Only queries of this side of the split that `headrace train` keeps to: of `test` nothing was trained on.",
)
@repository
@part_flag("The pairs are scored by this student too")
@teacher_flag
@threads_flag
@draws_flags
@outputs_flags
def pairs(
    files: tuple[Path, ...],
    against: str,
    side: str,
    repository: Path,
    part: tuple[str, ...],
    teacher: tuple[str, ...],
    threads: int,
    resamples: int,
    seed: int,
    outputs: Outputs,
    **scale_of: Any,
) -> None:
    """Measure scores of judged pairs from FILES: JSON lines with query, title, label (0 to 1), scores by model's name.

    Several files must hold the same pairs in the same order. Models called NAME/0, NAME/1 are seeds of one. A file
    without scores will do where --part or --teacher says who scores; they read what the first file says of a pair,
    `details` and neighbours too, as `headrace train` reads it.

    Example:
      headrace evaluate pairs scored.jsonl --against bm25 --report report.md --plot report.png
      headrace evaluate pairs judged.jsonl --side test --part new=DIGEST --part old=DIGEST --against old
    """
    judged, notes = pairs_of(files), [f"Pairs: {', '.join(str(path) for path in files)}; queries: {side}."]
    rows = [row for row, query in enumerate(judged.queries) if side in ("all", side_of(query))]
    if not rows:
        raise click.ClickException(f"{files[0]} has no query on the side `{side}` of the split")
    judged = judged.at(np.array(rows))
    if part or teacher:
        whole = whole_pairs_of(files[0])
        asked = [whole[row] for row in rows]
        opened = open_parts(repository, part, (), threads, teacher)
        if both := sorted(judged.scores.keys() & {one.name for one in opened}):
            raise click.ClickException(f"{', '.join(both)} has scores in a file: name the part or teacher otherwise")
        with _one_sentence():  # evaluate would say it too, after all the work
            check_arm(against, arms_of([*judged.scores, *(one.name for one in opened)]))
        judged = judged.scored({**judged.scores, **{one.name: one.ordering(asked) for one in opened}})
        notes += named(opened, asked)
    if not judged.scores:
        raise click.ClickException(
            f"{files[0]} holds no scores: every line needs them, by the model's name; or --part or --teacher gives them"
        )
    scale = Scale(**scale_of)
    found = _evaluated(judged, scale, against, seed, resamples)
    _keep(outputs, "Judged pairs", found, scale, notes, {"side": side})


@command.command
@repository
@data_folder
@parts_flags
@click.option(
    "--rows", type=click.IntRange(0), default=0, help="Measure so many pairs, of whole queries drawn at random; 0: all."
)
@teacher_flag
@click.option(
    "--scores",
    "scores_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Keep the scores there, as `headrace evaluate pairs` reads them.",
)
@draws_flags
@outputs_flags
def homedepot(
    repository: Path,
    data: Path,
    part: tuple[str, ...],
    against: tuple[str, ...],
    threads: int,
    rows: int,
    teacher: tuple[str, ...],
    scores_file: Path | None,
    resamples: int,
    seed: int,
    outputs: Outputs,
) -> None:
    """Measure students, and teachers, on Home Depot's test queries, of which nothing was ever trained on.

    A cosine is no probability: slope and level are fitted on queries that are neither for training nor for testing.

    Example:
      headrace evaluate homedepot --part distilled=DIGEST --against labels=DIGEST --report homedepot.md
      headrace evaluate homedepot --teacher both=teachers/both --scores teachers.jsonl.gz
    """
    test, held = home_depot_pairs(data, "test", rows, seed), home_depot_pairs(data, "held")
    opened = open_parts(repository, part, against, threads, teacher)
    arm = compared(opened, against)
    scores, notes = {}, named(opened)
    for one in opened:
        scores[one.name], fitted = one.calibrated(test, held)
        if fitted is not None:
            notes.append(
                f"{one.name}: a probability by slope {fitted.slope:.2f} and level {fitted.level:+.2f}, fitted on "
                f"{len(held):,} pairs of other queries."
            )
    judged = test.scored(scores)
    if scores_file is not None:
        judged_pairs.write(scores_file, judged)
    scale = Scale(span=2)
    found = _evaluated(judged, scale, arm, seed, resamples)
    _keep(outputs, "Home Depot, test queries", found, scale, notes, {})


@command.command("robustness")
@repository
@data_folder
@parts_flags
@click.option(
    "--pairs",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Measure on these judged pairs, as `headrace evaluate pairs` reads them; else on Home Depot's test queries.",
)
@positive_flag
@click.option(
    "--rows", type=click.IntRange(0), default=0, help="Home Depot: so many pairs, of whole queries drawn; 0: all."
)
@draws_flags
@outputs_flags
def robustness_(
    repository: Path,
    data: Path,
    part: tuple[str, ...],
    against: tuple[str, ...],
    threads: int,
    files: Path | None,
    positive: float,
    rows: int,
    resamples: int,
    seed: int,
    outputs: Outputs,
) -> None:
    """Measure what typos, word order, units, synonyms and capitals in queries cost: AUC lost, places moved in lists.

    Example:
      headrace evaluate robustness --part adversarial=DIGEST --against plain=DIGEST --report robustness.md
    """
    judged = home_depot_pairs(data, "test", rows, seed) if files is None else pairs_of([files])
    opened = open_parts(repository, part, against, threads)
    arm = compared(opened, against)
    judged, changes = _perturbed(judged, opened, seed)
    found = robustness(judged, changes, Scale(positive=positive), arm, seed, resamples, _drawing())
    for text in robustness_report.terminal(found):
        click.echo(text)
    title = f"Robustness, {'Home Depot, test queries' if files is None else files.name}"
    notes = [f"{len(judged):,} pairs.", *named(opened)]
    outputs.write(
        robustness_report.markdown(title, found, notes),
        partial(robustness_report.png, title, found),
        {"parts": {one.name: one.digest for one in opened}, **robustness_report.numbers(found)},
    )


def _perturbed(judged: Judged, opened: Sequence[ScoredPart], seed: int) -> tuple[Judged, list[Changed]]:
    """The pairs as parts score them, and what they say under each perturbation; one pass over all for each part."""
    others = [asked_otherwise(judged, one, seed) for one in PERTURBATIONS]
    pairs = plain(judged)
    for other in others:
        pairs += [Pair(query, judged.titles[row]) for query, row in zip(other.queries, other.rows, strict=True)]
    scores = {one.name: one.of(pairs) for one in opened}
    before = {name: values[: len(judged)] for name, values in scores.items()}
    after = {name: values[len(judged) :] for name, values in scores.items()}
    return judged.scored(before), changed(others, after)


def _drawing() -> Callable[[int, int], None]:
    """A line that says how many numbers have their intervals, and ends with the last."""
    line = ProgressLine("draw", "numbers")
    return lambda done, total: line(done, total) if done < total else line.end(done, total)


@contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _evaluated(judged: Judged, scale: Scale, against: str, seed: int, resamples: int) -> Evaluation:
    with _one_sentence():
        found = evaluate(judged, scale, against, seed, resamples, _drawing())
    for text in evaluation_report.terminal(found, scale):
        click.echo(text)
    return found


def _keep(
    outputs: Outputs, title: str, found: Evaluation, scale: Scale, notes: Sequence[str], more: Mapping[str, Any]
) -> None:
    outputs.write(
        evaluation_report.markdown(title, found, scale, notes),
        partial(evaluation_report.png, title, found),
        {**more, **evaluation_report.numbers(found, scale)},
    )
