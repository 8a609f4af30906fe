"""The simulator of faults as a command: ``simulate.py --schedules 100000``; the last line says how it went.

A schedule that breaks a law is printed with the command that runs it alone. ``--mutation NAME`` breaks a rule on
purpose and searches for a schedule that shows it; ``--mutation all`` does so for each, as a table.
"""

import sys
from pathlib import Path
from time import monotonic
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from mutations import MUTATIONS
from simulation import Finding, first_finding, mutation_named, run_many


@click.command(context_settings={"auto_envvar_prefix": "HEADRACE"})
@click.option("--schedules", default=2_000, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="Of the first one; the others follow.")
@click.option("--jobs", default=2, show_default=True, help="Processes.")
@click.option("--mutation", default="", help="Break this rule; 'all' for a table of every one.")
def main(schedules: int, seed: int, jobs: int, mutation: str) -> None:
    """Run seeded schedules of faults against the real ingestion."""
    if mutation == "all":
        for one in MUTATIONS:
            show_mutation(one.name, seed, schedules)
    elif mutation:
        if mutation not in {one.name for one in MUTATIONS}:
            raise click.UsageError(f"no mutation {mutation!r}: " + ", ".join(one.name for one in MUTATIONS))
        show_mutation(mutation, seed, schedules, whole=True)
    else:
        run(seed, schedules, jobs)


def run(seed: int, schedules: int, jobs: int) -> None:
    """The real system; ends with status 1 when a law was broken."""
    began, broken = monotonic(), 0
    with click.progressbar(length=schedules, label="schedules", file=sys.stderr) as bar:
        for finding in run_many(seed, schedules, jobs if schedules > 1 else 1, lambda done: tell(bar, done)):
            broken += 1
            show(finding, whole=schedules == 1)
    took_s = monotonic() - began
    click.echo(f"{schedules} schedules from seed {seed}: {broken} broke a law ({took_s:.0f} s, {jobs} processes)")
    sys.exit(1 if broken else 0)


def tell(bar: Any, done: int) -> None:
    """Moves the bar; where nobody sees it, a line for each tenth."""
    tenth = 10 * bar.pos // bar.length
    bar.update(done)
    if not sys.stderr.isatty() and 10 * bar.pos // bar.length > tenth:
        click.echo(f"{bar.pos} of {bar.length}", err=True)


def show_mutation(name: str, seed: int, within: int, whole: bool = False) -> None:
    """One line: how many schedules it takes until the mutation shows."""
    began = monotonic()
    count, finding = first_finding(mutation_named(name), seed, within)
    if finding is None:
        click.echo(f"{name:30} not shown in {count} schedules ({monotonic() - began:.1f} s)")
    else:
        click.echo(f"{name:30} {count:6} schedules ({monotonic() - began:.1f} s): {finding.differences[0][:90]}")
        if whole:
            show(finding, whole=True)


def show(finding: Finding, whole: bool) -> None:
    """The differences of one schedule, and how to run it again."""
    lines = finding.differences if whole else finding.differences[:3]
    click.echo("\n".join((f"\nseed {finding.seed}:", *lines, finding.replay)))


if __name__ == "__main__":
    main()
