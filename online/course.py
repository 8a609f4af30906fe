"""The course of learning: score, learn, and every so often decide about a new head. A function of the examples alone.

A *decision* is due after every ``every_examples`` examples, and wherever a round says so. If the learner has become
worse than the frozen head (`progress.verdict`), nothing is published and the learner goes on from the frozen weights;
else its head is published and frozen. Decisions change weights, so they are part of what a replay repeats. Weights that
are no numbers any more are replaced by the frozen ones at once.

Shapes: R rows of an example, F features.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.models.features import FEATURES
from headrace.models.head import Head, Learner
from headrace.online.progress import GuardSettings, Tally, Verdict, add, seen, verdict
from headrace.streams.feature_log import names_digest
from headrace.streams.labels import Example, clicked_of, features_of

NAMES = names_digest(FEATURES)
GOLDEN_ROWS = 25


class CourseSettings(msgspec.Struct, frozen=True):
    """How often to decide, and by what.

    Attributes:
        every_examples: a decision after so many examples; 0: only where a round says so.
        golden: so many of the newest examples become golden requests of a bundle, their first 25 rows.
        guard: when the learner counts as worse.
    """

    every_examples: int = 0
    golden: int = 4
    guard: GuardSettings = GuardSettings()


class CourseState(msgspec.Struct, frozen=True, array_like=True):
    """All that a course needs to go on as if it had never stopped."""

    learner: bytes
    frozen: bytes
    learned: int
    total: Tally
    since: Tally
    newest: tuple[bytes, ...]
    newest_ms: int
    counts: dict[str, int]

    @classmethod
    def begin(cls, head: Head) -> "CourseState":
        """Before the first example: learner and frozen head are this head."""
        learner = Learner(head).to_bytes()
        return cls(learner, learner, 0, Tally(), Tally(), (), 0, {})


class Decision(msgspec.Struct, frozen=True):
    """What was decided about the learner's head.

    Attributes:
        verdict: only a ``good`` one is published.
        head: the bytes of the head that is good now: the learner's, or the frozen one's.
        golden: features of golden requests, each float32 [R, F].
        metadata: what the bundle says of itself; nothing in it depends on a clock of ours.
    """

    verdict: Verdict
    head: bytes
    golden: tuple[NDArray[np.float32], ...]
    metadata: dict[str, str | int | float | bool | None]


class Course:
    """A learner under guard.

    Args:
        settings: how often to decide, and by what.
        state: where to go on.
    """

    def __init__(self, settings: CourseSettings, state: CourseState) -> None:
        self.settings = settings
        self.learned = state.learned
        self.total, self.since = state.total, state.since
        self.counts: Counter[str] = Counter(state.counts)
        """What became of examples and decisions, by name, since the beginning."""
        self._learner = Learner.from_bytes(state.learner)
        self._frozen = state.frozen
        self._frozen_head = Learner.from_bytes(state.frozen).head()
        self._newest = list(state.newest)
        self._newest_ms = state.newest_ms

    def state(self) -> CourseState:
        """Where to go on."""
        return CourseState(
            learner=self._learner.to_bytes(),
            frozen=self._frozen,
            learned=self.learned,
            total=self.total,
            since=self.since,
            newest=tuple(self._newest),
            newest_ms=self._newest_ms,
            counts=dict(self.counts),
        )

    def now(self) -> Decision:
        """The frozen head as something to publish, without deciding anything."""
        return Decision("good", self._frozen_head.to_bytes(), self._golden(), self._metadata(self.since))

    def take(self, examples: Sequence[Example], decide: bool) -> list[Decision]:
        """Learns from examples in this order.

        Args:
            examples: ripe ones.
            decide: whether the round asks for a decision at its end; without a new example there is none.
        """
        decisions = []
        for example in examples:
            due = self._learn(example) and self.learned % (self.settings.every_examples or self.learned + 1) == 0
            if due:
                decisions.append(self._decide())
        if decide and self.since.examples:
            decisions.append(self._decide())
        return decisions

    def _learn(self, example: Example) -> bool:
        if example.names != NAMES or len(example.matrix) != 2 * len(FEATURES) * len(example.items):
            self.counts["other_features"] += 1
            return False
        features, clicked = features_of(example), clicked_of(example)
        head = self._learner.head()
        own = seen(head.margin(features), head.score(features), clicked)
        frozen = seen(self._frozen_head.margin(features), self._frozen_head.score(features), clicked)
        self.total, self.since = add(self.total, own, frozen), add(self.since, own, frozen)
        self._learner.learn(features, clicked, np.array(example.positions, np.int64))
        self.learned += 1
        self.counts["learned" if clicked.any() else "learned_without_click"] += 1
        if not np.isfinite(self._learner.head().weights).all():
            self.counts["not_finite"] += 1
            self._learner = Learner.from_bytes(self._frozen)
        self._newest.append(example.matrix[: 2 * len(FEATURES) * GOLDEN_ROWS])
        del self._newest[: -self.settings.golden or None]
        self._newest_ms = max(self._newest_ms, example.matures_ms)
        return True

    def _decide(self) -> Decision:
        found = verdict(self.since, self.settings.guard)
        since = self.since
        if found == "good":
            self._frozen = self._learner.to_bytes()
            self._frozen_head = self._learner.head()
        else:
            self._learner = Learner.from_bytes(self._frozen)
        self.counts[f"decided_{found}"] += 1
        self.since = Tally()
        return Decision(found, self._frozen_head.to_bytes(), self._golden(), self._metadata(since))

    def _golden(self) -> tuple[NDArray[np.float32], ...]:
        return tuple(
            np.frombuffer(matrix, "<f2").reshape(-1, len(FEATURES)).astype(np.float32) for matrix in self._newest
        )

    def _metadata(self, since: Tally) -> dict[str, str | int | float | bool | None]:
        return {
            "made_by": "refresh",
            "examples": self.learned,
            "newest_example_ms": self._newest_ms,
            "progressive_mrr": round(self.total.mrr, 6) if self.total.clicked else None,
            "since_examples": since.examples,
            "since_mrr": round(since.mrr, 6) if since.clicked else None,
            "since_frozen_mrr": round(since.frozen_mrr, 6) if since.clicked else None,
        }
