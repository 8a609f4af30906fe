"""Learn from clicks as they come, and publish a new head every few minutes."""

import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace import SourceChanged
from headrace.commands.brokers import speaking_to
from headrace.commands.options import bootstrap_servers, json_file, repository, show_configuration
from headrace.models.bundle import champion, claim_epoch
from headrace.models.head import Head
from headrace.online.checkpoint import NAME, Checkpoint, Genesis
from headrace.online.course import Course, CourseSettings, CourseState
from headrace.online.door import Door
from headrace.online.label_sink import KafkaLabels
from headrace.online.progress import GuardSettings
from headrace.online.publisher import Hold, Publisher, champions_head
from headrace.online.refresh import Pace, Refresh, replay
from headrace.online.rounds import End, FeatureLimits, Rounds, Rules, beginning
from headrace.online.tail import Tail
from headrace.streams import topics
from headrace.streams.events import EventLimits
from headrace.streams.held import PendingLimits
from headrace.streams.labels import Windows
from headrace.streams.topics import Source as Log
from headrace.streams.topics import source_of


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags, as they were given; `refresh --help` says what each means."""

    bootstrap_servers: str
    repository: Path
    state: Path
    events_topic: str
    features_topic: str
    labels: bool
    labels_topic: str
    every_seconds: float
    every_examples: int
    click_window_s: float
    cart_window_s: float
    purchase_window_s: float
    hold_s: float
    late_hours: float
    future_minutes: float
    max_pending: int
    max_pending_mb: int
    max_closed: int
    guard_lists: int
    guard_margin: float
    round_records: int
    keep_rounds: int
    host: str
    port: int
    take_over: bool
    replay: bool
    json_file: Path | None

    def rules(self) -> Rules:
        """What the weights depend on."""
        return Rules(
            windows=Windows(
                click_ms=round(1000 * self.click_window_s),
                cart_ms=round(1000 * self.cart_window_s),
                purchase_ms=round(1000 * self.purchase_window_s),
            ),
            hold_ms=round(1000 * self.hold_s),
            pending=PendingLimits(
                searches=self.max_pending, held_bytes=1_000_000 * self.max_pending_mb, closed=self.max_closed
            ),
            events=EventLimits(
                late_ms=round(3_600_000 * self.late_hours), future_ms=round(60_000 * self.future_minutes)
            ),
            features=FeatureLimits(future_ms=round(60_000 * self.future_minutes)),
            course=CourseSettings(
                every_examples=self.every_examples,
                guard=GuardSettings(lists=self.guard_lists, margin=self.guard_margin),
            ),
        )

    def pace(self) -> Pace:
        """How the process goes on."""
        return Pace(every_s=self.every_seconds, source_records=self.round_records, keep_rounds=self.keep_rounds)


@click.command
@bootstrap_servers
@repository
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".headrace/refresh"),
    metavar="FOLDER",
    help="Weights, offsets, rounds and what is not ripe. One learner only; the settings marked * are kept in it.",
)
@click.option("--events-topic", default=topics.EVENTS, help="What shoppers did.")
@click.option("--features-topic", default=topics.FEATURES, help="What requests were answered with.")
@click.option("--labels/--no-labels", default=False, help="Also send every example and correction to the labels topic.")
@click.option("--labels-topic", default=topics.LABELS, help="Where --labels sends them.")
@click.option(
    "--every-seconds",
    type=click.FloatRange(0),
    default=300.0,
    help="Publish a head at least so often while there are new examples; 0: never by time.",
)
@click.option(
    "--every-examples",
    type=click.IntRange(0),
    default=0,
    help="* Publish a head after every so many examples, exactly; 0: never by number.",
)
@click.option(
    "--click-window-s", type=click.FloatRange(1), default=1_800.0, help="* A list is learned so long after it."
)
@click.option("--cart-window-s", type=click.FloatRange(1), default=86_400.0, help="* Later carts do not count.")
@click.option(
    "--purchase-window-s", type=click.FloatRange(1), default=604_800.0, help="* Later purchases do not count."
)
@click.option(
    "--hold-s",
    type=click.FloatRange(0),
    default=60.0,
    help="* How far events may come out of order before they are late; lists are learned so much later.",
)
@click.option(
    "--late-hours", type=click.FloatRange(0), default=24.0, help="* As `consume` has it: older events are late."
)
@click.option(
    "--future-minutes", type=click.FloatRange(0), default=5.0, help="* As `consume` has it: newer ones are bad."
)
@click.option(
    "--max-pending", type=click.IntRange(1), default=200_000, help="* Searches held; the oldest leaves, counted."
)
@click.option(
    "--max-pending-mb", type=click.IntRange(1), default=512, help="* Megabytes held, in memory and in the file."
)
@click.option("--max-closed", type=click.IntRange(1), default=200_000, help="* Ended searches known for corrections.")
@click.option(
    "--guard-lists", type=click.IntRange(2), default=50, help="* With fewer clicked lists the guard says nothing."
)
@click.option(
    "--guard-margin",
    type=click.FloatRange(0),
    default=0.005,
    help="* Not published: a head whose mean reciprocal rank is below the frozen one's by more, beyond doubt.",
)
@click.option(
    "--round-records", type=click.IntRange(1), default=2_000, help="A round reads at most so many of a partition."
)
@click.option(
    "--keep-rounds", type=click.IntRange(1), default=2_000_000, help="Plans kept for --replay, 100 bytes each."
)
@click.option(
    "--host",
    default="127.0.0.1",
    help="Where --port listens. There is no token: any but a loopback address belongs into a closed network.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=9465, help="For /status, /metrics and /livez; 0: any.")
@click.option("--take-over", is_flag=True, help="Start though another learner holds the folders: from now on it fails.")
@click.option("--replay", is_flag=True, help="Run the recorded rounds of --state again, compare the weights, and end.")
@json_file
def command(**values: Any) -> None:
    """Join what was served with what shoppers did, learn from it, and publish a new head every few minutes.

    Ends with 0 on SIGTERM, after the round that has begun; with 1 when another learner took over.
    With --replay: 0 when every round gave the weights that were recorded, else 1.

    Example:
      headrace refresh --every-seconds 120 --labels
      headrace refresh --replay
    """
    show_configuration()
    flags = Flags(**values)
    with speaking_to(flags.bootstrap_servers):
        if flags.replay:
            sys.exit(_replay(flags))
        _learn(flags)


def _learn(flags: Flags) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as ending:
        ending.enter_context(Hold(flags.state, flags.take_over))
        ending.enter_context(Hold(flags.repository, flags.take_over))
        logs = _logs(flags)
        tail = Tail(flags.bootstrap_servers, _sources(logs))
        ending.callback(tail.close)
        epoch = claim_epoch(flags.repository)
        checkpoint = Checkpoint(flags.state)
        ending.callback(checkpoint.close)
        checkpoint.claim(epoch)
        rounds = _rounds(flags, checkpoint, logs, tail)
        labels = None
        if flags.labels:
            labels = KafkaLabels(flags.bootstrap_servers, flags.labels_topic)
            ending.callback(labels.close)
        publisher = _publisher(flags, epoch, rounds.course)
        door = _door(flags.host, flags.port)
        ending.callback(door.close)
        click.echo(f"learning from round {rounds.number + 1} on, epoch {epoch}; status: {door.url}/status", err=True)
        refresh = Refresh(rounds, tail, checkpoint, publisher, door, flags.pace(), labels)
        refresh.run(stop)
        status = door.status
        click.echo(f"ended after round {status.round}, {status.examples} examples, {status.published} heads", err=True)


def _logs(flags: Flags) -> dict[str, Log]:
    return {topic: source_of(flags.bootstrap_servers, topic) for topic in (flags.events_topic, flags.features_topic)}


def _sources(logs: dict[str, Log]) -> list[tuple[str, int]]:
    return [(topic, partition) for topic, log in sorted(logs.items()) for partition in range(log.partitions)]


def _rounds(flags: Flags, checkpoint: Checkpoint, logs: dict[str, Log], tail: Tail) -> Rounds:
    """The fold where the state folder left it, or a new one from the champion's head and the beginning of the log."""
    genesis = checkpoint.genesis()
    if genesis is None:
        first = [End(*source, offset, False) for source, offset in sorted(tail.first().items())]
        head = champions_head(flags.repository) or Head.cold()
        genesis = Genesis(
            rules=msgspec.json.encode(flags.rules()),
            sources={topic: msgspec.json.encode(log).decode() for topic, log in logs.items()},
            state=beginning(first, CourseState.begin(head)),
        )
        checkpoint.begin(genesis)
    _check_rules(flags, genesis)
    _check_sources(genesis, logs)
    return Rounds(flags.rules(), flags.features_topic, checkpoint.state(), checkpoint.held(), checkpoint.closed())


def _check_rules(flags: Flags, genesis: Genesis) -> None:
    kept: dict[str, Any] = msgspec.json.decode(genesis.rules)
    asked: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(flags.rules()))
    others = [name for name in sorted({*kept, *asked}) if kept.get(name) != asked.get(name)]
    if others:
        changes = "; ".join(f"{name}: {kept.get(name)} there, {asked.get(name)} now" for name in others)
        raise click.ClickException(
            f"{flags.state} began with other settings ({changes}). The same log must give the same weights: "
            "use those settings, or begin anew with another --state folder (weights go on from the published head)."
        )


def _check_sources(genesis: Genesis, logs: dict[str, Log]) -> None:
    if genesis.sources.keys() != logs.keys():
        raise click.ClickException(f"The state folder learns from {' and '.join(sorted(genesis.sources))}, not these.")
    for topic, log in logs.items():
        before = msgspec.json.decode(genesis.sources[topic], type=Log)
        if before != log:
            raise SourceChanged(
                f"{topic} is not the log this learner began with ({before}, now {log}): it was made again, has other "
                "partitions, or these are other brokers. Begin with another --state folder (weights go on from the "
                "published head)."
            )


def _publisher(flags: Flags, epoch: int, course: Course) -> Publisher:
    """The publisher; where nothing was ever published, a worker finds the head that learning begins with."""
    publisher = Publisher(flags.repository, epoch)
    current = champion(flags.repository)
    if current is None:
        publisher.publish(course.now())
    else:
        publisher.version = current.version
    return publisher


def _door(host: str, port: int) -> Door:
    try:
        return Door(port, host)
    except OSError as error:
        raise click.ClickException(f"Port {port} on {host}: {error.strerror}. Choose another with --port.") from error


def _replay(flags: Flags) -> int:
    if not (flags.state / NAME).exists():
        raise click.ClickException(f"{flags.state} holds no learner: run `headrace refresh` with this --state first.")
    with ExitStack() as ending:
        checkpoint = Checkpoint(flags.state, read_only=True)
        ending.callback(checkpoint.close)
        genesis = checkpoint.genesis()
        if genesis is None:
            raise click.ClickException(f"{flags.state} has not begun: run `headrace refresh` with this --state first.")
        logs = _logs(flags)
        _check_sources(genesis, logs)
        tail = Tail(flags.bootstrap_servers, _sources(logs))
        ending.callback(tail.close)
        rules = msgspec.json.decode(genesis.rules, type=Rules)
        found = replay(checkpoint, rules, flags.features_topic, tail)
    if flags.json_file is not None:
        flags.json_file.write_bytes(msgspec.json.encode(found))
    if found.differs is not None:
        click.echo(f"round {found.differs} gives other weights than were recorded: digest {found.digest}")
        return 1
    click.echo(f"{found.rounds} rounds, {found.examples} examples: the same weights, digest {found.digest}")
    return 0
