"""Train teachers, fit them together, distil a student."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import torch
from click.core import ParameterSource

from headrace.commands import domain
from headrace.commands.domain import domain_flags
from headrace.commands.options import show_configuration
from headrace.commands.training import (
    core_terms_of,
    counting,
    pairs_flag,
    pairs_of,
    progress,
    rows_for,
    run,
    shared_flags,
    tell,
    together,
)
from headrace.models import distill, ensemble, fitting, pretrained, student, teacher
from headrace.models.calibration import fit_calibration, fit_ensemble
from headrace.models.core_terms import CoreTerms
from headrace.models.home_depot import HOME_DEPOT
from headrace.models.leak_guard import Guard, guarded
from headrace.models.pair_rows import told
from headrace.models.perturbations import mistyped
from headrace.models.prompts import Pair
from headrace.models.training_pairs import TrainingPairs

LOW_RANK_RATE: Final = 2e-4
FULL_RATE: Final = 4e-5
"""Learning rates that worked: low-rank weights bear five times what full ones do."""
LOW_RANK: Final = 16


@click.group
def command() -> None:
    """Train teachers, fit them together, distil a student.

    A teacher is a language model that learns from people's grades; several together are an ensemble; a student is small
    and learns what the ensemble says of many pairs (`headrace label`). All runs go on where they were stopped.

    Example:
      headrace train teacher --pairs judged.jsonl --backbone smollm2 --out teachers/smollm2
    """


rows_flag = click.option(
    "--rows", type=click.IntRange(1), default=None, help="Learn from so many pairs of whole queries, drawn.  [all]"
)


@command.command("teacher")
@pairs_flag
@click.option(
    "--backbone",
    default="smollm2",
    metavar="NAME",
    help=f"{', '.join(pretrained.PACKAGES)}; or a folder, or owner/name on the hub, of a model for transformers.",
)
@click.option(
    "--kind",
    type=click.Choice(["causal", "encoder"]),
    default=None,
    help="Whether another model reads on (a language model) or all at once (a BERT).  [default: causal]",
)
@click.option(
    "--lora-rank",
    type=click.IntRange(0, 512),
    default=None,
    help=f"Of the weights that learn beside fixed ones; 0: all learn.  [default: {LOW_RANK} for causal, 0 for encoder]",
)
@rows_flag
@click.option("--batch", type=click.IntRange(1, 65_536), default=32, help="Pairs a step.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=1, help="Passes over the pairs.")
@click.option("--max-tokens", type=click.IntRange(16, 4096), default=128, help="Of a pair; the item's text is cut.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help=f"At its highest.  [default: {LOW_RANK_RATE:.0e} with --lora-rank, {FULL_RATE:.0e} without]",
)
@shared_flags
def teacher_(**given: Any) -> None:
    """Train a teacher on graded pairs: soft targets, binary cross-entropy, all queries but those held apart.

    Where pairs have neighbours, three of ten are learned without any and half without their own edge.

    Stopped and started again it goes on from the last checkpoint, to the same weights. Started by `torchrun
    --nproc-per-node 2 -m headrace.commands.main train teacher` and so on, it divides each batch among two devices.

    Example:
      headrace train teacher --pairs judged.jsonl --backbone smollm2 --out teachers/smollm2
    """
    with together(given["threads"], given["device"]) as device:
        if fitting.first():
            show_configuration()
        learned = pairs_of(given["source"], given["data"], "train")
        learned = learned if given["rows"] is None else learned.some(given["rows"])
        backbone, kind = _backbone(given["backbone"], given["kind"], given["weights"])
        rank = given["lora_rank"] if given["lora_rank"] is not None else LOW_RANK if kind == "causal" else 0
        config = teacher.TeacherConfig(backbone, kind, rank, given["max_tokens"])
        tell(f"{len(learned):,} pairs to learn from, {kind} teacher from {backbone}")
        one = run(lambda: teacher.open_teacher(config, given["seed"])).to(device)
        course = teacher.TeacherCourse(
            given["learning_rate"] or (LOW_RANK_RATE if rank else FULL_RATE),
            given["batch"],
            given["epochs"],
            given["seed"],
        )
        behaves = any(map(told, learned.pairs))
        shown = _kept_back(learned.pairs, given["seed"]) if behaves else learned.pairs
        rows = run(lambda: teacher.Reader(config)).rows(shown)
        about = {"data": learned.digest(), "batch": given["batch"], **({"guard": True} if behaves else {})}
        with progress("teacher") as say:
            run(lambda: teacher.train(one, rows, learned.targets, course, given["out"], say, about))
        if fitting.first():
            click.echo(f"The teacher: {given['out']}")


@command.command("ensemble")
@pairs_flag
@click.argument("teachers", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@shared_flags
def ensemble_(teachers: Sequence[Path], **given: Any) -> None:
    """Fit one or several TEACHERS together on held-apart queries: weights at least 0, one calibrated scale.

    Example:
      headrace train ensemble --pairs judged.jsonl --out teachers/both teachers/smollm2 teachers/mpnet
    """
    show_configuration()
    with together(given["threads"], given["device"]) as device:
        held = pairs_of(given["source"], given["data"], "held")
        members, logits = [], []
        for place in teachers:
            one = _opened(place, given["weights"]).to(device)
            with counting(f"asking {place.name}") as say:
                read = teacher.predict(one, teacher.Reader(one.config).rows(held.pairs), say=say)
            where = os.path.relpath(place.resolve(), given["out"].resolve())
            member = ensemble.member_of(where, ensemble.digest_of(place), one, read, held)
            logits.append(ensemble.one_logit(one, read, held.pairs, member))
            members.append(member)
        both = np.stack(logits, axis=1)
        weights = fit_ensemble(both, held.targets)
        error = ensemble.held_error(both, held.targets, held.lists())
        ensemble.write(given["out"], members, weights, error)
    said = ", ".join(f"{place.name} x {weight:.3f}" for place, weight in zip(teachers, weights.weights, strict=True))
    click.echo(
        f"The ensemble: {given['out']} ({said}; calibration error {error:.4f} on {len(held):,} held-apart pairs)"
    )


@command.command("student")
@click.option(
    "--labels",
    "source",
    required=True,
    metavar="FILE",
    help=f"Pairs with a teacher's `probability` (`headrace label`), or with people's `label`; or `{HOME_DEPOT}`.",
)
@click.option(
    "--hard", is_flag=True, help="The labels are people's: the point loss alone, since grades have no margins."
)
@click.option(
    "--judged",
    default=None,
    metavar="FILE",
    help=f"Graded pairs, or `{HOME_DEPOT}`: their held queries calibrate it.  [those of --labels]",
)
@click.option(
    "--neighbours/--no-neighbours",
    default=False,
    help="It also reads `query_neighbours` and `item_neighbours` of the pairs, five a side, all alike, through a gate.",
)
@rows_flag
@click.option(
    "--init",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Begin as this student, not as MiniLM: its layers, length, words and extras are kept. With --hard people's"
    " grades correct what a teacher taught.",
)
@click.option("--layers", type=click.Choice(["6", "3"]), default="6", help="Of MiniLM: all, or the 1st, 3rd and 6th.")
@click.option(
    "--adversary",
    type=click.FloatRange(0),
    default=0.0,
    help="Length of the push that the embeddings must bear; 0: none. Takes twice the time.",
)
@click.option(
    "--typos",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="This share of the queries is learned with a slip of the finger in it, of the same probabilities.",
)
@click.option("--max-tokens", type=click.IntRange(8, 512), default=64, help="Of a pair; the longer text is cut.")
@click.option("--batch", type=click.IntRange(1, 65_536), default=96, help="Pairs a step, in whole lists.")
@click.option("--epochs", type=click.IntRange(1, 1000), default=1, help="Passes over the pairs.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, help="At its highest.")
@domain_flags
@shared_flags
def student_(**given: Any) -> None:
    """Distil a student: all-pairs margins within each query's list, and an anchor to the teacher's probabilities.

    With --neighbours three of ten pairs are learned without any, and half without the pair's own edge (the title among
    the query's neighbours, the query among the title's), so that it does not lean on them.

    Example:
      headrace train student --labels labels.jsonl --out students/first
      headrace train student --labels judged.jsonl --hard --init students/first --learning-rate 3e-5 --out second
    """
    with together(given["threads"], given["device"]) as device:
        if fitting.first():
            show_configuration()
        learned = pairs_of(given["source"], given["data"], "train")
        learned = learned if given["rows"] is None else learned.some(given["rows"])
        held = pairs_of(given["judged"] or given["source"], given["data"], "held")
        if given["init"] is None:
            shown = _shown(given, learned, held)
            one, vocabulary, terms = _new(given, learned.teachers, device)
        else:
            one, vocabulary, terms = _started(given, learned.teachers, device)
            shown = _shown(given, learned, held)
        rows = rows_for(one, vocabulary, shown, terms)
        lists = learned.lists()
        tell(f"{len(learned):,} pairs of {lists.max() + 1:,} queries to learn from")
        course, about = _course(given), _about(given, learned, terms)
        with progress("student") as say:
            run(lambda: distill.train(one, rows, learned.targets, lists, course, given["out"], say, about))
        fitted = fit_calibration(student.predict(one, rows_for(one, vocabulary, held.pairs, terms)), held.targets)
        student.calibrated(one, fitted.slope, fitted.level)
        if fitting.first():
            student.save(one, vocabulary, given["out"])
            if terms is not None:
                (given["out"] / student.CORE_TERMS).write_bytes(terms.to_json())
            click.echo(f"The student: {given['out']}; `headrace export {given['out']} --pairs FILE` makes a part of it")


def _new(
    given: dict[str, Any], teachers: tuple[str, ...], device: torch.device
) -> tuple[student.Student, bytes, CoreTerms | None]:
    """A student that begins as MiniLM, with the extras that the flags name; its vocabulary; its core terms."""
    folder = run(lambda: pretrained.folder_of(pretrained.MINILM, given["weights"], tell))
    extras = given["core_terms"], given["neighbours"]
    config = student.StudentConfig(given["max_tokens"], *extras, teachers=teachers)
    kept = (0, 2, 5) if given["layers"] == "3" else None
    one = run(lambda: student.from_encoder(folder, config, kept, given["seed"])).to(device)
    return one, *domain.learned(one, (folder / student.VOCABULARY).read_bytes(), given)


_OF_INIT: Final = ("layers", "neighbours", "max_tokens", "core_terms", "more_words", "catalogue", "reading_steps")


def _started(
    given: dict[str, Any], teachers: tuple[str, ...], device: torch.device
) -> tuple[student.Student, bytes, CoreTerms | None]:
    """The student of ``--init``; the flags become what it is.

    Raises:
        click.UsageError: a flag says what it should be, too.
        click.ClickException: the folder holds none.
    """
    context = click.get_current_context()
    said = [name for name in _OF_INIT if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if said:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in said)
        raise click.UsageError(f"{flags}: a student of --init has its own; leave that out")
    if given["init"].resolve() == given["out"].resolve():
        raise click.UsageError("--init and --out are one folder: the student that it begins as would be lost")
    if not (given["init"] / student.CONFIG).exists():
        begun = (given["init"] / fitting.STATE).exists()
        raise click.ClickException(
            f"--init {given['init']} holds no student: "
            + ("its training is not finished" if begun else "`headrace train student` makes one")
        )
    one, vocabulary = run(lambda: student.load(given["init"]))
    own = one.config = replace(one.config, teachers=tuple(sorted({*one.config.teachers, *teachers})))
    given.update(neighbours=own.neighbours, core_terms=own.core_terms, max_tokens=own.max_tokens)
    return one.to(device), vocabulary, core_terms_of(given["init"], one)


def _shown(given: dict[str, Any], learned: TrainingPairs, held: TrainingPairs) -> Sequence[Pair]:
    """The pairs as the student may see them while it learns: some mistyped, some without all of their neighbours.

    Raises:
        click.ClickException: it should read neighbours, and there are none to learn from or to calibrate by.
    """
    pairs = _guarded(given, learned, held)
    typed = mistyped([pair.query for pair in pairs], given["typos"], given["seed"])
    return [replace(pair, query=query) for pair, query in zip(pairs, typed, strict=True)]


def _guarded(given: dict[str, Any], learned: TrainingPairs, held: TrainingPairs) -> Sequence[Pair]:
    if not given["neighbours"]:
        return learned.pairs
    if given["init"] is not None:  # it reads neighbours already, and without any what it knows of them stays
        return _kept_back(learned.pairs, given["seed"])
    for source, use, pairs in (
        (given["source"], "to learn from", learned),
        (given["judged"] or given["source"], "held apart for calibration", held),
    ):
        if not any(map(told, pairs.pairs)):
            raise click.ClickException(
                f"--neighbours: no pair of {source} {use} has `query_neighbours` or `item_neighbours`, lists of texts,"
                " the strongest first"
            )
    return _kept_back(learned.pairs, given["seed"])


def _kept_back(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """The pairs without the neighbours that the leak guard keeps back; which these are depends on the seed alone."""
    random = np.random.default_rng(seed)
    return [guarded(pair, random, Guard()) for pair in pairs]


def _about(given: dict[str, Any], learned: TrainingPairs, terms: CoreTerms | None) -> dict[str, str | int | float]:
    named = {name: given[name] for name in ("max_tokens", "core_terms", "more_words", "reading_steps")}
    catalogue = {} if terms is None else {"catalogue": hashlib.blake2b(terms.to_json(), digest_size=8).hexdigest()}
    # Not said where they are off: a training that began before there were these flags goes on.
    extra: dict[str, str | int | float] = {"neighbours": True} if given["neighbours"] else {}
    if given["typos"]:
        extra["typos"] = given["typos"]
    if given["init"] is not None:
        extra["init"] = hashlib.blake2b((given["init"] / student.WEIGHTS).read_bytes(), digest_size=8).hexdigest()
    return {"data": learned.digest(), **named, **extra, **catalogue}


def _course(given: dict[str, Any]) -> distill.DistillCourse:
    return distill.DistillCourse(
        given["learning_rate"],
        given["batch"],
        epochs=given["epochs"],
        seed=given["seed"],
        margin=0.0 if given["hard"] else 1.0,
        anchor=1.0 if given["hard"] else 0.1,
        adversary=distill.Adversary(given["adversary"]) if given["adversary"] else None,
    )


def _backbone(name: str, kind: teacher.Kind | None, weights: Path) -> tuple[str, teacher.Kind]:
    """What ``transformers`` opens, and how it reads: of a package, of a folder, or of the hub."""
    package = pretrained.PACKAGES.get(name)
    if package is not None:
        if kind not in (None, package.kind):
            raise click.UsageError(f"--backbone {name} is of the kind {package.kind}, not {kind}: leave --kind out")
        return str(run(lambda: pretrained.folder_of(package, weights, tell)).resolve()), package.kind
    folder = Path(name)
    if folder.is_dir():
        for needed in ("config.json", "tokenizer.json"):
            if not (folder / needed).exists():
                raise click.ClickException(f"--backbone {name} has no {needed}: it is not the folder of a model")
        return str(folder.resolve()), kind or "causal"
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise click.ClickException(
            f"--backbone {name} is neither {', '.join(pretrained.PACKAGES)} nor a model's folder"
        )
    return name, kind or "causal"


def _opened(place: Path, weights: Path) -> teacher.Teacher:
    if not (place / teacher.CONFIG).exists():
        raise click.ClickException(
            f"{place} holds no teacher that is trained to its end: `headrace train teacher` does"
        )
    lay = Path(json.loads((place / teacher.CONFIG).read_text(encoding="utf-8"))["backbone"])
    return run(lambda: teacher.load(place, None if lay.is_dir() else weights))
