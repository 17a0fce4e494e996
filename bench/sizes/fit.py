"""The exponent of a cost: the power of the size that it grows with.

What a size costs is a constant part and a part that grows. A straight line through all points of
the log-log plot would take the constant part for slow growth, and so hide a bend upwards. The
exponent that counts is therefore that of the least-squares line through the sizes that cost at
least ten times what the smallest does: at most a tenth of any of them is constant. Where fewer than
four sizes cost so much, it is that of the four largest. The local exponents, from each size to the
next, are kept beside it: the last of them would show a bend at the very top.

More data does not only take more steps. It also leaves the caches of the processor, lies in pages
of memory that the system must hand out first, and begins to be looked at by full runs of the
garbage collector, so that even copying bytes costs several times as much for each byte of 64 MiB as
of 64 KiB. What that does is measured beside the cost, by a
*floor*: the least that any program must do for the same result, in C (joining the received chunks,
loading equal objects by ``marshal``). What the floor costs above its own cheapest cost of a unit is
the machine's doing, and is taken off; what is left is the *net* cost. Where the floor is not nearly
all of the cost, this takes off too little rather than too much. Both exponents are kept.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Fit", "fit", "power_law"]

CLEAR = 10.0
"""How many times the smallest size's cost one must be, for the constant part not to count."""
LEAST = 4
"""How many sizes the exponent is fitted through at least."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What was fitted.

    Attributes:
        exponent: the one that counts.
        factor: the cost of size 1 on its line.
        start: the index of the smallest size that it is fitted through.
        least: the smallest exponent of one round's samples alone, through the same sizes.
        most: the largest of those.
        overall: the exponent through all sizes.
        steps: the local exponents, one less than sizes.
        net: the exponent of the net cost, through the same sizes; the one above without a floor.
    """

    exponent: float
    factor: float
    start: int
    least: float
    most: float
    overall: float
    steps: tuple[float, ...]
    net: float


def power_law(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """Return (exponent, factor) of the line ``cost = factor * size ** exponent`` in log-log.

    Arguments:
        sizes: at least two different positive numbers.
        costs: one positive number for each.
    """
    line = statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    )
    return line.slope, math.exp(line.intercept)


def fit(
    sizes: Sequence[int],
    samples: Sequence[Sequence[float]],
    floors: Sequence[Sequence[float]] = (),
) -> Fit:
    """Fit the medians.

    Arguments:
        sizes: ascending.
        samples: for each size the costs that were measured, one of each round, all positive.
        floors: for each size the costs of the floor; none if there is no floor.
    """
    medians = [statistics.median(costs) for costs in samples]
    start = _first_that_counts(medians)
    exponent, factor = power_law(sizes[start:], medians[start:])
    rounds = [power_law(sizes[start:], costs)[0] for costs in zip(*samples[start:], strict=True)]
    points = list(zip(sizes, medians, strict=True))
    steps = tuple(
        math.log(above[1] / below[1]) / math.log(above[0] / below[0])
        for below, above in zip(points, points[1:], strict=False)
    )
    net = exponent
    if floors:
        left = _net_costs(sizes, medians, [statistics.median(costs) for costs in floors])
        net = power_law(sizes[start:], left[start:])[0]
    return Fit(
        exponent, factor, start, min(rounds), max(rounds), power_law(sizes, medians)[0], steps, net
    )


def _net_costs(
    sizes: Sequence[int], medians: Sequence[float], floors: Sequence[float]
) -> list[float]:
    least = min(floor / size for size, floor in zip(sizes, floors, strict=True))
    left = []
    for size, cost, floor in zip(sizes, medians, floors, strict=True):
        # A cost below its floor is a floor that was measured wrong.
        left.append(max(cost - (floor - size * least), size * least))
    return left


def _first_that_counts(medians: Sequence[float]) -> int:
    start = len(medians)
    while start > 0 and medians[start - 1] >= CLEAR * medians[0]:
        start -= 1
    return max(0, min(start, len(medians) - LEAST))
