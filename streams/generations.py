"""A generation: one build of the whole state, what it was built from and with, as a value.

Two workers may write the same generation only if they fold alike: the same version of the fold, bounds, limits,
normaliser and partitioner, and the same log. All of that stands in the generation's meta (JSON, under ``Keys.meta``);
whoever opens it compares. Nothing here talks to Redis or Kafka: ``redis_generations`` does.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from msgspec import Struct

from headrace import SourceChanged
from headrace.streams.events import EventLimits
from headrace.streams.partitioners import Partitioner
from headrace.streams.searches import FOLD_VERSION, StateBounds
from headrace.streams.topics import Source

FORMAT: Final = 1
NORMALISER: Final = "nfkc-casefold-spaces-1"
"""Names what ``identity.normalise`` does; changes with it."""

Scalar = str | int | float | bool | None


class Recipe(Struct, frozen=True):
    """How records become state: everything two workers must share to leave equal state.

    Attributes:
        fold_version: of ``searches.fold``.
        normaliser: what is done to a query's text before it is hashed.
        partitioner: to which partition a shopper belongs.
        bounds: of the state.
        limits: of a record.
    """

    bounds: StateBounds = StateBounds()
    limits: EventLimits = EventLimits()
    partitioner: Partitioner = "murmur2"
    fold_version: int = FOLD_VERSION
    normaliser: str = NORMALISER


class Generation(Struct, frozen=True):
    """One build of the state.

    Attributes:
        name: sorts by the time it was made; never used twice.
        recipe: how it is built.
        source: the log it is built from.
        begins: for each partition the first offset that is in it.
        partial: the log no longer held its beginning when the build began.
        created_ms: when it was made.
        build: ``building`` until everything up to the end of the log, as a rebuild found it, is in it.
    """

    name: str
    recipe: Recipe
    source: Source
    begins: tuple[int, ...]
    partial: bool
    created_ms: int
    build: Literal["building", "ready"]
    format: int = FORMAT


def new_name(now_ms: int, token: str) -> str:
    """A name that sorts by time.

    Args:
        now_ms: the time.
        token: a few random letters of a-z and 0-9: a name that was dropped, or lost with its Redis, never comes again,
            since Kafka would still hold how far its consumer group had read.
    """
    return f"g{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%d-%H%M%S}-{token}"


def group_of(namespace: str, generation: str) -> str:
    """The consumer group that fills a generation."""
    return f"headrace.{namespace}.{generation}"


def encode_generation(generation: Generation) -> bytes:
    """The meta's JSON."""
    return msgspec.json.encode(generation)


def decode_generation(value: bytes) -> Generation:
    """The generation behind its meta's JSON; what it holds and this version does not know is left out.

    Raises:
        SourceChanged: it was written by another version of Headrace whose format this one cannot read.
    """
    try:
        found = msgspec.json.decode(value, type=Generation)
    except msgspec.DecodeError as error:
        raise SourceChanged(
            f"The generation's meta cannot be read ({error}): it was built by another version of Headrace. Run that"
            " version, or fill a new generation with `headrace rebuild`."
        ) from error
    if found.format != FORMAT:
        raise SourceChanged(
            f"Generation {found.name} has format {found.format} and this version reads {FORMAT}: run the version that"
            " built it, or fill a new generation with `headrace rebuild`."
        )
    return found


def settings_of(value: object, name: str = "") -> dict[str, Scalar]:
    """The settings of a recipe, or of its JSON, one by one: dotted name to value."""
    if isinstance(value, Mapping):
        found: dict[str, Scalar] = {}
        for key, below in value.items():
            found |= settings_of(below, f"{name}.{key}" if name else str(key))
        return found
    if isinstance(value, Recipe):
        return settings_of(msgspec.to_builtins(value))
    if isinstance(value, str | int | float) or value is None:
        return {name: value}
    raise TypeError(f"{name}: {value!r} is no setting")


def differences(stored: bytes, wanted: Recipe) -> tuple[str, ...]:
    """What a worker would do otherwise than the generation was built, a clause each; () when nothing.

    Args:
        stored: the meta's JSON as it lies in Redis: settings that this version does not know are differences too.
        wanted: what the worker is set to.
    """
    there = settings_of(msgspec.json.decode(stored)["recipe"])
    ours = settings_of(wanted)
    return tuple(
        f"{name} is {there.get(name, 'not known')} there and {ours.get(name, 'not known')} here"
        for name in sorted({*there, *ours})
        if there.get(name) != ours.get(name) or (name in there) != (name in ours)
    )


def refusal(name: str, found: Sequence[str]) -> str:
    """The sentence for a worker that would fold otherwise than a generation was built."""
    return (
        f"Generation {name} was built otherwise: {'; '.join(found)}. Two ways of counting in one state would be wrong"
        " in both: run with the generation's settings (leave the flags out), or fill a new generation with"
        " `headrace rebuild` and these."
    )


def check_positions(
    generation: Generation, committed: Mapping[int, int | None], log: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """For each partition the offset to read from.

    Args:
        generation: that is filled.
        committed: how far the consumer group has read; None when it has not.
        log: for each partition the first offset that the log still holds and the one behind its last.

    Raises:
        SourceChanged: records between the two are gone, or the log is shorter than what was read of it.
    """
    positions = {}
    for partition, offset in committed.items():
        begin, end = log[partition]
        position = generation.begins[partition] if offset is None else offset
        topic = f"{generation.source.topic}, partition {partition}"
        if position < begin:
            raise SourceChanged(
                f"{topic}: the state of generation {generation.name} goes up to offset {position}, and the log now"
                f" begins at {begin}: {begin - position} records are gone before they were read. Restore them, or"
                " accept a partial state with `headrace rebuild --partial`; and let the topic keep its records"
                " (retention.ms=-1)."
            )
        if position > end:
            raise SourceChanged(
                f"{topic}: the state of generation {generation.name} goes up to offset {position}, and the log ends at"
                f" {end}: it was cut or made again. Fill a new generation with `headrace rebuild`."
            )
        positions[partition] = position
    return positions


def check_beginning(topic: str, begins: Iterable[int]) -> None:
    """Whether a log still holds its beginning.

    Raises:
        SourceChanged: it does not; the text says the way out.
    """
    gone = {partition: begin for partition, begin in enumerate(begins) if begin > 0}
    if gone:
        said = ", ".join(f"partition {partition} begins at {begin}" for partition, begin in gone.items())
        raise SourceChanged(
            f"{topic} no longer holds its beginning ({said}): counts and sequences built from the rest would be"
            " partial. If that is wanted, say so: `headrace rebuild --partial`."
        )
