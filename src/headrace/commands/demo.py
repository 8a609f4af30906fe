"""Show the whole line at work on this machine: a tour with simulated shoppers, or a real log replayed."""

import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from headrace.commands import trivago_replay
from headrace.commands.options import json_file, repository
from headrace.commands.terminal import Terminal
from headrace.local import kafka as local_kafka
from headrace.local.broker.process import LocalBroker
from headrace.local.child import StartFailed
from headrace.local.doors import Refused
from headrace.local.kafka import LocalKafka
from headrace.local.line import LocalLine
from headrace.local.trivago_report import plot, write_json
from headrace.models import minilm
from headrace.tour import picture, screen
from headrace.tour.acts import Tour, claims, numbers
from headrace.tour.play import play
from headrace.tour.shop import load
from headrace.tour.shoppers import ClickModel

FOLDER = Path(".headrace/demo")
LINE = "line"
"""The folder's folder that each start makes anew."""


@click.command
@click.option(
    "--data", type=click.Choice(["trivago"]), default=None, help="Replay this log instead of playing the tour."
)
@click.option("--seed", type=click.IntRange(0), default=1, help="Tour: of everything that is simulated.")
@click.option(
    "--searches",
    type=click.IntRange(200, 100_000),
    default=1_500,
    help="Tour: how many simulated searches. With few of them the claims about quality may not hold.",
)
@click.option(
    "--broker",
    type=click.Choice(["embedded", "kafka"]),
    default="embedded",
    help="The broker that comes with Headrace, or Apache Kafka from --kafka-jars.",
)
@click.option(
    "--kafka-jars",
    envvar="HEADRACE_KAFKA_JARS",
    type=click.Path(path_type=Path),
    default=Path("../shared/kafka/lib"),
    help="The folder of Apache Kafka's jars, for --broker kafka.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Everything the line writes goes there.  [default: .headrace/demo; for trivago a temporary one]",
)
@repository
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    metavar="FILE",
    help="Draw the quality as a PNG.  [default: tour.png in the folder; for trivago none]",
)
@click.option("--hours", type=click.FloatRange(0.01), default=None, help="Trivago: only so many hours of the log.")
@click.option("--events", type=click.IntRange(1), default=None, help="Trivago: only so many rows of the log.")
@click.option(
    "--barrier/--no-barrier",
    default=True,
    help="Trivago: wait before each list until the state holds all earlier events of the shopper and the learner has "
    "read them: the quality of the model. Without it: as live, at --speed.",
)
@click.option(
    "--speed", type=click.FloatRange(0.1, 10_000), default=60.0, help="Trivago: seconds of the log in a second."
)
@click.option("--driver", type=click.Choice(["live", "bulk"]), default="live", help="Trivago: who consumes.")
@click.option(
    "--data-folder",
    envvar="HEADRACE_DATA",
    type=click.Path(path_type=Path),
    default=Path("../shared/data"),
    help="Trivago: where the data sets lie; trivago/events.parquet is read.",
)
@json_file
def command(**values: Any) -> None:
    """Show the whole line at work on this machine, and end.

    Starts a broker, Valkey, `consume`, `serve` and `refresh`. Without --data it plays the tour: a small shop with
    simulated shoppers, the same list before and after events, kill -9 of the consumer, a bundle with a flipped bit, ten
    swaps, and the quality of what was served; it ends with 1 when a claim does not hold. With --data trivago it replays
    a real log of hotel searches and compares what was served with four baselines.

    Example:
      headrace demo
      headrace demo --data trivago --events 2000
    """
    flags = Flags(**values)
    for name in ("httpx", "kafka", "matplotlib"):  # they tell of every request and every slow moment
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if flags.broker == "kafka" and (reason := local_kafka.missing(flags.kafka_jars)):
        raise click.ClickException(reason)
    with _ending_in_order():
        try:
            holds = _tour(flags) if flags.data is None else _trivago(flags)
        except (StartFailed, Refused) as error:
            raise click.ClickException(str(error)) from error
        except FileNotFoundError as error:
            raise click.ClickException(str(error)) from error
    sys.exit(0 if holds else 1)


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of ``headrace demo``, by their names."""

    data: str | None
    seed: int
    searches: int
    broker: str
    kafka_jars: Path
    folder: Path | None
    repository: Path
    plot_file: Path | None
    hours: float | None
    events: int | None
    barrier: bool
    speed: float
    driver: str
    data_folder: Path
    json_file: Path | None

    def line(self, folder: Path) -> LocalLine:
        """A line in a folder, not started."""
        if self.broker == "kafka":
            return LocalLine(folder, LocalKafka(folder / "kafka", self.kafka_jars), "demo")
        return LocalLine(folder, LocalBroker(folder / "broker"), "demo")


def _tour(flags: Flags) -> bool:
    """Plays the tour; whether every claim held."""
    folder, began_s = flags.folder or FOLDER, time.monotonic()
    terminal = Terminal()
    with _held(folder):
        os.environ["MPLCONFIGDIR"] = str((folder / "matplotlib").resolve())
        line = flags.line(folder / LINE)
        try:
            terminal.doing("checking the encoder to compare with")
            minilm.build(flags.repository, flags.repository.parent / "wheels", terminal.doing)
            model = replace(ClickModel(), searches=flags.searches)
            tour = play(line, load(), model, flags.seed, flags.repository / "parts" / minilm.DIGEST, terminal)
        finally:
            terminal.clear()
            with _undisturbed():
                line.stop()
        return _report(flags, tour, folder, began_s, terminal)


def _report(flags: Flags, tour: Tour, folder: Path, began_s: float, terminal: Terminal) -> bool:
    made = claims(tour)
    file = flags.plot_file or folder / "tour.png"
    terminal.show(screen.measured(tour.quality, picture.terminal(tour.quality)))
    terminal.doing("drawing the plot")
    picture.png(tour.quality, file, flags.seed)
    if flags.json_file is not None:
        flags.json_file.write_text(json.dumps(numbers(tour, made), indent=2) + "\n")
    logs = [] if all(claim.holds for claim in made) else [f"Logs: {folder / LINE}/*.log"]
    terminal.show(screen.ended(made, time.monotonic() - began_s, [f"Plot: {file}", *logs]))
    return all(claim.holds for claim in made)


def _trivago(flags: Flags) -> bool:
    """Replays the log; what it shows is for people to judge."""
    steps = trivago_replay.steps_of(flags.data_folder, flags.events, flags.hours)
    with tempfile.TemporaryDirectory(prefix="headrace-demo-") as temporary:
        line = flags.line(flags.folder or Path(temporary))
        found = trivago_replay.run(line, steps, flags.barrier, flags.speed, flags.driver)
    click.echo(found.text)
    if flags.plot_file is not None:
        plot(found, flags.plot_file)
        click.echo(f"The plot: {flags.plot_file}", err=True)
    if flags.json_file is not None:
        write_json(found, flags.json_file)
    return True


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder is this process's, and its line begins anew."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"Another demo runs in {folder}: wait for it, or take another --folder."
            ) from None
        line = folder / LINE
        if line.exists() and not (line / "tmp").is_dir():
            raise click.ClickException(f"{line} was not made by a demo: remove it, or take another --folder.")
        shutil.rmtree(line, ignore_errors=True)
        yield


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM and a closed terminal end this as Ctrl-C does: the servers stop, and one sentence is said."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Stopped; nothing runs any more.", err=True)
        sys.exit(130)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal breaks off what is done here."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
