import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from headrace.commands import local
from headrace.commands.main import main
from headrace.local.child import free_port
from headrace.streams.log_extent import committed_offsets, log_extent, seed_offsets
from headrace.streams.topics import EVENTS, PARTITIONS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


class Running:
    """`headrace local` in a process of its own, ready."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.log, self._from = log, log.stat().st_size if log.exists() else 0
        temporary = folder.parent / "elsewhere"
        temporary.mkdir(exist_ok=True)
        self.elsewhere = temporary
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace.commands.main", "local", "--dir", str(folder)],
                stdout=out,
                stderr=out,
                env=os.environ | {"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"},
            )
        try:
            wait_for(lambda: "Ready." in self.said() or self.process.poll() is not None, "ready")
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        self.bootstrap = self._named("Kafka")
        self.redis_url = self._named("Redis")

    def said(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode()

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def _named(self, name: str) -> str:
        [line] = [line for line in self.said().splitlines() if line.startswith(f"{name} ")]
        return line.split()[1]


@contextmanager
def running(folder: Path, log: Path) -> Iterator[Running]:
    found = Running(folder, log)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def wait_for(holds: Callable[[], bool], what: str, within_s: float = 40) -> None:
    until_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until_s, f"not within {within_s} s: {what}"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in words:
                found.append(words)
    return found


def write(found: Running) -> None:
    producer = KafkaProducer(bootstrap_servers=found.bootstrap, acks="all")
    for number in range(50):
        producer.send(EVENTS, value=b"%d" % number, partition=number % PARTITIONS)
    producer.flush(timeout=20)
    producer.close()
    seed_offsets(found.bootstrap, "readers", EVENTS, {0: 3})
    with redis.Redis.from_url(found.redis_url) as client:
        client.set("a", "1")
        client.execute_command("WAITAOF", 1, 0, 5_000)


def records(found: Running) -> int:
    consumer = KafkaConsumer(bootstrap_servers=found.bootstrap, enable_auto_commit=False)
    places = [TopicPartition(EVENTS, one) for one in range(PARTITIONS)]
    consumer.assign(places)
    consumer.seek_to_beginning()
    ends, count = consumer.end_offsets(places), 0
    while any(consumer.position(place) < ends[place] for place in places):
        count += sum(map(len, consumer.poll(timeout_ms=200).values()))
    consumer.close()
    return count


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_everything_is_there_when_it_starts_again(tmp_path: Path, how: signal.Signals) -> None:
    folder, log = tmp_path / "shop", tmp_path / "log"
    with running(folder, log) as found:
        assert "never for production" in found.said().lower()
        write(found)
        before = (found.bootstrap, found.redis_url)
        code = found.end(how)
        assert code == (0 if how == signal.SIGINT else -how), found.said()
    wait_for(lambda: not processes_of(folder), f"no process: {processes_of(folder)}")
    with running(folder, log) as again:
        assert (again.bootstrap, again.redis_url) == before
        assert records(again) == 50
        assert sum(end for _, end in log_extent(again.bootstrap, EVENTS, PARTITIONS).values()) == 50
        assert committed_offsets(again.bootstrap, "readers", EVENTS, PARTITIONS) == {0: 3}
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.get("a") == b"1"
        assert again.end(signal.SIGTERM) == 0
        assert list(again.elsewhere.iterdir()) == []
    assert processes_of(folder) == []


@pytest.mark.parametrize("moment", ["starting the broker", "making the topics"])
def test_ctrl_c_amid_the_start_leaves_nothing(tmp_path: Path, moment: str) -> None:
    folder, log = tmp_path / "shop", tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "headrace.commands.main", "local", "--dir", str(folder)]
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        wait_for(lambda: moment in log.read_text(), moment)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()
    wait_for(lambda: not processes_of(folder), "no process", 5)


def test_a_second_one_on_a_folder_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with running(folder, tmp_path / "log") as found:
        second = CliRunner().invoke(main, ["local", "--dir", str(folder)])
        assert second.exit_code == 1
        assert f"{folder} is in use by process {found.process.pid}" in second.output
        assert found.process.poll() is None


def test_a_long_folder_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / f"My shop {'x' * 120}"
    with running(folder, tmp_path / "log") as found:
        with redis.Redis.from_url(found.redis_url) as client:
            assert client.ping()
        found.end(signal.SIGKILL)
        assert list(found.elsewhere.iterdir()) == []


def test_a_server_that_dies_ends_it_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    with running(folder, tmp_path / "log") as found:
        with redis.Redis.from_url(found.redis_url) as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)
        assert found.process.wait(20) == 1
        assert "The Redis ended by itself" in found.said()
        assert "Traceback" not in found.said()
    wait_for(lambda: not processes_of(folder), "no process")


def test_usual_ports_when_they_are_free_else_others_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = local.Ports(free_port(), free_port())
    monkeypatch.setattr(local, "DEFAULT", usual)
    for name in ("free", "taken"):
        (tmp_path / name).mkdir()
    assert local._ports(tmp_path / "free") == usual
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", usual.kafka))
        holder.listen()
        chosen = local._ports(tmp_path / "taken")
        assert chosen.kafka != usual.kafka
        assert chosen.redis == usual.redis
        monkeypatch.setattr(local, "_FREED_S", 0.3)
        result = CliRunner().invoke(main, ["local", "--dir", str(tmp_path / "free")])
    assert result.exit_code == 1
    assert f"Port {usual.kafka}, which clients of" in result.output
    assert local._ports(tmp_path / "taken") == chosen
    for damaged in ("{", '{"kafka": 70000, "redis": 6379}'):
        (tmp_path / "taken" / "ports.json").write_text(damaged)
        result = CliRunner().invoke(main, ["local", "--dir", str(tmp_path / "taken")])
        assert (result.exit_code, "is damaged" in result.output) == (1, True)


def test_a_folder_that_cannot_be_made_is_one_sentence() -> None:
    result = CliRunner().invoke(main, ["local", "--dir", "/dev/null/x"])
    assert (result.exit_code, "give another --dir" in result.output) == (1, True)
