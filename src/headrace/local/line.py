"""The whole line on one machine: Kafka, Valkey, and the verbs as processes, for a demonstration; never for production.

Everything listens on 127.0.0.1, lies in one folder and ends with this process.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.local.child import Child, StartFailed, free_port
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey

Say = Callable[[str], None]

READY = {"serve": "/readyz", "refresh": "/status"}
"""Where a verb says that it is ready; the others are once they run."""


class Line:
    """Kafka, Valkey, consume, serve and refresh.

    Attributes:
        bootstrap: Kafka's address.
        redis_url: Valkey's address, a unix socket.
        namespace: of the state's keys.
        repository: where bundles lie.
        serve_url: the worker's door.
        refresh_url: the learner's door.
    """

    def __init__(self, folder: Path, jars: Path, namespace: str = "demo", partitions: int = 4) -> None:
        """Prepares the line; nothing runs yet.

        Args:
            folder: for everything that is written; made when it is not there.
            jars: Kafka's.
            namespace: of the state's keys.
            partitions: of the events topic and the feature log.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.namespace, self.partitions = folder, namespace, partitions
        self.repository = folder / "models"
        self._kafka = LocalKafka(folder / "kafka", jars)
        self._valkey = LocalValkey(folder / "valkey")
        self.bootstrap, self.redis_url = self._kafka.bootstrap, self._valkey.socket_url
        self._doors = {name: free_port() for name in ("consume", "serve", "refresh")}
        self.serve_url, self.refresh_url = self._url("serve"), self._url("refresh")
        self._children: list[Child] = []

    def start(self, verbs: dict[str, Sequence[str]], say: Say) -> None:
        """Starts the servers, makes the topics, then each verb with its further arguments; returns when all are ready.

        Raises:
            StartFailed: with the end of the log of what did not come up.
        """
        say("Apache Kafka and Valkey")
        self._kafka.start()
        self._valkey.start()
        say("topics")
        self._run("topics", "create", "--bootstrap-servers", self.bootstrap, "--partitions", str(self.partitions))
        for verb, arguments in verbs.items():
            say(f"headrace {verb}")
            child = Child(f"headrace {verb}", self._command(verb, *arguments), self.folder / f"{verb}.log")
            self._children.append(child)
            child.start(lambda verb=verb: self._answers(verb), timeout_s=60.0)  # type: ignore[misc]

    def port(self, verb: str) -> int:
        """The port of 127.0.0.1 on which a verb is to open its door."""
        return self._doors[verb]

    def stop(self) -> None:
        """Ends the verbs, last started first, then the servers."""
        while self._children:
            self._children.pop().stop()
        self._valkey.stop()
        self._kafka.stop()

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

    def _command(self, verb: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "headrace.commands.main", verb, *arguments]

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, timeout=60.0, check=False)
        if done.returncode:
            raise StartFailed(f"headrace {arguments[0]} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
