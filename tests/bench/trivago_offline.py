"""The trivago log, offline: what the head's quality would be, and which learner to choose.

    python tests/bench/trivago_offline.py [--choose] [--json FILE] [--data FOLDER]

Every list is scored before its click, from what the state held at that moment, by the head that was published last. The
learner gets an example when its 30-minute click window has ripened in event time, a head is published every 250
examples. The first UTC day is for choosing (``--choose``: losses, optimisers, rates, and features left out), the
second for reporting.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.models.baselines import NAMES, Baselines
from headrace.models.calibration import calibration_error
from headrace.models.feature_names import FEATURES, INDEX
from headrace.models.features import matrix
from headrace.models.head import CROSSES, Head, Learner, Settings
from headrace.models.metrics import bootstrap, log_loss, paired_bootstrap, reciprocal_rank
from headrace.models.trivago import ClickedOut, Searched, Step, read, steps
from headrace.streams.identity import DAY_MS

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
from trivago_state import readings

WINDOW_MS = 30 * 60_000
EVERY = 250
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """One list whose clicked item is in it."""

    session: str
    at_ms: int
    features: NDArray[np.float32]
    row: int

    @property
    def clicked(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.features)) == self.row)


def examples(rows: Sequence[Step], item_floor: int) -> tuple[list[Example], list[float]]:
    """Every list with its features as they would have been served, and how long each matrix took, seconds."""
    found, took = [], []
    for step, reading in readings(rows, item_floor):
        if step.item not in step.items:
            continue
        began = time.perf_counter()
        features = matrix(reading)
        took.append(time.perf_counter() - began)
        found.append(Example(step.session, step.at_ms, features, step.items.index(step.item)))
    return found, took


def progressive(lists: Sequence[Example], learner: Learner, delayed: bool = True) -> Iterator[tuple[Example, Head]]:
    """Each list with the head that would have scored it: learned from lists that were ripe, published in rounds."""
    head, learned = learner.head(), 0
    for place, example in enumerate(lists):
        while learned < place and (not delayed or lists[learned].at_ms + WINDOW_MS <= example.at_ms):
            learner.learn(lists[learned].features, lists[learned].clicked)
            learned += 1
            if not delayed or learned % EVERY == 0:
                head = learner.head()
        yield example, head


def ranks(lists: Sequence[Example], learner: Learner, delayed: bool = True) -> Doubles:
    """Reciprocal ranks, one a list."""
    return np.array(
        [reciprocal_rank(head.margin(one.features), one.row) for one, head in progressive(lists, learner, delayed)]
    )


def baseline_ranks(rows: Sequence[Step]) -> dict[str, Doubles]:
    """Reciprocal ranks of the baselines on the same lists; `very last touched` counts only if that item is listed."""
    baselines, newest = Baselines(), dict[str, str]()
    found: dict[str, list[float]] = {name: [] for name in (*NAMES, "very last touched")}
    for step in rows:
        if isinstance(step, Searched):
            continue
        if isinstance(step, ClickedOut) and step.item in step.items:
            row = step.items.index(step.item)
            scored = baselines.scores(step.session, step.items, step.prices)
            last = np.array([item == newest.get(step.session) for item in step.items])
            scored["very last touched"] = np.where(last, 1.0, -np.arange(len(last), dtype=np.float64))
            for name, scores in scored.items():
                found[name].append(reciprocal_rank(scores, row))
        baselines.see(step.session, step.item, isinstance(step, ClickedOut))
        newest[step.session] = step.item
    return {name: np.array(values) for name, values in found.items()}


def report(lists: Sequence[Example], theirs: dict[str, Doubles]) -> dict[str, Any]:
    """Quality of the default learner from the second day on, against the baselines."""
    first_day = lists[0].at_ms // DAY_MS
    later = np.array([one.at_ms // DAY_MS > first_day for one in lists])
    sessions = [one.session for one, keep in zip(lists, later, strict=True) if keep]
    scored = [(one, head.margin(one.features), head.score(one.features)) for one, head in progressive(lists, Learner())]
    ours = {
        "served": np.array([reciprocal_rank(margin, one.row) for one, margin, _ in scored]),
        "served without delay": ranks(lists, Learner(), delayed=False),
        "cold": np.array([reciprocal_rank(Head.cold().margin(one.features), one.row) for one in lists]),
    }
    probabilities = np.concatenate([scores for (_, _, scores), keep in zip(scored, later, strict=True) if keep])
    clicked = np.concatenate([one.clicked for (one, _, _), keep in zip(scored, later, strict=True) if keep])
    everything = ours | theirs
    return {
        "lists": len(lists),
        "lists_later": int(later.sum()),
        "sessions_later": len(set(sessions)),
        "mrr_first_day": {name: float(values[~later].mean()) for name, values in everything.items()},
        "mrr_later": {name: asdict(bootstrap(values[later], sessions)) for name, values in everything.items()},
        "served_minus": {
            name: asdict(paired_bootstrap(ours["served"][later], values[later], sessions))
            for name, values in everything.items()
            if name != "served"
        },
        "log_loss": log_loss(probabilities, clicked),
        "log_loss_of_the_mean": log_loss(np.full(len(clicked), clicked.mean()), clicked),
        "calibration_error": calibration_error(probabilities, clicked),
        "mean_probability": float(probabilities.mean()),
        "clicked_share": float(clicked.mean()),
    }


def choose(lists: Sequence[Example]) -> dict[str, dict[str, float]]:
    """MRR on the first day only: all of it, and after its first 3,000 lists."""
    first_day = lists[0].at_ms // DAY_MS
    early = [one for one in lists if one.at_ms // DAY_MS == first_day]
    found: dict[str, dict[str, float]] = {}

    def measure(name: str, make: Callable[[], Learner], without: Sequence[str] = ()) -> None:
        blank = [INDEX[feature] for feature in without]
        kept = [replace(one, features=_blanked(one.features, blank)) for one in early] if blank else early
        values = ranks(kept, make())
        found[name] = {"first day": float(values.mean()), "after 3,000": float(values[3000:].mean())}
        print(f"{name:48} {values.mean():.4f} {values[3000:].mean():.4f}", flush=True)

    plain = Head.cold(crosses=())
    measure("newton, no crosses", lambda: Learner(plain))
    for loss in ("listwise", "click"):
        for rate in (0.1, 0.3, 1.0):
            measure(f"{loss} newton {rate}", lambda: Learner(None, Settings(loss=loss, rate=rate)))  # noqa: B023
        for optimiser in ("adagrad", "ftrl"):
            for rate in (0.1, 0.2, 0.4):
                settings = Settings(loss=loss, optimiser=optimiser, rate=rate, l1=0.1 if optimiser == "ftrl" else 0.0)
                measure(f"{loss} {optimiser} {rate}", lambda: Learner(None, settings))  # noqa: B023
    for forgetting in (0.0, 1e-6, 1e-5, 1e-4):
        measure(f"forgetting {forgetting}", lambda: Learner(None, Settings(forgetting=forgetting)))  # noqa: B023
    measure("start from nothing", lambda: Learner(Head.cold(initial={})))
    for moment in dict.fromkeys(pair[0] for pair in CROSSES):
        pairs = tuple(pair for pair in CROSSES if pair[0] != moment)
        measure(f"no crosses with {moment}", lambda: Learner(Head.cold(crosses=pairs)))  # noqa: B023
    varied = [name for name in FEATURES if max(np.ptp(one.features[:, INDEX[name]]) for one in early) > 0]
    for name in varied:
        measure(f"without {name}", Learner, [name])
    return found


def _blanked(features: NDArray[np.float32], columns: Sequence[int]) -> NDArray[np.float32]:
    blank = features.copy()
    blank[:, list(columns)] = 0.0
    return blank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEADRACE_DATA", "../shared/data")))
    parser.add_argument("--choose", action="store_true", help="compare learners and features on the first day")
    parser.add_argument("--item-floor", type=int, default=50, help="exposures from which an item knows an edge")
    parser.add_argument("--limit", type=int, default=None, help="only the first rows of the log")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there")
    flags = parser.parse_args()
    try:
        rows = list(steps(read(flags.data / "trivago" / "events.parquet", flags.limit)))
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    lists, took = examples(rows, flags.item_floor)
    if flags.choose:
        numbers: dict[str, Any] = choose(lists)
    else:
        numbers = report(lists, baseline_ranks(rows))
        numbers["matrix_us"] = {"p50": float(np.median(took) * 1e6), "p99": float(np.quantile(took, 0.99) * 1e6)}
        print(json.dumps(numbers, indent=2))
    if flags.json:
        flags.json.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
