"""Medians of samples, ratios of samples of the same round, and their formatting."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["ABSENT", "Samples", "cell", "contenders", "ratios", "table"]

ABSENT = "-"


class Samples:
    """Samples, indexed by case and contender.

    Arguments:
        records: from ``measure``.
        keys: the names of the fields that identify a case.
    """

    def __init__(self, records: Iterable[dict[str, Any]], keys: Sequence[str]) -> None:
        self._values: dict[tuple[Any, ...], list[float]] = {
            (*(record[key] for key in keys), record["contender"], record["variant"]): record[
                "microseconds"
            ]
            for record in records
        }

    def get(self, *where: object) -> list[float] | None:
        """Return the samples of a case, a contender and a variant, or None if there are none."""
        return self._values.get(where)

    def cases(self) -> list[tuple[Any, ...]]:
        """Return the cases in the order in which they were measured."""
        return list(dict.fromkeys(key[:-2] for key in self._values))


def ratios(values: Sequence[float] | None, base: Sequence[float] | None) -> list[float] | None:
    """Return the ratio of the two samples for each round."""
    if values is None or base is None:
        return None
    return [value / other for value, other in zip(values, base, strict=True)]


def cell(values: Sequence[float] | None, digits: int | None = None) -> str:
    """Return ``median (least - most)``, by default with three significant digits."""
    if values is None:
        return ABSENT
    median = statistics.median(values)
    if digits is None:
        digits = 2 if median < 10 else 1 if median < 100 else 0
    least, most = min(values), max(values)
    return f"{median:,.{digits}f} ({least:,.{digits}f} - {most:,.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is left-aligned, the others are right-aligned."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def contenders(data: dict[str, Any]) -> str:
    """Return a line on the contenders that were measured, and one for each that was left out."""
    present = [
        f"{name} {about['version']} ({about['kind']})" for name, about in data["contenders"].items()
    ]
    lines = [
        f"{', '.join(present)}. Medians of {data['rounds']} rounds, with the least and the most.",
        *(f"PROBLEM: {problem}" for problem in data["problems"]),
    ]
    return "\n\n".join(lines) + "\n"
