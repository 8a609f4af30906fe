"""Scores of the most shown pairs, asked of a teacher beforehand and kept in the score cache."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from headrace import BadEvent
from headrace.commands.inspect import Opened
from headrace.commands.label_neighbours import Behaviour
from headrace.models.prompts import NEIGHBOURS, Pair
from headrace.online.catalogue import student_text
from headrace.streams.demand import most_shown
from headrace.streams.events import EventLimits, ItemChanged, decode_item
from headrace.streams.identity import normalise, query_hash
from headrace.streams.inspection import texts_of
from headrace.streams.keys import Keys
from headrace.streams.label_files import pairs_of
from headrace.streams.log_extent import log_extent
from headrace.streams.pairs import details_of
from headrace.streams.redis_scores import Score, ScoreCache
from headrace.streams.redis_wire import Wire
from headrace.streams.replay import replay
from headrace.streams.score_cache import decode, neighbours_hash, part_name, read_command, stamp_of
from headrace.streams.teachers import Teacher
from headrace.streams.topics import source_of

_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pair whose score is to be kept; ``stamp`` is that of the text which the student reads of the item."""

    query: int
    item_id: str
    stamp: int
    pair: Pair

    @property
    def neighbours(self) -> int:
        """The hash of the neighbours that the teacher reads of it, 0 when there are none."""
        return neighbours_hash(self.pair.query_neighbours[:NEIGHBOURS], self.pair.item_neighbours[:NEIGHBOURS])


def shown_pairs(
    there: Opened, items: Callable[[set[str]], Mapping[str, ItemChanged]], most: int, day: int
) -> list[Wanted]:
    """The most shown pairs of a generation whose texts are known, the most shown first.

    Args:
        there: the generation.
        items: gives the catalogue's items of these ids, as far as there are any.
        most: at most so many.
        day: UTC day.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    keys = there.generations.keys(there.generation.name)
    demand = most_shown(there.wire, keys, most, day, there.generation.recipe.bounds.window_days)
    texts = texts_of(there.wire, keys, {one.query for one in demand})
    known = items({one.item_id for one in demand})
    found = [
        wanted(texts[one.query], known[one.item_id]) for one in demand if one.query in texts and one.item_id in known
    ]
    if len(found) < len(demand):
        click.echo(f"{len(demand) - len(found):,} of the {len(demand):,} most shown pairs have no text", err=True)
    return found


def wanted(query: str, item: ItemChanged) -> Wanted:
    """A pair as it is asked: the normalised query, and all that the catalogue says of the item."""
    title = item.title.strip() or item.description.strip()
    pair = Pair(normalise(query), title, details_of(item.description, item.attributes))
    return Wanted(query_hash(query), item.item_id, stamp_of(student_text(item)), pair)


def with_neighbours(
    there: Opened, pairs: Sequence[Wanted], items: Callable[[set[str]], Mapping[str, ItemChanged]], day: int
) -> list[Wanted]:
    """The same pairs with the behaviour neighbours of query and item as of a day."""
    behaviour = Behaviour(there, day)
    ours = {one.pair.query: behaviour.of_query(one.pair.query) for one in pairs}
    known = items({name for names in ours.values() for name in names})
    return [
        replace(
            one,
            pair=replace(
                one.pair,
                query_neighbours=tuple(known[name].title for name in ours[one.pair.query] if name in known),
                item_neighbours=behaviour.of_item(one.item_id),
            ),
        )
        for one in pairs
    ]


def file_pairs(path: Path, most: int) -> list[Wanted]:
    """The first pairs of a file; a line that is none is told on standard error.

    Raises:
        click.ClickException: it holds none.
    """
    found: list[Wanted] = []
    for number, pair in pairs_of(path):
        if isinstance(pair, BadEvent):
            click.echo(f"{path.name}, line {number}: {pair}", err=True)
            continue
        if len(found) == most:
            break
        item = ItemChanged(pair.item_id, 0, pair.title, "", {})
        asked = wanted(pair.query, item)
        found.append(replace(asked, pair=replace(asked.pair, details=pair.details)))
    if not found:
        raise click.ClickException(f"{path} holds no pair: `headrace label candidates` makes some.")
    return found


def catalogue_items(bootstrap: str, topic: str, ids: set[str]) -> dict[str, ItemChanged]:
    """Of these items what the items topic says last.

    Raises:
        SourceChanged: there is no such topic.
        kafka.errors.KafkaError: no broker answers, or one refuses.
    """
    found: dict[str, ItemChanged] = {}
    extent = log_extent(bootstrap, topic, source_of(bootstrap, topic).partitions)
    limits = EventLimits()
    for records in replay(bootstrap, topic, extent):
        for record in records:
            name = (record.key or b"").decode("utf-8", "replace")
            if name not in ids:
                continue
            try:
                event = decode_item(record.key, record.value, record.timestamp_ms, limits)
            except BadEvent:
                continue  # it changes nothing, as in `serve`
            if isinstance(event, ItemChanged):
                found[name] = event
            else:
                found.pop(name, None)
    return found


def stale(wire: Wire, keys: Keys, pairs: Sequence[Wanted], part: bytes, oldest_ms: int) -> list[Wanted]:
    """The pairs whose teacher's score is not there, is of another text or other neighbours, or older than a time.

    Raises:
        StoreUnavailable: Redis does not answer.
    """
    fresh: set[tuple[int, str]] = set()
    for query, group in _by_query(pairs):
        answer: Any = wire.call([read_command(keys, query, [one.item_id for one in group])])[0]
        for one, value in zip(group, answer, strict=True):
            made = (part, "teacher", one.stamp, one.neighbours)
            if any(
                (said.part, said.source, said.content, said.neighbours) == made and said.written_ms >= oldest_ms
                for said in decode(value or b"")
            ):
                fresh.add((query, one.item_id))
    return [one for one in pairs if (one.query, one.item_id) not in fresh]


def fill(
    cache: ScoreCache,
    teacher: Teacher,
    pairs: Sequence[Wanted],
    batch: int,
    progress: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> int:
    """Asks the teacher and keeps what it says; how many scores were kept.

    Raises:
        click.ClickException: Redis has no room for more.
        StoreUnavailable: Redis does not answer.
    """
    kept, part = 0, part_name(teacher.id)
    for begin in range(0, len(pairs), batch):
        if stop():
            break
        chosen = pairs[begin : begin + batch]
        probabilities = 1 / (1 + np.exp(-teacher.logits([one.pair for one in chosen])))
        said = {(one.query, one.item_id): float(p) for one, p in zip(chosen, probabilities, strict=True)}
        for query, group in _by_query([one for one in chosen if np.isfinite(said[one.query, one.item_id])]):
            scores: list[Score] = [(one.item_id, one.stamp, said[query, one.item_id], one.neighbours) for one in group]
            if not cache.put(query, scores, part, "teacher"):
                raise click.ClickException(
                    f"Redis holds more than three quarters of its memory: {kept} scores were kept, no more are written."
                    " Give it more memory, or ask for fewer with --most."
                )
            kept += len(scores)
        progress(begin + len(chosen), len(pairs))
    return kept


def _by_query(pairs: Iterable[Wanted]) -> Iterator[tuple[int, list[Wanted]]]:
    groups: dict[int, list[Wanted]] = defaultdict(list)
    for one in pairs:
        groups[one.query].append(one)
    yield from groups.items()
