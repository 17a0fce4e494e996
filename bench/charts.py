"""Bar charts as SVG, without a library: the same figures always produce the same bytes."""

from __future__ import annotations

import dataclasses
import html
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.figures import number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OURS, PEER, FLOOR = "#2a6fbb", "#9aa5b1", "#d6a847"
_WIDTH, _LABEL, _VALUE = 420, 150, 70
_BAR, _GAP, _TITLE, _EDGE = 14, 6, 34, 10


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """A bar: the median, the least and the greatest value."""

    label: str
    value: float
    least: float
    most: float
    colour: str = PEER


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """Bars with a common scale that begins at zero."""

    title: str
    bars: Sequence[Bar]


def colour_of(client: str) -> str:
    family = client.partition("/")[0]
    return {"cqlproto": OURS, "bare": FLOOR}.get(family, PEER)


def panel(
    title: str,
    samples: Sequence[dict[str, Any]],
    what: str,
    scale: Callable[[float], float] = float,
) -> Panel:
    """Return a panel of one figure of the samples, with a bar for each client."""
    bars = []
    for sample in samples:
        if what in sample:
            values = [scale(value) for value in sample[what]]
            bars.append(
                Bar(
                    sample["client"],
                    statistics.median(values),
                    min(values),
                    max(values),
                    colour_of(sample["client"]),
                )
            )
    return Panel(title, bars)


def write(path: Path, panels: Sequence[Panel], columns: int = 2) -> str:
    """Write the panels as one picture; return its file name."""
    path.write_text(svg(panels, columns))
    return path.name


def svg(panels: Sequence[Panel], columns: int = 2) -> str:
    """Return the panels as SVG, with `columns` panels in a row."""
    drawn: list[str] = []
    top = 0
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        for column, each in enumerate(row):
            drawn += _panel(each, column * _WIDTH, top)
        top += max(_TITLE + len(each.bars) * (_BAR + _GAP) + _EDGE for each in row)
    width = _WIDTH * min(columns, len(panels))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" '
        f'height="{top}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join(
        [head, f'<rect width="{width}" height="{top}" fill="#fff"/>', *drawn, "</svg>\n"]
    )


def _panel(given: Panel, left: int, top: int) -> list[str]:
    lines = [_text(left + _EDGE, top + 20, given.title, size=13)]
    most = max((bar.most for bar in given.bars), default=1) or 1
    unit = (_WIDTH - _LABEL - _VALUE - _EDGE) / most
    for index, bar in enumerate(given.bars):
        y = top + _TITLE + index * (_BAR + _GAP)
        x = left + _LABEL
        lines.append(_text(x - 6, y + 11, bar.label, anchor="end"))
        lines.append(
            f'<rect x="{x}" y="{y}" width="{bar.value * unit:.1f}" height="{_BAR}" '
            f'fill="{bar.colour}"/>'
        )
        middle = y + _BAR / 2
        lines.append(
            f'<line x1="{x + bar.least * unit:.1f}" y1="{middle}" x2="{x + bar.most * unit:.1f}" '
            f'y2="{middle}" stroke="#333"/>'
        )
        lines.append(_text(int(x + bar.most * unit) + 5, y + 11, number(bar.value)))
    return lines


def _text(x: int, y: int, text: str, *, size: int = 11, anchor: str = "start") -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="#222">'
        f"{html.escape(text)}</text>"
    )
