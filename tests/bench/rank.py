"""What `/v1/rank` costs for 100 items: `python tests/bench/rank.py [--json FILE]`.

A real worker over real Kafka (item texts) and Valkey, one request after the other over one kept connection (the cost of
a request), then several connections at once (what one worker carries). Told: p50 and p99 of the whole and of each stage
as the answers say them, with a query nobody asked before (the encoder runs) and with one that was asked.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.champion import Champion, place_champion

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measured_shop import ITEMS, bundles, fill, shop
from serving import Worker, ask
from tiny_models import WORDS

ROOT = Path(__file__).parents[2]


def request(number: int, new_query: bool, items: int) -> bytes:
    """A request as a search engine would send it."""
    random = np.random.default_rng(number)
    query = "red shoe" + (f" {random.choice(WORDS)} {number}" if new_query else "")
    named = [f"item-{item}" for item in random.choice(ITEMS, items, replace=False)]
    return json.dumps({"query": query, "items": named, "client_id": "shopper", "query_id": f"q{number}"}).encode()


async def one_by_one(worker: Worker, rounds: int, new_query: bool, items: int) -> dict[str, Any]:
    """Percentiles of requests that never meet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    took: list[float] = []
    stages: dict[str, list[float]] = {}
    for number in range(rounds + 100):
        body = request(number, new_query, items)
        began = time.perf_counter()
        status, answer = await ask(reader, writer, body)
        took.append((time.perf_counter() - began) * 1000)
        said = json.loads(answer)
        assert status == 200 and said["student"] == "computed" and not said["degraded"], answer
        for stage, value in said["timings_ms"].items():
            stages.setdefault(stage, []).append(value)
    writer.close()
    return {"whole": percentiles(took[100:])} | {name: percentiles(values[100:]) for name, values in stages.items()}


async def at_once(worker: Worker, seconds: float, clients: int, items: int) -> dict[str, Any]:
    """Requests a second with every connection always busy, and what each then waits."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client(index: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        body = request(index, False, items)
        while time.perf_counter() < until:
            began = time.perf_counter()
            status, _ = await ask(reader, writer, body)
            assert status == 200
            took.append((time.perf_counter() - began) * 1000)
        writer.close()

    await asyncio.gather(*(client(index) for index in range(clients)))
    return {"requests_a_second": len(took) / seconds, **percentiles(took)}


def percentiles(values: list[float]) -> dict[str, float]:
    """p50 and p99, milliseconds."""
    return {"p50_ms": round(float(np.percentile(values, 50)), 3), "p99_ms": round(float(np.percentile(values, 99)), 3)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--repository", type=Path, default=ROOT / ".headrace/models", help="whose student is used")
    jars = os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared/kafka/lib"
    parser.add_argument("--jars", type=Path, default=Path(jars))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        folder = Path(name)
        repository = folder / "models"
        if given.repository.is_dir():
            shutil.copytree(given.repository, repository)
        place_champion(repository, Champion(bundles(repository, 1, 1)[0], 1))
        with shop(folder, repository, given.jars, fill, "bench") as worker:
            found: dict[str, Any] = {"items": given.items, "load_average": os.getloadavg()}
            found["asked before"] = asyncio.run(one_by_one(worker, given.rounds, False, given.items))
            found["new query"] = asyncio.run(one_by_one(worker, given.rounds, True, given.items))
            for clients in (4, 16):
                found[f"{clients} at once"] = asyncio.run(at_once(worker, 5.0, clients, given.items))
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
