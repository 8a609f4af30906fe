"""What perturbations do, as a person reads it: lines on a terminal, a page of Markdown, a picture; and as numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headrace.commands.evaluation_report import ahead, inks_of, legend, plain, told
from headrace.models.perturbations import PERTURBATIONS
from headrace.models.robustness import ALL, Robustness

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABOUT: Final = (
    "AUC lost: AUC of the rows whose query was changed, before minus after; smaller is better.",
    "Places moved: how many places an item moves within its list, on average over items, then over lists.",
    f"{ALL}: the mean over those perturbations, each as heavy as the rows that it changed.",
)


def terminal(found: Robustness) -> list[str]:
    """The lines that a terminal shows."""
    lines = []
    for arm, harms in found.arms.items():
        lines.append(arm)
        for name, harm in harms.items():
            saved = found.saved.get(arm, {}).get(name)
            behind = f"   {ahead(saved).strip('*')} to {found.against}" if saved is not None else ""
            lines.append(f"  {name:<26} AUC lost {told(harm.drop)}, places moved {harm.moved.value:.2f}{behind}")
        if arm in found.relative:
            lines.append(f"  {ALL}: {percent(found, arm)} of AUC lost, relative to {found.against}")
    return lines


def percent(found: Robustness, arm: str) -> str:
    """The relative change of what is lost over all, with its interval."""
    one = found.relative[arm]
    value, low, high = (100 * number for number in (one.value, one.low, one.high))
    return f"{value:+.0f} % [{low:+.0f} %, {high:+.0f} %]"


def markdown(title: str, found: Robustness, notes: Sequence[str]) -> str:
    """The page; arguments as ``evaluation_report.markdown``."""
    names = list(next(iter(found.arms.values())))
    arms = list(found.arms)
    lines = [f"# {title}", "", *(f"- {note}" for note in (*notes, *_ABOUT))]
    lines += ["", "## AUC lost", "", _head(["rows changed", *arms])]
    for name in names:
        share = f"{100 * found.rows[name]:.0f} %" if name in found.rows else ""
        cells = [told(found.arms[arm][name].drop) for arm in arms]
        lines.append(f"| {name} | {share} | " + " | ".join(cells) + " |")
    lines += ["", "## Places moved", "", _head(arms)]
    for name in names:
        moved = [found.arms[arm][name].moved for arm in arms]
        cells = [f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in moved]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if found.saved:
        lines += ["", f"## AUC lost, minus that of {found.against}", "", _head(list(found.saved))]
        lines += [
            f"| {name} | " + " | ".join(ahead(saved[name]) for saved in found.saved.values()) + " |" for name in names
        ]
        lines += ["", "Paired: both are drawn on the same queries; below 0 less is lost. In bold: 0 lies outside.", ""]
        lines += [f"- {arm}, {ALL}: {percent(found, arm)} of what {found.against} loses" for arm in found.relative]
    lines += ["", "## The perturbations", ""]
    for one in PERTURBATIONS:
        said = " ".join((one.change.__doc__ or "").split())
        lines.append(f"- {one.name}{'' if one.keeps_meaning else ' (does not keep the meaning)'}: {said}")
    return "\n".join(lines) + "\n"


def numbers(found: Robustness) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "rows_changed": dict(found.rows),
        "models": {
            arm: {
                name: plain({"auc_before": harm.before, "auc_lost": harm.drop, "places_moved": harm.moved})
                for name, harm in harms.items()
            }
            for arm, harms in found.arms.items()
        },
        "against": found.against,
        "auc_lost_minus": {arm: plain(saved) for arm, saved in found.saved.items()},
        "relative": plain(found.relative),
    }


def png(title: str, found: Robustness, file: Path) -> None:
    """Draws what is lost and how far items move, by perturbation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(next(iter(found.arms.values())))
    inks = inks_of(found.arms)
    height = 1.4 + len(names) * (0.2 + 0.16 * len(found.arms))
    figure, (lost, moved) = pyplot.subplots(
        1, 2, figsize=(11, height), dpi=120, sharey=True, width_ratios=(3, 2), layout="constrained"
    )
    _bars(lost, found, inks, names, "drop")
    _bars(moved, found, inks, names, "moved")
    lost.axvline(0, color="grey", linewidth=1)
    lost.set_title("AUC lost", fontsize=9, loc="left", fontweight="bold")
    moved.set_title("Places moved within the list", fontsize=9, loc="left", fontweight="bold")
    labels = lost.set_yticks(range(len(names)), [_label(name, found.rows) for name in names], fontsize=8)
    labels[-1].label1.set_fontweight("bold")
    lost.set_ylim(len(names) - 0.5, -0.5)
    legend(figure, inks)
    figure.suptitle(f"{title}: 95 % intervals over queries", fontsize=10)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    pyplot.close(figure)


def _bars(axes: "Axes", found: Robustness, inks: Mapping[str, str], names: Sequence[str], which: str) -> None:
    step = 0.7 / len(inks)
    for number, (arm, harms) in enumerate(found.arms.items()):
        for place, name in enumerate(names):
            one = getattr(harms[name], which)
            at = place + (number - (len(inks) - 1) / 2) * step
            axes.plot([one.low, one.high], [at, at], color=inks[arm], linewidth=2, solid_capstyle="round")
            axes.plot(one.value, at, "o", color=inks[arm], markersize=4)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="grey", alpha=0.08, linewidth=0)
    axes.grid(axis="x", alpha=0.3)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="y", length=0)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _label(name: str, rows: Mapping[str, float]) -> str:
    return f"{name} ({100 * rows[name]:.0f} % of rows)" if name in rows else name


def _head(names: Sequence[str]) -> str:
    cells = " | ".join(name.replace("|", "\\|") for name in names)
    return f"| | {cells} |\n" + "|---" * (len(names) + 1) + "|"
