"""Rounds: from each source up to a stated offset, then join, score, learn, decide. The same rounds, the same bytes.

A `Plan` says everything about a round that does not follow from the log: where it ends in each source, which sources
stood at the end of the log then, and whether time has come for a decision. `Rounds` is the fold over plans and records;
it touches no file, no clock and no network, so a replay runs it again.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from headrace import BadEvent
from headrace.online.course import Course, CourseSettings, CourseState, Decision
from headrace.streams import events, feature_log
from headrace.streams.events import EventLimits
from headrace.streams.feature_log import FeatureLogLimits
from headrace.streams.held import Changes, PendingLimits, Row
from headrace.streams.labels import Correction, Example, Windows
from headrace.streams.pending import Pending
from headrace.streams.watermark import BEGINNING_MS, Clocks, Source


class FeatureLimits(msgspec.Struct, frozen=True):
    """What a record of the feature log may be at most, as `FeatureLogLimits`, and how far it may lie in the future."""

    record_bytes: int = 1_000_000
    items: int = 1_000
    future_ms: int = 5 * 60_000


class Rules(msgspec.Struct, frozen=True):
    """All settings that what is learned depends on. A state folder keeps those it began with.

    Attributes:
        windows: how long actions count.
        hold_ms: how far events may come out of order before they are late.
        pending: how much may be held until it is ripe.
        course: how often to decide, and by what.
        events: what a record of the events topic may be.
        features: what a record of the feature log may be.
    """

    windows: Windows = Windows()
    hold_ms: int = 60_000
    pending: PendingLimits = PendingLimits()
    course: CourseSettings = CourseSettings()
    events: EventLimits = EventLimits()
    features: FeatureLimits = FeatureLimits()


class End(msgspec.Struct, frozen=True, array_like=True):
    """Where a round ends in one source: the offset after its last record, and whether the log ended there then."""

    topic: str
    partition: int
    offset: int
    at_end: bool


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """One round: its number from 1, its end in every source, and whether a decision is due at its end."""

    number: int
    ends: tuple[End, ...]
    decide: bool


class RoundsState(msgspec.Struct, frozen=True, array_like=True):
    """All that goes into a checkpoint beside what is held: after round ``number``."""

    number: int
    offsets: tuple[End, ...]
    clocks_ms: tuple[tuple[str, int, int], ...]
    watermark_ms: int
    course: CourseState
    joined: dict[str, int]
    refused: dict[str, int]


class LogRecord(NamedTuple):
    """A record of either topic."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round brought: examples in the order learned, corrections, decisions, and what a file must change."""

    examples: tuple[Example, ...]
    corrections: tuple[Correction, ...]
    decisions: tuple[Decision, ...]
    changes: Changes


class Rounds:
    """The fold over rounds.

    Args:
        rules: the settings.
        features_topic: records of this topic are served lists, all others are events.
        state: where to go on.
        rows: what is held then.
        closed: searches that are over then.
    """

    def __init__(
        self,
        rules: Rules,
        features_topic: str,
        state: RoundsState,
        rows: Iterable[Row] = (),
        closed: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        self.rules = rules
        self.course = Course(rules.course, state.course)
        self.pending = Pending(rules.windows, rules.pending)
        self.pending.restore(rows, closed)
        self.pending.counts.update(state.joined)
        self.refused: Counter[str] = Counter(state.refused)
        """Records that could not be used, by ``topic:reason``."""
        self.number = state.number
        self.offsets = {(end.topic, end.partition): end.offset for end in state.offsets}
        self._ends = state.offsets
        self.features_topic = features_topic
        limits = rules.features
        self._feature_limits = FeatureLogLimits(record_bytes=limits.record_bytes, items=limits.items)
        clocks_ms = {(topic, partition): at_ms for topic, partition, at_ms in state.clocks_ms}
        topics = sorted({end.topic for end in state.offsets})
        self.clocks = Clocks(topics, rules.hold_ms, clocks_ms, state.watermark_ms)

    def state(self) -> RoundsState:
        """Where to go on."""
        return RoundsState(
            number=self.number,
            offsets=self._ends,
            clocks_ms=tuple((*source, at_ms) for source, at_ms in sorted(self.clocks.clocks_ms.items())),
            watermark_ms=self.clocks.watermark_ms,
            course=self.course.state(),
            joined=dict(self.pending.counts),
            refused=dict(self.refused),
        )

    def step(self, plan: Plan, records: Iterable[LogRecord]) -> Outcome:
        """One round.

        Args:
            plan: the next one.
            records: all records between the round before and the ends of the plan; sources in any order, each source
                in its own order.

        Raises:
            ValueError: not the next round.
        """
        if plan.number != self.number + 1:
            raise ValueError(f"round {plan.number} cannot follow round {self.number}")
        for record in records:
            self._read(record)
        unfinished: list[Source] = [(end.topic, end.partition) for end in plan.ends if not end.at_end]
        ripe = self.pending.ripen(self.clocks.advance(unfinished))
        decisions = self.course.take(ripe.examples, plan.decide)
        self.number = plan.number
        self._ends = plan.ends
        self.offsets = {(end.topic, end.partition): end.offset for end in plan.ends}
        return Outcome(ripe.examples, ripe.corrections, tuple(decisions), self.pending.changes())

    def _read(self, record: LogRecord) -> None:
        source = (record.topic, record.partition)
        try:
            if record.topic == self.features_topic:
                served = feature_log.decode(record.value, self._feature_limits)
                if served.at_ms > record.timestamp_ms + self.rules.features.future_ms:
                    raise BadEvent("at_ms", "future")
                self.clocks.see(source, served.at_ms, record.timestamp_ms)
                self.pending.serve(served)
            else:
                event = events.decode(record.value, self.rules.events)
                events.admit(event, record.timestamp_ms, self.rules.events)
                self.clocks.see(source, event.at_ms, record.timestamp_ms)
                self.pending.follow(event)
        except BadEvent as fault:
            self.refused[f"{record.topic}:{fault.reason}"] += 1


def beginning(offsets: Iterable[End], course: CourseState) -> RoundsState:
    """Before the first round."""
    return RoundsState(0, tuple(offsets), (), BEGINNING_MS, course, {}, {})
