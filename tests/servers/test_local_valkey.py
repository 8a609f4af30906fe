import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from headrace.local.child import StartFailed
from headrace.local.valkey import LocalValkey


def test_answers_on_its_port_and_on_its_socket(valkey: LocalValkey, namespace: str) -> None:
    with redis.Redis.from_url(valkey.url) as over_tcp, redis.Redis(unix_socket_path=valkey.socket) as over_socket:
        over_tcp.set(namespace, "1")
        assert over_socket.get(namespace) == b"1"
    assert stat.S_IMODE(os.stat(valkey.socket).st_mode) == 0o700


def test_is_durable_and_never_evicts(valkey: LocalValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        settings = client.config_get("appendonly", "maxmemory-policy", "save", "bind")
    assert settings == {"appendonly": "yes", "maxmemory-policy": "noeviction", "save": "", "bind": "127.0.0.1"}


def test_keeps_what_it_acknowledged_over_a_kill(new_valkey: Callable[..., LocalValkey]) -> None:
    server = new_valkey(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        client.set("a", "1")
    address = (server.url, server.socket)
    server.kill()
    assert server.pid is None
    server.start()
    assert (server.url, server.socket) == address
    with redis.Redis.from_url(server.url) as client:
        assert client.get("a") == b"1"


def test_keeps_everything_over_a_stop(new_valkey: Callable[..., LocalValkey]) -> None:
    server = new_valkey()
    with redis.Redis(unix_socket_path=server.socket) as client:
        client.set("a", "1")
    server.stop()
    server.start()
    with redis.Redis(unix_socket_path=server.socket) as client:
        assert client.get("a") == b"1"


def test_a_wrong_setting_fails_with_the_server_s_own_words(tmp_path: Path) -> None:
    server = LocalValkey(tmp_path, config={"appendfsync": "sometimes"})
    with pytest.raises(StartFailed, match="appendfsync"):
        server.start()
    assert server.pid is None


@pytest.mark.parametrize("name", ["x" * 120, 'My "shop"'])
def test_the_folder_s_name_does_not_matter(tmp_path: Path, name: str) -> None:
    server = LocalValkey(tmp_path / name)
    server.start()
    try:
        for url in (server.url, server.socket_url):
            with redis.Redis.from_url(url) as client:
                assert client.ping()
    finally:
        server.kill()
    assert (tmp_path / name / "appendonlydir").is_dir()


def test_survives_the_thread_that_started_it(new_valkey: Callable[..., LocalValkey]) -> None:
    started: list[LocalValkey] = []
    thread = threading.Thread(target=lambda: started.append(new_valkey()))
    thread.start()
    thread.join()
    with redis.Redis.from_url(started[0].url) as client:
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from headrace.local.valkey import LocalValkey\n"
        "server = LocalValkey(pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline_s = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline_s, "the server outlived its parent"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False
