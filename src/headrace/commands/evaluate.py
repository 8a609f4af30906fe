"""Measure a student on public data: evaluate icecat."""

import json
import time
from pathlib import Path

import click

from headrace.commands.options import json_file, repository
from headrace.models.bundle import champion, read_bundle
from headrace.models.icecat import judged_lists, ndcg
from headrace.models.metrics import bootstrap
from headrace.online.scorer import Encoder, cosine


@click.group
def command() -> None:
    """Measure a student on public data.

    Example:
      headrace evaluate icecat --data ../shared/data
    """


@command.command
@repository
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADRACE_DATA",
    default=Path("../shared/data"),
    metavar="FOLDER",
    help="The folder that holds icecat/.",
)
@click.option("--part", default="", metavar="DIGEST", help="The student to measure. [default: the champion's]")
@click.option("--threads", type=click.IntRange(1, 256), default=1, help="Batches computed at a time.")
@json_file
def icecat(repository: Path, data: Path, part: str, threads: int, json_file: Path | None) -> None:
    """Re-rank Icecat's judged lists by the student's score of the title: nDCG@10, nothing trained on them.

    Example:
      headrace evaluate icecat --data ../shared/data --threads 2 --json icecat.json
    """
    try:
        lists = judged_lists(data)
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(f"{error}; name the folder with --data") from error
    digest = part or _student(repository)
    encoder = Encoder(repository / "parts" / digest, threads)
    texts = [text for judged in lists for text in (judged.query, *judged.titles)]
    began = time.perf_counter()
    vectors = encoder.encode(texts)
    seconds = time.perf_counter() - began
    values, row = [], 0
    for judged in lists:
        end = row + 1 + len(judged.titles)
        values.append(ndcg(cosine(vectors[row], vectors[row + 1 : end]), judged.ratings))
        row = end
    quality = bootstrap(values, range(len(values)))
    found = {
        "part": digest,
        "lists": len(lists),
        "pairs": len(texts) - len(lists),
        "ndcg_at_10": {"mean": quality.mean, "low": quality.low, "high": quality.high},
        "texts_per_s": len(texts) / seconds,
        "threads": threads,
    }
    click.echo(f"student {digest}")
    click.echo(f"nDCG@10 {quality.mean:.4f} ({quality.low:.4f} to {quality.high:.4f}), {len(lists)} lists")
    click.echo(f"{len(texts)} texts in {seconds:.1f} s, {len(texts) / seconds:.0f} a second, {threads} at a time")
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _student(repository: Path) -> str:
    current = champion(repository)
    parts = read_bundle(repository, current.version).manifest.parts if current else {}
    if "student" not in parts:
        raise click.ClickException(
            f"{repository} has no champion with a student: name one with --part, or run headrace parts build --publish"
        )
    return parts["student"]
