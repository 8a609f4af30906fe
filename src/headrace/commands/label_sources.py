"""What `headrace label candidates` reads: a catalogue and queries, of files or of Home Depot."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Annotated, Final, TypeVar

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace import BadEvent
from headrace.commands.options import loaded
from headrace.models.bm25 import words
from headrace.models.candidates import distinct
from headrace.models.home_depot import HOME_DEPOT, judged_pairs
from headrace.online.catalogue import student_text
from headrace.streams.events import ItemChanged
from headrace.streams.files import lines_of
from headrace.streams.pairs import details_of
from headrace.streams.ubi import Scalar, attribute_text, item_id, refusal

_LINE_BYTES: Final = 256_000
_SHOWN: Final = 10

_Short = Annotated[str, msgspec.Meta(max_length=100)]
_Line = Annotated[str, msgspec.Meta(max_length=1024)]
_Id = Annotated[str, msgspec.Meta(max_length=256)]


class _Item(msgspec.Struct):
    """A line of a catalogue: what `headrace import --items` takes, or ``details`` as they are."""

    item_id: _Id | int
    title: _Line
    details: str | None = None
    description: str = ""
    attributes: dict[_Short, Scalar | list[Scalar]] | None = None


class _Query(msgspec.Struct):
    query: _Line
    frequency: Annotated[float, msgspec.Meta(ge=0)] = 1.0


Line = TypeVar("Line", _Item, _Query)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Items of a catalogue whose titles differ; [N].

    Attributes:
        ids, titles, details: of each.
        texts: of all items of the catalogue by id, what a student reads of each.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    details: tuple[str, ...]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries that differ, and how often each was asked; [Q]."""

    texts: tuple[str, ...]
    frequencies: NDArray[np.float64]


class FileOrHomeDepot(click.Path):
    """A file that is there, or the word that stands for Home Depot's pairs."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(
        self, value: str | PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | PathLike[str]:
        """The path; of the word, the word as one. A file of that name is told apart as ./homedepot."""
        return Path(value) if str(value) == HOME_DEPOT else Path(str(super().convert(value, param, ctx))).absolute()


def read_shelf(path: Path, data: Path) -> Shelf:
    """The items of a catalogue, without those whose titles differ from another's in case or punctuation alone.

    Args:
        path: its file, or ``homedepot``: all titles of that set, `h0` the first.
        data: the folder of public sets.

    Raises:
        click.ClickException: nothing of the file can be used.
    """
    if str(path) == HOME_DEPOT:
        titles = dict.fromkeys(loaded(judged_pairs, data).titles)
        found = [_Item(f"h{number}", title) for number, title in enumerate(titles)]
    else:
        found = _read(path, _Item)
    items = [found[place] for place in distinct(item.title for item in found)]
    if not items:
        raise click.ClickException(f"{path} holds no item: lines of JSON with item_id and title are wanted.")
    return Shelf(
        tuple(str(item.item_id) for item in items),
        tuple(item.title for item in items),
        tuple(_details(item) for item in items),
        {str(item.item_id): student_text(ItemChanged("", 0, item.title, item.description, {})) for item in found},
    )


def read_queries(path: Path, data: Path) -> Queries:
    """The queries of a file, each once, the frequencies of its spellings added up.

    Lines of JSON ({"query", "frequency"}), or of text: the query, or query, tab, frequency.

    Args:
        path: the file, or ``homedepot``: the queries of that set that may be learned from.
        data: the folder of public sets.

    Raises:
        click.ClickException: nothing of the file can be used.
    """
    if str(path) == HOME_DEPOT:
        found = [_Query(query) for query in dict.fromkeys(loaded(judged_pairs, data).of("train").queries)]
    elif _holds_json(path):
        found = _read(path, _Query)
    else:
        found = _read_text(path)
    places = distinct(query.query for query in found)
    if not places:
        raise click.ClickException(f"{path} holds no query.")
    total: dict[str, float] = {}
    for query in found:
        total[_plain(query.query)] = total.get(_plain(query.query), 0.0) + query.frequency
    texts = tuple(found[place].query for place in places)
    return Queries(texts, np.array([total[_plain(text)] for text in texts], np.float64))


def _holds_json(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix in (".jsonl", ".json", ".gz") or file.read(1) == b"{"


def _read(path: Path, kind: type[Line]) -> list[Line]:
    """The lines of a file that can be used; of the others the first are named."""
    found, refused = [], 0
    decoder = msgspec.json.Decoder(kind)
    for line in lines_of(path, _LINE_BYTES):
        try:
            try:
                one = decoder.decode(line.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise refusal(error, line.data) from None
            if isinstance(one, _Item):
                item_id("item_id", one.item_id)
            found.append(one)
        except BadEvent as error:
            refused += 1
            if refused <= _SHOWN:
                click.echo(f"{path.name}, line {line.number}: {error}", err=True)
    if refused > _SHOWN:
        click.echo(f"{path.name}: {refused} lines cannot be used", err=True)
    return found


def _read_text(path: Path) -> list[_Query]:
    found = []
    for line in lines_of(path, _LINE_BYTES):
        query, _, frequency = line.data.decode("utf-8", "replace").partition("\t")
        try:
            found.append(_Query(query.strip()[:1024], max(0.0, float(frequency or 1))))
        except ValueError:
            click.echo(f"{path.name}, line {line.number}: {frequency!r} is no frequency", err=True)
    return found


def _details(item: _Item) -> str:
    if item.details is not None:
        return item.details
    attributes = item.attributes or {}
    return details_of(
        item.description, {name: attribute_text(one) for name, one in attributes.items() if one is not None}
    )


def _plain(text: str) -> str:
    return " ".join(words(text))
