"""The promise of ``store`` on Redis or Valkey: one script call an entity and micro-batch, fences inside the scripts.

Needs Redis >= 7.2 or Valkey for durability ``disk`` and ``replicas`` (WAITAOF), Redis >= 6.2 for ``memory``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from time import monotonic, sleep
from typing import Final, Literal, assert_never

from headrace import StoreUnavailable
from headrace.streams import item_copies, neighbours
from headrace.streams.dump import EdgeFact, Facts, ShopperFact
from headrace.streams.keys import Keys
from headrace.streams.neighbours import HEAD_BYTES, ROW_BYTES
from headrace.streams.redis_wire import Command, Wire
from headrace.streams.searches import StateBounds, decode_shopper
from headrace.streams.store import Stored
from headrace.streams.writes import CountWrite, Edge, EdgeWrite, Reply, ShopperWrite, TextWrite, Write

Durability = Literal["memory", "disk", "replicas"]

GARBAGE_DAYS: Final = 8
"""How long a key outlives its window without a write: longer than lateness, so that no read ever depends on it."""

_DAY_MS: Final = 86_400_000
_MARK_TTL_MS: Final = 86_400_000
_CHUNK: Final = 1_000
_SYNC_S: Final = 1.1
"""Longer than ``appendfsync everysec`` leaves between two syncs, by more than a server's clock is coarse."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How a worker uses Redis.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        durability: what must be true of a write before its offset may be acknowledged: ``memory`` (answered), ``disk``
            (in the append-only file, synced), ``replicas`` (synced there too).
        replicas: how many of them, for ``replicas``.
        worker: names this worker's mark.
        timeout_s: how long Redis may take to answer before the connection counts as lost.
    """

    url: str = "redis://127.0.0.1:6379"
    durability: Durability = "disk"
    replicas: int = 1
    worker: str = "consume"
    timeout_s: float = 10.0


class RedisStore:
    """State of one generation in Redis, over two connections: one for the work, one that waits for durability."""

    def __init__(self, keys: Keys, bounds: StateBounds, settings: RedisSettings) -> None:
        self.keys = keys
        self.bounds = bounds
        self.settings = settings
        self.session = 0
        self._wire: Wire | None = None
        self._durability: DurabilityWait | None = None
        self._scripts = {name: _script(name) for name in ("count", "edge", "shopper")}
        self._ttl_ms = (bounds.window_days + GARBAGE_DAYS) * _DAY_MS
        limits = (bounds.floor, bounds.window_days, self._ttl_ms, bounds.query_items)
        self._count_head = tuple(str(limit).encode() for limit in limits)
        self._edge_head = (str(self._ttl_ms).encode(), str(bounds.item_bytes).encode())

    def connect(self) -> None:
        """Drops both connections and opens new ones: a new session.

        Raises:
            StoreUnavailable: Redis cannot be reached, or its settings cannot keep the promise asked for.
        """
        self.close()
        wire = Wire(self.settings.url, self.settings.timeout_s)
        try:
            wire.call([("SCRIPT", "LOAD", source) for source, _ in self._scripts.values()])
            sync_s = check_settings(wire, self.settings.durability)
            if self.settings.durability != "memory":
                waiting = Wire(self.settings.url, self.settings.timeout_s)
                self._durability = DurabilityWait(waiting, self.keys, self.settings, sync_s)
        except StoreUnavailable:
            wire.close()  # one connection without the other would call every mark durable
            raise
        self._wire = wire
        self.session += 1

    def close(self) -> None:
        """Ends both connections."""
        for connection in (self._wire, self._durability):
            if connection is not None:
                connection.close()
        self._wire = self._durability = None

    def read(self, shoppers: Sequence[bytes], logs: bool = False) -> list[Stored]:
        """What lies under some shoppers' names."""
        commands: list[Command] = [("GET", self.keys.shopper(name)) for name in shoppers]
        if logs:
            commands += [("GET", self.keys.log(name)) for name in shoppers]
        replies = self._open().call(commands)
        heads, sequences = replies[: len(shoppers)], replies[len(shoppers) :] or [b""] * len(shoppers)
        return [
            Stored(_bytes_or_none(head), _bytes_or_none(log) or b"") for head, log in zip(heads, sequences, strict=True)
        ]

    def apply(self, writes: Sequence[Write]) -> list[Reply]:
        """Carries out writes in one pipeline, answers in their order."""
        replies = self._open().call(self._command(write) for write in writes)
        return [_answer(write, reply) for write, reply in zip(writes, replies, strict=True)]

    def mark(self) -> int:
        """Asks that everything answered so far become durable."""
        self._open()
        if self._durability is None:
            return 0
        return self._durability.mark()

    def settled(self, wait_ms: int = 0) -> int:
        """The largest mark of this session that is durable."""
        self._open()
        return 0 if self._durability is None else self._durability.settled(wait_ms)

    def facts(self) -> Facts:
        """Everything a dump is made of; reads the whole generation."""
        return read_facts(self._open(), self.keys)

    def _open(self) -> Wire:
        if self._wire is None:
            raise StoreUnavailable("there is no connection to Redis: connect first")
        return self._wire

    def _command(self, write: Write) -> Command:
        match write:
            case CountWrite():
                arguments: list[bytes | str | int] = []
                for increment in write.increments:
                    items = increment.item_ids
                    arguments += (
                        increment.offset,
                        increment.day,
                        increment.exposures,
                        increment.clicks,
                        len(items),
                        *items,
                    )
                sha = self._scripts["count"][1]
                return ("EVALSHA", sha, 1, self.keys.query(write.query), write.source, *self._count_head, *arguments)
            case EdgeWrite():
                arguments = []
                for query, edge in write.edges:
                    name = query.to_bytes(8, "little")
                    day = int.from_bytes(edge[-ROW_BYTES : 2 - ROW_BYTES], "little")
                    total = int.from_bytes(edge[1:5], "little") + int.from_bytes(edge[5:HEAD_BYTES], "little")
                    arguments += (name, day, total, item_copies.pack_rows(name, edge))
                return (
                    "EVALSHA",
                    self._scripts["edge"][1],
                    1,
                    self.keys.item(write.item_id),
                    *self._edge_head,
                    *arguments,
                )
            case TextWrite():
                return ("SET", self.keys.text(write.hash), write.text, "NX")
            case ShopperWrite():
                keys = (self.keys.shopper(write.shopper), self.keys.log(write.shopper))
                flag = b"1" if write.replace else b"0"
                arguments = [write.expected, write.head, write.records, flag]
                return ("EVALSHA", self._scripts["shopper"][1], 2, *keys, *arguments)
            case _:
                assert_never(write)


class DurabilityWait:
    """Waits, on a connection of its own, until what was answered on the other one is durable.

    A mark is written after the answers and WAITAOF is asked on the same connection: it covers that connection's own
    writes only, and since the append-only file is one sequence, every write answered before the mark with it.

    With ``appendfsync everysec`` one answer proves nothing: Redis 7.4 and Valkey up to 9.1.2 give it within 100 ms and
    before any sync (redis/redis#13793; docs/decisions/0010). Two do: a server that answers another mark, written longer
    after the first answer than it waits between two syncs, has begun and ended a sync in between, and what the first
    mark covers was in the file by then.
    """

    def __init__(self, wire: Wire, keys: Keys, settings: RedisSettings, sync_s: float) -> None:
        self._wire = wire
        self._key = keys.mark(settings.worker)
        self._replicas = settings.replicas if settings.durability == "replicas" else 0
        self._timeout_ms = int(settings.timeout_s * 500)
        self._sync_s = sync_s
        self._asked = self._waiting = self._answered = self._durable = 0
        self._again_s = 0.0
        self._answers: list[object] = []

    def mark(self) -> int:
        """The number of a new mark; sent at once unless an earlier one is still awaited."""
        self._asked += 1
        self._send_if_due()
        return self._asked

    def settled(self, wait_ms: int) -> int:
        """The largest durable mark; waits up to wait_ms for the newest one."""
        until = monotonic() + wait_ms / 1000
        while self._durable < self._asked:
            self._send_if_due()
            if self._waiting:
                if not self._wire.ready(max(0, int((until - monotonic()) * 1000))):
                    break
                self._answers += self._wire.receive(1)  # one by one: the mark's answer comes long before the wait's
                if len(self._answers) == 2:
                    self._take(*self._answers)
                    self._answers = []
                continue
            if self._again_s >= until:
                break
            sleep(max(0.0, self._again_s - monotonic()))
        return self._durable

    def close(self) -> None:
        """Ends the connection."""
        self._wire.close()

    def _take(self, written: object, answer: object) -> None:
        if isinstance(written, Exception) or not isinstance(answer, list):
            raise StoreUnavailable(f"Redis does not say what is durable: {written!r}, {answer!r}")
        mark, self._waiting = self._waiting, 0
        if answer[0] < 1:
            return
        if answer[1] < self._replicas:
            raise StoreUnavailable(
                f"{answer[1]} of {self._replicas} replicas have synced within {self._timeout_ms / 1000:g} s: are they"
                " connected, and do they have appendonly yes?"
            )
        self._durable = self._answered if self._sync_s else mark
        self._answered = mark
        self._again_s = monotonic() + self._sync_s

    def _send_if_due(self) -> None:
        if self._waiting or self._durable >= self._asked or monotonic() < self._again_s:
            return
        self._waiting = self._asked
        self._wire.send(
            [("SET", self._key, self._asked, "PX", _MARK_TTL_MS), ("WAITAOF", 1, self._replicas, self._timeout_ms)]
        )


def check_settings(wire: Wire, durability: Durability) -> float:
    """Refuses a Redis that would drop state or cannot be as durable as asked; silent where CONFIG is not allowed.

    Returns:
        Longer than the server waits between two syncs, seconds; 0 when it syncs before it answers.

    Raises:
        StoreUnavailable: with what to change.
    """
    asked = ("maxmemory-policy", "appendonly", "appendfsync")
    wire.send([*(("CONFIG", "GET", name) for name in asked), ("INFO", "server")])
    policy, appendonly, appendfsync, info = wire.receive(4)
    if isinstance(policy, list) and policy and policy[1] != b"noeviction":
        raise StoreUnavailable(
            f"maxmemory-policy is {policy[1].decode()}: Redis would drop state in silence; set it to noeviction"
        )
    if durability == "memory":
        return 0.0
    if isinstance(appendonly, list) and appendonly and appendonly[1] != b"yes":
        raise StoreUnavailable(
            f"durability {durability} needs Redis' append-only file: set appendonly yes, or ask for durability memory"
        )
    version = _redis_version(info)
    if version and version < (7, 2):
        raise StoreUnavailable(
            f"durability {durability} needs Redis >= 7.2, not {version[0]}.{version[1]}: upgrade, or ask for memory"
        )
    policy_of_sync = appendfsync[1] if isinstance(appendfsync, list) and appendfsync else b"everysec"
    if policy_of_sync == b"no":
        raise StoreUnavailable(
            f"durability {durability} needs a Redis that syncs: set appendfsync everysec or always, or ask for memory"
        )
    return 0.0 if policy_of_sync == b"always" else _SYNC_S


def read_facts(wire: Wire, keys: Keys) -> Facts:
    """Everything a dump of a generation is made of."""
    facts = Facts()
    items: dict[bytes, bytes] = {}
    for kind, key, value in _generation(wire, keys):
        name = key[key.index(b"{") + 1 : -1]
        if kind == b"q" and isinstance(value, list):
            facts.edges += _edges(int(name, 16), value)
        elif kind == b"i" and isinstance(value, bytes):
            items[name] = value
        elif kind == b"t" and isinstance(value, bytes):
            facts.texts[int(name, 16)] = value.decode()
        elif kind == b"s" and isinstance(value, bytes):
            log = wire.call([("GET", keys.log(bytes.fromhex(name.decode())))])[0]
            shopper = bytes.fromhex(name.decode())
            facts.shoppers.append(ShopperFact(shopper, decode_shopper(value), _bytes_or_none(log) or b""))
    names = {keys.item(fact.item_id): fact.item_id for fact in facts.edges}
    for name, value in items.items():
        item_id = names.get(b"%si:{%s}" % (keys.stem.encode(), name), f"?{name.decode()}")
        if item_copies.is_capped(value):
            facts.capped_items.add(item_id)
        facts.copies += [EdgeFact(query, item_id, tuple(rows), False) for query, rows in item_copies.copies(value)]
    return facts


def _edges(query: int, fields: list[bytes]) -> Iterator[EdgeFact]:
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    capped = b"\0c" in pairs
    for item, edge in pairs.items():
        if item[0] != 0:
            yield EdgeFact(query, item.decode(), tuple(neighbours.unpack_edge(edge)), capped)


def _generation(wire: Wire, keys: Keys) -> Iterator[tuple[bytes, bytes, object]]:
    """(kind, key, value) of every entity of a generation; sequences are read with their shopper."""
    cursor, stem = b"0", keys.stem.encode()
    reads = {b"q": "HGETALL", b"i": "GET", b"t": "GET", b"s": "GET"}
    seen: set[bytes] = set()
    while True:
        answer = wire.call([("SCAN", cursor, "MATCH", stem + b"[qits]:*", "COUNT", _CHUNK)])[0]
        assert isinstance(answer, list)
        cursor, found = answer
        fresh = [key for key in found if key not in seen]
        seen.update(fresh)
        kinds = [key[len(stem) : len(stem) + 1] for key in fresh]
        values = wire.call([(reads[kind], key) for kind, key in zip(kinds, fresh, strict=True)])
        yield from zip(kinds, fresh, values, strict=True)
        if cursor == b"0":
            return


def _answer(write: Write, reply: object) -> Reply:
    if isinstance(write, CountWrite) and isinstance(reply, list):
        pairs: Iterator[bytes] = iter(reply)
        edges: list[Edge] = [(item.decode(), edge) for item, edge in zip(pairs, pairs, strict=True)]
        return edges
    return reply == 1 if isinstance(write, ShopperWrite) else True


def _bytes_or_none(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _redis_version(info: object) -> tuple[int, int] | None:
    """(major, minor) of a Redis; None for a Valkey, whose every version has WAITAOF, and where INFO is not allowed."""
    if not isinstance(info, bytes) or b"valkey_version" in info or b"redis_version:" not in info:
        return None
    major, minor, *_ = info.split(b"redis_version:")[1].split(b"\r\n")[0].split(b".")
    return int(major), int(minor)


@lru_cache
def _script(name: str) -> tuple[bytes, str]:
    source = files("headrace.streams").joinpath(f"{name}.lua").read_bytes()
    return source, sha1(source, usedforsecurity=False).hexdigest()
