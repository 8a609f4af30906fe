"""A line on one machine: a broker, Valkey, and the verbs as processes; for a laptop, never for production.

Everything listens on 127.0.0.1, lies in one folder and ends with this process: what the verbs write aside (``TMPDIR``)
goes there too, since a process that is killed cannot tidy up.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from headrace.local.child import Child, StartFailed, free_port
from headrace.local.valkey import LocalValkey

Say = Callable[[str], None]

READY = {"serve": "/readyz", "refresh": "/status"}
"""Where a verb says that it is ready; the others are once they run."""
READY_S = 60.0


class Broker(Protocol):
    """What a line needs of a broker: ``LocalBroker`` and ``LocalKafka`` both have it."""

    bootstrap: str

    @property
    def pid(self) -> int | None:
        """The process, or None while it does not run."""

    def start(self) -> None:
        """Returns when it answers."""

    def stop(self) -> None:
        """Ends it in order."""

    def kill(self) -> None:
        """Ends it at once."""


class LocalLine:
    """A broker, Valkey, and any of the verbs beside them.

    Attributes:
        folder: where everything is written.
        broker: as it was given.
        valkey: the store.
        bootstrap: the broker's address.
        redis_url: Valkey's address, a unix socket.
        namespace: of the state's keys.
        repository: where bundles lie.
        serve_url: the worker's door.
        refresh_url: the learner's door.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        namespace: str = "default",
        partitions: int = 4,
        redis_port: int | None = None,
    ) -> None:
        """Prepares the line; nothing runs yet.

        Args:
            folder: for everything that is written; made when it is not there.
            broker: a LocalBroker or a LocalKafka, not started.
            namespace: of the state's keys.
            partitions: of the topics, where they are not there yet.
            redis_port: of Valkey; None takes a free one.
        """
        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        self.folder, self.broker, self.namespace, self.partitions = folder, broker, namespace, partitions
        self.repository = folder / "models"
        self.valkey = LocalValkey(folder / "valkey", redis_port)
        self.bootstrap, self.redis_url = broker.bootstrap, self.valkey.socket_url
        self.environment: Mapping[str, str] = os.environ | {
            "TMPDIR": str(temporary.resolve()),
            "MPLCONFIGDIR": str(temporary.resolve()),
        }
        self._doors = {name: free_port() for name in ("consume", "serve", "refresh")}
        self.serve_url, self.refresh_url = self._url("serve"), self._url("refresh")
        self._children: dict[str, Child] = {}

    def start(self, say: Say = lambda what: None) -> None:
        """Starts the servers and makes the topics that are not there.

        Raises:
            StartFailed: with the end of the log of what did not come up.
        """
        say("the broker and Valkey")
        self.broker.start()
        self.valkey.start()
        say("topics")
        self.run("topics", "create", "--bootstrap-servers", self.bootstrap, "--partitions", str(self.partitions))

    def start_verbs(self, verbs: Mapping[str, Sequence[str]], say: Say = lambda what: None) -> None:
        """Starts verbs with their further arguments, all at once; returns when all are ready.

        Raises:
            StartFailed: with the end of the log of what did not come up.
        """
        for verb, arguments in verbs.items():
            log = self.folder / f"{verb}.log"
            child = Child(f"headrace {verb}", self.command(verb, *arguments), log, self.environment)
            self._children[verb] = child
            child.start(lambda: True, READY_S)
        for verb in verbs:
            say(f"headrace {verb}")
            self._wait(verb)

    def kill(self, verb: str) -> int | None:
        """Ends a verb at once (SIGKILL); its process id, None when it did not run."""
        child = self._children[verb]
        pid = child.pid
        child.kill()
        return pid

    def restart(self, verb: str) -> None:
        """Starts a verb again that ended, with the same arguments; returns when it is ready."""
        self._children[verb].start(lambda: True, READY_S)
        self._wait(verb)

    def pid(self, verb: str) -> int | None:
        """The process id of a verb, None while it does not run."""
        child = self._children.get(verb)
        return None if child is None else child.pid

    def port(self, verb: str) -> int:
        """The port of 127.0.0.1 on which a verb is to open its door."""
        return self._doors[verb]

    def stop(self) -> None:
        """Ends the verbs, last started first, then the servers."""
        while self._children:
            self._children.popitem()[1].stop()
        self.valkey.stop()
        self.broker.stop()

    def command(self, verb: str, *arguments: str) -> list[str]:
        """The command line of a verb."""
        return [sys.executable, "-P", "-m", "headrace.commands.main", verb, *arguments]

    def run(self, verb: str, *arguments: str, codes: Sequence[int] = (0,), timeout_s: float = 60.0) -> str:
        """Runs a verb to its end; what it printed.

        Raises:
            StartFailed: it ended with another code than these, or not in time.
        """
        try:
            done = subprocess.run(
                self.command(verb, *arguments),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=self.environment,
            )
        except subprocess.TimeoutExpired as error:
            raise StartFailed(f"headrace {verb} did not end within {timeout_s:.0f} s") from error
        if done.returncode not in codes:
            raise StartFailed(f"headrace {verb} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _wait(self, verb: str) -> None:
        child, until_s = self._children[verb], time.monotonic() + READY_S
        while not self._answers(verb):
            late = time.monotonic() > until_s
            if child.pid is None or late:
                why = f"was not ready after {READY_S:.0f} s" if late else "ended"
                said = "\n".join(child.said().splitlines()[-15:])
                raise StartFailed(f"headrace {verb} {why}; the end of {child.log}:\n{said}")
            time.sleep(0.02)

    def _url(self, verb: str) -> str:
        return f"http://127.0.0.1:{self._doors[verb]}"

    def _answers(self, verb: str) -> bool:
        if verb not in READY:
            return True
        try:
            with urllib.request.urlopen(self._url(verb) + READY[verb], timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
