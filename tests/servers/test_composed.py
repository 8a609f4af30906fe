"""The broker and the store of docker-compose.yml, run with exactly their settings but for ports and folders."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from kafka.admin import ConfigResource, ConfigResourceType

from broker_clients import Broker
from compose import composed, environment_of, ours
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey
from headrace.streams.topics import admin_of

SERVICES = composed()["services"]
PLACES = ("listeners", "advertised.listeners", "controller.quorum.voters", "log.dirs")


class ComposedKafka(LocalKafka):
    """A node with the settings of the compose file: the image makes `a.b=c` of `KAFKA_A_B: c`."""

    def _format(self) -> None:
        super()._format()
        ours = self._settings.read_text()
        settings = {
            name.removeprefix("KAFKA_").lower().replace("_", "."): value
            for name, value in SERVICES["kafka"]["environment"].items()
        }
        inside = re.search(r"INSIDE://:(\d+)", settings["listeners"])
        assert inside is not None
        for place in PLACES:
            found = re.search(rf"^{re.escape(place)}=(.*)$", ours, flags=re.MULTILINE)
            assert found is not None
            settings[place] = found.group(1).replace("PLAINTEXT", "INSIDE")
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@dataclass(frozen=True)
class Servers:
    """What docker compose would have started."""

    kafka: ComposedKafka
    valkey: LocalValkey
    repository: Path

    def run(self, service: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """A service's command, or another verb in its place, with its environment but for the addresses."""
        given = {name: value for name, value in environment_of(ours()[service]).items() if name.startswith("HEADRACE_")}
        password = SERVICES["valkey"]["environment"]["REDISCLI_AUTH"]
        given |= {
            "HEADRACE_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "HEADRACE_REDIS_URL": self.valkey.url.replace("redis://", f"redis://:{password}@"),
            "HEADRACE_REPOSITORY": str(self.repository),
        }
        command = [sys.executable, "-m", "headrace.commands.main", *(words or ours()[service]["command"])]
        return subprocess.run(command, env=given, capture_output=True, text=True, timeout=90, check=False)


@pytest.fixture
def servers(
    apache_broker: Broker,
    servers_folder: Path,
    new_valkey: Callable[..., LocalValkey],
    topic_suffix: str,
    tmp_path: Path,
) -> Iterator[Servers]:
    """Both servers."""
    assert isinstance(apache_broker, LocalKafka)
    words = SERVICES["valkey"]["command"][1:]
    settings = {
        name.removeprefix("--").replace("-", "_"): value or '""'
        for name, value in zip(words[::2], words[1::2], strict=True)
    }
    kafka = ComposedKafka(servers_folder / f"c{topic_suffix}", apache_broker._jars)
    with ExitStack() as ending:
        ending.callback(kafka.kill)
        kafka.start()
        password = settings.pop("requirepass")  # once it runs: the fixture waits for an answer without one
        valkey = new_valkey(**settings)
        with redis.Redis.from_url(valkey.url) as client:
            client.config_set("requirepass", password)
        yield Servers(kafka, valkey, tmp_path)


def test_the_doctor_finds_nothing_to_fail_once_the_topics_are_made(servers: Servers) -> None:
    the_broker_knows_every_setting(servers)
    before = servers.run("worker", "doctor")
    assert before.returncode == 1
    assert "fail  kafka topics: are not there" in before.stdout
    for again in ("made", "was there"):
        made = servers.run("topics")
        assert made.returncode == 0, made.stdout + made.stderr
        assert f"search.events.v1: {again}" in made.stdout
    after = servers.run("worker", "doctor")
    assert after.returncode == 0, after.stdout
    for line in (
        "redis eviction: noeviction",
        "append-only file: synced everysec",
        "MiB of 2,048 MiB used",
        "redis access: a password",
        "3,650 days",
    ):
        assert line in after.stdout
    assert "topic search" not in after.stdout, "none differs from what was asked for"


def the_broker_knows_every_setting(servers: Servers) -> None:
    """None is mistyped, and each has come into force."""
    with admin_of(servers.kafka.bootstrap) as admin:
        asked = [ConfigResource(ConfigResourceType.BROKER, "1")]
        known = admin.describe_configs(asked, config_filter="all")["broker"]["1"]
    for name, value in SERVICES["kafka"]["environment"].items():
        setting = name.removeprefix("KAFKA_").lower().replace("_", ".")
        assert setting in known, f"{name}: Kafka has no {setting}"
        if setting not in PLACES:
            assert str(known[setting]["value"]) == value
