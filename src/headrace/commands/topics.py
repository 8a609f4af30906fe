"""Make the topics with stated partitions and settings, or list what is there."""

import sys

import click

from headrace.commands.brokers import speaking_to
from headrace.commands.options import bootstrap_servers
from headrace.streams.topics import PARTITIONS, admin_of, all_topics, create_topics, differences, find_topics


@click.group
def command() -> None:
    """Make the topics with stated partitions and settings, or list what is there.

    Example:
      headrace topics create --partitions 8 --replication-factor 3
    """


def _suffix_of(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    allowed = "abcdefghijklmnopqrstuvwxyz0123456789."
    if value and (not value.startswith(".") or value.endswith(".") or set(value) - set(allowed) or ".." in value):
        raise click.BadParameter("a dot, then a-z, 0-9 and dots: .shop2", ctx, parameter)
    return value


suffix = click.option(
    "--suffix",
    default="",
    callback=_suffix_of,
    help="Put behind every topic's name, for a second installation on the same brokers.",
)


@command.command
@bootstrap_servers
@suffix
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    default=PARTITIONS,
    help="Of every topic. For life: the way to another number is a copy of the log and a rebuild.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(-1, 15),
    default=-1,
    help="Copies of each partition; -1 as the brokers do. From 3 on, all but one must have a record before it counts.",
)
@click.option(
    "--retention-days",
    type=click.IntRange(1),
    default=None,
    help="How long features and labels stay, by their Kafka timestamp; for ever if not given. Events always stay.",
)
def create(
    bootstrap_servers: str, suffix: str, partitions: int, replication_factor: int, retention_days: int | None
) -> None:
    """Make the topics that are not there; those that are there are compared and left as they are.

    Ends with 1 when one that is there differs from what was asked for.

    Example:
      headrace topics create --partitions 8 --replication-factor 3 --retention-days 90
    """
    if replication_factor == 0:
        raise click.UsageError("--replication-factor is -1 or at least 1")
    asked = all_topics(partitions, replication_factor, retention_days, suffix)
    differ = 0
    with speaking_to(bootstrap_servers), admin_of(bootstrap_servers) as admin:
        made = set(create_topics(admin, asked))
        found = find_topics(admin, [topic.name for topic in asked])
        for topic in asked:
            if topic.name in made:
                click.echo(f"{topic.name}: made, {topic.partitions} partitions")
                continue
            otherwise = differences(topic, found[topic.name])
            click.echo(f"{topic.name}: was there{', and differs:' if otherwise else ''}")
            for sentence in otherwise:
                click.echo(f"  {sentence}")
            differ += bool(otherwise)
    if differ:
        click.echo(f"{differ} of {len(asked)} topics differ from what was asked for; nothing of them was changed.")
        sys.exit(1)


@command.command(name="list")
@bootstrap_servers
@suffix
def list_(bootstrap_servers: str, suffix: str) -> None:
    """List Headrace's topics: partitions, replicas, policy, retention, id.

    Example:
      headrace topics list
    """
    asked = all_topics(suffix=suffix)
    with speaking_to(bootstrap_servers), admin_of(bootstrap_servers) as admin:
        found = find_topics(admin, [topic.name for topic in asked])
    width = max(len(topic.name) for topic in asked)
    click.echo(f"{'topic':<{width}}  partitions  replicas  policy   retention.ms   id")
    for topic in asked:
        there = found.get(topic.name)
        if there is None:
            click.echo(f"{topic.name:<{width}}  not there: `headrace topics create` makes it")
            continue
        policy, retention_ms = there.settings.get("cleanup.policy", "?"), there.settings.get("retention.ms", "?")
        click.echo(
            f"{there.name:<{width}}  {there.partitions:>10}  {there.replicas:>8}  {policy:<7}"
            f"  {'-' if policy == 'compact' else retention_ms:<13}  {there.topic_id}"
        )
