"""The status door: what it answers, and when."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest

from headrace.online.door import Door, Status, offsets_of

STATUS = Status(
    round=3,
    seen={"search.events.v1/0": 5},
    ends={"search.events.v1/0": 9},
    watermark_ms=1_500,
    examples=7,
    pending={"lists": 2},
    version="abc",
    published=1,
    progressive={"total": {"mrr": 0.5, "loss": None}},
    counts={"joined": {"no_features": 4}},
)


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door(0)
    yield found
    found.close()


def get(door: Door, path: str) -> str:
    with urllib.request.urlopen(door.url + path, timeout=10) as answer:
        body: bytes = answer.read()
    return body.decode()


def test_status_and_metrics(door: Door) -> None:
    door.show(STATUS)
    assert msgspec.json.decode(get(door, "/status"), type=Status) == STATUS
    metrics = get(door, "/metrics").splitlines()
    for line in (
        "headrace_refresh_examples_total 7.0",
        'headrace_refresh_offset{partition="0",topic="search.events.v1"} 5.0',
        'headrace_consumer_lag_messages{partition="0",topic="search.events.v1"} 4.0',
        'headrace_join_pending{what="lists"} 2.0',
        'headrace_refresh_joined_total{outcome="no_features"} 4.0',
        'headrace_refresh_progressive{measure="mrr",over="total"} 0.5',
        'headrace_refresh_model_info{version="abc"} 1.0',
        "headrace_refresh_watermark_seconds 1.5",
    ):
        assert line in metrics
    assert get(door, "/livez") == '{"live":true}'


def test_whoever_waits_is_answered_when_the_offset_was_seen(door: Door) -> None:
    timer = threading.Timer(0.1, door.show, [STATUS])
    timer.start()
    assert '"round":3' in get(door, "/status?until=search.events.v1/0:5&timeout_ms=5000")
    timer.join()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/status?until=search.events.v1/0:6&timeout_ms=20", 408),
        ("/status?until=search.events.v1/9:0&timeout_ms=20", 408),
        ("/status?until=nonsense", 400),
        ("/status?until=a/0:x", 400),
        ("/status?timeout_ms=x", 400),
        ("/", 404),
    ],
)
def test_what_it_refuses(door: Door, path: str, code: int) -> None:
    door.show(STATUS)
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(door, path)
    assert refused.value.code == code
    refused.value.close()


def test_offsets() -> None:
    assert offsets_of("a.b/0:1,c/12:34") == {"a.b/0": 1, "c/12": 34}
    assert offsets_of("") == {}
