"""The learner's process: rounds over the events and the feature log, checkpoints, heads published as they get better.

A round:

1. wait for news, ask where both topics end, choose where the round ends (`plan_round`), write that plan down;
2. read up to there, join, score each ripe example and then learn from it, decide about a new head (`Rounds.step`);
3. send labels (where asked), publish what was decided, and only then
4. commit weights, offsets, what is held and the round in one transaction, and show the status.

A crash before 4 runs the same round again: same ends, same bytes, and labels and bundles are named by content, so doing
them twice is doing them once. A learner that was overtaken fails in 3 or in 4 and leaves nothing behind.
"""

import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from headrace import BundleError, StoreUnavailable
from headrace.online.checkpoint import Checkpoint, learner_digest
from headrace.online.door import Door, Status
from headrace.online.progress import Tally
from headrace.online.publisher import Publisher
from headrace.online.rounds import End, Outcome, Plan, Rounds, Rules
from headrace.online.tail import Tail
from headrace.streams.labels import Label
from headrace.streams.watermark import BEGINNING_MS, Source

log = logging.getLogger(__name__)

RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How the process goes through the log; nothing of this changes what a recorded round computes.

    Attributes:
        every_s: a decision about a new head at least so often, while there are new examples; 0: never by time.
        source_records: a round reads at most so many records of a source.
        ahead_ms: while others have records to read, a source further ahead in event time waits.
        wait_ms: how long to wait for news at a time; also how long SIGTERM may go unseen.
        keep_rounds: so many plans are kept for a replay.
    """

    every_s: float = 0.0
    source_records: int = 2_000
    ahead_ms: int = 3_600_000
    wait_ms: int = 500
    keep_rounds: int = 2_000_000


class LabelSink(Protocol):
    """Where labels go for others."""

    def send(self, labels: tuple[Label, ...]) -> None:
        """All of them are there when this returns; sending them again is harmless, they have ids."""


def plan_round(
    rounds: Rounds, ends: Mapping[Source, int], fetched: Mapping[Source, int], pace: Pace, decide: bool
) -> Plan:
    """Where the next round ends.

    Args:
        rounds: after the round before.
        ends: where the log ends in every source.
        fetched: what was fetched already lies before these offsets; the log may have grown since it was asked.
        pace: how much at a time.
        decide: whether a decision is due at the end.
    """
    ends = {source: max(end, fetched.get(source, 0)) for source, end in ends.items()}
    clocks_ms = rounds.clocks.clocks_ms
    unread = [source for source, end in ends.items() if rounds.offsets[source] < end]
    slowest_ms = min((clocks_ms.get(source, BEGINNING_MS) for source in unread), default=BEGINNING_MS)
    planned = []
    for source, end in sorted(ends.items()):
        start = rounds.offsets[source]
        waits = clocks_ms.get(source, BEGINNING_MS) > slowest_ms + pace.ahead_ms
        stop = start if waits else min(end, start + pace.source_records)
        planned.append(End(*source, stop, stop >= end))
    return Plan(rounds.number + 1, tuple(planned), decide)


@dataclass(slots=True)
class Refresh:
    """One learner at work.

    Attributes:
        rounds: the fold.
        tail: the log.
        checkpoint: the file.
        publisher: where heads go.
        door: where the status is shown.
        pace: how it goes through the log.
        labels: where labels go, if anywhere.
    """

    rounds: Rounds
    tail: Tail
    checkpoint: Checkpoint
    publisher: Publisher
    door: Door
    pace: Pace
    labels: LabelSink | None = None
    published: int = 0
    _ends: dict[Source, int] = field(default_factory=dict)
    _decided_s: float = field(default_factory=time.monotonic)

    def run(self, stop: threading.Event) -> None:
        """Rounds until the event is set; the round that has begun then is finished.

        Raises:
            SourceChanged: the log is not the one this began with.
            BundleError: another learner took over.
        """
        self.tail.seek(self.rounds.offsets)
        self._ends = dict(self.rounds.offsets)
        self._show(0.0)
        plan = self.checkpoint.planned()
        while plan is not None or not stop.is_set():
            try:
                plan = plan or self._next_plan()
                if plan is None:
                    continue
                began_s = time.monotonic()
                self._finish(plan)
                plan = None
                self._show(1000 * (time.monotonic() - began_s))
            except StoreUnavailable as error:
                log.warning("%s; trying again", error)
                plan = self._again()
                if stop.wait(RETRY_S):
                    break  # the plan is on disk: whoever starts next finishes it

    def _again(self) -> Plan | None:
        """After a fault of Kafka: everything as it was after the last commit, and the plan that was begun, if any."""
        rounds = self.rounds
        self.rounds = Rounds(
            rounds.rules,
            rounds.features_topic,
            self.checkpoint.state(),
            self.checkpoint.held(),
            self.checkpoint.closed(),
        )
        self.tail.seek(self.rounds.offsets)
        return self.checkpoint.planned()

    def _next_plan(self) -> Plan | None:
        news = self.tail.wait(self.pace.wait_ms)
        due = self.pace.every_s > 0 and time.monotonic() - self._decided_s >= self.pace.every_s
        decide = due and self.rounds.course.since.examples > 0
        if not news and not decide:
            return None
        self._ends = self.tail.ends()
        # News may bring the first example since the last decision, so a decision that is due is asked for even then.
        plan = plan_round(self.rounds, self._ends, self.tail.fetched(), self.pace, due)
        self.checkpoint.begin_round(plan)
        return plan

    def _finish(self, plan: Plan) -> None:
        outcome = self.rounds.step(plan, self.tail.read({(end.topic, end.partition): end.offset for end in plan.ends}))
        if self.labels is not None and (outcome.examples or outcome.corrections):
            self.labels.send((*outcome.examples, *outcome.corrections))
        self._publish(outcome)
        self.checkpoint.commit(self.rounds.state(), outcome.changes, self.pace.keep_rounds)

    def _publish(self, outcome: Outcome) -> None:
        for decision in outcome.decisions:
            self._decided_s = time.monotonic()
            if decision.verdict != "good":
                log.warning(
                    "head not published, it is %s than the frozen one: %s; learning goes on from the frozen weights",
                    decision.verdict.replace("_", " "),
                    decision.metadata,
                )
                continue
            version = self.publisher.publish(decision)
            self.published += 1
            log.info("published %s after %s examples", version[:12], decision.metadata["examples"])

    def _show(self, round_ms: float) -> None:
        self.door.show(status_of(self.rounds, self._ends, self.publisher, self.published, self.checkpoint, round_ms))


def status_of(
    rounds: Rounds,
    ends: Mapping[Source, int],
    publisher: Publisher,
    published: int,
    checkpoint: Checkpoint,
    round_ms: float,
) -> Status:
    """What the door shows after a round."""
    course, pending = rounds.course, rounds.pending
    watermark_ms = rounds.clocks.watermark_ms
    return Status(
        round=rounds.number,
        seen={f"{topic}/{partition}": offset for (topic, partition), offset in sorted(rounds.offsets.items())},
        ends={f"{topic}/{partition}": offset for (topic, partition), offset in sorted(ends.items())},
        watermark_ms=None if watermark_ms == BEGINNING_MS else watermark_ms,
        examples=course.learned,
        pending={"lists": pending.lists, "searches": len(pending), "bytes": pending.held_bytes},
        version=publisher.version,
        published=published,
        epoch=publisher.epoch,
        progressive={"total": _measures(course.total), "since_decision": _measures(course.since)},
        counts={
            "joined": dict(sorted(pending.counts.items())),
            "learned": dict(sorted(course.counts.items())),
            "refused_records": dict(sorted(rounds.refused.items())),
        },
        checkpoint_bytes=checkpoint.size_bytes(),
        round_ms=round(round_ms, 3),
    )


def _measures(tally: Tally) -> dict[str, float | int | None]:
    measures: dict[str, float | int | None] = {"examples": tally.examples, "clicked": tally.clicked}
    for name in ("mrr", "frozen_mrr", "loss", "frozen_loss"):
        value: float = getattr(tally, name)
        measures[name] = None if math.isnan(value) else value
    return measures


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay found: how many rounds, the weights' digest at the end, the first round that came out otherwise."""

    rounds: int
    examples: int
    digest: str
    differs: int | None


def replay(checkpoint: Checkpoint, rules: Rules, features_topic: str, tail: Tail) -> Replayed:
    """Runs all recorded rounds again, from the first weights and the first offsets; nothing is written or published.

    Args:
        checkpoint: the file that recorded them, opened to read.
        rules: those of the file.
        features_topic: which topic holds the served lists.
        tail: the log.

    Raises:
        BundleError: the file no longer has its first round, or never had one.
    """
    genesis = checkpoint.genesis()
    if genesis is None:
        raise BundleError(f"{checkpoint.path} has not begun: run `headrace refresh` with this --state folder first")
    rounds = Rounds(rules, features_topic, genesis.state)
    tail.seek(rounds.offsets)
    for plan, digest in checkpoint.rounds():
        if plan.number != rounds.number + 1:
            raise BundleError(
                f"{checkpoint.path} keeps its rounds only from {plan.number} on: "
                "it cannot be replayed from the beginning; keep more of them with --keep-rounds"
            )
        rounds.step(plan, tail.read({(end.topic, end.partition): end.offset for end in plan.ends}))
        found = learner_digest(rounds.course.state().learner)
        if found != digest:
            return Replayed(plan.number, rounds.course.learned, found.hex(), plan.number)
    kept = Rounds(rules, features_topic, checkpoint.state(), checkpoint.held(), checkpoint.closed())
    whole = _bytes_of(rounds) == _bytes_of(kept)
    final = learner_digest(rounds.course.state().learner).hex()
    return Replayed(rounds.number, rounds.course.learned, final, None if whole else rounds.number)


def _bytes_of(rounds: Rounds) -> bytes:
    held = (len(rounds.pending), rounds.pending.lists, rounds.pending.held_bytes)
    return msgspec.msgpack.encode((rounds.state(), held), order="deterministic")
