"""The quality of a run as a plot: in the terminal, and as a PNG."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.tour.quality import NAMES, SERVED, Quality, smooth
from headrace.tour.screen import COLOURS, SIGNS

WINDOW: Final = 150
"""Lists that a point of a curve is the mean of."""
COLUMNS: Final = 90
LINES: Final = 7
_INKS: Final = dict(zip(NAMES, ("#1a7f37", "#0969da", "#bf8700", "#8250df", "#57606a"), strict=True))
Doubles = NDArray[np.float64]


def terminal(found: Quality) -> list[str]:
    """The moving means as letters, with marks for colours; the served one lies above the others."""
    curves = _curves(found)
    count = len(found.places)
    columns = np.linspace(min(WINDOW, count) - 1, count - 1, min(COLUMNS, count)).astype(np.int64)
    low, high = _bounds([values[columns] for values in curves.values()])
    cells = [[" "] * len(columns) for _ in range(LINES)]
    for name in reversed(NAMES):
        for column, value in enumerate(curves[name][columns]):
            line = round((high - value) / (high - low) * (LINES - 1))
            cells[line][column] = f"<{COLOURS[name]}>{SIGNS[name]}</>"
    axis = f"        mean of {WINDOW} lists, up to {count:,} simulated searches; | tastes have half drifted"
    drift = int(np.searchsorted(found.places[columns], found.drifts))
    lines = []
    for number, row in enumerate(cells):
        value = high - (high - low) * number / (LINES - 1)
        if drift < len(row) and row[drift] == " ":
            row[drift] = "|"
        lines.append(f"  {value:.2f} " + "".join(row).rstrip())
    return [*lines, axis]


def png(found: Quality, file: Path, seed: int) -> None:
    """Draws the moving means, every new head, and where the taste drifts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 5.5), dpi=120)
    for name, values in _curves(found).items():
        ahead = found.whole.mean[name]
        width = 2.4 if name == SERVED else 1.4
        label = f"{name}: {ahead.mean:.3f} [{ahead.low:.3f}, {ahead.high:.3f}]"
        first = min(WINDOW, len(values)) - 1
        axes.plot(found.places[first:], values[first:], label=label, linewidth=width, color=_INKS[name])
    new = [at for at in range(1, len(found.versions)) if found.versions[at] != found.versions[at - 1]]
    axes.plot(found.places[new], np.full(len(new), 0.01), "^", color="grey", markersize=5, clip_on=False,
              transform=axes.get_xaxis_transform(), label="a new head serves")  # fmt: skip
    axes.axvline(found.drifts, color="grey", linestyle=":", linewidth=1)
    axes.annotate(" tastes have half drifted", (found.drifts, 0.98), xycoords=("data", "axes fraction"), fontsize=8,
                  va="top")  # fmt: skip
    axes.set(xlabel="simulated searches", ylabel=f"nDCG@10, mean of the last {WINDOW} lists")
    axes.set_title(f"The tour, seed {seed}: simulated shoppers; each list scored before its clicks", fontsize=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8, frameon=False)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)


def _curves(found: Quality) -> dict[str, Doubles]:
    return {name: smooth(found.values[name], WINDOW) for name in NAMES}


def _bounds(values: list[Doubles]) -> tuple[float, float]:
    low, high = min(float(one.min()) for one in values), max(float(one.max()) for one in values)
    return low, max(high, low + 1e-6)
