"""Servers for tests that need real ones, a place of its own for each test, and what pytest's last line says.

A server that does not start is a failure, never a skip. Only Kafka may be absent: without its jars or Java the tests
that use it are deselected, and the last line says so; with HEADRACE_REQUIRE_KAFKA=1 the run fails at once instead.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from headrace.local import kafka as local_kafka
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tests" / "bench"
JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")
KAFKA_MISSING = local_kafka.missing(JARS)
KAFKA_FIXTURES = {"kafka", "new_kafka"}
VALKEY_FIXTURES = {"valkey", "new_valkey"}

asked_for: dict[str, int] = {"Kafka": 0, "Valkey": 0}
deselected: list[pytest.Item] = []
versions: dict[str, str] = {}


def pytest_configure() -> None:
    """Refuses a run that must test Kafka where Kafka cannot run."""
    if KAFKA_MISSING and os.environ.get("HEADRACE_REQUIRE_KAFKA") == "1":
        raise pytest.UsageError(f"HEADRACE_REQUIRE_KAFKA=1, but Kafka cannot run here: {KAFKA_MISSING}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what needs Kafka where Kafka cannot run, and counts what needs which server."""
    kept = []
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if KAFKA_MISSING and fixtures & KAFKA_FIXTURES:
            deselected.append(item)
            continue
        asked_for["Kafka"] += bool(fixtures & KAFKA_FIXTURES)
        asked_for["Valkey"] += bool(fixtures & VALKEY_FIXTURES)
        kept.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Says in the very last lines which servers were tested."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly or config.option.help:
        return
    for name in ("Valkey", "Kafka"):
        if versions.get(name):
            reporter.write_line(f"{name} {versions[name]}: tested, {asked_for[name]} tests", green=True)
        elif name == "Valkey" or not deselected:
            reporter.write_line(f"{name}: no test of this run asked for it")
    if deselected:
        reporter.write_line(
            f"Apache Kafka was NOT tested ({len(deselected)} tests left out): {KAFKA_MISSING}", yellow=True, bold=True
        )


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A short path (unix sockets have at most 107 letters) for servers' folders; gone after the run."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(servers_folder: Path) -> Iterator[LocalKafka]:
    """One Apache Kafka node for the whole run. Whoever kills it starts it again; else take `new_kafka`."""
    with ExitStack() as ending:
        yield start_kafka(servers_folder, ending)


@pytest.fixture
def new_kafka(servers_folder: Path) -> Iterator[Callable[[], LocalKafka]]:
    """A factory of fresh, running Kafka nodes; they end with the test."""
    with ExitStack() as ending:
        yield lambda: start_kafka(servers_folder, ending)


@pytest.fixture(scope="session")
def valkey(servers_folder: Path) -> Iterator[LocalValkey]:
    """One Valkey for the whole run. Whoever kills it starts it again; else take `new_valkey`."""
    with ExitStack() as ending:
        yield start_valkey(servers_folder, ending)


@pytest.fixture
def new_valkey(servers_folder: Path) -> Iterator[Callable[..., LocalValkey]]:
    """A factory of fresh, running Valkeys, `new_valkey(appendfsync="always")`; they end with the test."""
    with ExitStack() as ending:
        yield lambda **config: start_valkey(servers_folder, ending, **config)


@pytest.fixture(scope="session")
def parts_repository() -> Path:
    """The repository into which `make parts` built the model parts; read only, bundles of tests go elsewhere."""
    repository = ROOT / ".headrace" / "models"
    if not (repository / "parts").is_dir():
        pytest.fail(f"there are no model parts in {repository}: run `make parts`")
    return repository


@pytest.fixture
def namespace() -> str:
    """A namespace of Redis keys that no other test uses."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def topic_suffix() -> str:
    """An end for names of topics and groups that no other test uses: `f"search.events.v1.{topic_suffix}"`."""
    return uuid4().hex[:12]


def start_kafka(folder: Path, ending: ExitStack) -> LocalKafka:
    """A running Kafka node in a folder of its own; `ending` ends it and removes the folder."""
    home = Path(tempfile.mkdtemp(prefix="k", dir=folder))
    server = LocalKafka(home, JARS)
    server.start()
    versions["Kafka"] = server.version
    ending.callback(shutil.rmtree, home, ignore_errors=True)
    ending.callback(server.kill)  # nobody reads its data again: no need to wait for an orderly end
    return server


def start_valkey(folder: Path, ending: ExitStack, **config: str) -> LocalValkey:
    """A running Valkey in a folder of its own; `ending` ends it and removes the folder."""
    home = Path(tempfile.mkdtemp(prefix="v", dir=folder))
    server = LocalValkey(home, config=config)
    server.start()
    versions["Valkey"] = server.version
    ending.callback(shutil.rmtree, home, ignore_errors=True)
    ending.callback(server.kill)
    return server
