"""A mark counts as durable only after the server has really synced what it covers."""

import time
from collections.abc import Callable

import pytest

from headrace import StoreUnavailable
from headrace.local.valkey import LocalValkey
from headrace.streams.keys import Keys
from headrace.streams.redis_store import DurabilityWait, RedisSettings, check_settings
from headrace.streams.redis_wire import Wire


def waiting(valkey: LocalValkey) -> DurabilityWait:
    settings = RedisSettings(valkey.socket_url)
    wire = Wire(settings.url)
    return DurabilityWait(wire, Keys("test", "g1"), settings, check_settings(wire, "disk"))


def test_every_second_means_a_second_mark_must_follow_the_first(new_valkey: Callable[..., LocalValkey]) -> None:
    wait = waiting(new_valkey())
    wait.settled(wait_ms=3_000)  # the first sync of a server that was idle comes at once
    began = time.monotonic()
    mark = wait.mark()
    assert wait.settled(wait_ms=900) < mark, "Valkey 9.1.2 answers within 100 ms, and has synced nothing"
    assert wait.settled(wait_ms=5_000) == mark
    assert 1.1 <= time.monotonic() - began < 4
    wait.close()


def test_always_means_at_once(new_valkey: Callable[..., LocalValkey]) -> None:
    wait = waiting(new_valkey(appendfsync="always"))
    for _ in range(20):
        mark = wait.mark()
        assert wait.settled(wait_ms=500) == mark
    wait.close()


def test_a_server_that_never_syncs_is_refused(new_valkey: Callable[..., LocalValkey]) -> None:
    valkey = new_valkey(appendfsync="no")
    with pytest.raises(StoreUnavailable, match="appendfsync"):
        waiting(valkey)
