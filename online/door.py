"""What the learner shows: ``/metrics`` for Prometheus and ``/status`` as JSON, on the loopback address.

``/status?until=TOPIC/PARTITION:OFFSET,...&timeout_ms=N`` answers as soon as the learner has committed a round that has
read each of these sources up to that offset (the number of records, or the last offset + 1), or with 408 when that did
not happen in time. Whoever replays waits there: once it answers, everything up to those offsets has been joined, what
was ripe has been learned, and what was due has been published.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.streams.consumer_meters import new_registry

LONGEST_WAIT_MS: Final = 60_000


class Status(msgspec.Struct, frozen=True):
    """The learner after a committed round.

    Attributes:
        round: its number.
        seen: "topic/partition" -> offset after the last record that was read.
        ends: "topic/partition" -> where the log ended when the round was planned.
        watermark_ms: event time up to which examples are ripe.
        examples: examples learned since the beginning.
        pending: lists, searches and bytes that are held.
        version: bundle published last, "" before.
        published: how many were.
        epoch: fencing number of this learner.
        progressive: mrr, frozen_mrr, loss, frozen_loss; of all examples and since the last decision; null without any.
        counts: what became of records, lists, examples and decisions, by name.
        checkpoint_bytes: size of the state file.
        round_ms: how long the last round took, from the news to the commit.
    """

    round: int = 0
    seen: dict[str, int] = {}
    ends: dict[str, int] = {}
    watermark_ms: int | None = None
    examples: int = 0
    pending: dict[str, int] = {}
    version: str = ""
    published: int = 0
    epoch: int = 0
    progressive: dict[str, dict[str, float | int | None]] = {}
    counts: dict[str, dict[str, int]] = {}
    checkpoint_bytes: int = 0
    round_ms: float = 0.0


class _Shown(Collector):
    def __init__(self, door: "Door") -> None:
        self._door = door

    def collect(self) -> Iterable[Metric]:
        return metrics_of(self._door.status)


def metrics_of(status: Status) -> Iterable[Metric]:
    """The status as Prometheus metrics."""
    yield CounterMetricFamily("headrace_refresh_rounds", "Rounds committed.", status.round)
    yield CounterMetricFamily("headrace_refresh_examples", "Examples learned from.", status.examples)
    yield CounterMetricFamily("headrace_refresh_published", "Bundles published.", status.published)
    yield GaugeMetricFamily("headrace_refresh_epoch", "Fencing number of this learner.", status.epoch)
    yield GaugeMetricFamily("headrace_refresh_checkpoint_bytes", "Size of the state file.", status.checkpoint_bytes)
    yield GaugeMetricFamily("headrace_refresh_round_seconds", "Time of the last round.", status.round_ms / 1000)
    if status.watermark_ms is not None:
        yield GaugeMetricFamily(
            "headrace_refresh_watermark_seconds",
            "Event time up to which examples are ripe.",
            status.watermark_ms / 1000,
        )
    pending = GaugeMetricFamily("headrace_join_pending", "What is held until it is ripe.", labels=["what"])
    for what, number in status.pending.items():
        pending.add_metric([what], number)
    yield pending
    matured = CounterMetricFamily("headrace_join_matured", "Lists that became examples.", labels=["action"])
    learned = status.counts.get("learned", {})
    for action, outcome in (("click", "learned"), ("none", "learned_without_click")):
        matured.add_metric([action], learned.get(outcome, 0))
    yield matured
    for name, counts in status.counts.items():
        family = CounterMetricFamily(f"headrace_refresh_{name}", f"Outcomes: {name}.", labels=["outcome"])
        for outcome, number in counts.items():
            family.add_metric([outcome], number)
        yield family
    yield from _sources(status)
    quality = GaugeMetricFamily(
        "headrace_refresh_progressive", "Quality of what was scored before it was learned.", labels=["over", "measure"]
    )
    for over, measures in status.progressive.items():
        for measure, value in measures.items():
            if value is not None:
                quality.add_metric([over, measure], value)
    yield quality
    yield InfoMetricFamily("headrace_refresh_model", "Bundle published last.", {"version": status.version})


def _sources(status: Status) -> Iterable[Metric]:
    seen = GaugeMetricFamily(
        "headrace_refresh_offset", "Offset after the last record read.", labels=["topic", "partition"]
    )
    lag = GaugeMetricFamily("headrace_consumer_lag_messages", "Records not read.", labels=["topic", "partition"])
    for source, offset in status.seen.items():
        topic, _, partition = source.rpartition("/")
        seen.add_metric([topic, partition], offset)
        lag.add_metric([topic, partition], max(0, status.ends.get(source, offset) - offset))
    yield seen
    yield lag


class Door:
    """A small HTTP server on a thread of its own.

    Args:
        port: 0 takes a free one.
        host: any but a loopback address shows the learner to whoever can reach it.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.status = Status()
        self._news = threading.Condition()
        self.registry = new_registry()
        self.registry.register(_Shown(self))
        self._server = _Server((host, port), _Handler)
        self._server.door = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="door", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port, *_ = self._server.server_address
        return f"http://{host!s}:{port}"

    def show(self, status: Status) -> None:
        """From now on it answers with this."""
        with self._news:
            self.status = status
            self._news.notify_all()

    def wait(self, until: Mapping[str, int], timeout_ms: int) -> bool:
        """Whether each of these sources was read up to its offset, after waiting for it at most so long."""
        deadline_s = time.monotonic() + timeout_ms / 1000
        with self._news:
            while not all(self.status.seen.get(source, -1) >= offset for source, offset in until.items()):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._news.wait(left_s)
        return True

    def close(self) -> None:
        """Ends the thread and the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    door: Door


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer of two writes waits 40 ms for the client's acknowledgement
    wbufsize = -1
    timeout = 120

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        where = urlsplit(self.path)
        if where.path == "/metrics":
            self._answer(200, generate_latest(server.door.registry), "text/plain; version=0.0.4; charset=utf-8")
        elif where.path == "/status":
            self._status(server.door, parse_qs(where.query))
        elif where.path == "/livez":
            self._answer(200, b'{"live":true}', "application/json")
        else:
            self._answer(404, b'{"error":"/status, /metrics or /livez"}', "application/json")

    def _status(self, door: Door, query: dict[str, list[str]]) -> None:
        try:
            until = offsets_of(query.get("until", [""])[-1])
            timeout_ms = min(max(int(query.get("timeout_ms", ["5000"])[-1]), 0), LONGEST_WAIT_MS)
        except ValueError:
            self._answer(400, b'{"error":"until=TOPIC/PARTITION:OFFSET,... and timeout_ms=N"}', "application/json")
            return
        reached = door.wait(until, timeout_ms)
        self._answer(200 if reached else 408, msgspec.json.encode(door.status), "application/json")

    def _answer(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name http.server uses)
        """Says nothing: whoever waits here asks often."""


def offsets_of(text: str) -> dict[str, int]:
    """``TOPIC/PARTITION:OFFSET,...`` as a mapping from "topic/partition".

    Raises:
        ValueError: it is not of that form.
    """
    found = {}
    for part in filter(None, text.split(",")):
        source, _, offset = part.rpartition(":")
        if "/" not in source:
            raise ValueError(part)
        found[source] = int(offset)
    return found
