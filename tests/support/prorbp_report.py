"""How scores of the tasks' test rows become numbers: AUC and differences with intervals over queries, by third of E."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.models import row_statistics
from headrace.models.intervals import Estimate, Resampling, mean_of
from prorbp_tasks import Row

CUTS: Final = ("tail", "torso", "head", "without neighbours", "with neighbours", "all")
Doubles = NDArray[np.float64]


def hold_to(folder: Path, settings: Mapping[str, object]) -> None:
    """Makes a folder belong to some settings, which its numbers depend on.

    Raises:
        SystemExit: it holds other ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "settings.json"
    if known.exists() and json.loads(known.read_text()) != settings:
        raise SystemExit(f"{folder} holds other settings ({known}): name another folder")
    known.write_text(json.dumps(settings, indent=2) + "\n")


def by_cut(
    rows: Sequence[Row], named: Mapping[str, Sequence[Doubles]], differences: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """The numbers of every cut by its name.

    Args:
        rows: [N].
        named: what was scored by name, each [N] of every seed.
        differences: names of ours and theirs; left out where one of them was not scored.
    """
    return {
        cut: numbers(
            [rows[place] for place in places], {one: [v[places] for v in named[one]] for one in named}, differences
        )
        for cut, places in cuts(rows)
    }


def numbers(
    rows: Sequence[Row], named: Mapping[str, Sequence[Doubles]], differences: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """AUC by name, the mean of its seeds, and the differences, over all rows; as ``by_cut``."""
    positive = np.array([row.positive for row in rows], dtype=np.bool_)
    draws = Resampling([row.group for row in rows], resamples=2_000)
    values = {
        name: mean_of([draws.estimate(row_statistics.auc(one, positive)) for one in seeds])
        for name, seeds in named.items()
    }
    for ours, theirs in differences:
        if ours in values and theirs in values:
            values[f"{ours} - {theirs}"] = values[ours] - values[theirs]
    return {"rows": len(rows), "queries": draws.groups, **{name: _plain(one) for name, one in values.items()}}


def _plain(one: Estimate) -> dict[str, float]:
    return {"auc": one.value, "low": one.low, "high": one.high}


def cuts(rows: Sequence[Row]) -> list[tuple[str, NDArray[np.int64]]]:
    """Parts of the rows by name: thirds by E (equal values stay together), with and without neighbours, all."""
    exposures = np.array([row.exposures for row in rows])
    bare = np.array([row.pair == row.pair.alone() for row in rows])
    low, high = np.quantile(exposures, [1 / 3, 2 / 3])
    torso = (exposures > low) & (exposures <= high)
    parts = (exposures <= low, torso, exposures > high, bare, ~bare, exposures >= 0)
    return [(name, np.flatnonzero(part)) for name, part in zip(CUTS, parts, strict=True) if part.any()]


def show(found: Mapping[str, Any], cuts_shown: Sequence[str] = CUTS) -> None:
    """Prints the numbers of ``by_cut``, a line each."""
    for cut in cuts_shown:
        for name, one in found.get(cut, {}).items():
            if isinstance(one, dict):
                print(f"{cut:20} {name:50} {one['auc']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]", flush=True)


def saying(name: str) -> Callable[[int, int, float], None]:
    """What a training may say: every tenth step, the loss of the last twenty, and the minutes left."""
    began_s, first, losses = time.monotonic(), [-1], list[float]()

    def say(done: int, steps: int, loss: float) -> None:
        first[0] = done - 1 if first[0] < 0 else first[0]
        losses.append(loss)
        if done % 10 == 0 or done == steps:
            left_s = (time.monotonic() - began_s) / (done - first[0]) * (steps - done)
            print(
                f"{name}: step {done} of {steps}, loss {np.mean(losses[-20:]):.4f}, {left_s / 60:.0f} min", flush=True
            )

    return say
