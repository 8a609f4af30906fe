"""The flags that say how records become state, and the generation a verb works on."""

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import click
import msgspec

from headrace import SourceChanged
from headrace.commands.options import SharedOption
from headrace.streams.generations import (
    Generation,
    Recipe,
    check_beginning,
    decode_generation,
    differences,
    new_name,
    refusal,
)
from headrace.streams.log_extent import log_extent
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import RedisSettings
from headrace.streams.topics import DEAD, EVENTS, LATE, Source, admin_of, check_source, find_topics, source_of

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000

# flag -> (part of the recipe, its field, factor to the field's unit, help)
_NUMBERS: Final[dict[str, tuple[str, str, int, str]]] = {
    "search_minutes": ("bounds", "search_ms", _MINUTE_MS, "How long a search stays open on the shopper's clock."),
    "searches": ("bounds", "searches", 1, "Open searches a shopper keeps; the oldest leaves first."),
    "sequence": ("bounds", "sequence", 1, "Records of a lifelong sequence."),
    "window_days": ("bounds", "window_days", 1, "Days whose exposures and clicks an edge keeps."),
    "floor": (
        "bounds",
        "floor",
        1,
        "Exposures from which an edge is copied to its item: half of what a neighbour needs.",
    ),
    "query_items": ("bounds", "query_items", 1, "Items a query keeps."),
    "late_hours": ("limits", "late_ms", _HOUR_MS, "An event older than its record by more goes to <topic>.late."),
    "future_minutes": ("limits", "future_ms", _MINUTE_MS, "An event newer than its record by more is dead-lettered."),
    "record_bytes": ("limits", "record_bytes", 1, "A larger record is dead-lettered."),
    "items": ("limits", "items", 1, "Items one record may show."),
}


def topic(function: Decorated) -> Decorated:
    """Adds ``--topic``, passed as ``topic: str``."""
    return click.option(
        "--topic",
        cls=SharedOption,
        envvar="HEADRACE_TOPIC",
        default=EVENTS,
        metavar="NAME",
        help="The topic of shoppers' events; `headrace topics create` makes it.",
    )(function)


def durability(function: Decorated) -> Decorated:
    """Adds ``--durability`` and ``--replicas``."""
    function = click.option(
        "--replicas",
        type=click.IntRange(1),
        default=1,
        help="Replicas that must have synced, for --durability replicas.",
    )(function)
    return click.option(
        "--durability",
        type=click.Choice(["memory", "disk", "replicas"]),
        default="disk",
        help="What must be true of a write before its offset is acknowledged: answered, synced to the append-only file"
        " (Redis >= 7.2 or Valkey, appendonly yes), or synced on replicas too. With memory a Redis that loses its last"
        " moment loses it for good.",
    )(function)


def recipe_flags(function: Decorated) -> Decorated:
    """Adds the flags of a recipe; `chosen` reads them. Not given: as the generation says, else the default."""
    function = click.option(
        "--hits-are-exposures",
        is_flag=True,
        default=None,
        help="The hits of a query count as shown: for sources that send no impressions.",
    )(function)
    function = click.option(
        "--partitioner",
        type=click.Choice(["murmur2", "crc32"]),
        default=None,
        help="Where producers put a key: murmur2 as Java, kafka-python and aiokafka, crc32 as librdkafka's default."
        " With the wrong one most records are dead-lettered as misrouted.  [new generations: murmur2]",
    )(function)
    defaults = Recipe()
    for name, (part, field, factor, text) in reversed(_NUMBERS.items()):
        default = getattr(getattr(defaults, part), field) // factor
        flag = "--" + name.replace("_", "-")
        text = f"{text}  [new generations: {default}]"
        function = click.option(flag, type=click.IntRange(1), default=None, help=text)(function)
    return function


RECIPE_FLAGS: Final = (*_NUMBERS, "partitioner", "hits_are_exposures")


def chosen(base: Recipe, flags: Mapping[str, Any]) -> Recipe:
    """A recipe with those settings changed that were given as flags."""
    bounds: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, (part, field, factor, _) in _NUMBERS.items():
        if flags.get(name) is not None:
            (bounds if part == "bounds" else limits)[field] = flags[name] * factor
    if flags.get("hits_are_exposures"):
        bounds["hits_are_exposures"] = True
    return Recipe(
        bounds=replace(base.bounds, **bounds),
        limits=msgspec.structs.replace(base.limits, **limits),
        partitioner=flags.get("partitioner") or base.partitioner,
    )


def opened(generations: Generations, name: str, flags: Mapping[str, Any]) -> Generation:
    """The generation of a name, if this worker may write it.

    Raises:
        click.ClickException: it is not there, or this worker would fold otherwise: each difference is named.
    """
    meta = generations.meta(name)
    if meta is None:
        raise click.ClickException(
            f"There is no generation {name} in namespace {generations.namespace}, though it is the one to be read:"
            " Redis lost data, or it was dropped. `headrace rebuild` fills a new one."
        )
    generation = decode_generation(meta)
    found = differences(meta, chosen(generation.recipe, flags))
    if found:
        raise click.ClickException(refusal(name, found))
    return generation


def made(source: Source, begins: tuple[int, ...], recipe: Recipe, build: Any, partial: bool = False) -> Generation:
    """A new generation as a value, named by the present time and chance."""
    now_ms = time.time_ns() // 1_000_000
    name = new_name(now_ms, secrets.token_hex(2))
    return Generation(name, recipe, source, begins, partial, now_ms, build)


def known_source(bootstrap: str, topic: str) -> Source:
    """The log that a topic's name stands for now; its letters' topics must be there too.

    Raises:
        SourceChanged: there is no such topic.
        click.ClickException: there is no place for records that cannot be used: the first one would stop its partition.
    """
    source = source_of(bootstrap, topic)
    with admin_of(bootstrap) as admin:
        there = find_topics(admin, [topic + DEAD, topic + LATE])
    missing = [name for name in (topic + DEAD, topic + LATE) if name not in there]
    if missing:
        raise click.ClickException(
            f"There is no topic {' and no topic '.join(missing)}: the first record that cannot be used would stop its"
            " partition. `headrace topics create` makes them."
        )
    return source


def current_or_first(generations: Generations, bootstrap: str, topic: str, flags: Mapping[str, Any]) -> Generation:
    """The generation that is read; when nothing was ever built, the first one, from the log's beginning.

    Raises:
        SourceChanged: the topic is not the one it was built from, or no longer holds its beginning.
        click.ClickException: this worker would fold otherwise.
    """
    source = known_source(bootstrap, topic)
    name = generations.current()
    if name is None:
        extent = log_extent(bootstrap, topic, source.partitions)
        begins = tuple(extent[partition][0] for partition in range(source.partitions))
        check_beginning(topic, begins)
        first = made(source, begins, chosen(Recipe(), flags), "ready")
        generations.write(first)
        if generations.move(first.name, None):
            return first
        generations.drop(first.name)  # another worker was faster
        name = generations.current()
        if name is None:
            raise SourceChanged("The alias vanished while it was read: is something else deleting keys of this Redis?")
    generation = opened(generations, name, flags)
    check_source(generation.source, source)
    return generation


def redis_settings(redis_url: str, durability: str, replicas: int, worker: str) -> RedisSettings:
    """How a worker uses Redis, from its flags."""
    return RedisSettings(redis_url, durability, replicas, worker)  # type: ignore[arg-type]  # click.Choice holds it
