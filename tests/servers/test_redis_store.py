"""The real store against a real Valkey that is killed, stands still, or comes back without its unsynced tail."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from headrace import StoreUnavailable
from headrace.local.valkey import LocalValkey
from headrace.streams.dump import dump, newest_day
from headrace.streams.ingestion import Ingestion, Record, Rejected
from headrace.streams.keys import Keys
from headrace.streams.redis_store import Durability, RedisSettings, RedisStore
from headrace.streams.redis_wire import Command, Wire
from headrace.streams.searches import StateBounds
from headrace.streams.store import MemoryStore, Store
from headrace.streams.writes import CountWrite, EdgeWrite, Increment, ShopperWrite, TextWrite
from shopping_logs import LIMITS, SMALL, LogShape, make_log, source

NewValkey = Callable[..., LocalValkey]

ONE = CountWrite(7, b"source-1", (Increment(1, 1, 1, 0, ("a",)),))
TWO = CountWrite(7, b"source-1", (Increment(2, 1, 1, 0, ("a",)),))


def a_store(
    server: LocalValkey, durability: Durability = "disk", timeout_s: float = 10.0, generation: str = "g1"
) -> RedisStore:
    settings = RedisSettings(server.socket_url, durability=durability, timeout_s=timeout_s)
    return RedisStore(Keys("test", generation), SMALL, settings)


def exposures(store: Store) -> int:
    return sum(row[1] for fact in store.facts().edges for row in fact.rows)


CALLS: dict[str, Callable[[RedisStore], object]] = {
    "read": lambda store: store.read([bytes(16)]),
    "apply": lambda store: store.apply([ONE]),
    "mark and settled": lambda store: (store.mark(), store.settled(wait_ms=2_000)),
    "facts": lambda store: store.facts(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_a_session_ends_with_its_server_and_never_heals(
    new_valkey: NewValkey, call: Callable[[RedisStore], object]
) -> None:
    server = new_valkey(appendfsync="always")
    store = a_store(server)
    store.connect()
    call(store)
    server.kill()
    with pytest.raises(StoreUnavailable):
        call(store)
    server.start()  # the same address answers again: that is another store
    for again in CALLS.values():
        with pytest.raises(StoreUnavailable):
            again(store)
    assert store.session == 1
    store.connect()
    assert store.session == 2
    call(store)
    store.close()


def test_a_restart_between_two_calls_does_not_go_unnoticed(new_valkey: NewValkey) -> None:
    server = new_valkey(appendfsync="always")
    store = a_store(server)
    store.connect()
    store.apply([ONE])
    server.kill()
    server.start()
    for call in CALLS.values():
        with pytest.raises(StoreUnavailable):
            call(store)
    store.close()


def test_what_was_acknowledged_by_one_connection_is_no_mark_of_the_next(new_valkey: NewValkey) -> None:
    store = a_store(new_valkey(appendfsync="always"))
    store.connect()
    store.mark()
    last = store.mark()
    assert store.settled(wait_ms=5_000) == last
    store.connect()
    assert store.settled() == 0
    assert store.mark() == 1
    store.close()


def test_a_server_that_cannot_be_reached_opens_no_session(new_valkey: NewValkey) -> None:
    server = new_valkey()
    store = a_store(server)
    store.connect()
    server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            store.connect()
    assert store.session == 1
    with pytest.raises(StoreUnavailable, match="connect first"):
        store.read([bytes(16)])


def test_what_is_not_synced_is_not_settled_and_asking_does_not_wait(new_valkey: NewValkey) -> None:
    server = new_valkey(appendfsync="always")
    store = a_store(server, timeout_s=2.0)
    store.connect()
    wire = Wire(server.socket_url)
    wire.call([("CONFIG", "SET", "appendfsync", "no")])
    wire.close()
    store.apply([ONE])
    mark = store.mark()
    longest_s = 0.0
    until = monotonic() + 1.5
    while monotonic() < until:
        began = monotonic()
        assert store.settled(wait_ms=0) < mark
        longest_s = max(longest_s, monotonic() - began)
        began = monotonic()
        assert store.settled(wait_ms=50) < mark
        assert monotonic() - began < 1.0
    assert longest_s < 0.5
    store.close()


def test_a_server_that_stands_still_ends_the_session_and_its_late_calls_count_once(new_valkey: NewValkey) -> None:
    server = new_valkey(appendfsync="always")
    store = a_store(server, timeout_s=0.5)
    store.connect()
    store.apply([ONE])
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable):
            store.apply([TWO])  # lies in the server's buffer
    finally:
        os.kill(pid, signal.SIGCONT)
    store.connect()
    store.apply([ONE])  # everything unacknowledged, in order
    store.apply([TWO])
    assert exposures(store) == 2
    store.close()


def test_an_error_of_the_server_is_no_answer(new_valkey: NewValkey) -> None:
    """Out of memory: the write is refused, so nothing may be acknowledged; when there is room it goes through."""
    server = new_valkey()
    store = a_store(server, durability="memory")
    store.connect()
    wire = Wire(server.socket_url)
    wire.call([("CONFIG", "SET", "maxmemory", 1)])
    with pytest.raises(StoreUnavailable, match="OOM"):
        store.apply([ONE])
    wire.call([("CONFIG", "SET", "maxmemory", 0)])
    store.connect()
    store.apply([ONE])
    assert exposures(store) == 1
    wire.call([("SCRIPT", "FLUSH")])
    with pytest.raises(StoreUnavailable, match="NOSCRIPT"):
        store.apply([TWO])
    store.connect()  # loads the scripts again
    store.apply([TWO, TextWrite(1, "x")])
    assert exposures(store) == 2
    wire.close()
    store.close()


@pytest.mark.parametrize(
    ("config", "durability", "says"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "memory", "noeviction"),
        ({"appendonly": "no"}, "disk", "appendonly yes"),
    ],
)
def test_a_server_that_would_lose_state_is_refused(
    new_valkey: NewValkey, config: dict[str, str], durability: Durability, says: str
) -> None:
    store = a_store(new_valkey(**config), durability=durability)
    with pytest.raises(StoreUnavailable, match=says):
        store.connect()
    assert store.session == 0


def test_collecting_garbage_comes_after_every_window(valkey: LocalValkey, namespace: str) -> None:
    """Counts and copies leave some time after their window and all lateness; shoppers, sequences and texts never."""
    bounds = StateBounds(window_days=4, floor=1)
    keys = Keys(namespace, "g1")
    store = RedisStore(keys, bounds, RedisSettings(valkey.socket_url, durability="memory"))
    store.connect()
    edges = store.apply([ONE])[0]
    assert isinstance(edges, list)
    name = bytes(16)
    store.apply([EdgeWrite("a", ((7, edges[0][1]),)), TextWrite(1, "x"), ShopperWrite(name, b"", b"head", bytes(25))])
    wire = Wire(valkey.socket_url)
    day_ms, left = 86_400_000, [keys.query(7), keys.item("a"), keys.shopper(name), keys.log(name), keys.text(1)]
    ttls = [ttl for ttl in wire.call([("PTTL", key) for key in left]) if isinstance(ttl, int)]
    latest_ms = bounds.window_days * day_ms + LIMITS.late_ms
    assert all(latest_ms + day_ms < ttl <= latest_ms + 10 * day_ms for ttl in ttls[:2])
    assert ttls[2:] == [-1, -1, -1]
    wire.close()
    store.close()


# --- killed between sends ---------------------------------------------------------------------------------------------


@contextmanager
def killed_at(send: int, server: LocalValkey, crash: Callable[[], None]) -> Iterator[list[int]]:
    """Counts what wires send; the server is killed and started again just before the given one."""
    sent = [0]
    real = Wire.send

    def counting(self: Wire, commands: Iterable[Command]) -> int:
        sent[0] += 1
        if sent[0] == send:
            crash()
        return real(self, commands)

    Wire.send = counting  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        Wire.send = real  # type: ignore[method-assign]


class Run:
    """One log into one store, batch by batch, as a driver would; the AOF's size is noted at each acknowledgement."""

    def __init__(self, server: LocalValkey, logs: list[list[Record]], generation: str) -> None:
        self.server, self.logs = server, logs
        self.store = a_store(server, timeout_s=5.0, generation=generation)
        self.rejected: list[Rejected] = []
        self.ingestion = Ingestion(self.store, source(len(logs)), SMALL, LIMITS, self.rejected.extend)
        self.acknowledged: dict[int, int] = {}
        self.durable_bytes = aof(server).stat().st_size

    def all_of(self, random: Random) -> None:
        at, ends = [0] * len(self.logs), [len(log) for log in self.logs]
        while at != ends:
            sizes = [random.randint(0, 12) for _ in at]
            self.ingestion.take(
                list(chain(*(log[a : a + size] for log, a, size in zip(self.logs, at, sizes, strict=True))))
            )
            at = [min(a + size, end) for a, size, end in zip(at, sizes, ends, strict=True)]
            self.advance(monotonic() + 20, wait_ms=random.choice((0, 0, 20)))
        until_s = monotonic() + 20
        while self.ingestion.pending:
            self.advance(until_s, wait_ms=100)

    def advance(self, until_s: float, wait_ms: int = 0) -> None:
        while not self.ingestion.advance(wait_ms):
            assert monotonic() < until_s, self.ingestion.last_failure
        if self.ingestion.acknowledged() != self.acknowledged:
            self.durable_bytes = aof(self.server).stat().st_size
            self.acknowledged = self.ingestion.acknowledged()
            self.ingestion.committed(self.acknowledged)

    def dumped(self) -> bytes:
        self.store.connect()
        facts = self.store.facts()
        self.store.close()
        return dump(facts, newest_day(facts), SMALL)


def aof(server: LocalValkey) -> Path:
    """The append-only file that grows."""
    return max((server.data / "appendonlydir").glob("*.incr.aof"))


def in_memory(logs: list[list[Record]]) -> bytes:
    store, rejected = MemoryStore(SMALL), list[Rejected]()
    ingestion = Ingestion(store, source(len(logs)), SMALL, LIMITS, rejected.extend)
    for log in logs:
        ingestion.take(log)
    assert ingestion.advance()
    facts = store.facts()
    return dump(facts, newest_day(facts), SMALL)


@pytest.mark.parametrize(("appendfsync", "rounds"), [("always", 8), ("everysec", 2)])
def test_killed_between_sends_and_cut_to_what_was_acknowledged(
    new_valkey: NewValkey, appendfsync: str, rounds: int
) -> None:
    server = new_valkey(appendfsync=appendfsync)
    random = Random(4)
    lost_bytes = []
    for round_ in range(rounds):
        logs = make_log(random, LogShape(events=90))
        run = Run(server, logs, f"g{round_}")

        def crash(run: Run = run) -> None:
            server.kill()
            tail = aof(server)
            size = tail.stat().st_size
            keep = random.randint(min(run.durable_bytes, size), size)
            os.truncate(tail, keep)
            lost_bytes.append(size - keep)
            server.start()

        with killed_at(random.randint(4, 60), server, crash):
            run.all_of(random)
        assert run.dumped() == in_memory(logs), f"round {round_}"
    assert len(lost_bytes) >= rounds * 2 // 3
    assert sum(lost > 0 for lost in lost_bytes) >= rounds // 3
