"""The tables and gates of cost against size, made from the data alone."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench.sizes.fit import Fit, fit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PLOTS", "fitted", "gates", "markdown", "plot_name"]

PLOTS: dict[str, tuple[str, str]] = {
    "rows": ("Rows of a page", "rows"),
    "columns": ("Columns of 100 rows", "columns"),
    "columns-compiled": ("Columns of a decoder", "columns"),
    "markers": ("Bind markers of an EXECUTE", "markers"),
    "in-flight": ("Requests in flight on a connection", "requests"),
    "bodies": ("Bytes of a response", "bytes"),
    "socket": ("Bytes of a response, through a socket", "bytes"),
    "memory": ("Peak memory of a response", "bytes"),
    "requests": ("Bytes of a request", "bytes"),
    "lists": ("Different column lists", "lists"),
    "lists-memory": ("Memory of different column lists", "lists"),
}
"""The plots, in order: the title, and the unit of the sizes."""

_STEPS = 4
_NONE = "–"
_HOW = """\
Each exponent is the slope of the least-squares line in log-log through the medians of the sizes
that cost at least ten times as much as the smallest (at least the four largest), so that the
constant part is negligible. The *floor* is the minimum work in C, or of the event loop, for the
same amount. The *net* exponent is without the floor's cost above its own cheapest unit, which is
caused by the machine's caches, new pages of memory and the garbage collector. The last steps are
the local exponents between the largest sizes. In brackets are the least and the greatest exponent
of a single
round. The gate is on the net exponent."""


def plot_name(plot: str) -> str:
    return f"performance-{plot}.svg"


def fitted(series: Mapping[str, Any]) -> Fit:
    return fit(series["sizes"], series["samples"], series["floors"])


def gates(data: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (name, maximum exponent, fitted net exponent) of each series that has a gate."""
    return [
        (f"exponent of {series['key']}", series["limit"], round(fitted(series).net, 3))
        for series in data["series"]
        if series["limit"] is not None
    ]


def markdown(data: Mapping[str, Any], images: str = "") -> str:
    """Return the tables, and links to the plots.

    Arguments:
        data: from ``measure``.
        images: the prefix of the plots' names, such as ``_static/``.
    """
    parts = [_HOW]
    for plot, (title, unit) in PLOTS.items():
        found = [series for series in data["series"] if series["plot"] == plot]
        if found:
            parts += [f"### {title}", f"![{title}]({images}{plot_name(plot)})", _table(found, unit)]
    return "\n\n".join(parts) + "\n"


def _table(found: Sequence[Mapping[str, Any]], unit: str) -> str:
    one = unit.removesuffix("s")
    head = (
        f"{unit}, largest",
        "cost",
        f"per {one}, at the middle",
        f"per {one}, at the largest",
        "exponent (rounds)",
        "net",
        "fitted from",
        "through all",
        "last steps",
        "gate",
    )
    lines = [f"| | {' | '.join(head)} |", f"|---|{'---:|' * len(head)}"]
    for series in found:
        result = fitted(series)
        sizes = series["sizes"]
        costs = [statistics.median(samples) for samples in series["samples"]]
        middle = len(sizes) // 2
        value = seconds if series["unit"] == "s" else size_of
        spread = f" ({result.least:.3f} – {result.most:.3f})" if data_has_rounds(series) else ""
        limit = series["limit"]
        cells = (
            f"{sizes[-1]:,}" if unit != "bytes" else size_of(sizes[-1]),
            value(costs[-1]),
            value(costs[middle] / sizes[middle]),
            value(costs[-1] / sizes[-1]),
            f"{result.exponent:.3f}{spread}",
            f"{result.net:.3f}" if series["floors"] else _NONE,
            f"{sizes[result.start]:,}" if unit != "bytes" else size_of(sizes[result.start]),
            f"{result.overall:.3f}",
            ", ".join(f"{step:.2f}" for step in result.steps[-_STEPS:]),
            _NONE if limit is None else f"{limit:.2f} {'ok' if result.net <= limit else 'FAILS'}",
        )
        lines.append(f"| {series['label']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def data_has_rounds(series: Mapping[str, Any]) -> bool:
    return len(series["samples"][0]) > 1


def seconds(value: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e12:.3g} ps"


def size_of(value: float) -> str:
    for factor, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} B"
