"""Servers for tests that need real ones, a place of its own for each test, and what pytest's last line says.

A server that does not start is a failure, never a skip. A test that needs a broker runs on each of `BROKERS`; one that
is for some of them only says `@pytest.mark.parametrize("broker", ["apache"], indirect=True)`. Only Apache Kafka may be
absent: without its jars or Java the tests on it are deselected, and the last line says so; with
HEADRACE_REQUIRE_KAFKA=1 the run fails at once instead.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from broker_clients import Broker
from headrace.local import kafka as local_kafka
from headrace.local.broker.process import LocalBroker
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "tests" / "bench"
JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")
KAFKA_MISSING = local_kafka.missing(JARS)
BROKERS = ("embedded", "apache")
NAMES = {"embedded": "Embedded broker", "apache": "Kafka"}
VALKEY_FIXTURES = {"valkey", "new_valkey"}

asked_for: dict[str, int] = {"Valkey": 0, "Embedded broker": 0, "Kafka": 0}
deselected: list[pytest.Item] = []
versions: dict[str, str] = {}


def pytest_configure() -> None:
    """Refuses a run that must test Kafka where Kafka cannot run; lets a Ctrl-C reach the processes that tests start.

    A script's background job ignores Ctrl-C, and so would everything that is started from it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if KAFKA_MISSING and os.environ.get("HEADRACE_REQUIRE_KAFKA") == "1":
        raise pytest.UsageError(f"HEADRACE_REQUIRE_KAFKA=1, but Kafka cannot run here: {KAFKA_MISSING}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects what needs Kafka where Kafka cannot run, and counts what needs which server."""
    kept = []
    for item in items:
        brokers = brokers_of(item)
        if KAFKA_MISSING and "apache" in brokers:
            deselected.append(item)
            continue
        for broker in brokers:
            asked_for[NAMES[broker]] += 1
        asked_for["Valkey"] += bool(set(getattr(item, "fixturenames", ())) & VALKEY_FIXTURES)
        kept.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


def brokers_of(item: pytest.Item) -> set[str]:
    """The brokers that a test needs."""
    chosen = getattr(item, "callspec", None)
    named = {f"{name}_broker" for name in BROKERS} & set(getattr(item, "fixturenames", ()))
    found = {name.removesuffix("_broker") for name in named}
    return found | ({chosen.params["broker"]} if chosen and "broker" in chosen.params else set())


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Says in the very last lines which servers were tested."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly or config.option.help:
        return
    for name, count in asked_for.items():
        if versions.get(name):
            reporter.write_line(f"{name} {versions[name]}: tested, {count} tests", green=True)
        elif name != "Kafka" or not deselected:
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
def embedded_broker(servers_folder: Path) -> Iterator[Broker]:
    """One embedded broker for the whole run."""
    with ExitStack() as ending:
        yield start_broker("embedded", servers_folder, ending)


@pytest.fixture(scope="session")
def apache_broker(servers_folder: Path) -> Iterator[Broker]:
    """One Apache Kafka node for the whole run."""
    with ExitStack() as ending:
        yield start_broker("apache", servers_folder, ending)


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> str:
    """Which broker a test is on. (Not a parameter of the session's fixtures: pytest would sort all tests by it.)"""
    name: str = request.param
    return name


@pytest.fixture
def kafka(request: pytest.FixtureRequest, broker: str) -> Broker:
    """A broker that runs the whole session. Whoever kills it starts it again; else take `new_kafka`."""
    found: Broker = request.getfixturevalue(f"{broker}_broker")
    return found


@pytest.fixture
def new_kafka(broker: str, servers_folder: Path) -> Iterator[Callable[[], Broker]]:
    """A factory of fresh, running brokers; they end with the test."""
    with ExitStack() as ending:
        yield lambda: start_broker(broker, servers_folder, ending)


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


def start_broker(name: str, folder: Path, ending: ExitStack) -> Broker:
    """A running broker in a folder of its own; `ending` ends it and removes the folder."""
    home = Path(tempfile.mkdtemp(prefix="k", dir=folder))
    server = LocalBroker(home) if name == "embedded" else LocalKafka(home, JARS)
    server.start()
    versions[NAMES[name]] = server.version
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
