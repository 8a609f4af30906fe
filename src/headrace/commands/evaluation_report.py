"""An evaluation as a person reads it: lines on a terminal, a page of Markdown, a picture; and as numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from headrace.models.evaluation import SMALLER_IS_BETTER, Evaluation, Scale
from headrace.models.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INKS: Final = ("#1a7f37", "#0969da", "#bf8700", "#8250df", "#cf222e", "#57606a", "#0a7c80", "#953800")
"""Of arms, in their order, again from the first when there are more."""
MEANINGS: Final[Mapping[str, str]] = {
    "RMSE": "root of the mean squared error of the probability, in rating points; smaller is better",
    "Spearman": "correlation of the ranks of scores and labels, over all rows",
    "nDCG": "gain of the first places over the best possible, mean over lists; equal scores count as the mean of all "
    "their orders",
    "AUC": "chance that a positive row scores higher than a negative one, over all rows; equal scores count half",
    "AUC tail": "the same among the third of rows whose queries are asked least; torso and head likewise",
    "ECE": "expected calibration error: by tenth of rows |mean probability - mean label|; smaller is better",
}


def told(one: Estimate) -> str:
    """A number and its interval: ``.6185 [.6029, .6351]``."""
    return f"{short(one.value)} [{short(one.low)}, {short(one.high)}]" if np.isfinite(one.value) else "none"


def ahead(one: Estimate) -> str:
    """A difference and its interval, with signs: ``+.0216 [+.0153, +.0285]``; in bold where 0 lies outside."""
    if not np.isfinite(one.value):
        return "none"
    text = f"{short(one.value, '+')} [{short(one.low, '+')}, {short(one.high, '+')}]"
    return f"**{text}**" if one.excludes_zero else text


def short(value: float, sign: str = "") -> str:
    """A number with four places and no zero before the point."""
    return f"{value:{sign}.4f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:{sign}.4f}"


def metrics_of(found: Evaluation) -> list[str]:
    """The metrics that any arm has, in their order."""
    longest = max(found.arms.values(), key=len)
    return list(dict.fromkeys((*longest, *(name for arm in found.arms.values() for name in arm))))


def about(found: Evaluation, scale: Scale) -> str:
    """Of what the numbers are."""
    return (
        f"{found.rows:,} pairs of {found.queries:,} queries; {found.positives:,} positives (label of at least "
        f"{scale.positive:g}); nDCG over {found.ranked:,} lists"
    )


def terminal(found: Evaluation, scale: Scale) -> list[str]:
    """The lines that a terminal shows."""
    lines = [about(found, scale)]
    for arm, numbers in found.arms.items():
        lines.append(f"{arm} ({len(found.seeds[arm]['AUC'])} seeds)" if arm in found.seeds else arm)
        for metric, one in numbers.items():
            difference = found.ahead.get(arm, {}).get(metric)
            behind = f"   {ahead(difference).strip('*')} to {found.against}" if difference is not None else ""
            lines.append(f"  {metric:<10} {told(one)}{behind}")
    return lines


def markdown(title: str, found: Evaluation, scale: Scale, notes: Sequence[str]) -> str:
    """The page.

    Args:
        title: what was measured.
        found: the numbers.
        scale: what labels mean.
        notes: sentences about how it was done.
    """
    metrics = metrics_of(found)
    lines = [f"# {title}", "", f"{about(found, scale)}.", ""]
    lines += [f"- {note}" for note in notes]
    lines += ["", "## Numbers", "", *_table(found.arms, metrics, told)]
    if found.seeds:
        lines += ["", "Over seeds, lowest to highest:", ""]
        spread = {
            arm: {name: f"{short(min(values))} to {short(max(values))}" for name, values in seeds.items()}
            for arm, seeds in found.seeds.items()
        }
        lines += _rows(spread, metrics)
    if found.ahead:
        lines += ["", f"## Against {found.against}", "", *_table(found.ahead, metrics, ahead), ""]
        lines += ["Paired: both are drawn on the same queries. In bold: 0 lies outside of the interval."]
    lines += ["", "## What each number is", ""]
    lines += [f"- {name}: {meaning}" for name, meaning in MEANINGS.items() if _there(name, metrics)]
    return "\n".join(lines) + "\n"


def numbers(found: Evaluation, scale: Scale) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "rows": found.rows,
        "queries": found.queries,
        "positives": found.positives,
        "ranked_lists": found.ranked,
        "scale": {"span": scale.span, "positive": scale.positive, "cut": scale.cut},
        "models": {arm: plain(values) for arm, values in found.arms.items()},
        "seeds": {arm: dict(values) for arm, values in found.seeds.items()},
        "against": found.against,
        "ahead": {arm: plain(values) for arm, values in found.ahead.items()},
        "reliability": {
            arm: {"predicted": one.predicted.tolist(), "observed": one.observed.tolist(), "rows": one.rows.tolist()}
            for arm, one in found.reliability.items()
        },
    }


def plain(values: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    """Estimates as value, low, high; None for what is no number."""
    return {
        name: {
            key: value if np.isfinite(value) else None
            for key, value in (("value", one.value), ("low", one.low), ("high", one.high), ("p", one.p_value))
        }
        for name, one in values.items()
    }


def png(title: str, found: Evaluation, file: Path) -> None:
    """Draws reliability, and every metric with its intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    metrics = metrics_of(found)
    inks = inks_of(found.arms)
    wide = 2 if found.reliability else 0
    lines = max(2, -(-len(metrics) // 2))
    height = max(lines * (0.75 + 0.22 * len(found.arms)) + 1.1, 5.2 if wide else 0)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06)
    figure = pyplot.figure(figsize=(6.5 + 2.75 * wide, height), dpi=120, layout=layout)
    grid = figure.add_gridspec(lines, 2 + wide)
    if found.reliability:
        _reliability(figure.add_subplot(grid[:, :2]), found, inks)
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(grid[place // 2, wide + place % 2])
        arrow = "smaller is better" if metric in SMALLER_IS_BETTER else ""
        dots(axes, {arm: values.get(metric) for arm, values in found.arms.items()}, inks)
        axes.set_title(metric, fontsize=9, loc="left", fontweight="bold")
        axes.set_title(arrow, fontsize=7, loc="right", color="#57606a")
    legend(figure, inks)
    figure.suptitle(
        f"{title}: {found.rows:,} pairs of {found.queries:,} queries, 95 % intervals over queries", fontsize=10
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    pyplot.close(figure)


def inks_of(arms: Mapping[str, object]) -> dict[str, str]:
    """The colour of each arm."""
    return {arm: INKS[place % len(INKS)] for place, arm in enumerate(arms)}


def dots(axes: "Axes", values: Mapping[str, Estimate | None], inks: Mapping[str, str]) -> None:
    """One dot with its interval for each arm, the first on top, the number beside it."""
    for place, (arm, one) in enumerate(reversed(list(values.items()))):
        if one is None or not np.isfinite(one.value):
            axes.annotate(
                "none", (0.5, place), xycoords=("axes fraction", "data"), fontsize=7, va="center", color="grey"
            )
            continue
        axes.plot([one.low, one.high], [place, place], color=inks[arm], linewidth=2, solid_capstyle="round")
        axes.plot(one.value, place, "o", color=inks[arm], markersize=5)
        axes.annotate(short(one.value), (one.value, place), xytext=(0, 4), textcoords="offset points", fontsize=7,
                      ha="center", color=inks[arm])  # fmt: skip
    axes.set(yticks=[], ylim=(-0.5, len(values) - 0.2))
    axes.margins(x=0.15)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", alpha=0.3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def legend(figure: Any, inks: Mapping[str, str]) -> None:
    """Which colour is which arm, below everything."""
    from matplotlib.lines import Line2D

    marks = [Line2D([], [], color=ink, marker="o", markersize=5, linewidth=2, label=arm) for arm, ink in inks.items()]
    figure.legend(handles=marks, loc="outside lower center", ncols=min(4, len(marks)), fontsize=8, frameon=False)


def _reliability(axes: "Axes", found: Evaluation, inks: Mapping[str, str]) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for arm, one in found.reliability.items():
        error = found.arms[arm].get("ECE")
        label = f"ECE {short(error.value)}" if error is not None else ""
        axes.plot(one.predicted, one.observed, "o-", color=inks[arm], linewidth=1.4, markersize=4, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="mean probability, by tenth of rows", ylabel="mean label")
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    axes.set_title("Reliability", fontsize=9, loc="left", fontweight="bold")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _table(arms: Mapping[str, Mapping[str, Estimate]], metrics: Sequence[str], tell: Any) -> list[str]:
    return _rows({arm: {name: tell(one) for name, one in values.items()} for arm, values in arms.items()}, metrics)


def _rows(arms: Mapping[str, Mapping[str, str]], metrics: Sequence[str]) -> list[str]:
    head = ["| | " + " | ".join(_cell(arm) for arm in arms) + " |", "|---" * (len(arms) + 1) + "|"]
    shown = [metric for metric in metrics if any(metric in values for values in arms.values())]
    return head + [
        f"| {metric} | " + " | ".join(values.get(metric, "") for values in arms.values()) + " |" for metric in shown
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _there(name: str, metrics: Sequence[str]) -> bool:
    return name in metrics or (name == "nDCG" and any(metric.startswith("nDCG@") for metric in metrics))
