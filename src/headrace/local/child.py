"""A server as a child process that cannot outlive this one."""

import atexit
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from pathlib import Path

# Runs before the server, in its process: asks Linux for a SIGKILL at the parent's death, then becomes the server.
# (Not a preexec_fn: that runs Python between fork and exec, which is unsafe beside threads.) Elsewhere than on Linux
# there is no such call, and what remains is the atexit below.
_TIE = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class StartFailed(RuntimeError):
    """A local server did not come up; the text holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """One server process: started, stopped (SIGTERM), killed (SIGKILL), and started again with the same command.

    Attributes:
        log: the file that holds what the process said, all starts one after the other.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """Prepares the process; nothing runs yet.

        Args:
            name: what messages call it.
            command: with its arguments.
            log: standard output and error go to its end.
            environment: all of it; None: this process's own, as it is at the start.
        """
        self._name = name
        self._command = list(command)
        self._environment = environment
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @property
    def pid(self) -> int | None:
        """The process id, or None while nothing runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Runs the command and returns once ``ready()`` holds.

        Raises:
            StartFailed: the process ended, or was not ready in time; it is gone then.
        """
        if self.pid is not None:
            return
        self._log_start_bytes = self.log.stat().st_size if self.log.exists() else 0
        self._process = _spawner().run(lambda: _spawn(self._command, self.log, self._environment))
        atexit.register(self.kill)
        deadline_s = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                raise StartFailed(f"{self._name} ended with code {self._process.returncode}; {self._end_of_log()}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise StartFailed(f"{self._name} was not ready after {timeout_s:.0f} s; {self._end_of_log()}")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 30.0) -> None:
        """Asks the process to end (SIGTERM) and waits; kills it when it takes longer than the timeout."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ended()

    def kill(self) -> None:
        """Ends the process at once (SIGKILL) and waits until it is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._ended()

    def said(self) -> str:
        """What the process has written since its last start."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")

    def _end_of_log(self) -> str:
        lines = self.said().splitlines()[-15:]
        return f"the end of {self.log}:\n" + "\n".join(lines) if lines else f"{self.log} is empty"

    def _ended(self) -> None:
        self._process = None
        atexit.unregister(self.kill)


def _spawn(command: list[str], log: Path, environment: Mapping[str, str] | None) -> "subprocess.Popen[bytes]":
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; we then stop the server in order
        )


class _Spawner:
    """A thread that starts processes and lives as long as this one.

    Linux sends the death signal when the *thread* that started the child ends, not only when the process does: a server
    that is started from a short-lived thread would die with that thread.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._serve, name="headrace-local-spawner", daemon=True).start()

    def run(self, job: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """The process that the job starts; a Ctrl-C that comes meanwhile ends it, since nobody else knows of it yet."""
        done: Future[subprocess.Popen[bytes]] = Future()
        self._jobs.put((job, done))
        try:
            return done.result()
        except KeyboardInterrupt:
            with suppress(OSError):
                process = done.result()
                process.kill()
                process.wait()
            raise

    def _serve(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                done.set_result(job())
            except OSError as error:
                done.set_exception(error)


@cache
def _spawner_of(pid: int) -> _Spawner:
    return _Spawner()


def _spawner() -> _Spawner:
    return _spawner_of(os.getpid())  # a forked process has no threads of its parent
