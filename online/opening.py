"""Opens a student part of either kind: it must score as its golden requests say and warm up before it serves."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from headrace import BundleMismatch
from headrace.models.bundle import GoldenRequest, Part, replay
from headrace.online import pairs, scorer
from headrace.online.catalogue import Catalogue, Text
from headrace.online.pair_scores import NEIGHBOURS_BYTES, PAIR_BYTES, PairScores
from headrace.online.pair_student import PairStudent
from headrace.online.pairs import PairScorer
from headrace.online.score_writer import ScoreWriter
from headrace.online.scorer import CONFIG_BYTES, Encoder
from headrace.online.student import Student, Vectors
from headrace.online.students import StudentAtWork
from headrace.streams.score_cache import MAX_AGE_MS, Accepted, part_name

Opened = Encoder | PairScorer
OpenStudent = Callable[[Path], Opened]
Ending = Callable[[], bool]

WARM_S: Final = 30.0
"""A new student does not wait longer for its items: the rest is made behind the requests."""
WARM_TEXTS: Final = tuple(Text(text, 0) for text in ("a", "a warm coat for cold days", "a coat " * 60))
"""Read before a new student serves, so that no request is its first of a short, a middle or a long text."""
WARM_QUERIES: Final = ("a", "a warm coat", "a coat " * 20)


class Remarks(msgspec.Struct, frozen=True):
    """What ``config.json`` of a cross-encoder may say beside its sizes.

    Attributes:
        teacher: the name of the teacher that it learned from, whose cached scores are on its scale; "" none.
        calibration_error: of both on that scale, expected calibration error, 0 .. 1.
    """

    teacher: str = ""
    calibration_error: float | None = None


def replay_golden(opened: Opened, golden: Sequence[GoldenRequest], tolerance: float) -> None:
    """Asks a student its golden requests.

    Raises:
        BundleMismatch: it answers otherwise, or they are requests to another kind of student.
    """
    answer: Callable[[Mapping[str, object]], Sequence[float]]
    answer = partial(scorer.answer, opened) if isinstance(opened, Encoder) else partial(pairs.answer, opened)
    replay(golden, {"student": answer}, tolerance)


def at_work(opened: Opened, limit_bytes: int, writer: ScoreWriter, max_age_ms: int = MAX_AGE_MS) -> StudentAtWork:
    """The student that an open part makes.

    Args:
        opened: the part.
        limit_bytes: of its item vectors, or of its scores in memory.
        writer: where a cross-encoder's scores go.
        max_age_ms: older scores of the cache are not used.

    Raises:
        BundleMismatch: its remarks cannot be read.
    """
    if isinstance(opened, Encoder):
        return Student(opened, Vectors(limit_bytes))
    said = read_remarks(opened.part)
    teacher = part_name(said.teacher) if said.teacher else None
    neighbours = opened.config.neighbours
    return PairStudent(
        scorer=opened,
        scores=PairScores(limit_bytes, PAIR_BYTES + NEIGHBOURS_BYTES * neighbours),
        accepted=Accepted(part_name(opened.part.digest), teacher, max_age_ms),
        calibration_error=said.calibration_error,
        writer=writer,
        max_tokens=opened.config.max_tokens,
        neighbours=neighbours,
    )


def read_remarks(part: Part) -> Remarks:
    """What a cross-encoder's part says of its scale.

    Raises:
        BundleMismatch: another type than was agreed on.
    """
    try:
        return msgspec.json.decode(part.read("config.json", CONFIG_BYTES), type=Remarks)
    except msgspec.DecodeError as error:
        raise BundleMismatch(f"config.json of part {part.digest} cannot be read ({error}): build it again") from error


def warm_up(
    student: StudentAtWork,
    catalogue: Catalogue,
    most: int,
    before: Sequence[StudentAtWork],
    rest: float,
    ending: Ending,
) -> None:
    """Lets a student work before it serves: on texts of every length, then on what was asked for last.

    Args:
        student: the new one.
        catalogue: whose items it warms up with.
        most: so many items or pairs at most.
        before: students that serve now; a cross-encoder begins with the pairs they were asked for.
        rest: pauses, in times of the work; 0 when nobody is served meanwhile.
        ending: whether the process ends.

    Raises:
        BundleMismatch: what it gives is no vector or no probability.
    """
    until_s = time.monotonic() + WARM_S

    def enough() -> bool:
        return ending() or time.monotonic() >= until_s

    if isinstance(student, Student):
        items = [("", text) for text in WARM_TEXTS] + catalogue.recent(most)
        student.warm(items, rest=rest, ending=enough)
        catalogue.renew()
    elif isinstance(student, PairStudent):
        lengths = [(query, "", text) for query in WARM_QUERIES for text in WARM_TEXTS]
        student.warm(lengths, batch=1, rest=rest, ending=enough)
        student.warm([*lengths, *_recent(catalogue, most, before)], rest=rest, ending=enough)


def _recent(catalogue: Catalogue, most: int, before: Sequence[StudentAtWork]) -> list[tuple[str, str, Text]]:
    """The pairs that open cross-encoders were asked for last, with the items' texts as they are now."""
    asked: dict[tuple[str, str], None] = {}
    for student in before:
        if isinstance(student, PairStudent):
            asked.update(dict.fromkeys(student.scores.recent(most)))
    wanted = list(asked)[:most]
    texts = catalogue.texts([item_id for _, item_id in wanted])
    return [(*key, text) for key, text in zip(wanted, texts, strict=True) if text is not None]
