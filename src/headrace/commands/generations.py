"""List the builds of the state, let another one be read, delete one."""

import sys

import click

from headrace.commands.options import namespace, redis_url
from headrace.commands.recipes import durability, redis_settings
from headrace.streams.redis_generations import Generations
from headrace.streams.ubi import rfc3339


@click.group
def command() -> None:
    """List the builds of the state, let another one be read, delete one.

    Example:
      headrace generations list
    """


@command.command(name="list")
@redis_url
@namespace
def list_(redis_url: str, namespace: str) -> None:
    """List the generations of a namespace, oldest first; a star marks the one that is read.

    Example:
      headrace generations list --namespace shop2
    """
    with Generations(redis_settings(redis_url, "memory", 1, "generations"), namespace) as generations:
        current = generations.current()
        found = [one for name in generations.names() if (one := generations.find(name)) is not None]
    if not found:
        click.echo(f"no generation in namespace {namespace}: `headrace consume` or `headrace rebuild` makes the first")
        return
    click.echo("   name                   build     created               partitions  begins     topic")
    for one in found:
        click.echo(
            f"{'*' if one.name == current else ' '}  {one.name:<21}  {one.build:<8}  {rfc3339(one.created_ms)[:19]}Z"
            f"  {one.source.partitions:>10}  {'partial' if one.partial else 'whole':<9}  {one.source.topic}"
        )


@command.command
@redis_url
@namespace
@durability
@click.argument("name")
def use(redis_url: str, namespace: str, durability: str, replicas: int, name: str) -> None:
    """Let everybody read generation NAME; `consume` goes on with it from where its group stopped.

    Example:
      headrace generations use g20261121-184512-k3f9x2
    """
    with Generations(redis_settings(redis_url, durability, replicas, "generations"), namespace) as generations:
        before = generations.current()
        if not generations.move(name, before):
            raise click.ClickException(f"Another one than {before} is read by now; look again: `generations list`.")
    click.echo(f"generation {name} is read now, instead of {before}")


@command.command
@redis_url
@namespace
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("name")
def drop(redis_url: str, namespace: str, yes: bool, name: str) -> None:
    """Delete generation NAME. It can only come again from the log.

    Example:
      headrace generations drop g20261121-184512-k3f9x2 --yes
    """
    with Generations(redis_settings(redis_url, "memory", 1, "generations"), namespace) as generations:
        if name not in generations.names() and generations.meta(name) is None:
            raise click.ClickException(f"There is no generation {name} in namespace {namespace}.")
        if generations.current() == name:
            raise click.ClickException(
                f"Generation {name} is the one that is read: build another one (`headrace rebuild`) or let another one"
                " be read (`headrace generations use`) first."
            )
        if not yes:
            click.confirm(f"Delete generation {name} of namespace {namespace} for good?", abort=True)
        gone = generations.drop(name, _told)
    click.echo(f"generation {name} is gone: {gone:,} keys")


def _told(gone: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{gone:,} keys", nl=False, err=True)
