"""A real `headrace serve` process for tests, a small HTTP client, and a load that measures what each request saw."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = "from headrace.commands.main import main; main()"
JSON = {"content-type": "application/json"}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Worker:
    """A running worker process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, raw, {**(JSON if raw is not None else {}), **(headers or {})})
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def rank(self, query: str = "red shoe", items: Any = ("a", "b", "c"), **more: Any) -> Reply:
        return self.call("POST", "/v1/rank", {"query": query, "items": list(items), **more})

    def ready(self) -> Any:
        return self.call("GET", "/readyz").json()

    def metric(self, line: str) -> float:
        """The value of the metric with this name and these labels; 0 when there is none yet."""
        for found in self.call("GET", "/metrics").body.decode().splitlines():
            if found.rpartition(" ")[0] == line:
                return float(found.rpartition(" ")[2])
        return 0.0

    def wait(self, what: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Returns when something has become true.

        Raises:
            AssertionError: it has not, in time; with the end of the log.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if what():
                    return
            time.sleep(0.02)
        raise AssertionError(f"it did not come true in {timeout_s} s\n{self.tail()}")

    def wait_version(self, version: str) -> None:
        self.wait(lambda: bool(self.ready()["model"] == version))

    def tail(self) -> str:
        return self.log.read_text()[-4_000:]

    def stop(self) -> int:
        """Ends it as a supervisor would, and gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextlib.contextmanager
def serving(folder: Path, repository: Path, redis_url: str, *flags: str, ready: bool = True) -> Iterator[Worker]:
    """A worker process; it is ended with the block."""
    log = folder / f"serve-{time.monotonic_ns()}.log"
    arguments = ["serve", "--port", "0", "--repository", str(repository), "--redis-url", redis_url, *flags]
    if "--bootstrap-servers" not in flags:
        arguments.append("--no-kafka")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_SERVE")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=out, env=environment
        )
    try:
        assert process.stdout is not None
        said = process.stdout.readline().decode()
        assert said.startswith("listening on http://"), said + log.read_text()
        worker = Worker(process, int(said.rpartition(":")[2]), log)
        if ready:
            worker.wait(lambda: bool(worker.ready()["ready"]), 90)
        yield worker
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@dataclass
class Load:
    """What requests saw.

    Attributes:
        began_s: monotonic time each request was due. took_s: until its answer was whole.
        failed: (status or error, begin of the body) of each that was no success.
        versions: model versions in the order they were first seen.
    """

    began_s: list[float] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> tuple[int, bytes]:
    """Status and body of one POST /v1/rank over a kept connection."""
    head = b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


async def load(port: int, bodies: Callable[[int], bytes], rate: float, clients: int, until: Callable[[], bool]) -> Load:
    """Requests at a steady rate over some connections; a late answer delays none of the others (open loop)."""
    found = Load()
    started = time.monotonic()
    number = 0

    async def client(index: int) -> None:
        nonlocal number
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while not until():
                mine, number = number, number + 1
                due = started + mine / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                try:
                    status, body = await ask(reader, writer, bodies(mine))
                except (OSError, asyncio.IncompleteReadError) as error:
                    found.failed.append((type(error).__name__, str(error)))
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    continue
                found.began_s.append(due)
                found.took_s.append(time.monotonic() - due)
                if status != 200:
                    found.failed.append((str(status), body[:200].decode()))
                    continue
                version = json.loads(body)["model"]["version"]
                if not found.versions or found.versions[-1] != version:
                    found.versions.append(version)
        finally:
            writer.close()

    await asyncio.gather(*(client(index) for index in range(clients)))
    return found


def resident_bytes() -> int:
    """The memory of this process that lies in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
