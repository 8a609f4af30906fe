"""Replay a real log through the whole line and show how well it served."""

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from headrace.commands.options import json_file
from headrace.local import kafka as local_kafka
from headrace.local.child import StartFailed
from headrace.local.kafka import LocalKafka
from headrace.local.line import LocalLine
from headrace.local.replay import Door, EventLog, Refused, replay
from headrace.local.trivago_report import Report, plot, report, write_json
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


@click.command
@click.option("--data", type=click.Choice(["trivago"]), required=True, help="Which log to replay.")
@click.option(
    "--barrier/--no-barrier",
    default=True,
    help="Wait before each list until the state holds all earlier events of the shopper and the learner has read them: "
    "the quality of the model. Without it: as live, at --speed.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.1, 10_000),
    default=60.0,
    show_default=True,
    help="Without barrier: seconds of the log in a second.",
)
@click.option(
    "--hours", type=click.FloatRange(0.01), default=None, help="Only so many hours of the log; all of it if not given."
)
@click.option(
    "--events", type=click.IntRange(1), default=None, help="Only so many rows of the log; all of it if not given."
)
@click.option(
    "--driver",
    type=click.Choice(["live", "bulk"]),
    default="live",
    show_default=True,
    help="Who consumes, see headrace consume.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Draw the running quality as a PNG.",
)
@click.option(
    "--data-folder",
    envvar="HEADRACE_DATA",
    type=click.Path(path_type=Path),
    default=Path("../shared/data"),
    show_default=True,
    help="Where the data sets lie; trivago/events.parquet is read.",
)
@click.option(
    "--kafka-jars",
    envvar="HEADRACE_KAFKA_JARS",
    type=click.Path(path_type=Path),
    default=Path("../shared/kafka/lib"),
    show_default=True,
    help="The folder of Apache Kafka's jars.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Keep everything the line writes there; a temporary one if not given.",
)
@json_file
def command(
    data: str,
    barrier: bool,
    speed: float,
    hours: float | None,
    events: int | None,
    driver: str,
    plot_file: Path | None,
    data_folder: Path,
    kafka_jars: Path,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    r"""Replay a real log of hotel searches through the whole line and show how well it served.

    Starts Kafka, Valkey, `consume`, `serve` and `refresh` on this machine, has every list scored by the running worker
    before its click reaches the state, and compares what was served with four baselines on the same lists. Hotels have
    no text: the student is absent, and every answer says so.

    \b
    Example: headrace demo --data trivago --events 2000
             headrace demo --data trivago --no-barrier --speed 60 --hours 2
    """
    for name in ("httpx", "kafka", "matplotlib"):  # they tell of every request and every slow moment
        logging.getLogger(name).setLevel(logging.ERROR)
    if reason := local_kafka.missing(kafka_jars):
        raise click.ClickException(reason)
    try:
        rows = trivago.read(data_folder / "trivago" / "events.parquet", events)
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    steps = list(trivago.steps(rows))
    if hours is not None:
        until_ms = steps[0].at_ms + hours * 3_600_000
        steps = list(takewhile(lambda step: step.at_ms < until_ms, steps))
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as temporary:
        where = folder or Path(temporary)
        try:
            found = _run(
                LocalLine(where, LocalKafka(where / "kafka", kafka_jars), "demo"), steps, barrier, speed, driver
            )
        except (StartFailed, Refused) as error:
            raise click.ClickException(str(error)) from error
    click.echo(found.text)
    if plot_file is not None:
        plot(found, plot_file)
        click.echo(f"The plot: {plot_file}", err=True)
    if json_file is not None:
        write_json(found, json_file)


def _run(line: LocalLine, steps: list[Step], barrier: bool, speed: float, driver: str) -> Report:
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
