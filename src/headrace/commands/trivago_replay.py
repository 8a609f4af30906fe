"""The trivago log through a whole local line, as `headrace demo --data trivago` shows it."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from headrace.local.line import LocalLine
from headrace.local.replay import Door, EventLog, replay
from headrace.local.trivago_report import Report, report
from headrace.models import trivago
from headrace.models.bundle import publish, write_bundle, write_part
from headrace.models.champion import newest_epoch
from headrace.models.features import FEATURES
from headrace.models.head import Head
from headrace.models.trivago import ClickedOut, Step
from headrace.online.publisher import HEAD_FILE, golden_requests
from headrace.streams.partitioners import partition_of

EVENTS, FEATURE_LOG = "search.events.v1", "search.features.v1"
EVERY_EXAMPLES = 250


def steps_of(folder: Path, events: int | None, hours: float | None) -> list[Step]:
    """The steps of the log, or of its first rows or hours.

    Raises:
        FileNotFoundError: with where to get it.
    """
    steps = list(trivago.steps(trivago.read(folder / "trivago" / "events.parquet", events)))
    if hours is not None:
        until_ms = steps[0].at_ms + hours * 3_600_000
        steps = list(takewhile(lambda step: step.at_ms < until_ms, steps))
    return steps


@dataclass
class Barrier:
    """Lets a list be asked for only when the state and the learner have everything before it.

    Attributes:
        log: what was sent.
        door: who is asked.
        partitions: of the topics.
        lists: lists served so far in each partition of the feature log.
    """

    log: EventLog
    door: Door
    partitions: int
    lists: dict[int, int] = field(default_factory=dict)
    version: str = ""

    def __call__(self, step: Step, now_s: float) -> None:
        """Waits before a list; other steps go on at once."""
        if not isinstance(step, ClickedOut):
            return
        self.log.wait(step.shopper)
        ends = {f"{EVENTS}/{part}": offset for part, offset in self.log.positions.items()}
        ends |= {f"{FEATURE_LOG}/{part}": count for part, count in self.lists.items()}
        if ends:
            self.version = self.door.wait_for_learner(ends)["version"] or self.version
            if self.version:
                self.door.wait_for_model(self.version)
        part = partition_of(step.shopper.encode(), self.partitions)
        self.lists[part] = self.lists.get(part, 0) + 1


@dataclass(frozen=True)
class Pace:
    """Lets each step happen when its time has come.

    Attributes:
        log: watched while there is time.
        first_ms: event time of the first step.
        speed: seconds of the log in one second.
    """

    log: EventLog
    first_ms: int
    speed: float

    def __call__(self, step: Step, now_s: float) -> None:
        """Waits until the step is due."""
        due_s = time.monotonic() - now_s + (step.at_ms - self.first_ms) / 1000 / self.speed
        while (left_s := due_s - time.monotonic()) > 0:
            self.log.collect()  # watching for what can be seen by now
            time.sleep(min(left_s, 0.002))


def run(line: LocalLine, steps: list[Step], barrier: bool, speed: float, driver: str) -> Report:
    """Replays the steps on a line, which is started and stopped here.

    Args:
        line: not started.
        steps: of the log.
        barrier: wait before each list until the state and the learner have everything before it.
        speed: without barrier: seconds of the log in one second.
        driver: who consumes.

    Raises:
        StartFailed: something did not come up.
        Refused: something did not do what it must within its time.
    """
    _first_bundle(line.repository)
    kafka = ("--bootstrap-servers", line.bootstrap)
    state = ("--redis-url", line.redis_url, "--namespace", line.namespace)
    models = ("--repository", str(line.repository))
    learner = (
        "--state",
        str(line.folder / "refresh"),
        "--every-examples",
        str(EVERY_EXAMPLES),
        "--every-seconds",
        "86400",
    )
    verbs: dict[str, Sequence[str]] = {
        "consume": (*kafka, *state, "--driver", driver),
        "serve": (*kafka, *state, *models, "--port", str(line.port("serve")), "--trust-now", "--poll-ms", "20"),
        "refresh": (*kafka, *models, *learner, "--port", str(line.port("refresh"))),
    }

    def say(what: str) -> None:
        click.echo(f"starting {what}", err=True)

    try:
        line.start(say)
        line.start_verbs(verbs, say)
        with (
            closing(EventLog(line.bootstrap, EVENTS, line.redis_url, line.namespace)) as log,
            closing(Door(line.serve_url, line.refresh_url)) as door,
        ):
            pause: Callable[[Step, float], None] = (
                Barrier(log, door, line.partitions) if barrier else Pace(log, steps[0].at_ms, speed)
            )
            interval_s = 0.1 if sys.stderr.isatty() else 10.0
            with tqdm(total=len(steps), unit="step", desc="replay", smoothing=0.05, mininterval=interval_s) as bar:
                served = list(replay(steps, log, door, pause, lambda done: bar.update(done - bar.n)))
            status = dict(door.status())
    finally:
        line.stop()
    return report(steps, served, log.freshness.seen_ms, status, barrier)


def _first_bundle(repository: Path) -> None:
    """A bundle without a student, whose head has learned nothing."""
    head = Head.cold()
    rows = np.linspace(-1, 2, 4 * len(FEATURES), dtype=np.float32).reshape(4, len(FEATURES))
    parts = {"head": write_part(repository, "head", {HEAD_FILE: head.to_bytes()})}
    version = write_bundle(repository, parts, golden_requests(head, (rows,)), {"remark": "the cold head of a demo"})
    publish(repository, version, newest_epoch(repository))
