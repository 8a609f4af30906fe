"""The course of learning: scored before learned, decisions where they are due, and back to the frozen weights."""

from typing import Any

import numpy as np
import pytest

from headrace.models.features import FEATURES
from headrace.models.head import Head, Learner
from headrace.online.course import NAMES, Course, CourseSettings, CourseState
from headrace.online.progress import GuardSettings, Tally, add, seen
from headrace.streams.feature_log import pack_features
from headrace.streams.labels import Example, clicked_of, features_of

INFORMS = FEATURES.index("item_rate")


def example(number: int, best: bool = True, rows: int = 6, **changes: Any) -> Example:
    """A list whose click is on the item with the highest (or, for ``best=False``, the lowest) ``item_rate``."""
    random = np.random.default_rng(number)
    features = random.normal(size=(rows, len(FEATURES))).astype(np.float32) * 0.05
    features[:, INFORMS] = random.normal(size=rows)
    row = int(np.argmax(features[:, INFORMS] * (1 if best else -1)))
    fields: dict[str, Any] = {
        "id": f"{number:032x}",
        "request_id": f"r{number}",
        "client_id": "c",
        "query_id": f"q{number}",
        "at_ms": number,
        "matures_ms": number + 60,
        "version": "v",
        "arm": "",
        "names": NAMES,
        "items": tuple(f"i{n}" for n in range(rows)),
        "ranks": tuple(range(rows)),
        "positions": tuple(range(1, rows + 1)),
        "matrix": pack_features(features),
        "labels": bytes(int(n == row) for n in range(rows)),
    }
    return Example(**{**fields, **changes})


def course(every_examples: int = 0, lists: int = 20) -> Course:
    guard = GuardSettings(lists=lists, standard_errors=2.33, margin=0.005)
    return Course(CourseSettings(every_examples=every_examples, guard=guard), CourseState.begin(Head.cold()))


def test_every_example_is_scored_by_the_weights_from_before_it() -> None:
    examples = [example(n) for n in range(30)]
    found = course()
    found.take(examples, decide=False)
    learner, cold, by_hand = Learner(Head.cold()), Head.cold(), Tally()
    for one in examples:
        features, clicked, head = features_of(one), clicked_of(one), learner.head()
        own = seen(head.margin(features), head.score(features), clicked)
        by_hand = add(by_hand, own, seen(cold.margin(features), cold.score(features), clicked))
        learner.learn(features, clicked, np.array(one.positions, np.int64))
    assert found.total == found.since == by_hand
    assert found.state().learner == learner.to_bytes()
    after = seen(
        learner.head().margin(features_of(examples[0])), cold.score(features_of(examples[0])), np.ones(6, bool)
    )
    assert after.rank == 1.0


def test_an_example_alone_is_scored_by_the_untouched_head_however_much_it_teaches() -> None:
    taught = example(1, labels=bytes([0, 0, 0, 0, 0, 1]))
    found = course()
    found.take([taught], decide=False)
    cold = Head.cold()
    expected = seen(cold.margin(features_of(taught)), cold.score(features_of(taught)), clicked_of(taught))
    assert (found.total.ranks, found.total.losses) == (expected.rank, expected.loss)


def test_decisions_come_after_exactly_so_many_examples_wherever_rounds_end() -> None:
    examples = [example(n) for n in range(105)]
    whole = course(every_examples=25)
    decisions = whole.take(examples, decide=False)
    assert [decision.metadata["examples"] for decision in decisions] == [25, 50, 75, 100]
    parts = course(every_examples=25)
    again = [decision for at in range(0, 105, 7) for decision in parts.take(examples[at : at + 7], decide=False)]
    assert [decision.head for decision in again] == [decision.head for decision in decisions]
    assert parts.state() == whole.state()


def test_a_round_may_ask_for_a_decision_but_not_without_a_new_example() -> None:
    found = course()
    assert found.take([], decide=True) == []
    assert len(found.take([example(1)], decide=True)) == 1
    assert found.take([], decide=True) == []


def test_going_on_from_a_state_is_never_having_stopped() -> None:
    straight = course(every_examples=10)
    broken = course(every_examples=10)
    for n in range(37):
        straight.take([example(n)], decide=False)
        broken.take([example(n)], decide=False)
        broken = Course(broken.settings, broken.state())
    assert broken.state() == straight.state()
    assert broken.since == straight.since != Tally()


def test_a_learner_that_became_worse_is_not_published_and_goes_on_from_the_frozen_weights() -> None:
    found = course()
    (good,) = found.take([example(n) for n in range(30)], decide=True)
    assert good.verdict == "good"
    frozen = found.state().frozen
    # For a while the clicks say the opposite: learned, but then the old ones come back and the learner is behind.
    found.take([example(n, best=False) for n in range(100, 220)], decide=False)
    assert found.state().learner != frozen
    found.since = Tally()
    (worse,) = found.take([example(n) for n in range(220, 250)], decide=True)
    assert worse.verdict == "worse"
    assert worse.head == good.head, "what would be published is the frozen head"
    assert found.state().learner == found.state().frozen == frozen
    assert found.since == Tally()
    assert found.counts["decided_worse"] == 1


def test_weights_that_are_no_numbers_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    found = course()
    frozen = found.state().frozen

    def broken(self: Learner, *_: object) -> None:
        self._weights[0] = np.nan

    monkeypatch.setattr(Learner, "learn", broken)
    found.take([example(1)], decide=True)
    assert found.counts["not_finite"] == 1
    assert found.state().learner == frozen


@pytest.mark.parametrize("changes", [{"names": NAMES + 1}, {"matrix": b"\x00\x00" * 6}])
def test_features_of_another_version_are_counted_and_not_learned(changes: dict[str, Any]) -> None:
    found = course()
    before = found.state().learner
    found.take([example(1, **changes)], decide=False)
    assert found.counts == {"other_features": 1}
    assert (found.learned, found.state().learner) == (0, before)


def test_golden_requests_are_the_newest_lists_as_they_were_served() -> None:
    found = course()
    (decision,) = found.take([example(n, rows=40) for n in range(9)], decide=True)
    assert [golden.shape for golden in decision.golden] == [(25, len(FEATURES))] * 4
    assert np.array_equal(decision.golden[-1], features_of(example(8, rows=40))[:25])
