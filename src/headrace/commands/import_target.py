"""Where an import goes: a topic of ours that takes old records and keeps them."""

import click

from headrace.commands.brokers import speaking_to
from headrace.streams.topics import FoundTopic, admin_of, find_topics


def import_target(bootstrap: str, topic: str, *beside: str) -> FoundTopic:
    """The topic that an import fills.

    Args:
        bootstrap: its brokers.
        topic: its name.
        beside: topics that must be there too.

    Raises:
        click.ClickException: it is not there, does not take records with their own time, or Kafka does not answer.
    """
    with speaking_to(bootstrap), admin_of(bootstrap) as admin:
        there = find_topics(admin, [topic, *beside])
    for name in (topic, *beside):
        if name not in there:
            raise click.ClickException(f"There is no topic {name}. `headrace topics create` makes it.")
    found = there[topic]
    if found.settings.get("message.timestamp.type") != "CreateTime":
        raise click.ClickException(f"{topic} overwrites timestamps: set message.timestamp.type=CreateTime first.")
    if found.settings.get("cleanup.policy") != "compact" and found.settings.get("retention.ms") != "-1":
        click.echo(
            f"Warning: {topic} forgets records older than {found.settings.get('retention.ms')} ms by their own time:"
            " older ones of this import will be deleted soon. Set retention.ms=-1 to keep them.",
            err=True,
        )
    return found
