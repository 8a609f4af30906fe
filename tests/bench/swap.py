"""What requests notice of a model that changes: `python tests/bench/swap.py [--swaps 100 --students 10] [--json FILE]`.

A real worker over real Kafka (item texts) and Valkey, requests for 100 items at a steady rate (open loop: a late answer
delays none of the others), half of them with a query nobody asked before. The pointer moves at a steady pace; most
swaps bring a new head, some a new student part too. Told: requests that failed, p99 of those due within a second of a
swap (from the pointer's move to a second after the first answer of the new model) over p99 of the others, with an
interval by bootstrap over swaps.
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
from numpy.typing import NDArray

from headrace.models.champion import Champion, place_champion

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measured_shop import ITEMS, bundles, shop
from serving import Load, Worker, load
from tiny_models import WORDS

ROOT = Path(__file__).parents[2]
NEAR_S = 1.0


def body(number: int) -> bytes:
    """A request for 100 items; every second one asks what nobody has asked."""
    random = np.random.default_rng(number)
    query = f"{random.choice(WORDS)} {random.choice(WORDS)}" + (f" {number}" if number % 2 else "")
    items = [f"item-{item}" for item in random.integers(0, ITEMS, 100)]
    return json.dumps(
        {"query": query, "items": items, "client_id": f"c{number % 500}", "query_id": f"q{number}"}
    ).encode()


async def run(
    worker: Worker, repository: Path, versions: list[str], every_s: float, rate: float
) -> tuple[Load, list[tuple[float, float]]]:
    """The load, and for each swap the times of its pointer's move and of the first answer of the new model."""
    ended = False
    prepared = [body(number) for number in range(int(rate * every_s * (len(versions) + 4)) + 200)]
    task = asyncio.create_task(load(worker.port, lambda n: prepared[n % len(prepared)], rate, 16, lambda: ended))
    await asyncio.sleep(every_s)
    moved: list[tuple[float, float]] = []
    for version in versions:
        began = time.monotonic()
        await asyncio.to_thread(place_champion, repository, Champion(version, 1))
        while (await asyncio.to_thread(worker.ready))["model"] != version:
            if time.monotonic() - began > 300:
                raise SystemExit(f"{version} never served:\n{worker.tail()}")
            await asyncio.sleep(0.05)
        moved.append((began, time.monotonic()))
        await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))
    await asyncio.sleep(every_s)
    ended = True
    return await task, moved


def near_swaps(began: NDArray[np.float64], moved: list[tuple[float, float]]) -> NDArray[np.bool_]:
    """Which requests were due while a model was loaded or within a second of its exchange."""
    near = np.zeros(len(began), dtype=np.bool_)
    for start, seen in moved:
        near |= (began >= start) & (began <= seen + NEAR_S)
    return near


def ratio(load_: Load, moved: list[tuple[float, float]], rounds: int = 1_000) -> dict[str, Any]:
    """p99 near a swap, p99 otherwise, their ratio with a 95 % interval; swaps are drawn, not requests."""
    began, took = np.array(load_.began_s), np.array(load_.took_s) * 1000
    near = near_swaps(began, moved)
    cycle = np.searchsorted(np.array([start for start, _ in moved]), began, side="right")
    groups = [np.flatnonzero(cycle == number) for number in range(1, len(moved) + 1)]
    random = np.random.default_rng(1)
    drawn = []
    for _ in range(rounds):
        rows = np.concatenate([groups[number] for number in random.integers(0, len(groups), len(groups))])
        inside, outside = took[rows[near[rows]]], took[rows[~near[rows]]]
        if len(inside) and len(outside):
            drawn.append(np.percentile(inside, 99) / np.percentile(outside, 99))
    inside, outside = took[near], took[~near]
    return {
        "near": {"requests": len(inside), "p50_ms": pct(inside, 50), "p99_ms": pct(inside, 99)},
        "otherwise": {"requests": len(outside), "p50_ms": pct(outside, 50), "p99_ms": pct(outside, 99)},
        "p99_ratio": pct(inside, 99) / pct(outside, 99),
        "p99_ratio_95": [float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))],
    }


def pct(values: NDArray[np.float64], share: float) -> float:
    """A percentile, milliseconds."""
    return float(np.percentile(values, share))


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed."""
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        folder = Path(name)
        repository = folder / "models"
        if given.repository.is_dir():
            shutil.copytree(given.repository, repository)
        versions = bundles(repository, given.swaps, given.students)
        place_champion(repository, Champion(versions[0], 1))
        with shop(folder, repository, given.jars) as worker:
            load_, moved = asyncio.run(run(worker, repository, versions[1:], given.every_s, given.rate))
            swaps = worker.metric('headrace_model_swap_total{result="ok"}') - 1
            memory = worker.metric("process_resident_memory_bytes")
    return {
        "swaps": int(swaps),
        "new_students": given.students,
        "requests": len(load_.took_s),
        "failed": len(load_.failed),
        "failures": load_.failed[:5],
        "rate": given.rate,
        "every_s": given.every_s,
        "resident_mib": memory / 2**20,
        "swap_ms": [round(1000 * (seen - start)) for start, seen in moved],
        "load_average": os.getloadavg(),
        **ratio(load_, moved),
    }


def main() -> None:
    """Prints the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--students", type=int, default=10, help="swaps that bring a new student part")
    parser.add_argument("--every-s", type=float, default=4.0, help="seconds from one swap to the next")
    parser.add_argument("--rate", type=float, default=30.0, help="requests a second")
    parser.add_argument("--repository", type=Path, default=ROOT / ".headrace/models", help="whose student is used")
    jars = os.environ.get("HEADRACE_KAFKA_JARS") or ROOT.parent / "shared/kafka/lib"
    parser.add_argument("--jars", type=Path, default=Path(jars))
    parser.add_argument("--json", type=Path)
    found = measure(given := parser.parse_args())
    print(json.dumps({name: value for name, value in found.items() if name != "swap_ms"}, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
