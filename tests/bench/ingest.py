"""How fast events become state: `python tests/bench/ingest.py [--json FILE]`.

One run, on this machine, over real Kafka and Valkey (append-only file, synced every second), each part in a process of
its own, one after the other on the same topic of clicks:

- `poll`: kafka-python's bare poll; `faust`: a bare faust agent that only decodes; `blind`: poll, decode, and one
  scripted write with a fence for each entity, without searches, sequences, durability or offsets;
- `bulk` and `live`: the drivers, everything on, durability `disk`.

Rates are records a second from the first record to the last one applied, on the wall's clock and by the processor time
of the client's process; ratios are what to compare between machines. Then impressions of 25 items: writes of entities a
second through the whole ingestion, against the same bytes sent raw in the same pipelines.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis
import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from headrace.commands.consumption import consumption, quieten_kafka, source_for, tune_runtime, worker_name
from headrace.commands.recipes import made, redis_settings
from headrace.local.kafka import LocalKafka
from headrace.local.valkey import LocalValkey
from headrace.streams.bulk import BulkDriver, BulkSettings
from headrace.streams.events import Click, EventLimits, Impression, Query, ShopperEvent, decode, encode
from headrace.streams.generations import Generation, Recipe
from headrace.streams.ingestion import Ingestion, Record
from headrace.streams.keys import Keys
from headrace.streams.log_extent import seed_offsets
from headrace.streams.partitioners import partition_of
from headrace.streams.redis_generations import Generations
from headrace.streams.redis_store import RedisStore
from headrace.streams.redis_wire import Command, Wire
from headrace.streams.topics import Topic, admin_of, create_topics, source_of
from headrace.streams.writes import CountWrite, EdgeWrite, ShopperWrite

ROOT = Path(__file__).parents[2]
JARS = Path(os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared" / "kafka" / "lib")
TOPIC, PARTITIONS, NAMESPACE = "search.events.v1", 4, "bench"
SHOPPERS, QUERIES, OPEN = 20_000, 2_000, 300
START_MS = 1_790_000_000_000
IMPRESSIONS_AT_ONCE = 500
PARTS = ("poll", "faust", "blind", "bulk", "live")
BLIND = """
local fence = tonumber(redis.call('HGET', KEYS[1], 'f' .. ARGV[1]) or -1)
local last = fence
for i = 2, #ARGV, 2 do
  local offset = tonumber(ARGV[i])
  if offset > fence then
    redis.call('HINCRBY', KEYS[1], ARGV[i + 1], 1)
    last = math.max(last, offset)
  end
end
redis.call('HSET', KEYS[1], 'f' .. ARGV[1], last)
return 1
"""


def sessions(
    count: int, follow: Callable[[random.Random, str, str, int, int], ShopperEvent], each: int
) -> Iterator[ShopperEvent]:
    """Interleaved sessions: a query (Zipf), then some events that belong to it."""
    chance, live, number, at_ms = random.Random(1), list[list[Any]](), 0, START_MS
    for place in range(count):
        at_ms += 20
        if len(live) < OPEN:
            client, query = f"shopper-{chance.randrange(SHOPPERS)}", min(int(chance.paretovariate(0.9)), QUERIES)
            number += 1
            live.append([client, f"{client}/{number}", query, each])
            yield Query(f"e{place}", client, live[-1][1], at_ms, f"some query {query}")
            continue
        spot = chance.randrange(len(live))
        client, query_id, query, _ = session = live[spot]
        yield follow(chance, client, query_id, query, at_ms)
        session[3] -= 1
        if not session[3]:
            live[spot] = live[-1]
            live.pop()


def item(chance: random.Random, query: int) -> str:
    """An item that a query leads to, some far more often than others."""
    return f"item-{(query * 7 + min(int(chance.paretovariate(0.8)), 100)) % 5_000}"


def click(chance: random.Random, client: str, query_id: str, query: int, at_ms: int) -> Click:
    """A click after a query."""
    name = f"{query_id}/{at_ms}"
    return Click(name, client, query_id, at_ms, item(chance, query), chance.randrange(1, 40))


def impression(chance: random.Random, client: str, query_id: str, query: int, at_ms: int) -> Impression:
    """25 items shown after a query."""
    shown = tuple(f"item-{(query * 7 + place) % 5_000}" for place in chance.sample(range(100), 25))
    return Impression(f"{query_id}/{at_ms}", client, query_id, at_ms, shown, tuple(range(1, 26)))


class Clock:
    """Wall and processor time from the first to the last record."""

    def __init__(self) -> None:
        self.began = (0.0, 0.0)
        self.before = 0

    def start(self, already: int) -> None:
        """The first records are there."""
        if not self.began[0]:
            self.began, self.before = (time.perf_counter(), time.process_time()), already

    def stop(self, records: int, **more: Any) -> dict[str, Any]:
        """What it took."""
        wall, cpu = time.perf_counter() - self.began[0], time.process_time() - self.began[1]
        count = records - self.before
        told = {"records": count, "wall_s": wall, "cpu_s": cpu, "per_s": count / wall, "per_cpu_s": count / cpu}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()} | more


def reader(told: argparse.Namespace, most: int) -> Any:
    """A consumer of the whole topic, outside every group."""
    consumer = KafkaConsumer(
        bootstrap_servers=told.bootstrap,
        enable_auto_commit=False,
        max_poll_records=most,
        max_partition_fetch_bytes=1 << 22,
    )
    consumer.assign([TopicPartition(TOPIC, part) for part in range(PARTITIONS)])
    consumer.seek_to_beginning()
    return consumer


def poll(told: argparse.Namespace) -> dict[str, Any]:
    """kafka-python's bare poll."""
    consumer, clock, seen = reader(told, 4_000), Clock(), 0
    while seen < told.records:
        for records in consumer.poll(timeout_ms=500).values():
            seen += len(records)
        if seen:
            clock.start(seen)
    return clock.stop(seen)


def blind(told: argparse.Namespace) -> dict[str, Any]:
    """Poll, decode, one fenced script an entity and batch."""
    consumer, clock, seen, wire, limits = reader(told, 500), Clock(), 0, Wire(told.redis), EventLimits()
    script = wire.call([("SCRIPT", "LOAD", BLIND)])[0]
    assert isinstance(script, bytes)
    while seen < told.records:
        found: defaultdict[tuple[str, int], list[str | int]] = defaultdict(list)
        for place, records in consumer.poll(timeout_ms=500).items():
            seen += len(records)
            for record in records:
                event = decode(record.value, limits)
                name = event.item_id if isinstance(event, Click) else "query"
                found[f"blind:q:{event.query_id}", place.partition] += (record.offset, name)
                found[f"blind:s:{event.client_id}", place.partition] += (record.offset, name)
        if seen:
            clock.start(seen)
        calls: list[Command] = [("EVALSHA", script, 1, key, part, *said) for (key, part), said in found.items()]
        if calls:
            wire.call(calls)
    return clock.stop(seen)


def bare_faust(told: argparse.Namespace) -> dict[str, Any]:
    """A faust agent that only decodes; settings and loop are those of the live driver."""
    from headrace.streams.live import LiveDriver, LiveSettings, loop_factory

    generation, clock, limits, seen = new_generation(told), Clock(), EventLimits(), 0
    driver = LiveDriver(LiveSettings(told.bootstrap, NAMESPACE), generation, _no_ingestion(), lambda: False)
    seed_offsets(told.bootstrap, driver.group, TOPIC, dict.fromkeys(range(PARTITIONS), 0))

    async def consume(stream: Any) -> None:
        nonlocal seen
        async for events in stream.noack_take(500, within=0.05):
            clock.start(seen := seen + len(events))
            for event in events:
                decode(event.message.value, limits)

    async def run(folder: Path) -> dict[str, Any]:
        app = driver.application(consume, folder, rebalances=False)
        await app.start()
        while seen < told.records:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        done = clock.stop(seen)
        await app.stop()
        return done

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run(Path(folder)))


def _no_ingestion() -> Any:
    class Nothing:
        outcomes: dict[str, int] = {}

    return Nothing()


def new_generation(told: argparse.Namespace) -> Generation:
    """A generation of its own for each part."""
    source = source_of(told.bootstrap, TOPIC)
    generation = made(source, (0,) * source.partitions, Recipe(), "ready")
    with Generations(redis_settings(told.redis, "disk", 1, worker_name()), NAMESPACE) as generations:
        generations.write(generation)
    return generation


def driven(told: argparse.Namespace) -> dict[str, Any]:
    """A driver, everything on."""
    clock, generation = Clock(), new_generation(told)
    pieces = consumption(generation, NAMESPACE, told.bootstrap, redis_settings(told.redis, "disk", 1, worker_name()))
    done: dict[str, Any] = {}

    def look(driver: Any) -> None:
        applied = sum(driver.outcomes.values())
        if driver.taken:
            clock.start(applied)
        if applied >= told.records and not done:
            done.update(clock.stop(applied))

    def stop() -> bool:
        return bool(done) and sum(driver.committed.values()) >= told.records

    driver: Any
    if told.part == "bulk":
        driver = BulkDriver(BulkSettings(told.bootstrap, NAMESPACE), generation, pieces.ingestion, stop, look)
    else:
        from headrace.streams.live import LiveDriver, LiveSettings

        driver = LiveDriver(LiveSettings(told.bootstrap, NAMESPACE), generation, pieces.ingestion, stop, look)
    driver.run()
    pieces.close()
    with Generations(redis_settings(told.redis, "memory", 1, "bench"), NAMESPACE) as generations:
        generations.drop(generation.name)
    return done


class Recorded(RedisStore):
    """A store that keeps the bytes of its writes."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent: list[tuple[bytes, int]] = []
        self.entities = 0

    def apply(self, writes: Any) -> Any:
        """Carries out writes, and keeps them."""
        calls = [self._command(write) for write in writes]
        self.sent.append((b"".join([hiredis.pack_command(call) for call in calls]), len(calls)))  # type: ignore[arg-type]
        self.entities += sum(isinstance(write, CountWrite | EdgeWrite | ShopperWrite) for write in writes)
        return super().apply(writes)


def impressions(told: argparse.Namespace) -> dict[str, Any]:
    """Writes of entities a second: through the ingestion, and the same bytes raw."""
    generation = new_generation(told)
    keys, recipe = Keys(NAMESPACE, generation.name), generation.recipe
    settings = redis_settings(told.redis, "memory", 1, "bench")
    offsets, records = [0] * PARTITIONS, []
    for event in sessions(told.records, impression, 3):
        part = partition_of(event.client_id.encode(), PARTITIONS)
        records.append(Record(part, offsets[part], event.client_id.encode(), encode(event), event.at_ms))
        offsets[part] += 1

    def fill(store: RedisStore) -> float:
        """As the bulk driver does: a micro-batch is decoded while the one before waits for Redis."""
        ingestion = Ingestion(store, source_for(generation), recipe.bounds, recipe.limits, lambda _: None)
        began = time.perf_counter()
        with ThreadPoolExecutor(1) as thread:
            step = thread.submit(ingestion.advance)
            for first in range(0, len(records), IMPRESSIONS_AT_ONCE):
                decoded = ingestion.decoded(records[first : first + IMPRESSIONS_AT_ONCE])
                assert step.result(), ingestion.last_failure
                ingestion.committed(ingestion.acknowledged())
                ingestion.queue(decoded)
                step = thread.submit(ingestion.advance)
            assert step.result(), ingestion.last_failure
        return time.perf_counter() - began

    with Generations(settings, NAMESPACE) as generations:
        recorded = Recorded(keys, recipe.bounds, settings)
        fill(recorded)
        rates = []
        for _ in range(told.rounds):  # one after the other: what else runs here slows both
            generations.drop(generation.name)
            whole_s = fill(RedisStore(keys, recipe.bounds, settings))
            generations.drop(generation.name)
            rates.append((whole_s, raw(told.redis, recorded.sent)))
        generations.drop(generation.name)
    whole_s, raw_s = (sorted(times)[len(rates) // 2] for times in zip(*rates, strict=True))
    return {
        "impressions": len(records),
        "entities": recorded.entities,
        "per_s": round(recorded.entities / whole_s),
        "raw_per_s": round(recorded.entities / raw_s),
        "ratio": round(sorted(raw_s / whole_s for whole_s, raw_s in rates)[len(rates) // 2], 3),
    }


def raw(url: str, sent: list[tuple[bytes, int]]) -> float:
    """Sends pipelines and reads their answers; how long it took."""
    wire = Wire(url)
    began = time.perf_counter()
    for data, count in sent:
        wire._socket.sendall(data)
        wire.receive(count)
    took = time.perf_counter() - began
    wire.close()
    return took


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """Kafka and Valkey: (brokers, URL of the socket)."""
    kafka, valkey = LocalKafka(folder / "k", JARS), LocalValkey(folder / "v")
    kafka.start()
    valkey.start()
    try:
        yield kafka.bootstrap, valkey.socket_url
    finally:
        kafka.kill()
        valkey.kill()


def publish(bootstrap: str, count: int) -> None:
    """A topic of clicks."""
    with admin_of(bootstrap) as admin:
        create_topics(admin, [Topic(TOPIC, PARTITIONS, 1, {"retention.ms": "-1"})])
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, batch_size=1 << 18)
    for event in sessions(count, click, 6):
        producer.send(TOPIC, encode(event), key=event.client_id.encode(), timestamp_ms=event.at_ms)
    producer.close()


def measured(part: str, told: argparse.Namespace, bootstrap: str, redis: str) -> dict[str, Any]:
    """One part in a process of its own."""
    where = ("--bootstrap", bootstrap, "--redis", redis, "--rounds", str(told.rounds))
    records = told.impressions if part == "impressions" else told.records
    command = [sys.executable, __file__, "--part", part, *where, "--records", str(records)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{part}:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    print(f"{part}: {found}", flush=True)
    return found


def main() -> None:
    """Everything, or one part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=200_000, help="clicks")
    parser.add_argument("--impressions", type=int, default=6_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    for name in ("part", "bootstrap", "redis"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part:
        quieten_kafka()
        tune_runtime()
        parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
            "poll": poll,
            "blind": blind,
            "faust": bare_faust,
            "bulk": driven,
            "live": driven,
            "impressions": impressions,
        }
        print(json.dumps(parts[told.part](told)))
        return
    with tempfile.TemporaryDirectory(prefix="hr-") as name, servers(Path(name)) as (bootstrap, redis):
        publish(bootstrap, told.records)
        found = {part: measured(part, told, bootstrap, redis) for part in (*PARTS, "impressions")}
    for clock in ("per_s", "per_cpu_s"):
        rates = {part: found[part][clock] for part in PARTS}
        found[f"ratios_{clock}"] = {
            "live / faust": round(rates["live"] / rates["faust"], 3),
            "bulk / poll": round(rates["bulk"] / rates["poll"], 3),
            "bulk / blind": round(rates["bulk"] / rates["blind"], 3),
        }
    for clock in ("per_s", "per_cpu_s"):
        print(f"{clock}: {found[f'ratios_{clock}']}")
    print(f"impressions / raw: {found['impressions']['ratio']}")
    if told.json:
        told.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
