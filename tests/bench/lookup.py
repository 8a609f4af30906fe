"""What one lookup for 100 items costs: `python tests/bench/lookup.py [--json FILE]`.

State of a busy shop: the query has 1,000 items with 30 days each, every item is known for 5 queries over 10 days, the
shopper has 6,400 records (160 kB). Against it: redis-py's asyncio client with the same commands and the same decoding.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import redis.asyncio
import uvloop

from headrace.local.valkey import LocalValkey
from headrace.online.lookup import RedisLookup, found_of
from headrace.online.redis_pipe import RedisPipe
from headrace.streams import reading, sequences
from headrace.streams.identity import query_hash
from headrace.streams.item_copies import CODEC
from headrace.streams.keys import Keys, shopper_name
from headrace.streams.neighbours import pack_edge
from headrace.streams.redis_wire import Wire
from headrace.streams.searches import Shopper, encode_shopper

DAY = 20_000
NOW_MS = DAY * 86_400_000 + 5_000
ITEMS = tuple(f"item-{number}" for number in range(1_000))
KEYS = Keys("bench", "g1")


def fill(url: str) -> None:
    """Writes the state, in the bytes that the store would have written."""
    random = np.random.default_rng(1)
    wire = Wire(url)
    edge = pack_edge([(DAY - 29 + day, 40, 9) for day in range(30)])
    wire.call([("SET", KEYS.alias, KEYS.generation)])
    wire.call([("HSET", KEYS.query(query_hash("red shoe")), item, edge) for item in ITEMS])
    wire.call([("HSET", KEYS.query(query_hash("red shoe")), b"\0f", b"source-a" + (77).to_bytes(8, "little"))])
    rows = np.zeros(50, dtype=[("query", "<u8"), ("day", "<u2"), ("exposures", "<u4"), ("clicks", "<u4")])
    rows["query"], rows["day"] = np.repeat(np.arange(5), 10), np.tile(np.arange(DAY - 9, DAY + 1), 5)
    rows["exposures"], rows["clicks"] = 50, 12
    wire.call([("SET", KEYS.item(item), bytes((CODEC, 0)) + rows.tobytes()) for item in ITEMS])
    log = np.zeros(6_400, dtype=sequences.RECORD)
    log["at_ms"] = NOW_MS - np.arange(6_400)[::-1] * 60_000
    log["item"], log["query"] = random.integers(0, 2**63, 6_400), random.integers(0, 2**63, 6_400)
    log["action"] = 1
    shopper = shopper_name("shopper")
    wire.call([("SET", KEYS.log(shopper), log.tobytes())])
    wire.call([("SET", KEYS.shopper(shopper), encode_shopper(Shopper(fence=5, searches=[], kept=[])))])
    wire.close()


async def timed(call: Callable[[], Awaitable[Any]], rounds: int) -> list[float]:
    """The milliseconds of each call, one after the other."""
    took = []
    for round_ in range(rounds + 200):
        began = time.perf_counter()
        await call()
        if round_ >= 200:
            took.append((time.perf_counter() - began) * 1000)
    return took


async def measure(url: str, rounds: int, items: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of each way, milliseconds."""
    question = reading.Question(query_hash("red shoe"), "shopper", ITEMS[:items])
    pipe = RedisPipe(url)
    lookup = RedisLookup(pipe, "bench")
    client = redis.asyncio.Redis.from_url(url)

    async def ours() -> None:
        found = await lookup.read(question, NOW_MS)
        assert len(found.sequence) == 6_400 and len(found.query_edges) == 30 * items, found

    async def theirs() -> None:
        async with client.pipeline(transaction=False) as pipeline:
            for command in reading.commands(KEYS, question):
                pipeline.execute_command(*command)
            replies = await pipeline.execute()
        found_of(reading.answer(question, replies, 10_000), DAY, 30)

    async def only_wire() -> None:
        await pipe.call(reading.commands(KEYS, question))

    async def ping() -> None:
        await pipe.call([("PING",)])

    ways = {"lookup": ours, "wire alone": only_wire, "redis.asyncio": theirs, "ping": ping}
    gc.collect()
    gc.freeze()
    result = {}
    for name, way in ways.items():
        took = await timed(way, rounds)
        result[name] = {"p50_ms": float(np.percentile(took, 50)), "p99_ms": float(np.percentile(took, 99))}
    await lookup.close()
    await client.aclose()
    return result


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        server = LocalValkey(Path(folder))
        server.start()
        try:
            fill(server.socket_url)
            result = {}
            for transport, url in (("unix", server.socket_url), ("tcp", server.url)):
                result[transport] = uvloop.run(measure(url, given.rounds, given.items))
        finally:
            server.kill()
    for transport, ways in result.items():
        for name, numbers in ways.items():
            print(f"{transport:5} {name:14} p50 {numbers['p50_ms']:.2f} ms  p99 {numbers['p99_ms']:.2f} ms")
    if given.json:
        given.json.write_text(json.dumps({"items": given.items, **result}, indent=1))


if __name__ == "__main__":
    main()
