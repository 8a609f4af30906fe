"""What every student at work promises, over both kinds: vectors compared, and pairs read together."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from headrace.models.bundle import write_part
from headrace.online.batch import Batcher, BatchLimits
from headrace.online.catalogue import Catalogue
from headrace.online.messages import SOURCES
from headrace.online.opening import at_work, warm_up
from headrace.online.pairs import open_student
from headrace.online.score_writer import NoScoreWriter
from headrace.online.scored import Known
from headrace.online.students import Asked, StudentAtWork
from headrace.streams.events import ItemChanged
from tiny_models import write_pair_student
from tiny_student import tiny_files

KINDS = ("bi-encoder", "cross-encoder", "cross-encoder with neighbours")
TITLES = {"a": "red shoe", "b": "a mouse", "c": "xyz 12", "d": "shoes " * 40, "e": "[SEP] red"}


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("parts")
    if request.param == KINDS[0]:
        return repository / "parts" / write_part(repository, "student", tiny_files())
    return repository / "parts" / write_pair_student(repository, 1, "teacher", 0.02, request.param == KINDS[2])


@pytest.fixture
def student(folder: Path) -> StudentAtWork:
    return at_work(open_student(folder), 1 << 20, NoScoreWriter())


@pytest.fixture
def catalogue() -> Catalogue:
    catalogue = Catalogue()
    catalogue.apply((ItemChanged(item, 1, title, "", {}), None) for item, title in TITLES.items())
    return catalogue


async def ask(
    student: StudentAtWork,
    catalogue: Catalogue,
    items: str,
    encoders: Batcher,
    fillers: Batcher,
    query: str = "red shoe",
    wait_s: float = 10.0,
) -> Known:
    async def cached(until_s: float) -> Sequence[bytes | None]:
        return ()

    until_s = time.monotonic() + wait_s
    return await student.known(
        Asked(query, tuple(items), catalogue.texts(items), 1, until_s, encoders, fillers, cached)
    )


@contextmanager
def running(*batchers: Batcher) -> Iterator[None]:
    for batcher in batchers:
        batcher.start()
    try:
        yield
    finally:
        for batcher in batchers:
            batcher.close()


async def settled(student: StudentAtWork) -> None:
    until_s = time.monotonic() + 10
    while student.pending() and time.monotonic() < until_s:  # noqa: ASYNC110 - a test waits as a caller would
        await asyncio.sleep(0.002)


def whole(student: StudentAtWork, catalogue: Catalogue, items: str, tokens: int = 512) -> Known:
    """What a request gets once everything it needs has been computed."""

    async def go() -> Known:
        encoders, fillers = Batcher(BatchLimits(tokens, 1_000)), Batcher(BatchLimits(tokens, 1_000))
        with running(encoders, fillers):
            await ask(student, catalogue, items, encoders, fillers)
            await settled(student)
            return await ask(student, catalogue, items, encoders, fillers)

    return asyncio.run(go())


def test_every_item_with_a_text_gets_a_score_and_the_others_none(student: StudentAtWork, catalogue: Catalogue) -> None:
    known = whole(student, catalogue, "axbcde")
    assert np.isnan(known.scores).tolist() == [False, True, False, False, False, False]
    assert (known.state, known.no_text, known.pending, known.skipped) == ("partial", 1, 0, "")
    assert sum(known.counts().values()) == 6 and known.counts()["absent"] == 1
    assert whole(student, catalogue, "abc").state == "computed"


def test_a_request_without_any_text_waits_for_nobody(student: StudentAtWork, catalogue: Catalogue) -> None:
    known = asyncio.run(ask(student, catalogue, "xyz", Batcher(), Batcher()))  # not started
    assert (known.state, known.no_text, known.counts()["absent"]) == ("absent", 3, 3)


def test_a_score_does_not_depend_on_batches_nor_on_who_else_was_asked_for(folder: Path, catalogue: Catalogue) -> None:
    """Law 6, cached or computed: the same pair has one score."""
    first = whole(at_work(open_student(folder), 1 << 20, NoScoreWriter()), catalogue, "abcde")
    wanted = dict(zip("abcde", first.scores.tolist(), strict=True))
    for items, tokens in (("edcba", 16), ("ca", 512), ("b", 64), ("dddda", 40)):
        student = at_work(open_student(folder), 1 << 20, NoScoreWriter())
        for known in (whole(student, catalogue, items, tokens), whole(student, catalogue, items, tokens)):
            assert known.scores == pytest.approx([wanted[item] for item in items], abs=1e-6)


def test_a_request_whose_time_is_over_is_answered_and_told_why(student: StudentAtWork, catalogue: Catalogue) -> None:
    async def go() -> Known:
        encoders = Batcher()  # not started: nobody will compute
        fillers = Batcher()
        with running(fillers):
            await ask(student, catalogue, "ab", encoders, fillers, wait_s=0.01)
            await settled(student)
            began_s = time.monotonic()
            known = await ask(student, catalogue, "ab", encoders, fillers, query="blue mouse", wait_s=0.05)
            assert time.monotonic() - began_s < 2
            return known

    known = asyncio.run(go())
    assert (known.state, known.skipped) == ("skipped", "deadline")
    assert np.isnan(known.scores).all()
    assert {SOURCES[code] for code in known.sources.tolist()} <= {"absent", "pending"}


def test_a_new_text_is_another_score(student: StudentAtWork, catalogue: Catalogue) -> None:
    before = whole(student, catalogue, "ab")
    catalogue.apply([(ItemChanged("a", 2, "12345", "", {}), None)])
    after = whole(student, catalogue, "ab")
    assert before.scores[0] != pytest.approx(after.scores[0], abs=1e-4)
    assert before.scores[1] == pytest.approx(after.scores[1], abs=1e-6)


def test_a_warm_student_keeps_something_and_a_closed_one_nothing(student: StudentAtWork, catalogue: Catalogue) -> None:
    whole(student, catalogue, "abc")
    held, size_bytes = student.held()
    assert held >= 3 and 0 < size_bytes <= 1 << 20
    student.close()
    assert student.held() == (0, 0)


def test_a_warm_up_leaves_off_when_the_process_ends(student: StudentAtWork, catalogue: Catalogue) -> None:
    ending = Event()
    ending.set()
    warm_up(student, catalogue, 10, [], 0.0, ending.is_set)
    assert student.held()[0] == 0


def test_a_student_says_whose_scores_it_may_use_and_how_far_they_are_off(folder: Path, student: StudentAtWork) -> None:
    shares = "cross" in (folder / "config.json").read_text()
    assert (student.accepted is not None) == shares
    assert student.calibration_error == (0.02 if shares else None)
    assert student.neighbours == ('"neighbours":true' in (folder / "config.json").read_text())
