from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from headrace.models.feature_names import FEATURES, INDEX
from headrace.models.head import Head
from headrace.tour.acts import (
    BEATEN,
    Events,
    Killed,
    Moved,
    Ranked,
    Refused,
    Requests,
    Swaps,
    Tour,
    Why,
    claims,
    moved,
    numbers,
)
from headrace.tour.quality import Fold, ServedList, quality

HEAD = Head.cold(initial={"prior_reciprocal": 1.0, "query_share": 3.0, "student": 2.0})


def ranked(features: np.ndarray, head: Head = HEAD) -> Ranked:
    items = tuple(f"item-{place}" for place in range(len(features)))
    order = tuple(np.argsort(-head.margin(features), kind="stable").tolist())
    return Ranked(items, tuple(head.score(features).tolist()), order, features, "v1")


def rows(count: int = 4) -> np.ndarray:
    found = np.zeros((count, len(FEATURES)), dtype=np.float32)
    found[:, INDEX["prior_reciprocal"]] = 1.0 / (1.0 + np.arange(count))
    return found


LIFTED = Moved("item-3", 4, 1, 4)


def events(one: Moved | None = LIFTED, clicks: int = 5) -> Events:
    return Events(ranked(rows()), one, Why(20, clicks), 600, 5, (3.0, 5.0))


def whole_tour(good: bool = True) -> Tour:
    fold = Fold()
    for number in range(60):
        scores = np.array([0.0, 1.0]) if good else np.array([1.0, 0.0])
        gains, student = np.array([0.0, 1.0]), np.array([1.0, 0.0])
        fold.click("lamp", "a")
        fold.take(ServedList(f"s{number % 9}", "lamp", ("a", "b"), scores, student, gains, "v1"))
    return Tour(
        events(),
        Killed(12, 900, 50, 6.5, 4_000, "d" * 64, "d" * 64),
        Refused("bit 3", "it differs", True, Requests(50, ())),
        Swaps(10, Requests(300, ()), (3.0, 4.0), (3.0, 5.0)),
        quality(fold, 30),
        14,
    )


def test_the_item_that_its_counts_lifted_is_found() -> None:
    now = rows()
    now[3, INDEX["query_share"]] = 1.0
    found = moved(ranked(rows()), ranked(now), HEAD)
    assert found == Moved("item-3", before=4, after=1, without=4)


def test_what_the_head_lifted_otherwise_is_not_put_down_to_counts() -> None:
    now = rows()
    now[3, INDEX["student"]] = 1.0
    assert moved(ranked(rows()), ranked(now), HEAD) is None


def test_an_item_that_nobody_clicked_is_not_shown_as_lifted() -> None:
    head = Head.cold(initial={"prior_reciprocal": 1.0, "query_shown": -3.0})
    now = rows()
    now[:3, INDEX["query_shown"]] = 1.0  # the others were seen often: the last one rises
    assert moved(ranked(rows(), head), ranked(now, head), head) is None


def test_every_claim_holds_when_all_is_well() -> None:
    made = claims(whole_tour())
    assert all(claim.holds for claim in made)
    assert len(made) == 7 + len(BEATEN)


BREAKS: dict[str, Callable[[Tour], Tour]] = {
    "no item moved": lambda tour: replace(tour, events=events(None)),
    "no click behind it": lambda tour: replace(tour, events=events(clicks=0)),
    "no event timed": lambda tour: replace(tour, events=replace(tour.events, fresh_ms=())),
    "two heads": lambda tour: replace(tour, heads=2),
    "digests differ": lambda tour: replace(tour, killed=replace(tour.killed, memory="e" * 64)),
    "no digest at all": lambda tour: replace(tour, killed=replace(tour.killed, redis="", memory="")),
    "not refused": lambda tour: replace(tour, refused=replace(tour.refused, reason="")),
    "it answered": lambda tour: replace(tour, refused=replace(tour.refused, kept=False)),
    "a request failed meanwhile": lambda tour: replace(
        tour, refused=replace(tour.refused, requests=Requests(9, ("500",)))
    ),
    "no request meanwhile": lambda tour: replace(tour, refused=replace(tour.refused, requests=Requests(0, ()))),
    "nine swaps": lambda tour: replace(tour, swaps=replace(tour.swaps, swaps=9)),
    "a request failed at a swap": lambda tour: replace(
        tour, swaps=replace(tour.swaps, requests=Requests(9, ("timeout",)))
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_claim_that_does_not_hold_is_one(what: str) -> None:
    broken = [claim for claim in claims(BREAKS[what](whole_tour())) if not claim.holds]
    assert len(broken) == 1, broken


def test_served_worse_than_the_baselines_is_no_claim_that_holds() -> None:
    broken = [claim.text for claim in claims(whole_tour(good=False)) if not claim.holds]
    assert len(broken) == len(BEATEN)


def test_the_frozen_student_is_claimed_to_be_beaten_after_the_drift_only() -> None:
    fold, gains, student = Fold(), np.array([0.0, 1.0]), np.array([1.0, 2.0])
    for number in range(60):  # first the student is right and served is not, then the other way round
        early = number < 30
        scores = np.array([1.0, 0.0]) if early else np.array([0.0, 1.0])
        fold.take(ServedList(f"s{number % 9}", "lamp", ("a", "b"), scores, student if early else -student, gains, "v1"))
    for drifts, holds in ((30, True), (0, False), (60, False)):
        made = claims(replace(whole_tour(), quality=quality(fold, drifts)))
        assert [claim.holds for claim in made if "frozen student" in claim.text] == [holds]


def test_the_numbers_say_that_they_are_simulated() -> None:
    tour = whole_tour()
    found = numbers(tour, claims(tour))
    assert found["simulated"] is True
    assert found["claims"] == {claim.text: True for claim in claims(tour)}
