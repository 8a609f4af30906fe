"""What a consumer tells of itself: Prometheus metrics, and whether it is alive in more than name.

Names are those of the field (``headrace_events_consumed_total{topic,result}`` and so on); labels are bounded, no label
ever holds what a shopper sent.
"""

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any, Final, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from prometheus_client import Counter as Total
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

BUCKETS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0),
)

_EVERY_S: Final = 0.5


def new_registry() -> CollectorRegistry:
    """A place for metrics, with the process's own (memory, CPU, files) in it."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second time series beside each one, which nobody reads
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class Driver(Protocol):
    """What meters look at; both drivers are such."""

    outcomes: Counter[str]
    committed: dict[int, int]
    ends: dict[int, int]
    ages_ms: deque[int]
    store_away: str


class Stall:
    """Which partitions have records waiting and make no progress; a function of what it is told.

    Args:
        patience_s: how long a partition may stand still with records waiting.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._moved: dict[int, tuple[int, float]] = {}

    def look(self, now_s: float, committed: Mapping[int, int], ends: Mapping[int, int]) -> list[int]:
        """The partitions that stand still.

        Args:
            now_s: a clock that never goes back.
            committed: partition -> how far it is acknowledged; partitions that are not in it are forgotten.
            ends: partition -> the end of the log.
        """
        before, self._moved = self._moved, {}
        for partition, offset in committed.items():
            at, since_s = before.get(partition, (-1, now_s))
            waiting = ends.get(partition, 0) > offset
            self._moved[partition] = (offset, now_s if at != offset or not waiting else since_s)
        return sorted(part for part, (_, since_s) in self._moved.items() if now_s - since_s > self._patience_s)


class ConsumerMeters:
    """Keeps metrics of one topic's consumer up to date; drivers call it between batches.

    Args:
        registry: where the metrics are registered.
        topic: the topic that is consumed.
        stall_s: how long a partition with records waiting may stand still before liveness fails.
    """

    def __init__(self, registry: CollectorRegistry, topic: str, stall_s: float) -> None:
        self._topic = topic
        self._consumed = Total(
            "headrace_events_consumed", "Records by what became of them.", ["topic", "result"], registry=registry
        )
        self._dead = Total("headrace_events_dlq", "Records that were dead-lettered.", ["reason"], registry=registry)
        self._late = Total("headrace_events_late", "Records that were too late.", registry=registry)
        self._repeated = Total(
            "headrace_events_deduplicated", "Events that had come before and changed nothing.", registry=registry
        )
        self._lag = Gauge(
            "headrace_consumer_lag_messages",
            "Records that are not acknowledged yet.",
            ["topic", "partition"],
            registry=registry,
        )
        self._stalled = Gauge(
            "headrace_partition_stalled",
            "1: records wait and nothing moves.",
            ["topic", "partition"],
            registry=registry,
        )
        self._fresh = Histogram(
            "headrace_feature_freshness_seconds",
            "From a record's Kafka timestamp until its state could be read; the oldest of each micro-batch.",
            ["kind"],
            buckets=BUCKETS_S,
            registry=registry,
        ).labels("state")
        self._away = Gauge("headrace_store_away", "1: the store does not answer.", registry=registry)
        self._stall = Stall(stall_s)
        self._seen: Counter[str] = Counter()
        self._driver: object = None
        self._partitions: set[int] = set()
        self._next_s = 0.0
        self.stalled: list[int] = []
        self.looked_s = time.monotonic()

    def __call__(self, driver: Driver) -> None:
        """Takes over what a driver shows, at most twice a second."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = self.looked_s = now_s
        self._next_s += _EVERY_S
        if driver is not self._driver:
            self._driver, self._seen = driver, Counter()
        while driver.ages_ms:
            self._fresh.observe(max(0, driver.ages_ms.popleft()) / 1000)
        self._count(driver.outcomes)
        self._away.set(bool(driver.store_away))
        self.stalled = self._stall.look(now_s, driver.committed, driver.ends)
        self._show_partitions(driver)

    def _count(self, outcomes: Mapping[str, int]) -> None:
        for name, total in list(outcomes.items()):
            more = total - self._seen[name]
            if not more:
                continue
            self._seen[name] = total
            kind, _, reason = name.partition(".")
            self._consumed.labels(self._topic, kind).inc(more)
            if reason:
                self._dead.labels(reason).inc(more)
            elif kind == "late":
                self._late.inc(more)
            elif kind in ("duplicate", "repeated"):  # sent twice, or delivered twice
                self._repeated.inc(more)

    def _show_partitions(self, driver: Driver) -> None:
        for partition in self._partitions - driver.committed.keys():
            self._lag.remove(self._topic, partition)
            self._stalled.remove(self._topic, partition)
        self._partitions = set(driver.committed)
        for partition, offset in driver.committed.items():
            self._lag.labels(self._topic, partition).set(max(0, driver.ends.get(partition, 0) - offset))
            self._stalled.labels(self._topic, partition).set(partition in self.stalled)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is wsgiref's
        """Says nothing: a probe every few seconds is no news."""


def serve_meters(
    registry: CollectorRegistry, alive: Callable[[], str], port: int, host: str = "127.0.0.1"
) -> Callable[[], None]:
    """Answers ``/metrics`` and ``/livez`` on a thread of its own.

    Args:
        registry: what is shown.
        alive: "" while all is well, else why not: then ``/livez`` answers 503 with it.
        port: to listen on.
        host: to listen on.

    Returns:
        What ends it.

    Raises:
        OSError: the port is taken.
    """
    metrics: Callable[[dict[str, Any], Any], Iterable[bytes]] = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path != "/livez":
            start_response("404 Not Found", [("Content-Type", "application/json")])
            return [b'{"error":"/metrics and /livez are here"}']
        why = alive()
        start_response("503 Service Unavailable" if why else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"alive": not why, "reason": why}).encode()]

    server = make_server(host, port, answer, server_class=_Server, handler_class=_Quiet)
    Thread(target=server.serve_forever, name="headrace-meters", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end
