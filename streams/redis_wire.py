"""One connection to Redis that never heals by itself.

redis-py opens it (addresses, TLS, passwords), and from then on the socket is ours: redis-py would reconnect in
silence, and a new connection is a new store (law 2). Packing and parsing are hiredis' own, a third of redis-py's cost
for the small calls that make up a micro-batch.
"""

import select
from collections.abc import Callable, Iterable
from itertools import islice
from socket import socket
from ssl import SSLSocket
from typing import Any, Final, cast

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from headrace import StoreUnavailable

Command = tuple[bytes | str | int, ...]

_READ_BYTES: Final = 1 << 16
_AT_ONCE: Final = 64

_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # its stub knows tuples of one element only


class Wire:
    """An open connection; after the first error it is closed for good.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` as redis-py reads it.
        timeout_s: how long to wait for the server before the connection counts as lost.

    Raises:
        StoreUnavailable: it cannot be opened.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._reader = hiredis.Reader()
        try:
            # the pool only reads the address; it is not used for anything else
            pool = redis.ConnectionPool.from_url(
                url,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                health_check_interval=0,
                protocol=2,
            )
            pool.connection_kwargs["protocol"] = 2  # what a URL says goes before the arguments; answers would be others
            self._connection: Any = cast("Any", pool.make_connection())
            self._connection.connect()
            self._socket: socket = self._connection._sock  # redis-py has no public name for it
            self._socket.settimeout(timeout_s)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis cannot be reached: {error}") from error
        except (TypeError, ValueError):  # what they say may hold a part of the password
            raise StoreUnavailable(
                "Redis cannot be reached: its URL cannot be read. It is redis://[USER:PASSWORD@]HOST:PORT/DB, rediss://"
                " or unix:///PATH; in a password write / @ : # ? as %2F %40 %3A %23 %3F."
            ) from None

    def send(self, commands: Iterable[Command]) -> int:
        """Sends commands without waiting for what they answer; how many they were.

        In pieces, so that the server works on the first ones while the others are still being made.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        count, left = 0, iter(commands)
        try:
            while piece := [_pack(command) for command in islice(left, _AT_ONCE)]:
                self._socket.sendall(b"".join(piece))
                count += len(piece)
        except OSError as error:
            raise self._lost(error) from error
        return count

    def receive(self, count: int) -> list[object]:
        """The next answers, in order; an error that the server answers is one of them.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        replies: list[object] = []
        gets, receive, feed = self._reader.gets, self._socket.recv, self._reader.feed
        while len(replies) < count:
            reply = gets()
            if reply is not False:
                replies.append(reply)
                continue
            try:
                data = receive(_READ_BYTES)
            except OSError as error:
                raise self._lost(error) from error
            if not data:
                raise self._lost("the server closed the connection")
            feed(data)
        return replies

    def call(self, commands: Iterable[Command]) -> list[object]:
        """Sends commands and waits for all they answer.

        Raises:
            StoreUnavailable: the connection is lost, or the server answered with an error: some may be done, some not.
        """
        replies = self.receive(self.send(commands))
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreUnavailable(f"Redis answered: {reply}") from reply
        return replies

    def ready(self, wait_ms: int) -> bool:
        """Whether bytes of an answer are there, within wait_ms.

        Raises:
            StoreUnavailable: the connection is lost.
        """
        try:
            # what TLS has decrypted already is no longer to be seen at the socket
            if self._reader.has_data() or (isinstance(self._socket, SSLSocket) and self._socket.pending()):
                return True
            waiting = select.poll()  # select knows no file beyond the 1,024th
            waiting.register(self._socket, select.POLLIN)
            return bool(waiting.poll(wait_ms))
        except (OSError, ValueError) as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Ends the connection."""
        self._connection.disconnect()

    def _lost(self, why: object) -> StoreUnavailable:
        self.close()
        return StoreUnavailable(f"the connection to Redis is lost: {why}")
