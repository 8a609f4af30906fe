"""A real worker process over a real Valkey: what callers see, whatever goes wrong behind it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from headrace.commands.main import main
from headrace.local.valkey import LocalValkey
from headrace.models.features import FEATURES
from headrace.streams.events import Click, Impression, Query
from headrace.streams.identity import hash64
from serving import Reply, Worker, serving
from shop_state import Shop
from tiny_models import head, publish_tiny

NOW_MS = 20_000 * 86_400_000 + 43_200_000
TRUST = ("--trust-now",)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder, 0)
    return folder


@pytest.fixture
def worker(tmp_path: Path, repository: Path, valkey: LocalValkey, namespace: str) -> Iterator[Worker]:
    with serving(tmp_path, repository, valkey.socket_url, "--namespace", namespace, *TRUST) as running:
        yield running


@pytest.fixture
def shop(valkey: LocalValkey, namespace: str) -> Iterator[Shop]:
    made = Shop(valkey, namespace)
    yield made
    made.close()


def history(client: str = "c", item: str = "b") -> list[Query | Impression | Click]:
    at_ms = NOW_MS - 60_000
    return [
        Query(f"{client}-1", client, f"{client}-q", at_ms, "Red  Shoe"),
        Impression(f"{client}-2", client, f"{client}-q", at_ms + 1, ("a", "b", "c"), (1, 2, 3)),
        Click(f"{client}-3", client, f"{client}-q", at_ms + 1_000, item, 2),
    ]


@contextmanager
def stopped(server: LocalValkey) -> Iterator[None]:
    """A server that takes connections and answers nothing."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_what_a_shopper_did_changes_the_scores_at_once(worker: Worker, shop: Shop) -> None:
    before = worker.rank(client_id="c", now_ms=NOW_MS).json()
    assert before["order"] == [0, 1, 2]
    assert before["missing"] == {"student": 3, "price": 3, "query": 3, "item": 3, "shopper": 3}
    assert before["ages"] == {"sequence_ms": None, "query_edges_ms": None, "item_edges_ms": None}
    assert before["student"] == "absent"
    offset = shop.happen(history())
    after = worker.rank(client_id="c", now_ms=NOW_MS).json()
    assert after["order"][0] == 1
    assert after["scores"][1] > after["scores"][0] > 0
    assert after["missing"] == {"student": 3, "price": 3}
    assert after["ages"] == {"sequence_ms": 59_000, "query_edges_ms": 43_200_000, "item_edges_ms": 43_200_000}
    assert after["degraded"] is None
    assert offset == 2


def test_the_answer_says_what_it_is_and_explains_itself(worker: Worker, shop: Shop) -> None:
    shop.happen(history())
    reply = worker.call(
        "POST",
        "/v1/rank",
        {
            "query": "red shoe",
            "items": ["a", {"id": "b", "price": 9.5}],
            "client_id": "c",
            "now_ms": NOW_MS,
            "explain": True,
        },
        {"x-request-id": "mine-1"},
    )
    said = reply.json()
    assert reply.headers["x-request-id"] == said["request_id"] == "mine-1"
    assert reply.headers["x-model-version"] == said["model"]["version"] == worker.ready()["model"]
    assert set(said["model"]["parts"]) == {"head"}
    assert said["arm"] == "champion"
    assert said["logged"] is False
    # Law 5: what was scored is what was said to have been scored, rounded as it is logged.
    rows = np.array([[item["features"][name] for name in FEATURES] for item in said["items"]], dtype=np.float32)
    assert (rows == rows.astype(np.float16).astype(np.float32)).all()
    assert head().score(rows).tolist() == said["scores"]
    assert said["items"][0]["missing"] == ["student", "price"]
    assert said["items"][1]["missing"] == ["student"]


def test_features_tell_neighbours_history_presence_and_age(worker: Worker, shop: Shop) -> None:
    for number in range(40):  # 120 exposures of each item for the query, 40 clicks on b
        shop.happen(history(f"c{number}"))
    for number in range(80):
        shop.happen(history(f"d{number}", "c")[:2])
    asked = {"query": "red shoe", "client_id": "c1", "items": ["b", "z"], "now_ms": NOW_MS, "recent": 1}
    said = worker.call("POST", "/v1/features", asked).json()
    assert said["generation"] == "g1"
    assert said["query"]["known"] and said["query"]["edges"] == 3 and not said["query"]["capped"]
    [near] = said["query"]["neighbours"]
    assert (near["name"], near["exposures"], near["clicks"], near["age_ms"]) == ("b", 120, 40, 43_200_000)
    assert 0.2 < near["wilson"] < 1 / 3
    first, second = said["items"]
    assert first["present"] == {"query_edge": True, "item_edges": True, "touched": True}
    assert first["ages"]["touched_ms"] == 59_000
    assert [one["name"] for one in first["neighbours"]] == [f"{hash64('red shoe'):016x}"]
    assert second["present"] == {"query_edge": False, "item_edges": False, "touched": False}
    assert len(first["features"]) == len(said["names"]) == len(FEATURES)
    shopper = said["shopper"]
    assert shopper["known"] and shopper["records"] == 2
    assert [(one["action"], one["item"]) for one in shopper["recent"]] == [("click", "b")]
    assert [one["action"] for one in shopper["relevant"]] == ["click", "search"]
    assert set(said["fences"]) == {"query", "shopper"}
    nobody = worker.call("POST", "/v1/features", {"client_id": "nobody", "now_ms": NOW_MS}).json()
    assert nobody["shopper"] == {"known": False, "records": 0, "age_ms": None, "recent": [], "relevant": []}
    assert nobody["query"] is None and nobody["items"] == []


def test_another_generation_is_read_as_soon_as_the_alias_names_it(worker: Worker, shop: Shop) -> None:
    shop.happen(history())
    assert "shopper" not in worker.rank(client_id="c", now_ms=NOW_MS).json()["missing"]
    shop.name("g2")
    assert worker.rank(client_id="c", now_ms=NOW_MS).json()["missing"]["shopper"] == 3
    shop.name("g1")
    assert "shopper" not in worker.rank(client_id="c", now_ms=NOW_MS).json()["missing"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"query": "a", "items": [1]}, 400, "items[0]"),
        ({"query": "a", "items": [str(n) for n in range(1_001)]}, 400, "items"),
        (b"{", 400, "body"),
        ({"query": "a" * 1_100_000, "items": []}, 413, "body"),
    ],
)
def test_a_wrong_request_is_told_its_field(worker: Worker, body: object, status: int, field: str) -> None:
    reply = worker.call("POST", "/v1/rank", body)
    assert reply.status == status
    assert reply.json()["field"] == field
    assert reply.json()["request_id"] == reply.headers["x-request-id"]


def test_other_wrong_calls(worker: Worker) -> None:
    assert worker.call("POST", "/v1/rank", b"{}", {"content-type": "text/plain"}).json()["field"] == "content-type"
    assert worker.call("GET", "/v1/rank").status == 405
    assert worker.call("GET", "/nowhere").status == 404
    assert worker.call("POST", "/v1/events", []).status == 503  # it was started without Kafka
    chunked = (
        b"POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", worker.port), timeout=10) as raw:
        raw.sendall(chunked + b"100000\r\n" + b"x" * 0x100000 + b"\r\n100000\r\n")
        raw.sendall(b"x" * 0x1000)
        assert b" 413 " in raw.recv(100)
    assert worker.rank().status == 200


def test_empty_lists_and_the_longest_are_answered(worker: Worker) -> None:
    assert worker.rank(items=[]).json()["scores"] == []
    items = [{"id": f"item-{number}", "price": number} for number in range(1_000)]
    said = worker.rank(items=items, client_id="c").json()
    assert len(said["scores"]) == 1_000 and sorted(said["order"]) == list(range(1_000))
    assert said["degraded"] is None
    assert worker.rank(items=["a", "a", "b"]).json()["degraded"] is None


def test_now_is_taken_only_with_trust(tmp_path: Path, repository: Path, valkey: LocalValkey) -> None:
    with serving(tmp_path, repository, valkey.url) as worker:
        reply = worker.rank(now_ms=NOW_MS)
        assert (reply.status, reply.json()["field"]) == (400, "now_ms")
        assert worker.rank().status == 200


def test_a_worker_without_a_model_is_not_ready_and_becomes_it(
    tmp_path: Path, valkey: LocalValkey, namespace: str
) -> None:
    repository = tmp_path / "models"
    with serving(tmp_path, repository, valkey.url, "--namespace", namespace, ready=False) as worker:
        assert worker.call("GET", "/livez").status == 200
        assert worker.call("GET", "/readyz").status == 503
        reply = worker.rank()
        assert (reply.status, reply.json()["error"]) == (503, "not_ready")
        assert "retry-after" in reply.headers
        version = publish_tiny(repository, 0)
        worker.wait_version(version)
        assert worker.call("GET", "/readyz").json()["ready"] is True
        assert worker.rank().status == 200


def test_a_store_that_is_away_is_named_and_comes_back(
    tmp_path: Path, repository: Path, new_valkey: Callable[..., LocalValkey], namespace: str
) -> None:
    server = new_valkey(appendfsync="always")
    shop = Shop(server, namespace)
    shop.happen(history())
    with serving(tmp_path, repository, server.url, "--namespace", namespace, *TRUST) as worker:
        assert worker.rank(client_id="c", now_ms=NOW_MS).json()["degraded"] is None
        server.kill()
        said = worker.rank(client_id="c", now_ms=NOW_MS).json()
        assert said["degraded"] == {"rung": "without_state", "reason": "store_unavailable", "scored": 3}
        assert said["missing"]["shopper"] == 3
        assert worker.call("POST", "/v1/features", {"client_id": "c"}).status == 503
        assert worker.metric('headrace_degraded_total{rung="without_state"}') == 1
        server.start()
        worker.wait(lambda: worker.rank(client_id="c", now_ms=NOW_MS).json()["degraded"] is None)
        assert "shopper" not in worker.rank(client_id="c", now_ms=NOW_MS).json()["missing"]
    shop.close()


def test_a_deadline_is_kept_though_the_store_hangs(
    tmp_path: Path, repository: Path, new_valkey: Callable[..., LocalValkey]
) -> None:
    server = new_valkey()
    with serving(tmp_path, repository, server.url) as worker:
        worker.rank()
        with stopped(server):
            began = time.monotonic()
            said = worker.rank(deadline_ms=400).json()
            took = time.monotonic() - began
        # On a machine that is busy with other things a timer may ring too late for any score.
        assert said["degraded"]["rung"] in ("without_state", "prior_order")
        assert said["degraded"]["reason"] == "deadline"
        assert 0.3 < took < 0.8
        assert worker.rank(deadline_ms=1).json()["degraded"]["rung"] == "prior_order"
        prior = worker.rank(deadline_ms=1).json()
        assert prior["scores"] == [None, None, None] and prior["order"] == [0, 1, 2]
        worker.wait(lambda: worker.rank().json()["degraded"] is None)


def asking(worker: Worker, replies: list[Reply], **more: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: replies.append(worker.rank(**more)))
    thread.start()
    return thread


def test_a_full_worker_refuses_at_once(
    tmp_path: Path, repository: Path, new_valkey: Callable[..., LocalValkey]
) -> None:
    server = new_valkey()
    with serving(tmp_path, repository, server.url, "--places", "2") as worker:
        worker.rank()
        replies: list[Reply] = []
        with stopped(server):
            threads = [asking(worker, replies, deadline_ms=1_500) for _ in range(2)]
            worker.wait(lambda: worker.metric("headrace_requests_running") == 2)
            began = time.monotonic()
            refused = worker.rank()
            took = time.monotonic() - began
            assert worker.call("GET", "/livez").status == 200  # what looks after the process still gets in
            for thread in threads:
                thread.join()
        assert (refused.status, refused.json()["error"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert took < 0.5
        assert [reply.status for reply in replies] == [200, 200]
        assert worker.metric('headrace_rejected_total{reason="overloaded"}') == 1
        assert worker.rank().status == 200


def test_sigterm_finishes_what_runs(tmp_path: Path, repository: Path, new_valkey: Callable[..., LocalValkey]) -> None:
    server = new_valkey()
    with serving(tmp_path, repository, server.url, "--drain-ms", "300") as worker:
        worker.rank()
        replies: list[Reply] = []
        with stopped(server):
            thread = asking(worker, replies, deadline_ms=1_500)
            worker.wait(lambda: worker.metric("headrace_requests_running") == 1)
            worker.process.send_signal(signal.SIGTERM)
            reply = worker.call("GET", "/readyz")  # still taken, so that balancers hear of it
            assert (reply.status, reply.json()["draining"]) == (503, True)
            thread.join()
        assert [reply.status for reply in replies] == [200]
        assert worker.process.wait(20) == 0
        with pytest.raises(OSError, match=r"refused|reset"):
            worker.rank()
    assert "Traceback" not in worker.log.read_text()


def test_outside_the_loopback_a_token_is_needed_on_every_door(
    tmp_path: Path, repository: Path, valkey: LocalValkey
) -> None:
    refused = CliRunner().invoke(main, ["serve", "--host", "0.0.0.0", "--port", "0"])
    assert refused.exit_code == 2
    assert "HEADRACE_SERVE_TOKEN" in refused.output
    # 127.0.0.2 is no name of the loopback that the worker trusts, and can be listened on without leaving the machine.
    flags = ("--host", "127.0.0.2", "--token", "s3cret")
    with serving(tmp_path, repository, valkey.url, *flags, ready=False) as worker:

        def status(path: str, shown: str) -> int:
            with socket.create_connection(("127.0.0.2", worker.port), timeout=10) as raw:
                raw.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n{shown}connection: close\r\n\r\n".encode())
                return int(raw.recv(100).split()[1])

        for path in ("/livez", "/metrics"):
            assert status(path, "") == 401
            assert status(path, "authorization: Bearer wrong\r\n") == 401
            assert status(path, "authorization: Bearer s3cret\r\n") == 200
    assert "s3cret" not in worker.log.read_text()


def test_on_the_loopback_a_token_guards_what_changes_things(
    tmp_path: Path, repository: Path, valkey: LocalValkey
) -> None:
    with serving(tmp_path, repository, valkey.url, "--token", "s3cret") as worker:
        assert worker.rank().status == 200
        assert worker.call("POST", "/v1/events", []).status == 401
        assert worker.call("POST", "/v1/events", [], {"authorization": "Bearer s3cret"}).status == 503


def test_a_taken_port_is_one_clear_sentence(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", "--port", port, "--repository", str(repository), "--no-kafka"])
    assert result.exit_code == 1
    assert "take another --port" in result.output
