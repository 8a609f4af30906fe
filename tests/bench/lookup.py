"""What one lookup for 100 items costs: `python tests/bench/lookup.py [--json FILE]`.

State of a busy shop: the query has 1,000 items with 30 days each, every item is known for 5 queries over 10 days, the
shopper has 6,400 records (160 kB). Against it: redis-py's asyncio client with the same commands and the same decoding;
and what a student that reads neighbours asks for more: all edges of the query, of which every one passes the rule
("whole query"), and from them and the items' copies what is told beside each pair, with its hash ("neighbours", every
text known). Told are times on the wall and of this process's CPU, which others on the machine do not lengthen.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import redis.asyncio
import uvloop

from headrace.local.valkey import LocalValkey
from headrace.online.found import Found, found_of
from headrace.online.lookup import RedisLookup
from headrace.online.pair_neighbours import near_of, told_of
from headrace.online.redis_pipe import RedisPipe
from headrace.streams import reading
from headrace.streams.identity import query_hash
from headrace.streams.neighbours import NeighbourRule

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measured_shop import DAY, KEYS, KNOWN_ITEMS, NOW_MS, fill

TITLES = [f"Running shoe for the road, light and soft, model {number}, red with white laces" for number in range(5)]
TEXTS = {number: f"red running shoe size {number}" for number in range(5 * len(KNOWN_ITEMS))}


async def timed(call: Callable[[], Awaitable[Any]], rounds: int) -> list[tuple[float, float]]:
    """The milliseconds of each call, one after the other, on the wall and of the CPU."""
    took = []
    for round_ in range(rounds + 200):
        began, began_cpu = time.perf_counter(), time.process_time()
        await call()
        if round_ >= 200:
            took.append(((time.perf_counter() - began) * 1000, (time.process_time() - began_cpu) * 1000))
    return took


async def measure(url: str, rounds: int, items: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of each way, and its CPU's p50; milliseconds."""
    question = reading.Question(query_hash("red shoe"), "shopper", KNOWN_ITEMS[:items])
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

    async def whole() -> Found:
        found = await lookup.read(replace(question, whole_query=True), NOW_MS)
        assert len(found.query_edges) == 30 * len(KNOWN_ITEMS)
        return found

    async def neighbours() -> None:
        found = await whole()
        near = near_of(found, items, NeighbourRule())
        assert len(found.listed(KNOWN_ITEMS[:items]).query_edges) == 30 * items
        told = told_of(near, TITLES, TEXTS)
        assert len({one.hash for one in told}) == items

    async def only_wire() -> None:
        await pipe.call(reading.commands(KEYS, question))

    async def ping() -> None:
        await pipe.call([("PING",)])

    ways = {"lookup": ours, "whole query": whole, "neighbours": neighbours}
    ways |= {"wire alone": only_wire, "redis.asyncio": theirs, "ping": ping}
    gc.collect()
    gc.freeze()
    result = {}
    for name, way in ways.items():
        took = await timed(way, rounds)
        wall, cpu = np.array(took).T
        result[name] = {"p50_ms": float(np.percentile(wall, 50)), "p99_ms": float(np.percentile(wall, 99))}
        result[name]["cpu_p50_ms"] = float(np.percentile(cpu, 50))
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
            wall = f"p50 {numbers['p50_ms']:.2f} ms  p99 {numbers['p99_ms']:.2f} ms"
            print(f"{transport:5} {name:14} {wall}  CPU p50 {numbers['cpu_p50_ms']:.2f} ms")
    if given.json:
        given.json.write_text(json.dumps({"items": given.items, **result}, indent=1))


if __name__ == "__main__":
    main()
