"""One connection to Redis that many requests share: commands of all go out as they come, replies come back in order.

redis-py's asyncio client takes a connection a request and packs commands in Python; hiredis packs and parses here, and
requests that run at the same time share round trips (measured in docs/results.md).

For reads only: it reconnects by itself, which a writer must not (``streams.redis_wire``).
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import parse_url

from headrace import StoreUnavailable

Command = tuple[bytes | str | int, ...]
ReadCommand = tuple[bytes | str, ...]

WAITING: Final = 4_096
"""So many calls may wait for replies; more means that the server is stuck."""
REDIAL_S: Final = 0.2
_pack: Final[Callable[[Any], bytes]] = hiredis.pack_command


@dataclass(slots=True)
class _Call:
    left: int
    asked_s: float
    future: "asyncio.Future[list[Any]]"
    replies: list[Any] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """Feeds replies to the calls that wait, in order."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[_Call] = deque()
        self.reader = hiredis.Reader()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while self.waiting:
            call = self.waiting[0]
            reply = self.reader.gets()
            if reply is False:
                return
            call.replies.append(reply)
            call.left -= 1
            if not call.left:
                self.waiting.popleft()
                if not call.future.done():
                    call.future.set_result(call.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        error = StoreUnavailable(f"the connection to Redis is lost: {exc or 'the server closed it'}")
        for call in self.waiting:
            if not call.future.done():
                call.future.set_exception(error)
        self.waiting.clear()

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def send(self, commands: Sequence[Command] | Sequence[ReadCommand], now_s: float) -> "asyncio.Future[list[Any]]":
        assert self.transport is not None
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Call(len(commands), now_s, future))
        self.transport.write(b"".join([_pack(command) for command in commands]))
        return future


class RedisPipe:
    """Calls over one shared connection, from one event loop.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads it.
        timeout_s: a call that waits longer means that the connection is dead.
    """

    def __init__(self, url: str, timeout_s: float = 2.0) -> None:
        self._address: dict[str, Any] = dict(parse_url(url))
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._dialing: asyncio.Lock | None = None
        self._redial_s = 0.0
        self._fault = ""

    async def call(self, commands: Sequence[Command] | Sequence[ReadCommand]) -> list[Any]:
        """What each command answers, in order; one round trip.

        Raises:
            StoreUnavailable: no connection, or one of the answers is an error.
        """
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._dial()
        now_s = time.monotonic()
        waiting = connection.waiting
        if waiting and (now_s - waiting[0].asked_s > self._timeout_s or len(waiting) >= WAITING):
            connection.end()
            raise StoreUnavailable(f"Redis has not answered for {now_s - waiting[0].asked_s:.1f} s")
        replies = await connection.send(commands, now_s)
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreUnavailable(f"Redis answered: {reply}")
        return replies

    async def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.end()
            self._connection = None

    async def _dial(self) -> _Connection:
        if self._dialing is None:
            self._dialing = asyncio.Lock()
        async with self._dialing:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            if time.monotonic() < self._redial_s:
                raise StoreUnavailable(self._fault)
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._connection = await self._open()
            except (OSError, TimeoutError, StoreUnavailable) as error:
                # Not every request may try: that would be a storm, and each would wait for its own failure.
                self._redial_s = time.monotonic() + REDIAL_S
                self._fault = f"Redis cannot be reached: {error or 'no answer in time'}"
                raise StoreUnavailable(self._fault) from error
            return self._connection

    async def _open(self) -> _Connection:
        loop, address = asyncio.get_running_loop(), self._address
        if "path" in address:
            _, connection = await loop.create_unix_connection(_Connection, address["path"])
        else:
            secure = (
                ssl.create_default_context(cafile=address.get("ssl_ca_certs"))
                if "connection_class" in address
                else None
            )
            host, port = address.get("host", "localhost"), address.get("port", 6379)
            _, connection = await loop.create_connection(_Connection, host, port, ssl=secure)
        greeting: list[Command] = []
        if address.get("password"):
            user = (address["username"],) if address.get("username") else ()
            greeting.append(("AUTH", *user, address["password"]))
        if address.get("db"):
            greeting.append(("SELECT", int(address["db"])))
        if greeting:
            for reply in await connection.send(greeting, time.monotonic()):
                if isinstance(reply, Exception):
                    connection.end()
                    raise StoreUnavailable(f"Redis answered: {reply}")
        return connection
