"""``python -m headrace.local.broker --dir DIR --port PORT``: runs the embedded broker until SIGTERM or SIGINT."""

import argparse
import asyncio
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


def main() -> None:
    """Runs a broker; ends with one sentence when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m headrace.local.broker", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the folder of its data; is made when it is not there")
    parser.add_argument("--port", type=int, default=9092, help=f"of {HOST} (default: %(default)s)")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    log.warning("This broker is for a laptop and for tests, never for production: run Apache Kafka there.")
    _open_more_files()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(given.dir, given.port))
    except (FolderInUse, ValueError, OSError) as error:
        sys.exit(f"Error: {error}")


async def _serve(folder: Path, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    server = Server(folder, port)
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


def _open_more_files() -> None:
    """A partition is one open file, and the usual limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if most == resource.RLIM_INFINITY else most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    except (ValueError, OSError):
        log.info("the limit of open files stays as it is")


if __name__ == "__main__":
    main()
