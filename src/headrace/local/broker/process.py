"""The embedded broker as a child process, in the place of a Kafka node: for a laptop and tests, not for production."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from headrace.local.child import Child, free_port

LISTENING = "listening on"


class LocalBroker:
    """One embedded broker in a folder: its data and log are there, and a later start goes on from them.

    It has the members of :class:`headrace.local.kafka.LocalKafka`, so the two can stand for each other.

    Attributes:
        bootstrap: the address to give to clients, ``127.0.0.1:PORT``; the same after every start.
        data: the folder of the partitions' log files.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        """Prepares a broker; nothing runs yet.

        Args:
            folder: is made when it is not there. A folder in which a broker has run keeps that broker's data.
            port: of 127.0.0.1; None takes a free one.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        port = port or free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        self.data = folder / "data"
        # -P: the folder it is started in is no place to import from.
        command = [sys.executable, "-P", "-m", "headrace.local.broker", "--dir", str(self.data), "--port", str(port)]
        self._child = Child("The embedded broker", command, folder / "broker.log")

    @property
    def version(self) -> str:
        """Headrace's version, since the broker is a part of it."""
        try:
            return version("headrace")
        except PackageNotFoundError:
            return "unknown"

    @property
    def pid(self) -> int | None:
        """The broker's process id, or None while it does not run."""
        return self._child.pid

    def start(self, timeout_s: float = 100.0) -> None:
        """Starts the broker and returns when it answers, all records checked; does nothing when it runs.

        Raises:
            StartFailed: with the end of the broker's log.
        """
        self._child.start(lambda: f"{LISTENING} {self.bootstrap}" in self._child.said(), timeout_s)

    def stop(self) -> None:
        """Shuts the broker down in order (SIGTERM)."""
        self._child.stop()

    def kill(self) -> None:
        """Ends the broker at once (SIGKILL); a later start recovers from the data folder."""
        self._child.kill()
