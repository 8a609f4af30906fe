"""What a replay of the trivago log showed: quality against baselines with intervals, freshness, swaps, latency."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.local.replay import ServedList
from headrace.models.baselines import NAMES, Baselines
from headrace.models.metrics import Interval, bootstrap, paired_bootstrap, reciprocal_rank
from headrace.models.trivago import ClickedOut, Searched, Step

DAY_MS: Final = 86_400_000
SERVED: Final = "served"
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Report:
    """Numbers of one replay.

    Attributes:
        text: the report as a person reads it.
        numbers: the same as plain values.
        ranks: name -> reciprocal rank of each counted list, in order.
        at_ms: event time of each counted list.
    """

    text: str
    numbers: Mapping[str, Any]
    ranks: Mapping[str, Doubles]
    at_ms: NDArray[np.int64]


def report(
    steps: Sequence[Step],
    served: Sequence[ServedList],
    seen_ms: Sequence[float],
    status: Mapping[str, Any],
    barrier: bool,
) -> Report:
    """Everything a replay showed.

    Args:
        steps: that were replayed.
        served: every list, as served.
        seen_ms: from sending an event until a score could see it.
        status: what the learner said at the end.
        barrier: whether the replay waited before each list.
    """
    ranks, kept = _ranks(steps, served)
    at_ms = np.array([served[place].at_ms for place in kept], dtype=np.int64)
    sessions = [served[place].session for place in kept]
    later = at_ms // DAY_MS > int(at_ms.min()) // DAY_MS if len(at_ms) else np.zeros(0, dtype=np.bool_)
    quality: dict[str, Any] = {}
    for name, where in (("all", np.ones(len(at_ms), dtype=np.bool_)), ("from the second day", later)):
        if where.any():
            quality[name] = _quality({key: values[where] for key, values in ranks.items()}, _where(sessions, where))
    took = np.array([item.took_ms for item in served])
    versions = [item.version for item in served]
    swaps = sum(1 for before, after in zip(versions, versions[1:], strict=False) if before != after)
    numbers = {
        "mode": "barrier" if barrier else "live",
        "events": len(steps),
        "lists": len(served),
        "counted": len(kept),
        "student": sorted({item.student for item in served}),
        "quality": quality,
        "freshness_ms": _quantiles(np.array(seen_ms)),
        "request_ms": _quantiles(took),
        "swaps": swaps,
        "published": status.get("published"),
        "examples": status.get("examples"),
        "near_swap_ms": _near_swaps(served),
        "learner": {key: status.get(key) for key in ("progressive", "counts")},
    }
    return Report(_text(numbers), numbers, ranks, at_ms)


def plot(found: Report, file: Path) -> None:
    """Draws the running mean of each score's reciprocal rank over the lists as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), dpi=120)
    count = np.arange(1, len(found.at_ms) + 1)
    for name, values in found.ranks.items():
        width, zorder = (2.2, 3) if name == SERVED else (1.2, 2)
        axes.plot(count, np.cumsum(values) / count, label=f"{name} {values.mean():.4f}", linewidth=width, zorder=zorder)
    days = np.flatnonzero(np.diff(found.at_ms // DAY_MS))
    for day in days:
        axes.axvline(float(day), color="grey", linestyle=":", linewidth=1)
        axes.annotate("next day (UTC)", (float(day), 1.0), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
    axes.set(xlabel="lists served", ylabel="MRR so far", ylim=(0.15, 0.75))
    axes.set_title(f"trivago, {found.numbers['mode']}: each list scored before its click", fontsize=10, pad=16)
    axes.legend(loc="lower right", fontsize=9)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def write_json(found: Report, file: Path) -> None:
    """Writes the numbers."""
    file.write_text(json.dumps(found.numbers, indent=2) + "\n")


def _ranks(steps: Sequence[Step], served: Sequence[ServedList]) -> tuple[dict[str, Doubles], list[int]]:
    """Reciprocal ranks of the lists whose clicked item is in them, and which lists these are."""
    baselines, place = Baselines(), 0
    ranks: dict[str, list[float]] = {name: [] for name in (SERVED, *NAMES)}
    kept = []
    for step in steps:
        if isinstance(step, Searched):
            continue
        clicked = isinstance(step, ClickedOut)
        if isinstance(step, ClickedOut):
            if step.item in step.items:
                relevant = step.items.index(step.item)
                scored = baselines.scores(step.session, step.items, step.prices)
                scored[SERVED] = np.array(served[place].scores, dtype=np.float64)
                for name, scores in scored.items():
                    ranks[name].append(reciprocal_rank(scores, relevant))
                kept.append(place)
            place += 1
        baselines.see(step.session, step.item, clicked)
    return {name: np.array(values) for name, values in ranks.items()}, kept


def _quality(ranks: Mapping[str, Doubles], sessions: Sequence[str]) -> dict[str, Any]:
    return {
        "lists": len(sessions),
        "sessions": len(set(sessions)),
        "mrr": {name: asdict(bootstrap(values, sessions)) for name, values in ranks.items()},
        "served_minus": {
            name: asdict(paired_bootstrap(ranks[SERVED], values, sessions))
            for name, values in ranks.items()
            if name != SERVED
        },
    }


def _where(values: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    return [value for value, keep in zip(values, mask, strict=True) if keep]


def _quantiles(values: Doubles) -> dict[str, float]:
    if not len(values):
        return {}
    p50, p99 = np.quantile(values, [0.5, 0.99])
    return {"count": len(values), "p50": float(p50), "p99": float(p99), "max": float(values.max())}


def _near_swaps(served: Sequence[ServedList]) -> dict[str, Any]:
    """Latency of requests within a second of a new version's first answer, and of all others."""
    at = np.array([item.at_s for item in served])
    took = np.array([item.took_ms for item in served])
    firsts = [
        float(after.at_s) for before, after in zip(served, served[1:], strict=False) if before.version != after.version
    ]
    near = np.zeros(len(at), dtype=np.bool_)
    for moment in firsts:
        near |= np.abs(at - moment) <= 1.0
    return {"near": _quantiles(took[near]), "away": _quantiles(took[~near])}


def _text(numbers: Mapping[str, Any]) -> str:
    lines = [
        f"trivago, {numbers['mode']}: {numbers['events']} steps, {numbers['lists']} lists scored by the running worker "
        f"before their click; the student was {', '.join(numbers['student'])}.",
    ]
    for name, found in numbers["quality"].items():
        lines += [
            "",
            f"MRR, {name} ({found['lists']} lists, {found['sessions']} sessions; 95 % intervals over sessions)",
        ]
        for key, value in found["mrr"].items():
            against = found["served_minus"].get(key)
            beside = "" if against is None else f"   served - {key}: {_interval(Interval(**against), sign=True)}"
            lines.append(f"  {key:<13} {_interval(Interval(**value))}{beside}")
    if numbers["freshness_ms"]:
        lines.append(f"\nEvent sent -> seen by a score: {_milliseconds(numbers['freshness_ms'])}")
    lines.append(f"Requests: {_milliseconds(numbers['request_ms'])}")
    swaps = numbers["near_swap_ms"]
    lines.append(
        f"Swaps: {numbers['swaps']} new heads served, {numbers['published']} published, {numbers['examples']} examples"
    )
    if swaps["near"] and swaps["away"]:
        lines.append(
            f"  p99 within 1 s of a swap {swaps['near']['p99']:.1f} ms, otherwise {swaps['away']['p99']:.1f} ms"
        )
    return "\n".join(lines)


def _interval(value: Interval, sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def _milliseconds(found: Mapping[str, float]) -> str:
    return (
        f"p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms, max {found['max']:.1f} ms ({found['count']} measured)"
    )
