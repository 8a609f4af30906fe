"""Fill a new generation from the log beside the living one, then let everybody read it."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import Stopped, consumption, quieten_kafka, tune_runtime, worker_name
from headrace.commands.options import bootstrap_servers, namespace, redis_url, show_configuration
from headrace.commands.progress import ProgressLine
from headrace.commands.recipes import (
    chosen,
    durability,
    known_source,
    made,
    opened,
    recipe_flags,
    redis_settings,
    topic,
)
from headrace.streams.bulk import BulkDriver, BulkSettings
from headrace.streams.generations import Generation, Recipe, check_beginning
from headrace.streams.log_extent import log_extent
from headrace.streams.redis_generations import Generations
from headrace.streams.topics import check_source
from headrace.streams.watch import Watch

_FRESH_S: Final = 5.0


@click.command
@bootstrap_servers
@redis_url
@namespace
@topic
@click.option(
    "--partial",
    is_flag=True,
    help="Build from what the log still holds. Counts and sequences then begin there, and the generation says so.",
)
@click.option("--resume", metavar="GENERATION", help="Go on with a build that was interrupted.")
@click.option("--follow", is_flag=True, help="Keep it fresh until stopped, instead of leaving that to `consume`.")
@durability
@recipe_flags
def command(
    bootstrap_servers: str,
    redis_url: str,
    namespace: str,
    topic: str,
    partial: bool,
    resume: str | None,
    follow: bool,
    durability: str,
    replicas: int,
    **flags: Any,
) -> None:
    """Fill a new generation from the log beside the living one, then let everybody read it.

    The way to other bounds, another normaliser, another format, or a topic with other partitions. It is read, and
    `consume` goes on with it, once everything that the log held at most five seconds ago is durable in it.

    Example:
      headrace rebuild --window-days 60
    """
    show_configuration()
    quieten_kafka()
    tune_runtime()
    stopped = Stopped()
    settings = redis_settings(redis_url, durability, replicas, worker_name())
    with speaking_to(bootstrap_servers), Generations(settings, namespace) as generations:
        before = generations.current()
        generation = (
            _resumed(generations, bootstrap_servers, topic, resume, flags)
            if resume
            else _begun(generations, bootstrap_servers, topic, partial, flags)
        )
        click.echo(f"filling generation {generation.name} of namespace {namespace} from {topic}", err=True)
        pieces = consumption(generation, namespace, bootstrap_servers, settings)
        watch = Watch(Generations(settings, namespace), generation, bootstrap_servers, follow=False)
        catching_up = CatchingUp(generation, bootstrap_servers)
        watch.start()
        try:
            BulkDriver(
                BulkSettings(bootstrap_servers, namespace),
                generation,
                pieces.ingestion,
                stop=lambda: stopped() or watch.verdict or catching_up.done,
                progress=catching_up,
            ).run()
            if watch.changed is not None:
                raise watch.changed
            if not catching_up.done:
                raise click.ClickException(
                    f"Stopped before the end: `headrace rebuild --resume {generation.name}` goes on,"
                    f" `headrace generations drop {generation.name}` deletes what there is."
                )
            generation = generations.ready(generation)
            _let_read(generations, generation, before)
            if follow and not stopped():
                click.echo("following until stopped", err=True)
                BulkDriver(
                    BulkSettings(bootstrap_servers, namespace),
                    generation,
                    pieces.ingestion,
                    stop=lambda: stopped() or watch.verdict,
                ).run()
            if watch.changed is not None:
                raise watch.changed
        finally:
            watch.end()
            pieces.close()
    _say(generation, before, dict(pieces.ingestion.outcomes))


class CatchingUp:
    """Decides when a build has caught up, and shows how far it is.

    Attributes:
        done: everything that the log held at most five seconds ago is durable.
    """

    def __init__(self, generation: Generation, bootstrap: str) -> None:
        self.done = False
        self._generation, self._bootstrap = generation, bootstrap
        self._line = ProgressLine("rebuild")
        self._targets: dict[int, int] = {}
        self._asked_s = float("-inf")

    def __call__(self, driver: BulkDriver) -> None:
        """Looks at the driver between two batches."""
        if not driver.assigned:
            return
        if not self._targets:
            self._ask()
        positions = {partition: driver.committed.get(partition, 0) for partition in self._targets}
        begins = sum(self._generation.begins)
        done, total = sum(positions.values()) - begins, sum(self._targets.values()) - begins
        self._line(done, total)
        if all(positions[partition] >= end for partition, end in self._targets.items()):
            if time.monotonic() - self._asked_s <= _FRESH_S:
                self._line.end(done, total)
                self.done = True
            else:
                self._ask()

    def _ask(self) -> None:
        source = self._generation.source
        self._asked_s = time.monotonic()
        extent = log_extent(self._bootstrap, source.topic, source.partitions)
        self._targets = {partition: end for partition, (_, end) in extent.items()}


def _begun(generations: Generations, bootstrap: str, topic: str, partial: bool, flags: Mapping[str, Any]) -> Generation:
    source = known_source(bootstrap, topic)
    extent = log_extent(bootstrap, topic, source.partitions)
    begins = tuple(extent[partition][0] for partition in range(source.partitions))
    if not partial:
        check_beginning(topic, begins)
    current = generations.current()
    meta = generations.find(current) if current is not None else None
    base = meta.recipe if meta is not None else Recipe()
    generation = made(source, begins, chosen(base, flags), "building", partial=any(begins))
    generations.write(generation)
    return generation


def _resumed(generations: Generations, bootstrap: str, topic: str, name: str, flags: Mapping[str, Any]) -> Generation:
    generation = opened(generations, name, flags)
    if generation.build != "building":
        raise click.ClickException(f"Generation {name} is not being built any more: `consume` goes on with it.")
    check_source(generation.source, known_source(bootstrap, topic))
    return generation


def _let_read(generations: Generations, generation: Generation, before: str | None) -> None:
    if not generations.move(generation.name, before):
        raise click.ClickException(
            f"While {generation.name} was built, {generations.current()} became the generation that is read instead of"
            f" {before}. {generation.name} is ready: `headrace generations use {generation.name}` lets everybody read"
            " it."
        )


def _say(generation: Generation, before: str | None, outcomes: Mapping[str, int]) -> None:
    said = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items())) or "no record"
    click.echo(f"generation {generation.name} is read now: {said}")
    if generation.partial:
        click.echo("it is partial: the log no longer held its beginning")
    if before is not None:
        click.echo(f"the one before, {before}, is still there: `headrace generations drop {before}` deletes it")
