"""Fits the exponent of a cost: cost grows as a power of the size.

The cost of a size has a constant part and a growing part. A line through all points of the log-log
plot would mistake the constant part for slow growth, and hide a bend upwards. So the exponent is
that of the least-squares line through the sizes that cost at least ten times as much as the
smallest: at most a tenth of their cost is constant. If there are fewer than four such sizes, the
line goes through the four largest. The local exponents, from each size to the next, are kept as
well: the last of them would show a bend at the very top.

More data does not only take more steps. It also exceeds the processor's caches, needs new pages of
memory from the system, and causes full runs of the garbage collector, so that even copying costs
several times as much per byte for 64 MiB as for 64 KiB. A *floor* measures these effects: the
minimum work in C for the same result (joining the received chunks, loading equal objects with
``marshal``). The cost of the floor above its own cheapest unit is caused by the machine and
subtracted; the rest is the *net* cost. If the floor is much less than the cost, this subtracts too
little rather than too much. Both exponents are kept.
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
"""Sizes that cost this many times as much as the smallest have a negligible constant part."""
LEAST = 4
"""The minimum number of sizes for fitting the exponent."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a fit.

    Attributes:
        exponent: the exponent through the large sizes.
        factor: the cost of size 1 on this line.
        start: the index of the smallest size on this line.
        least: the smallest exponent of a single round's samples, through the same sizes.
        most: the largest exponent of a single round's samples.
        overall: the exponent through all sizes.
        steps: the local exponents, one less than there are sizes.
        net: the exponent of the net cost, through the same sizes; ``exponent`` if there is no
            floor.
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
        sizes: in ascending order.
        samples: for each size, the positive costs of all rounds.
        floors: for each size, the costs of the floor; empty if there is no floor.
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
        # A floor can't really exceed the cost, so limit a wrong measurement.
        left.append(max(cost - (floor - size * least), size * least))
    return left


def _first_that_counts(medians: Sequence[float]) -> int:
    start = len(medians)
    while start > 0 and medians[start - 1] >= CLEAR * medians[0]:
        start -= 1
    return max(0, min(start, len(medians) - LEAST))
