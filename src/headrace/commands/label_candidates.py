"""Candidates made: files in, proposed pairs out, with a line that says how far it is."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import numpy as np

from headrace import BundleError, BundleMismatch
from headrace.commands.label_neighbours import Behaviour, with_behaviour
from headrace.commands.label_sources import Shelf, read_queries, read_shelf
from headrace.commands.progress import ProgressLine
from headrace.models.bundle import champion, read_bundle
from headrace.models.candidates import Floats, Mix, Proposed, Proposer, sample_queries
from headrace.streams.pairs import UnlabelledPair, pair_of

if TYPE_CHECKING:
    from headrace.online.scorer import Encoder

_CHUNK: Final = 512


@dataclass(slots=True)
class Tally:
    """What was proposed so far.

    Attributes:
        queries: how many. origins: pairs by who proposed them.
        agreements: for each query how far BM25 and vectors agree.
    """

    queries: int = 0
    origins: Counter[str] = field(default_factory=Counter)
    agreements: list[float] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """How many."""
        return self.origins.total()

    @property
    def agreement(self) -> float:
        """The mean of the agreements; NaN without vectors."""
        return float(np.mean(self.agreements)) if self.agreements else float("nan")


def candidate_pairs(
    catalogue: Path, queries: Path, tally: Tally, given: Mapping[str, Any], behaviour: Behaviour | None = None
) -> Iterator[UnlabelledPair]:
    """The pairs that retrievers propose.

    Args:
        catalogue: a file of items.
        queries: a file of queries.
        tally: is told what was proposed.
        given: the flags of the verb.
        behaviour: tells each pair's neighbours; without it pairs have none.

    Raises:
        click.ClickException: a file holds nothing that can be used.
        StoreUnavailable: Redis, which ``behaviour`` asks, does not answer.
    """
    shelf, asked = read_shelf(catalogue, given["data"]), read_queries(queries, given["data"])
    random = np.random.default_rng(given["seed"])
    drawn = sample_queries(asked.frequencies, given["most_queries"] or len(asked.texts), random)
    texts = tuple(asked.texts[place] for place in drawn)
    encoder = open_encoder(given["repository"], given["part"], given["threads"]) if given["vectors"] else None
    of_titles = of_queries = None
    if encoder is None:
        click.echo("by words alone: no student gives vectors", err=True)
    else:
        of_titles, of_queries = encode(encoder, shelf.titles, "titles"), encode(encoder, texts, "queries")
    proposer, line = (
        Proposer(shelf.titles, of_titles, Mix.of(given["per_query"])),
        ProgressLine("candidates", "queries"),
    )
    for query, found in zip(texts, proposer.propose(texts, of_queries, random), strict=True):
        tally.queries += 1
        tally.origins.update(found.origins)
        tally.agreements.append(found.agreement)
        pairs = _pairs(query, shelf, found)
        yield from pairs if behaviour is None else with_behaviour(pairs, behaviour, shelf.texts)
        line(tally.queries, len(texts))
    line.end(len(texts), len(texts))


def _pairs(query: str, shelf: Shelf, found: Proposed) -> Iterator[UnlabelledPair]:
    for place, origin in zip(found.places, found.origins, strict=True):
        yield pair_of(query, shelf.ids[place], shelf.titles[place], shelf.details[place], origin)


def open_encoder(repository: Path, part: str, threads: int) -> "Encoder | None":
    """The student that gives vectors: the part asked for, else the champion's, else any of the repository that does.

    None where there is none.

    Raises:
        click.ClickException: the part that was asked for gives none.
    """
    from headrace.online.scorer import Encoder  # where a teacher works there need be no onnxruntime

    if part:
        try:
            return Encoder(repository / "parts" / part, threads)
        except BundleError as error:
            raise click.ClickException(f"--part {part}: {error}") from error
    for digest in _parts(repository):
        try:
            return Encoder(repository / "parts" / digest, threads)
        except BundleMismatch:
            continue  # it scores pairs, and gives texts no vectors
    return None


def encode(encoder: "Encoder", texts: tuple[str, ...], what: str) -> Floats:
    """The vectors of texts, float32 [B, D], with a line that says how far it is."""
    line = ProgressLine(f"vectors of {what}", what)
    order = np.argsort([len(text) for text in texts], kind="stable")
    found = np.empty((len(texts), encoder.config.dimensions), np.float32)
    for begin in range(0, len(order), _CHUNK):
        chosen = order[begin : begin + _CHUNK]
        found[chosen] = encoder.encode([texts[place] for place in chosen])
        line(begin + len(chosen), len(order))
    line.end(len(order), len(order))
    return found


def _parts(repository: Path) -> list[str]:
    current = champion(repository) if repository.is_dir() else None
    first = read_bundle(repository, current.version).manifest.parts.get("student") if current else None
    there = sorted(folder.name for folder in (repository / "parts").glob("*") if (folder / "vocab.txt").is_file())
    return [first, *(digest for digest in there if digest != first)] if first else there
