"""Whether memory grows with the number of swaps: `python tests/bench/swap_memory.py [--json FILE]`.

The worker's own watcher in this process: 1,000 swaps to another head, then 40 swaps to another student part (the same
weights under another name), each with a request that holds the model before across the swap. Told: resident memory
after a tenth of them and at the end, and the slope between.
"""

import argparse
import gc
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.models.champion import Champion, place_champion
from headrace.online.catalogue import Catalogue
from headrace.online.loading import Loader, LoadingConfig, Watcher
from headrace.online.meters import new_meters
from headrace.online.registry import Registry
from headrace.online.scorer import Encoder
from headrace.online.worker import Model
from headrace.streams.events import ItemChanged

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from measured_shop import bundles, titles
from serving import resident_bytes

ROOT = Path(__file__).parents[2]


def swap(watcher: Watcher, repository: Path, versions: Sequence[str], swaps: int) -> dict[str, Any]:
    """Resident memory along the way, MiB."""
    sizes = []
    for number in range(swaps):
        place_champion(repository, Champion(versions[number % len(versions)], 1))
        with watcher.registry.acquire():
            assert watcher.look(), watcher.refusal
        watcher.look()
        if number % max(1, swaps // 50) == 0:
            gc.collect()
            sizes.append((number, resident_bytes() / 2**20))
    settled = np.array(sizes[len(sizes) // 10 :])
    return {
        "swaps": swaps,
        "first_mib": round(float(settled[0, 1]), 1),
        "last_mib": round(float(settled[-1, 1]), 1),
        "kib_a_swap": round(float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0] * 1024), 2),
    }


def main() -> None:
    """Prints the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=1_000)
    parser.add_argument("--students", type=int, default=40)
    parser.add_argument("--repository", type=Path, default=ROOT / ".headrace/models", help="whose student is used")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hr-") as name:
        repository = Path(name) / "models"
        if given.repository.is_dir():
            shutil.copytree(given.repository, repository)
        heads, students = bundles(repository, 20, 1)[1:19], bundles(repository, 6, 6)
        catalogue = Catalogue()
        catalogue.apply((ItemChanged(str(n), 1, title, "", {}, None), None) for n, title in enumerate(titles(64)))
        registry: Registry[Model] = Registry()
        watcher = Watcher(registry, Loader(LoadingConfig(repository), Encoder, catalogue), new_meters())
        place_champion(repository, Champion(students[0], 1))
        watcher.look()
        found = {
            "heads": swap(watcher, repository, heads, given.heads),
            "students": swap(watcher, repository, students, given.students),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        watcher.close()
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
