"""docker-compose.yml and the Dockerfile, held against the program: every command, port, variable and setting."""

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry

from compose import (
    GIVEN,
    ROOT,
    composed,
    environment_of,
    health_command,
    ours,
    settings_of,
    stages,
    variables_of,
    verb_of,
)
from headrace.commands.main import extra_for
from headrace.local.child import free_port
from headrace.online.door import Door
from headrace.online.http import Edge, EdgeConfig, check_address
from headrace.online.meters import new_meters
from headrace.streams import topics
from headrace.streams.consumer_meters import serve_meters

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = composed()["services"]
OURS = ours()
LONG = ("consumer", "worker", "refresh")


@pytest.fixture
def inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings of the service that the test names, read as the program would read them in its container."""
    service = OURS[request.param]
    for name, value in environment_of(service).items():
        monkeypatch.setenv(name, value)
    return settings_of(service)


# What is run.


def test_the_line_is_whole() -> None:
    assert set(SERVICES) == {"kafka", "valkey", "topics", "parts", *LONG}
    assert {verb_of(service["command"])[0][0] for service in OURS.values()} == {
        *("topics", "parts", "consume", "serve", "refresh")
    }


@pytest.mark.parametrize("inside", OURS, indirect=True)
def test_the_program_takes_every_command_line(inside: dict[str, Any]) -> None:
    assert inside


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_one_that_its_verb_takes(name: str) -> None:
    path, command, _ = verb_of(OURS[name]["command"])
    given = {key for key in OURS[name].get("environment", {}) if key.startswith("HEADRACE_")}
    assert given <= set(variables_of(path, command))


def test_every_variable_of_the_image_is_one_that_some_verb_takes() -> None:
    known = {one for service in OURS.values() for one in variables_of(*verb_of(service["command"])[:2])}
    assert {name for name in stages()[-1].environment() if name.startswith("HEADRACE_")} <= known


def test_a_change_of_a_flag_s_name_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="No such option"):
        settings_of({"command": ["serve", "--hosts", "0.0.0.0"]})
    with pytest.raises(AssertionError, match="no verb"):
        settings_of({"command": ["server"]})
    monkeypatch.setenv("HEADRACE_REDIS_URL", "valkey:6379")
    with pytest.raises(Exception, match="rediss"):
        settings_of({"command": ["consume"]})


# Where it listens.


def test_only_loopback_ports_are_published() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 5
    for port in published:
        host, outside, inside = port.rsplit(":", 2)
        assert host == "127.0.0.1"
        assert outside == inside, "one number to remember"


@pytest.mark.parametrize("inside", LONG, indirect=True, ids=LONG)
def test_a_process_listens_where_its_port_is_published(inside: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    port = inside.get("metrics_port") or inside["port"]
    assert OURS[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert (inside.get("metrics_host") or inside["host"]) == "0.0.0.0"


def test_loopback_is_what_the_program_does_by_itself() -> None:
    for verb, flag in (("serve", "host"), ("refresh", "host"), ("consume", "metrics_host")):
        command = verb_of([verb])[1]
        assert [one.default for one in command.params if one.name == flag] == ["127.0.0.1"]
    assert check_address("0.0.0.0", ""), "without a token it would not start"
    assert OURS["worker"]["environment"]["HEADRACE_SERVE_TOKEN"] == GIVEN["HEADRACE_SERVE_TOKEN"]


def paths_of_worker() -> set[str]:
    ready = (True, dict[str, object]())
    edge = Edge(None, new_meters(), EdgeConfig(), lambda: ready)  # type: ignore[arg-type]  # no door is opened
    return {getattr(route, "path", "") for route in edge.app().routes}


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except HTTPError:
        return False


@pytest.mark.parametrize("inside", LONG, indirect=True, ids=LONG)
def test_health_is_asked_where_there_is_an_answer(inside: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    asked = urlsplit(environment_of(OURS[name])["HEALTH_URL"])
    assert asked.hostname == "127.0.0.1"
    assert asked.port == (inside.get("metrics_port") or inside["port"])
    if name == "worker":
        assert asked.path in paths_of_worker()
    elif name == "refresh":
        door = Door(0)
        assert answers(door.url + asked.path)
        door.close()
    else:
        port = free_port()
        end = serve_meters(CollectorRegistry(), lambda: "", port)
        assert answers(f"http://127.0.0.1:{port}{asked.path}")
        end()


def test_the_image_s_own_health_is_that_of_a_worker() -> None:
    default = {one.name: one.default for one in verb_of(["serve"])[1].params}
    asked = urlsplit(stages()[-1].environment()["HEALTH_URL"])
    assert asked.port == default["port"]
    assert asked.path in paths_of_worker()
    assert health_command()[0] == "python"


# Kafka.


def listeners(name: str) -> dict[str, tuple[str, int]]:
    found = {}
    for one in SERVICES["kafka"]["environment"][name].split(","):
        label, _, address = one.partition("://")
        host, _, port = address.rpartition(":")
        found[label] = (host, int(port))
    return found


def test_clients_reach_the_broker_where_it_says_that_it_is() -> None:
    listening, said = listeners("KAFKA_LISTENERS"), listeners("KAFKA_ADVERTISED_LISTENERS")
    assert said["INSIDE"] == ("kafka", listening["INSIDE"][1])
    assert said["HOST"] == ("127.0.0.1", listening["HOST"][1])
    assert SERVICES["kafka"]["ports"] == [f"127.0.0.1:{said['HOST'][1]}:{listening['HOST'][1]}"]
    for name, service in OURS.items():
        if name != "parts":
            assert service["environment"]["HEADRACE_BOOTSTRAP_SERVERS"] == "kafka:{}".format(said["INSIDE"][1])


@pytest.mark.parametrize("inside", ["topics"], indirect=True)
def test_the_broker_can_hold_the_topics_as_they_are_asked_for(inside: dict[str, Any]) -> None:
    broker = SERVICES["kafka"]["environment"]
    assert SERVICES["kafka"]["image"] == "apache/kafka:4.1.1"
    assert broker["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false", "a mistyped name must not become a topic"
    copies = [value for name, value in broker.items() if name.endswith(("REPLICATION_FACTOR", "_ISR", "REPLICAS"))]
    assert set(copies) == {"1"}
    assert inside["replication_factor"] == 1
    for topic in topics.all_topics(inside["partitions"], inside["replication_factor"]):
        assert "min.insync.replicas" not in topic.settings
        for name in topic.settings:
            assert f"KAFKA_{name.upper().replace('.', '_')}" not in broker, (
                "a topic's own setting goes before a broker's"
            )
    assert int(broker["KAFKA_OFFSETS_RETENTION_MINUTES"]) >= 60 * 24 * 365


def test_nothing_starts_before_what_it_needs() -> None:
    for name in LONG:
        needs = OURS[name]["depends_on"]
        assert needs["topics"] == {"condition": "service_completed_successfully"}
        if name != "refresh":
            assert needs["valkey"] == {"condition": "service_healthy"}
        if name != "consumer":
            assert needs["parts"] == {"condition": "service_completed_successfully"}
    assert OURS["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}


# Valkey.


def valkey_settings() -> dict[str, str]:
    words = SERVICES["valkey"]["command"]
    assert words[0] == "valkey-server"
    return {name.removeprefix("--"): value for name, value in zip(words[1::2], words[2::2], strict=True)}


def test_the_store_is_durable_never_evicts_and_asks_for_a_password() -> None:
    assert valkey_settings() == {
        "requirepass": GIVEN["VALKEY_PASSWORD"],
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": "2gb",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


@pytest.mark.parametrize("name", ["consumer", "worker"])
def test_the_state_is_looked_for_where_it_lies(name: str) -> None:
    url = urlsplit(OURS[name]["environment"]["HEADRACE_REDIS_URL"])
    assert (url.hostname, url.port, url.password) == ("valkey", 6379, GIVEN["VALKEY_PASSWORD"])
    assert SERVICES["valkey"]["ports"] == ["127.0.0.1:6379:6379"]


# Secrets and rights.


def test_no_secret_stands_in_the_file() -> None:
    for name in ("VALKEY_PASSWORD", "HEADRACE_SERVE_TOKEN"):
        assert re.search(rf"\$\{{{name}:\?", TEXT), "without it nothing starts"
    named = [value for key, value in secrets_of(yaml.safe_load(TEXT))]
    assert named
    assert all("${" in value for value in named)
    assert not any(name in (ROOT / "Dockerfile").read_text() for name in ("VALKEY_PASSWORD", *GIVEN.values()))
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def secrets_of(value: Any, key: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [one for name, below in value.items() for one in secrets_of(below, str(name))]
    if isinstance(value, list):
        flags = ["", *(word if str(word).startswith("--") else "" for word in value)]
        return [one for flag, below in zip(flags, value, strict=False) for one in secrets_of(below, flag)]
    return [(key, str(value))] if re.search(r"(?i)(pass|token|secret|auth|redis_url)", key) else []


def test_nobody_is_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stages()[-1].last("USER"))
    user, group = stages()[-1].last("USER").split(":")
    made = next(argument for step, argument in stages()[-1].steps if step == "RUN")
    assert f"groupadd --gid {group} " in made and f"useradd --uid {user} --gid {group} " in made
    steps = [name for name, _ in stages()[-1].steps]
    assert "RUN" not in steps[steps.index("USER") :]
    for service in OURS.values():
        assert service["user"] == stages()[-1].last("USER")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert SERVICES["valkey"]["user"].split(":")[0] != "0"
    assert all("no-new-privileges:true" in service["security_opt"] for service in SERVICES.values())


@pytest.mark.parametrize("inside", ["parts", "worker", "refresh"], indirect=True, ids=["parts", "worker", "refresh"])
def test_what_is_written_lies_on_a_volume(inside: dict[str, Any], request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    mounts = dict(volume.removesuffix(":ro").split(":", 1)[::-1] for volume in OURS[name]["volumes"])
    assert mounts[str(inside["repository"])] == "models"
    if name == "refresh":
        assert mounts[str(inside["state"])] == "refresh"
    assert [volume.endswith(":ro") for volume in OURS[name]["volumes"]].count(True) == (name == "worker")
    made = next(argument for step, argument in stages()[-1].steps if step == "RUN")
    for folder in mounts:
        assert folder in made.split(), "a volume takes the owner of the folder that it covers first"
    assert set(mounts.values()) <= set(composed()["volumes"])
    assert str(inside.get("cache", "/tmp/x")).startswith("/tmp/")


# The image.


def test_an_image_has_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()] + [stage.base for stage in stages()]
    assert all(re.search(r":[\d.]+", image) for image in images)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {service["image"] for service in OURS.values()} == {f"headrace:{version}"}


def copied() -> list[str]:
    found = [argument.split() for step, argument in stages()[0].steps if step == "COPY"]
    return [source for words in found for source in words[:-1]]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source.rstrip('/')}" in rules, source
    for secret in (".env", ".git", ".headrace", "tests"):
        assert not any(rule.startswith("!") and fnmatch(secret, rule[1:]) for rule in rules)


def test_the_packages_of_the_project_are_all_copied() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    sources = [Path(source) for source in copied()]
    for folder in tables["package-dir"].values():
        assert any(Path(folder).is_relative_to(source) for source in sources), folder


def test_the_extras_exist_and_are_those_that_the_verbs_need() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    step = next(argument for name, argument in stages()[0].steps if name == "RUN")
    found = re.search(r'"\.\[([a-z,]+)\]"', step)
    assert found is not None
    extras = found.group(1).split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert {extra_for(*needs) for needs in (("faust", "consume"), ("uvicorn", "serve"), ("onnx", "parts"))} == set(
        extras
    )
    assert "train" not in extras, "no torch"
    assert "--constraint constraints.txt" in step
    assert "headrace" in project["scripts"]
    assert json.loads(stages()[-1].last("ENTRYPOINT")) == ["headrace"]


def test_its_python_is_one_that_is_supported() -> None:
    versions = {stage.base.partition(":")[2] for stage in stages()}
    assert versions == {"3.12-slim"}
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert "Programming Language :: Python :: 3.12" in classifiers


def test_every_address_is_loopback_or_a_service() -> None:
    hosts = re.findall(r"//(?:[^@/\s\"]*@)?([a-z0-9.]+):\d+", TEXT)
    assert hosts
    for host in hosts:
        assert host in SERVICES or host in {"127.0.0.1", "localhost"}, host
