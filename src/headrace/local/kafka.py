"""Apache Kafka on 127.0.0.1, one KRaft node run from its jars: for a laptop and for tests, never for production.

Replication is 1, there is no TLS and no password. Production runs a Kafka cluster of its own.

The jars are those of ``org.apache.kafka:kafka_2.13`` and of what it needs. A ``pom.xml`` with that one dependency and
``mvn dependency:copy-dependencies -DoutputDirectory=lib`` collects them; they run on Java 17 or newer.
"""

import base64
import re
import shutil
import subprocess
import uuid
from pathlib import Path

from headrace.local.child import Child, StartFailed, free_port

STARTED = "Kafka Server started"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.min.session.timeout.ms=1000
"""


def missing(jars: Path) -> str:
    """Why Kafka cannot run here, as a sentence with the way out; "" when it can.

    Args:
        jars: the folder that should hold Kafka's jars.
    """
    if not any(jars.glob("kafka_2.13-*.jar")):
        return (
            f"no kafka_2.13-*.jar in {jars}: set HEADRACE_KAFKA_JARS to a folder with the jars of "
            "org.apache.kafka:kafka_2.13:4.1.1 (CONTRIBUTING.md says how to get them)"
        )
    if shutil.which("java") is None:
        return "there is no `java` on the PATH: install a Java runtime, 17 or newer"
    return ""


class LocalKafka:
    """One Kafka node in a folder: its settings, data and log are there, and a later start goes on from them.

    Topics are not created by themselves (``auto.create.topics.enable=false``), as in production.

    Attributes:
        bootstrap: the address to give to clients, ``127.0.0.1:PORT``; the same after every start.
        data: the folder of the partitions' log files.
    """

    def __init__(self, folder: Path, jars: Path, port: int | None = None, heap_mb: int = 512) -> None:
        """Prepares a node; nothing runs yet.

        Args:
            folder: is made when it is not there. A folder in which a node has run keeps that node's data.
            jars: Kafka's jars.
            port: of 127.0.0.1; None takes a free one. The controller takes another free one.
            heap_mb: the most heap Java may take, in MiB.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._jars = jars.resolve()
        self._port = port or free_port()
        self._controller_port = free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.data = self._folder / "data"
        self._settings = self._folder / "server.properties"
        command = [
            shutil.which("java") or "java",
            f"-Xmx{heap_mb}m",
            "-XX:+ExitOnOutOfMemoryError",
            "-cp",
            f"{self._jars}/*",
            "kafka.Kafka",
            str(self._settings),
        ]
        self._child = Child("Kafka", command, self._folder / "server.log")

    @property
    def version(self) -> str:
        """Kafka's version by the name of its jar, e.g. "4.1.1"."""
        names = " ".join(jar.name for jar in self._jars.glob("kafka_2.13-*.jar"))
        found = re.search(r"kafka_2\.13-([0-9.]+[0-9])\.jar", names)
        return found.group(1) if found else "unknown"

    @property
    def pid(self) -> int | None:
        """The node's process id, or None while it does not run."""
        return self._child.pid

    def start(self, timeout_s: float = 100.0) -> None:
        """Starts the node and returns when it answers; does nothing when it runs.

        Raises:
            StartFailed: with the end of the node's log.
        """
        if reason := missing(self._jars):
            raise StartFailed(reason)
        self._format()
        self._child.start(lambda: STARTED in self._child.said(), timeout_s)

    def stop(self) -> None:
        """Shuts the node down in order (SIGTERM)."""
        self._child.stop()

    def kill(self) -> None:
        """Ends the node at once (SIGKILL); a later start recovers from the data folder."""
        self._child.kill()

    def _format(self) -> None:
        """Writes the settings and, once, the empty storage of a new cluster."""
        self._settings.write_text(
            _PROPERTIES.format(port=self._port, controller_port=self._controller_port, data=self.data)
        )
        if (self.data / "meta.properties").exists():
            return
        # Kafka's own form of a cluster id: a UUID in 22 letters. One that begins with "-" reads as an option.
        cluster = "A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]
        done = subprocess.run(
            ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{self._jars}/*", "kafka.tools.StorageTool", "format"]
            + ["--cluster-id", cluster, "--config", str(self._settings)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise StartFailed(f"Kafka's storage could not be made in {self.data}:\n{done.stdout}{done.stderr}")
