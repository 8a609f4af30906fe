"""The HTTP server around the doors: uvicorn, with an end that nobody notices.

SIGTERM: ``/readyz`` says no, requests are taken for another moment so that balancers see it, then the socket closes,
what runs is finished, and the process ends. A second signal ends the waiting, a third one cuts off what runs.
"""

import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette

CONNECTIONS: Final = 2_048
BACKLOG: Final = 2_048
KEEP_ALIVE_S: Final = 75
"""Longer than balancers keep idle connections (60 s as a rule): who closes first must not be the worker."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How to end.

    Attributes:
        drain_ms: how long requests are still taken after SIGTERM.
        finish_s: what still runs so much later is cut off.
    """

    drain_ms: int = 500
    finish_s: int = 30


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and tells before it stops taking requests.

    Args:
        app: the doors.
        config: how to end.
        drain: called once, when the first signal came.
        tick: called ten times a second on the event loop.
    """

    def __init__(
        self, app: Starlette, config: ServerConfig, drain: Callable[[], None], tick: Callable[[], object]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=config.finish_s,
            )
        )
        self._drain = drain
        self._tick = tick
        self._drain_s = config.drain_ms / 1000
        self._signals = 0
        self._stop_s = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, later ones hasten it."""
        self._signals += 1
        if self._signals == 1:
            self._drain()
            self._stop_s = time.monotonic() + self._drain_s
        else:
            self.should_exit = True
            self.force_exit = self._signals > 2

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to end; uvicorn asks ten times a second."""
        self._tick()
        if time.monotonic() >= self._stop_s:
            self.should_exit = True
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        OSError: with a text that says which address and why not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "something else listens there: stop it or take another --port" if taken else str(error)
        raise OSError(f"cannot listen on {host}:{port}: {why}") from error
    listening.setblocking(False)
    return listening
