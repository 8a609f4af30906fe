"""A server's process is never left to itself."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.local import child
from headrace.local.child import Child


def test_a_ctrl_c_while_a_process_is_being_started_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    spawn = child._spawn

    def slow(command: list[str], log: Path, environment: Mapping[str, str] | None) -> "subprocess.Popen[bytes]":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        started.append(spawn(command, log, environment))
        return started[0]

    monkeypatch.setattr(child, "_spawn", slow)
    assert threading.current_thread() is threading.main_thread()
    server = Child("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        server.start(lambda: True, 10.0)
    [process] = started
    assert process.returncode == -signal.SIGKILL
    assert server.pid is None
