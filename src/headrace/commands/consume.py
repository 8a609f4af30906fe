"""Turn the events of a topic into state in Redis, until stopped."""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from headrace.commands.brokers import speaking_to
from headrace.commands.consumption import Consumption, Stopped, consumption, quieten_kafka, tune_runtime, worker_name
from headrace.commands.options import bootstrap_servers, namespace, redis_url, show_configuration
from headrace.commands.recipes import current_or_first, durability, recipe_flags, redis_settings, topic
from headrace.streams.bulk import BulkDriver, BulkSettings
from headrace.streams.consumer_meters import ConsumerMeters, new_registry, serve_meters
from headrace.streams.redis_generations import Generations
from headrace.streams.watch import Watch

if TYPE_CHECKING:
    from headrace.streams.live import LiveDriver


@click.command
@bootstrap_servers
@redis_url
@namespace
@topic
@click.option(
    "--driver",
    type=click.Choice(["live", "bulk"]),
    default="live",
    help="live: faust-streaming, some hundred events at a time; bulk: kafka-python, thousands. They leave equal state.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Answer /metrics and /livez on this port; 0: do not.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    help="Where --metrics-port listens. There is no token: any but a loopback address belongs into a closed network.",
)
@click.option(
    "--stall-seconds",
    type=click.FloatRange(1),
    default=60.0,
    help="/livez fails when a partition with records waiting stands still for longer: let the supervisor restart it.",
)
@durability
@recipe_flags
def command(
    bootstrap_servers: str,
    redis_url: str,
    namespace: str,
    topic: str,
    driver: str,
    durability: str,
    replicas: int,
    metrics_port: int,
    metrics_host: str,
    stall_seconds: float,
    **flags: Any,
) -> None:
    """Turn the events of a topic into state in Redis, until SIGTERM or SIGINT.

    Fills the generation that is read; the first worker makes it, from the beginning of the log. When another generation
    becomes the one that is read, it settles and goes on with that one. Any number of workers may run: they share the
    partitions. A worker that dies loses nothing and counts nothing twice.

    Example:
      headrace consume --driver bulk --metrics-port 9464
    """
    show_configuration()
    quieten_kafka()
    tune_runtime()
    stopped = Stopped()
    meters = _meters(topic, (metrics_host, metrics_port), stall_seconds)
    settings = redis_settings(redis_url, durability, replicas, worker_name())
    while not stopped():
        with speaking_to(bootstrap_servers), Generations(settings, namespace) as generations:
            generation = current_or_first(generations, bootstrap_servers, topic, flags)
            click.echo(f"filling generation {generation.name} of namespace {namespace} from {topic}", err=True)
            pieces = consumption(generation, namespace, bootstrap_servers, settings)
            watch = Watch(Generations(settings, namespace), generation, bootstrap_servers)
            watch.start()
            try:
                _driver(driver, pieces, (bootstrap_servers, namespace), partial(_ended, stopped, watch), meters).run()
            finally:
                watch.end()
                pieces.close()
        if watch.changed is not None:
            raise watch.changed
        if watch.moved_to is not None:
            click.echo(f"generation {watch.moved_to} is the one that is read now: going on with it", err=True)


def _ended(stopped: Stopped, watch: Watch) -> bool:
    return stopped() or watch.verdict


def _meters(topic: str, where: tuple[str, int], stall_s: float) -> ConsumerMeters:
    """The metrics, and where a port is given the server that shows them; where is (host, port)."""
    registry = new_registry()
    host, port = where
    meters = ConsumerMeters(registry, topic, stall_s)

    def alive() -> str:
        if meters.stalled:
            return f"partitions {meters.stalled} have records waiting and have stood still for {stall_s:.0f} s"
        silent_s = time.monotonic() - meters.looked_s
        return f"the driver has said nothing for {silent_s:.0f} s" if silent_s > stall_s else ""

    if port:
        try:
            serve_meters(registry, alive, port, host)
        except OSError as error:
            raise click.ClickException(
                f"--metrics-port {port} of {host}: {error.strerror}. Take another one."
            ) from error
    return meters


def _driver(
    name: str, pieces: Consumption, where: tuple[str, str], stop: Callable[[], bool], meters: ConsumerMeters
) -> "BulkDriver | LiveDriver":
    """The driver of a name; where is (brokers, namespace)."""
    if name == "bulk":
        return BulkDriver(BulkSettings(*where), pieces.generation, pieces.ingestion, stop, meters)
    from headrace.streams.live import LiveDriver, LiveSettings  # faust takes a second to load: only who wants it waits

    return LiveDriver(LiveSettings(*where), pieces.generation, pieces.ingestion, stop, meters)
