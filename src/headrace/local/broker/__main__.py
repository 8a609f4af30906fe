"""``python -m headrace.local.broker --dir DIR --port PORT``: runs the embedded broker until SIGTERM or SIGINT."""

import argparse
import asyncio
import contextlib
import logging
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from headrace.local.broker.files import FolderInUse
from headrace.local.broker.process import LISTENING
from headrace.local.broker.server import HOST, Server

log = logging.getLogger("headrace.local.broker")

_WANTED_FILES = 16_384


def main() -> None:
    """Runs a broker; ends with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m headrace.local.broker", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the folder of its data; is made when it is not there")
    parser.add_argument("--port", type=_port, default=9092, help=f"of {HOST} (default: %(default)s)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    log.warning("This broker is for a laptop and for tests, never for production: run Apache Kafka there.")
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(given.dir, given.port, _most_partitions()))
    except (FolderInUse, ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text[:6]) < 2**16:  # not 0: clients must be told the port
        return int(text[:6])
    raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to 65535")


async def _serve(folder: Path, port: int, most_partitions: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(folder, port, most_partitions)
    await server.start()
    log.info("%s %s:%d, data in %s", LISTENING, HOST, port, folder)
    await ended.wait()
    await server.stop()
    log.info("ended")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Uvloop's where it is installed: faster, and nothing rests on it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _most_partitions() -> int:
    """How many partitions there may be: each is an open file, and the usual limit is 1,024 where more are allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if most == resource.RLIM_INFINITY else min(most, _WANTED_FILES)
    with contextlib.suppress(ValueError, OSError):  # macOS says "no limit" and has one
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # the other half is for connections


if __name__ == "__main__":
    main()
