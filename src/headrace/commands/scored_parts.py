"""What `headrace evaluate` measures: students of any kind and teachers that score pairs, and the judged pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from headrace.commands.label_teachers import open_teacher
from headrace.commands.options import loaded
from headrace.commands.progress import ProgressLine
from headrace.models import home_depot, judged_pairs, training_pairs
from headrace.models.bundle import champion, read_bundle
from headrace.models.calibration import Calibration, fit_calibration
from headrace.models.evaluation import Judged, arms_of
from headrace.models.icecat import judged_lists
from headrace.models.margins import sigmoid
from headrace.models.pair_rows import told
from headrace.models.prompts import Pair
from headrace.models.training_pairs import Side
from headrace.online.pairs import PairScorer, open_student
from headrace.online.scorer import Encoder
from headrace.streams.teachers import Teacher

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Found = TypeVar("Found")

CHUNK: Final = 512
"""Pairs between two looks at the clock."""


class PairScores(Protocol):
    """What scores pairs."""

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """A number for each pair, float32 [B]; higher is more relevant."""


class Cosines:
    """The cosine of query and title by a bi-encoder; each text is encoded once, however often it is asked for."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, Floats] = {}

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The cosine of each pair, float32 [B]."""
        queries, titles = [pair.query for pair in pairs], [pair.title for pair in pairs]
        new = [text for text in dict.fromkeys((*queries, *titles)) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._encoder.encode(new), strict=True))
        left, right = (np.stack([self._vectors[text] for text in texts]) for texts in (queries, titles))
        found: Floats = np.einsum("bd,bd->b", left, right)
        return found


class Read:
    """A cross-encoder's probability of query and title, with the neighbours that the pair names."""

    def __init__(self, scorer: PairScorer) -> None:
        self.config = scorer.config
        self._scorer = scorer

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The probability of each pair, float32 [B]."""
        texts = [pair.query for pair in pairs], [pair.title for pair in pairs]
        return self._scorer.score(*texts, list(map(told, pairs)))


class Taught:
    """A teacher's probability of all that a pair says."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The probability of each pair, float32 [B]."""
        return sigmoid(self._teacher.logits(pairs)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """A part, or a teacher, that is open.

    Attributes:
        name: what reports call it; parts ``name/0``, ``name/1`` are seeds of one arm.
        digest: of the part; a teacher's id.
        scores: what it says.
    """

    name: str
    digest: str
    scores: PairScores

    def of(self, pairs: Sequence[Pair]) -> Doubles:
        """The scores of pairs, float64 [N], with a line that says how far it is."""
        line, total = ProgressLine(f"score {self.name}", "pairs"), len(pairs)
        found: list[Floats] = []
        for begin in range(0, total, CHUNK):
            line(begin, total)
            found.append(self.scores.score(pairs[begin : begin + CHUNK]))
        line.end(total, total)
        return np.concatenate(found).astype(np.float64)

    def ordering(self, pairs: Sequence[Pair]) -> Doubles:
        """The scores of pairs [N], a cosine's below 0 throughout, so that none of them passes for a probability."""
        scores = self.of(pairs)
        return scores - 2 if isinstance(self.scores, Cosines) else scores

    def calibrated(self, judged: Judged, held: Judged) -> tuple[Doubles, Calibration | None]:
        """Probabilities of pairs [N], and how they were made where the part does not give any itself.

        Args:
            judged: the pairs.
            held: pairs of other queries, that slope and level are fitted on.
        """
        scores = self.of(plain(judged))
        if not isinstance(self.scores, Cosines):
            return scores, None
        found = fit_calibration(self.of(plain(held)), held.labels)
        return found.probabilities(scores), found


def plain(judged: Judged) -> list[Pair]:
    """The pairs [N], of which queries and titles alone are known."""
    return list(map(Pair, judged.queries, judged.titles))


def open_parts(
    repository: Path, part: Sequence[str], against: Sequence[str], threads: int, teacher: Sequence[str] = ()
) -> list[ScoredPart]:
    """The parts that a person named, ``DIGEST`` or ``NAME=DIGEST``, and teachers, those to compare with last.

    Args:
        repository: where parts lie.
        part: to measure; the champion's student when there is neither a part nor a teacher.
        against: to compare with.
        threads: of each.
        teacher: ensembles to measure too, ``FOLDER`` or ``NAME=FOLDER``.

    Raises:
        click.ClickException: there is no champion, or two have one name, or a folder holds no ensemble.
        BundleCorrupt, BundleMismatch: a part cannot be opened.
        ModuleNotFoundError: a teacher is asked for, and torch is not installed.
    """
    found: dict[str, ScoredPart] = {}

    def keep(one: ScoredPart) -> None:
        if one.name in found:
            raise click.ClickException(f"two are called {one.name}: write NAME= before one")
        found[one.name] = one

    for text in teacher:
        name, _, folder = text.rpartition("=")
        asked = open_teacher({"teacher": Path(folder), "threads": threads, "device": None, "weights": None})
        keep(ScoredPart(name or Path(folder).name, asked.id, Taught(asked)))
    for text in (*(part or (() if teacher else (champions_student(repository),))), *against):
        name, _, digest = text.rpartition("=")
        opened = open_student(repository / "parts" / digest, threads)
        name = name or f"{'cross-encoder' if isinstance(opened, PairScorer) else 'cosine'} {digest[:8]}"
        keep(ScoredPart(name, digest, Read(opened) if isinstance(opened, PairScorer) else Cosines(opened)))
    return list(found.values())


def compared(opened: Sequence[ScoredPart], against: Sequence[str]) -> str:
    """The arm that others are compared with, "" for none: that of the last parts, which ``against`` named.

    Raises:
        click.ClickException: they are not seeds of one arm.
    """
    arms = arms_of([one.name for one in opened[-len(against) :]]) if against else {"": []}
    if len(arms) > 1:
        raise click.ClickException(f"--against names {', '.join(arms)}: only seeds of one can be given several times")
    return next(iter(arms))


def named(opened: Sequence[ScoredPart], pairs: Sequence[Pair] = ()) -> list[str]:
    """Sentences that say what was measured, and what of a part was not as none of ``pairs`` names a neighbour."""
    lonely = not any(map(told, pairs))
    return [
        f"{one.name}: {'teacher' if isinstance(one.scores, Taught) else 'part'} {one.digest}."
        f"{_PLAIN if lonely and _reads_neighbours(one) else ''}"
        for one in opened
    ]


_PLAIN: Final = " It reads behaviour neighbours, and of these pairs none are known: this is its plain part."


def _reads_neighbours(one: ScoredPart) -> bool:
    return isinstance(one.scores, Read) and one.scores.config.neighbours


def champions_student(repository: Path) -> str:
    """The digest of the student that serves.

    Raises:
        click.ClickException: there is no champion with a student.
    """
    current = champion(repository)
    parts = read_bundle(repository, current.version).manifest.parts if current else {}
    if "student" not in parts:
        raise click.ClickException(
            f"{repository} has no champion with a student: name one with --part, or run headrace parts build --publish"
        )
    return parts["student"]


def icecat_pairs(data: Path, highest: int) -> Judged:
    """Icecat's judged lists as pairs, labels 0 to 1; ``highest`` is the best rating.

    Raises:
        click.ClickException: the data is not there, or not what it should be.
    """
    lists = loaded(judged_lists, data)
    ratings = np.concatenate([one.ratings for one in lists])
    titles = tuple(title for one in lists for title in one.titles)
    return Judged(tuple(one.query for one in lists for _ in one.titles), titles, ratings / highest, {})


def home_depot_pairs(data: Path, side: Side, rows: int = 0, seed: int = 0) -> Judged:
    """Home Depot's pairs of one side of the split, labels 0 to 1; at least so many of whole queries, or all for 0.

    Raises:
        click.ClickException: the data is not there, or not what it should be.
    """
    found = loaded(home_depot.judged_pairs, data).of(side)
    judged = Judged(found.queries, found.titles, home_depot.targets(found.ratings), {})
    return judged.some(rows, seed) if rows else judged


def pairs_of(files: Sequence[Path]) -> Judged:
    """The judged pairs of files.

    Raises:
        click.ClickException: a file cannot be read; the text names it, the line and the reason.
    """
    return _read(lambda: judged_pairs.read(files))


def whole_pairs_of(file: Path) -> tuple[Pair, ...]:
    """The same pairs of a file with all that it says of them, details and neighbours.

    Raises:
        click.ClickException: as ``pairs_of``.
    """
    return _read(lambda: training_pairs.read(file)).pairs


def _read(read: Callable[[], Found]) -> Found:
    try:
        return read()
    except (judged_pairs.BadPairs, training_pairs.BadTrainingPairs, OSError) as error:
        raise click.ClickException(str(error)) from error
