"""The log-log plots: medians with the range of their samples, and the fitted power laws.

The same data gives the same bytes: the files have no date, and their ids use a fixed salt.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench.sizes.report import PLOTS, fitted, plot_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["plots"]

_SIZE = (7.2, 4.6)
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "cqlproto",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_MARKS = "osD^vP"


def plots(data: Mapping[str, Any], folder: Path) -> list[str]:
    """Write a plot for each kind of series in the data.

    Arguments:
        data: from ``measure``.
        folder: the folder to write to; created if missing.

    Returns:
        the names of the files.
    """
    # matplotlib imports slowly, and only this function needs it.
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
        for plot, (title, unit) in PLOTS.items():
            found = [series for series in data["series"] if series["plot"] == plot]
            if found:
                names.append(plot_name(plot))
                _draw(found, title, unit, folder / names[-1])
    return names


def _draw(found: Sequence[Mapping[str, Any]], title: str, unit: str, path: Path) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for at, series in enumerate(found):
        result = fitted(series)
        sizes = series["sizes"]
        medians = [statistics.median(costs) for costs in series["samples"]]
        spans = [
            [middle - min(costs) for middle, costs in zip(medians, series["samples"], strict=True)],
            [max(costs) - middle for middle, costs in zip(medians, series["samples"], strict=True)],
        ]
        color = f"C{at}"
        axes.errorbar(
            sizes, medians, yerr=spans, fmt=_MARKS[at % len(_MARKS)], markersize=4, color=color
        )
        ends = [sizes[result.start], sizes[-1]]
        line = [result.factor * end**result.exponent for end in ends]
        label = f"{series['label']}: n^{result.exponent:.2f}"
        if series["floors"]:
            label += f", net {result.net:.2f}"
        axes.plot(ends, line, color=color, linewidth=1, label=label)
    axes.set_xscale("log", base=2 if unit == "bytes" else 10)
    axes.set_yscale("log")
    axes.set_xlabel(unit)
    axes.set_ylabel("bytes" if found[0]["unit"] == "bytes" else "CPU seconds")
    axes.set_title(title)
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
