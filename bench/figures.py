"""Medians, spreads and ratios of measured figures, and Markdown tables of them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench.parts import Gate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bench.rounds import Sample

NOTHING = "-"
_LONGEST = 200


class Figures:
    """The samples of a part, in their JSON form."""

    def __init__(self, samples: Sequence[dict[str, Any]]) -> None:
        self._samples = samples

    @classmethod
    def of(cls, data: dict[str, Any]) -> Figures:
        return cls(data["samples"])

    def cell(self, work: str, in_flight: int) -> list[dict[str, Any]]:
        """Return the samples of one kind of work with `in_flight` requests, by client."""
        return [
            sample
            for sample in self._samples
            if sample["work"] == work and sample["in_flight"] == in_flight
        ]

    def cells(self) -> Iterator[tuple[str, int]]:
        """Return each kind of work and number in flight, in the order of measurement."""
        yield from dict.fromkeys((each["work"], each["in_flight"]) for each in self._samples)

    def median(self, client: str, work: str, in_flight: int, what: str) -> float | None:
        """The median of a figure; None if it wasn't measured."""
        for sample in self.cell(work, in_flight):
            if sample["client"] == client and what in sample:
                return float(statistics.median(sample[what]))
        return None

    def gate(
        self, text: str, limit: float, of: Place, to: Place, what: str, *, higher: bool
    ) -> list[Gate]:
        """Return a gate on the ratio of two medians, if both were measured."""
        measured, other = self.median(*of, what), self.median(*to, what)
        if measured is None or other is None:
            return []
        return [Gate(text, limit, measured / other, higher)]


Place = tuple[str, str, int]
"""A client, a kind of work, and the number in flight."""


def of_samples(samples: Iterable[Sample], left_out: dict[str, str]) -> dict[str, Any]:
    """Return the data of a part that has samples."""
    return {"samples": [sample.to_json() for sample in samples], "left_out": left_out}


def number(value: float) -> str:
    """Three significant digits or all before the point, with commas."""
    if value == 0:
        return "0"
    digits = max(0, 2 - len(str(int(abs(value)))) + 1) if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def spread(values: Sequence[float]) -> str:
    """`median (least - most)`."""
    median, least, most = statistics.median(values), min(values), max(values)
    return f"{number(median)} ({number(least)} - {number(most)})"


def ratio(value: float | None, other: float | None) -> str:
    if value is None or other is None or not other:
        return NOTHING
    return f"{value / other:.2f}"


def milliseconds(sample: dict[str, Any], what: str) -> str:
    """The median of a latency."""
    return number(statistics.median(sample[what]) / 1e3) if what in sample else NOTHING


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table; all but the first columns are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |"]
    marks = ["---" if index < text_columns else "---:" for index in range(len(head))]
    lines.append("| " + " | ".join(marks) + " |")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def left_out(data: dict[str, Any]) -> str:
    """Return a list of the measurements that failed, and why."""
    reasons: dict[str, str] = data["left_out"]
    if not reasons:
        return ""
    lines = [f"- {what}: {_escaped(why)}" for what, why in reasons.items()]
    return "\nNot measured:\n\n" + "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    text = text.replace("`", "'")
    return f"`{text if len(text) <= _LONGEST else text[: _LONGEST - 2] + '..'}`"
