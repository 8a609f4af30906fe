"""docs/metrics.md against what the processes expose, both ways, by scraping them; and the image's health check."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from broker_clients import Broker
from compose import health_command
from consumed_topics import running, wait_for
from headrace.local.child import free_port
from headrace.local.valkey import LocalValkey
from headrace.streams.events import Click, ItemChanged, Query, encode
from headrace.streams.topics import EVENTS, FEATURES, ITEMS, admin_of, all_topics, create_topics
from scraped import value
from served_logs import START_MS, searches, send, wire
from serving import Worker, serving
from tiny_models import publish_tiny, publish_tiny_pairs

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(headrace_\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \|")
SEARCHES = 50


@dataclass(frozen=True)
class Metric:
    """A metric as it is documented or shown."""

    kind: str
    labels: frozenset[str]


def documented() -> dict[str, dict[str, Metric]]:
    """Process -> name -> metric, as the page has them."""
    found: dict[str, dict[str, Metric]] = {"consume": {}, "serve": {}, "refresh": {}}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if row := ROW.match(line):
            name, kind, labels, processes = row.groups()
            metric = Metric(kind, frozenset(re.findall(r"`(\w+)`", labels)))
            for process in processes.split(","):
                found[process.strip()][name] = metric
    return found


def shown(url: str) -> dict[str, Metric]:
    """Name -> metric, as a process shows them now."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("headrace_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            name += "_info" if family.type == "info" else ""
            labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
            assert family.samples, f"{name} of {url} has no value: what happens here does not reach it"
            found[name] = Metric(family.type, labels)
    assert "process_resident_memory_bytes" in text
    assert "_created" not in text
    return found


@dataclass(frozen=True)
class Line:
    """Where the three processes show their metrics."""

    doors: Mapping[str, str]
    worker: Worker


def records(bootstrap: str, suffix: str) -> None:
    """What a line reads: searches as they were served and answered, and a record of each sort that is not used."""
    send(bootstrap, EVENTS + suffix, FEATURES + suffix, [wire(record) for record in searches(0, SEARCHES)])
    asked = Query("q-1", "client-1", "asked", START_MS, "red shoe", ())
    click = Click("c-1", "client-1", "asked", START_MS + 1_000, "a", 1)
    late = Click("c-2", "client-1", "asked", START_MS - 3 * 86_400_000, "a", 1)
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for sent in (encode(asked), encode(click), encode(click), encode(late), b"{"):
        producer.send(EVENTS + suffix, key=b"client-1", value=sent, timestamp_ms=START_MS + 1_000)
    for item in ("a", "item-1"):
        text = encode(ItemChanged(item, START_MS, "red shoe", "", {}, None))
        producer.send(ITEMS + suffix, key=item.encode(), value=text, timestamp_ms=START_MS)
    producer.send(ITEMS + suffix, key=b"x", value=b"{", timestamp_ms=START_MS)
    producer.flush(timeout=30)
    producer.close()


@pytest.fixture
def line(kafka: Broker, valkey: LocalValkey, namespace: str, topic_suffix: str, tmp_path: Path) -> Iterator[Line]:
    """A consumer, a worker and a learner that have something to tell."""
    suffix, repository = f".{topic_suffix}", tmp_path / "models"
    with admin_of(kafka.bootstrap) as admin:
        create_topics(admin, all_topics(2, 1, suffix=suffix))
    publish_tiny_pairs(repository, 0, student_seed=1)
    records(kafka.bootstrap, suffix)
    ports = {"consume": free_port(), "refresh": free_port()}
    doors = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    headrace = [sys.executable, "-m", "headrace.commands.main"]
    logs = ["--events-topic", EVENTS + suffix, "--features-topic", FEATURES + suffix]
    learn = [*headrace, "refresh", "--port", str(ports["refresh"]), "--state", str(tmp_path / "state"), *logs]
    learn += ["--click-window-s", "60", "--hold-s", "100", "--every-seconds", "0", "--every-examples", "10"]
    consume = [*headrace, "consume", "--topic", EVENTS + suffix, "--metrics-port", str(ports["consume"])]
    shared = {
        "HEADRACE_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "HEADRACE_REDIS_URL": valkey.url,
        "HEADRACE_NAMESPACE": namespace,
        "HEADRACE_REPOSITORY": str(repository),
        "TMPDIR": str(tmp_path),  # a consumer that is killed leaves what it wrote aside
    }
    flags = ["--bootstrap-servers", kafka.bootstrap, "--namespace", namespace, "--items-topic", ITEMS + suffix, *logs]
    with ExitStack() as ending:
        ending.enter_context(running(consume, tmp_path / "consume.log", shared))
        ending.enter_context(running(learn, tmp_path / "refresh.log", shared))
        worker = ending.enter_context(serving(tmp_path, repository, valkey.url, "--trust-now", *flags))
        yield Line(doors | {"serve": f"http://127.0.0.1:{worker.port}"}, worker)


def use(line: Line) -> None:
    """Lets every process do something of each sort."""
    doors = line.doors
    wait_for(lambda: value(doors["consume"], "headrace_events_late_total") == 1, "a late event")
    wait_for(lambda: value(doors["consume"], "headrace_events_dlq_total", reason="not_json") == 1, "a dead letter")
    wait_for(lambda: value(doors["consume"], "headrace_events_deduplicated_total") >= 1, "an event that came twice")
    wait_for(lambda: value(doors["refresh"], "headrace_refresh_examples_total") > 0, "an example")
    asked = {"client_id": "client-1", "query_id": "asked", "now_ms": START_MS + 60_000}
    assert line.worker.rank("red shoe", ["a", "item-1"], **asked).status == 200
    assert line.worker.call("POST", "/v1/rank", {"query": 5}).status == 400
    line.worker.wait(lambda: line.worker.rank("red shoe", ["a"]).json()["student"] == "computed")
    wait_for(lambda: hurried(line) > 0, "a request without time")
    wait_for(lambda: value(doors["serve"], "headrace_feature_log_total", result="sent") >= 1, "a logged request")
    wait_for(lambda: value(doors["serve"], "headrace_score_cache_writes_total", result="sent") >= 1, "a kept score")


def hurried(line: Line) -> float:
    """Asks with no time at all; how many answers have left something out."""
    assert line.worker.rank("blue hat", ["a"], deadline_ms=1).status == 200
    return value(line.doors["serve"], "headrace_degraded_total")


def healthy(door: str, path: str, token: str = "") -> bool:
    """What the image's HEALTHCHECK says of a process."""
    environment = os.environ | {"HEALTH_URL": door + path, "HEADRACE_SERVE_TOKEN": token}
    command = [sys.executable, *health_command()[1:]]
    return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode == 0


def test_the_page_is_what_the_processes_show(line: Line) -> None:
    use(line)
    page = documented()
    for process, door in line.doors.items():
        assert shown(door + "/metrics") == page[process], process
    assert healthy(line.doors["consume"], "/livez")
    assert healthy(line.doors["refresh"], "/livez")
    assert healthy(line.doors["serve"], "/readyz")
    assert not healthy(line.doors["serve"], "/none")


def test_a_worker_beyond_loopback_shows_its_health_to_whoever_has_the_token(
    tmp_path: Path, valkey: LocalValkey
) -> None:
    publish_tiny(tmp_path / "models", 0)
    with serving(
        tmp_path, tmp_path / "models", valkey.url, "--host", "0.0.0.0", "--token", "s3", ready=False
    ) as worker:
        door = f"http://127.0.0.1:{worker.port}"
        wait_for(lambda: healthy(door, "/readyz", "s3"), "a worker that is ready")
        for path in ("/readyz", "/livez", "/metrics"):
            assert not healthy(door, path, "s4")


def test_rules_and_pages_name_metrics_that_are_there() -> None:
    known = {name for metrics in documented().values() for name in metrics}
    for page in ("metrics.md", "operations.md", "serving.md", "production.md"):
        named = re.findall(r"headrace_[a-z_]+[a-z]", (PAGE.parent / page).read_text(encoding="utf-8"))
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= known, page
