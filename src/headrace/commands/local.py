"""Run a broker and a Redis on this machine, in one folder, until Ctrl-C: for a laptop, never for production."""

import fcntl
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, NoReturn

import click
import msgspec

from headrace.commands.brokers import speaking_to
from headrace.commands.options import show_configuration
from headrace.local.broker.process import LocalBroker
from headrace.local.child import StartFailed, free_port
from headrace.local.valkey import LocalValkey
from headrace.streams.topics import admin_of, all_topics, create_topics

_FREED_S: Final = 10.0
_LOOK_S: Final = 0.2


Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


class Ports(msgspec.Struct, frozen=True):
    """The ports of 127.0.0.1 that a folder's clients know."""

    kafka: Port
    redis: Port


DEFAULT: Final = Ports(9092, 6379)


@click.command
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".headrace/local"),
    metavar="FOLDER",
    help="Everything lies here; started again on the same folder, everything is still there.",
)
def command(folder: Path) -> None:
    """Run a broker and a Redis on this machine, and make the topics; until Ctrl-C.

    Python is all that it needs: a small broker that speaks Kafka's protocol, and Valkey from a wheel, on 127.0.0.1
    only. They take the ports where every other verb looks for them, 9092 and 6379; where these are taken, others, and
    the same folder keeps them. For a laptop, never for production: one copy of everything, no passwords.

    Example:
      headrace local --dir shop
      headrace consume
    """
    show_configuration()
    with suppress(KeyboardInterrupt), _alone(folder):
        ports = _ports(folder)
        for name in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.default_int_handler)
        broker, valkey = LocalBroker(folder / "broker", ports.kafka), LocalValkey(folder / "valkey", ports.redis)
        try:
            click.echo("starting the broker and Valkey", err=True)
            broker.start()
            valkey.start()
            click.echo("making the topics", err=True)
            with speaking_to(broker.bootstrap), admin_of(broker.bootstrap) as admin:
                create_topics(admin, all_topics())
            _say(folder, broker.bootstrap, valkey.url)
            _watch(folder, broker, valkey)
        except StartFailed as error:
            raise click.ClickException(str(error)) from error
        finally:
            click.echo("stopping", err=True)
            valkey.stop()
            broker.stop()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps the folder to this process.

    Raises:
        click.ClickException: another one has it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be made ({error}): give another --dir.") from error
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise click.ClickException(
                f"{folder} is in use by process {lock.read().strip() or '?'}: give another --dir, or end that one."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _ports(folder: Path) -> Ports:
    """The folder's ports, chosen once.

    Raises:
        click.ClickException: somebody else has one of them.
    """
    file = folder / "ports.json"
    if not file.exists():
        chosen = Ports(*(port if _is_free(port) else free_port() for port in (DEFAULT.kafka, DEFAULT.redis)))
        aside = file.with_suffix(".new")
        aside.write_bytes(msgspec.json.encode(chosen))
        aside.replace(file)
        return chosen
    try:
        ports = msgspec.json.decode(file.read_bytes(), type=Ports)
    except msgspec.DecodeError as error:
        raise click.ClickException(f"{file} is damaged ({error}): delete it, and new ports are chosen.") from error
    until_s = time.monotonic() + _FREED_S  # what was killed a moment ago may not be gone yet
    while taken := [port for port in (ports.kafka, ports.redis) if not _is_free(port)]:
        if time.monotonic() > until_s:
            raise click.ClickException(
                f"Port {taken[0]}, which clients of {folder} know, is taken by another process: end that one, or"
                f" delete {file}, and new ports are chosen."
            )
        time.sleep(_LOOK_S)
    return ports


def _is_free(port: int) -> bool:
    """Whether a server could listen here now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: connections that end are no bar
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _say(folder: Path, bootstrap: str, redis_url: str) -> None:
    click.echo(f"Kafka  {bootstrap}\nRedis  {redis_url}\nAll data lies in {folder}. Never for production.")
    wanted = [
        f"export {name}={value}"
        for name, value, default in (
            ("HEADRACE_BOOTSTRAP_SERVERS", bootstrap, f"127.0.0.1:{DEFAULT.kafka}"),
            ("HEADRACE_REDIS_URL", redis_url, f"redis://127.0.0.1:{DEFAULT.redis}/0"),
        )
        if value != default
    ]
    if wanted:
        click.echo(
            "These are not the usual ports. So that the other verbs find them:\n\n  " + "\n  ".join(wanted) + "\n"
        )
    click.echo("Ready. Ctrl-C ends it.")


def _watch(folder: Path, broker: LocalBroker, valkey: LocalValkey) -> NoReturn:
    """Waits until one of them ends by itself.

    Raises:
        click.ClickException: always, with its name.
    """
    while True:
        for name, server, log in (("broker", broker, "broker/broker.log"), ("Redis", valkey, "valkey/valkey.log")):
            if server.pid is None:
                raise click.ClickException(f"The {name} ended by itself; {folder / log} may say why.")
        time.sleep(_LOOK_S)
