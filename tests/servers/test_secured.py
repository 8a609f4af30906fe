"""The whole line where brokers and Redis ask for TLS, names and passwords, with no more rights than the docs name."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker_clients import Broker
from consumed_topics import running, wait_for
from headrace.local.child import free_port
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey
from headrace.streams.log_extent import committed_offsets
from headrace.streams.topics import EVENTS, FEATURES, ITEMS, admin_of, all_topics, create_topics
from scraped import value
from secured import CERTIFICATE, PASSWORD, REDIS_PASSWORD, USER, SecuredKafka, admit_to_redis, behind_tls
from served_logs import searches, send, wire
from serving import serving
from tiny_models import publish_tiny

HEADRACE = [sys.executable, "-m", "headrace.commands.main"]
SECRETS = (PASSWORD, REDIS_PASSWORD, REDIS_PASSWORD.replace("/", "%2F").replace("@", "%40"))


@dataclass(frozen=True)
class Line:
    """Where everything is, and how it is entered."""

    kafka: SecuredKafka
    suffix: str
    environment: dict[str, str]
    folder: Path

    def run(self, *verb: str, **otherwise: str) -> "subprocess.CompletedProcess[str]":
        """A verb that ends by itself."""
        environment = os.environ | self.environment | otherwise
        command = [*HEADRACE, *verb]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
        told = [said for said in (done.stdout + done.stderr).splitlines() if any(secret in said for secret in SECRETS)]
        assert told == []
        return done

    def said(self) -> str:
        """What all processes wrote."""
        return "".join(file.read_text() for file in self.folder.glob("*.log"))

    def group(self) -> str:
        """The consumer group that fills the state."""
        listed = self.run("generations", "list").stdout
        return f"headrace.{self.environment['HEADRACE_NAMESPACE']}.{listed.partition('* ')[2].split()[0]}"


@pytest.fixture
def line(
    apache_broker: Broker,
    servers_folder: Path,
    new_valkey: Callable[..., LocalValkey],
    namespace: str,
    topic_suffix: str,
    tmp_path: Path,
) -> Iterator[Line]:
    """A line whose doors are all locked, and the keys to them."""
    assert isinstance(apache_broker, LocalKafka)
    kafka = SecuredKafka(servers_folder / f"s{topic_suffix}", apache_broker._jars)
    valkey = new_valkey()
    with ExitStack() as ending:
        ending.callback(shutil.rmtree, servers_folder / f"s{topic_suffix}", ignore_errors=True)
        ending.callback(kafka.kill)
        kafka.start()
        kafka.admit()
        with admin_of(kafka.bootstrap) as admin:
            create_topics(admin, all_topics(2, 1, suffix=f".{topic_suffix}"))
        port = ending.enter_context(behind_tls(valkey.url.rpartition("/")[0].rpartition("/")[2]))
        admit_to_redis(valkey, namespace)
        environment = {
            "HEADRACE_BOOTSTRAP_SERVERS": kafka.secure,
            "HEADRACE_KAFKA_SECURITY": "sasl_ssl",
            "HEADRACE_KAFKA_USER": USER,
            "HEADRACE_KAFKA_PASSWORD": PASSWORD,
            "HEADRACE_KAFKA_CA": str(CERTIFICATE),
            "HEADRACE_REDIS_URL": f"rediss://{USER}:{SECRETS[2]}@127.0.0.1:{port}/0?ssl_ca_certs={CERTIFICATE}",
            "HEADRACE_NAMESPACE": namespace,
            "HEADRACE_REPOSITORY": str(tmp_path / "models"),
            "TMPDIR": str(tmp_path),
        }
        yield Line(kafka, f".{topic_suffix}", environment, tmp_path)


def consumed(line: Line) -> int:
    """Events that the group has acknowledged."""
    return sum(committed_offsets(line.kafka.bootstrap, line.group(), EVENTS + line.suffix, 2).values())


@pytest.mark.timeout(300)
def test_every_process_enters_and_none_tells_a_secret(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    events, features = EVENTS + line.suffix, FEATURES + line.suffix
    ports = {"consume": free_port(), "refresh": free_port()}
    consume = [*HEADRACE, "consume", "--topic", events, "--metrics-port", str(ports["consume"])]
    door = f"http://127.0.0.1:{ports['consume']}"
    send(line.kafka.bootstrap, events, features, [wire(record) for record in searches(0, 20)])
    for driver, first in (("live", 0), ("bulk", 20)):
        send(line.kafka.bootstrap, events, features, [wire(record) for record in searches(first + 20, 20)])
        log = line.folder / f"{driver}.log"
        with running([*consume, "--driver", driver], log, line.environment) as worker:
            wait_for(lambda: value(door, "headrace_events_consumed_total", result="unattributed") > 0, driver, 60)
            wait_for(lambda: value(door, "headrace_consumer_lag_messages") == 0, f"{driver}: {log.read_text()}", 60)
            assert worker.terminate() == 0, log.read_text()
    assert consumed(line) == 2 * 60

    for name, setting in line.environment.items():
        monkeypatch.setenv(name, setting)
    publish_tiny(line.folder / "models", 0)
    flags = ["--events-topic", events, "--features-topic", features]
    where = ["--bootstrap-servers", line.kafka.secure, "--items-topic", ITEMS + line.suffix, *flags]
    url = line.environment["HEADRACE_REDIS_URL"]
    with serving(line.folder, line.folder / "models", url, "--trust-now", *where) as served:
        at_ms = searches(0, 1)[0].at_ms + 60_000
        said = served.rank("red shoe", ["item-1"], client_id="client-1", query_id="q", now_ms=at_ms).json()
        assert said["degraded"] is None
        assert said["ages"]["sequence_ms"] is not None, "it read what was consumed"
        assert served.call("POST", "/v1/events", []).status == 202
        served.wait(lambda: served.metric('headrace_feature_log_total{result="sent"}') == 1)

    learn = [*HEADRACE, "refresh", "--port", str(ports["refresh"]), "--state", str(line.folder / "state"), *flags]
    with running(learn, line.folder / "refresh.log", line.environment) as learner:
        door = f"http://127.0.0.1:{ports['refresh']}"
        wait_for(lambda: value(door, "headrace_join_pending", what="lists") > 0, learner.said(), 60)
        assert learner.terminate() == 0

    found = line.run("doctor", "--suffix", line.suffix)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "redis eviction: noeviction" in found.stdout
    assert "clock: " in found.stdout
    assert "***" in line.said()
    assert not any(secret in line.said() for secret in SECRETS)
    wrong_passwords_are_sentences(line)


def wrong_passwords_are_sentences(line: Line) -> None:
    """What is said where the keys do not fit."""
    plain = line.run("--log-level", "debug", "doctor", "--suffix", line.suffix, HEADRACE_KAFKA_MECHANISM="PLAIN")
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert "DEBUG kafka" in plain.stderr, "what debugs must not tell it either"
    wrong = line.run("doctor", "--suffix", line.suffix, HEADRACE_KAFKA_PASSWORD="wr0ng")
    assert wrong.returncode == 1
    assert "fail  kafka: " in wrong.stdout
    assert "wr0ng" not in wrong.stdout + wrong.stderr
    url = line.environment["HEADRACE_REDIS_URL"].replace(SECRETS[2], "wr0ng")
    wrong = line.run("consume", "--topic", EVENTS + line.suffix, HEADRACE_REDIS_URL=url)
    assert wrong.returncode == 1
    assert wrong.stderr.splitlines()[-1].startswith("Error: StoreUnavailable: Redis cannot be reached")
    assert "wr0ng" not in wrong.stdout + wrong.stderr
