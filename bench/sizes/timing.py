"""Measures a series: process CPU time, long samples, all sizes in every round.

A sample repeats the operation until it is long enough for the clock. The number of repetitions is
determined before the first round, which also fills caches and compiles decoders. Each round
measures every size once and begins with another size, so that a machine that is slower for a while
does not bend the curve. The garbage collector runs between samples, so that a sample does not pay
for the garbage of the one before; collecting its own garbage is part of its cost.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["DEFAULT_LIMIT", "Plan", "Prepare", "Run", "Series", "complete", "ladder", "measure"]

Run: TypeAlias = Callable[[], Awaitable[None] | None]
"""The measured function; its result is awaited if it is awaitable."""
Prepare: TypeAlias = Callable[[int], Run]
"""Prepares a number of operations, unmeasured, and returns the measured function."""

DEFAULT_LIMIT = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: samples of every size.
        seconds: the minimum CPU time of a sample.
        shrink: the divisor of the largest size.
    """

    rounds: int = 7
    seconds: float = 0.010
    shrink: int = 1

    def sizes(self, full: Sequence[int], most: int = 1 << 20) -> list[int]:
        """Return the sizes to measure, at least the four smallest.

        Arguments:
            full: the sizes of a full run, in ascending order.
            most: the maximum for ``shrink``, for series whose small sizes show little.
        """
        shrink = min(self.shrink, most)
        kept = [size for size in full if size * shrink <= full[-1]]
        return kept if len(kept) >= 4 else list(full[:4])


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        key: its name in the data.
        plot: the key of its plot.
        label: its name in the tables and plots.
        make: takes a size and returns a function that prepares samples of this size.
        most: takes a size and returns the maximum number of operations in a sample.
        floor: as ``make``, for the floor, or None: see ``fit``.
        limit: the maximum exponent, or None.
    """

    key: str
    plot: str
    label: str
    sizes: Sequence[int]
    make: Callable[[int], Prepare]
    most: Callable[[int], int] = lambda _: 1_000_000
    floor: Callable[[int], Prepare] | None = None
    limit: float | None = DEFAULT_LIMIT

    def record(
        self,
        samples: Sequence[Sequence[float]],
        repeats: Sequence[int] = (),
        floors: Sequence[Sequence[float]] = (),
        unit: str = "s",
    ) -> dict[str, Any]:
        """Return the series as JSON values, with all samples."""
        return {
            "key": self.key,
            "plot": self.plot,
            "label": self.label,
            "limit": self.limit,
            "unit": unit,
            "sizes": list(self.sizes),
            "repeats": list(repeats),
            "samples": [list(costs) for costs in samples],
            "floors": [list(costs) for costs in floors],
        }


def ladder(least: int, most: int, factor: int) -> list[int]:
    """Return least, least * factor, .. up to and always including ``most``."""
    sizes = []
    size = least
    while size < most:
        sizes.append(size)
        size *= factor
    return [*sizes, most]


async def measure(series: Series, plan: Plan) -> dict[str, Any]:
    """Measure a series; its samples are seconds of CPU time for one operation.

    Returns:
        the result of :meth:`Series.record`.
    """
    points = [
        await _Point.ready(series.make(size), plan, series.most(size)) for size in series.sizes
    ]
    floors = []
    if series.floor is not None:
        floors = [
            await _Point.ready(series.floor(size), plan, series.most(size)) for size in series.sizes
        ]
    for turn in range(plan.rounds):
        for step in range(len(points)):
            at = (turn + step) % len(points)
            await points[at].sample()
            if floors:
                await floors[at].sample()
    return series.record(
        [point.samples for point in points],
        [point.count for point in points],
        [floor.samples for floor in floors],
    )


class _Point:
    """One size of a series: the repetitions per sample, and the samples so far."""

    def __init__(self, prepare: Prepare, count: int) -> None:
        self.count = count
        self.samples: list[float] = []
        self._prepare = prepare

    @classmethod
    async def ready(cls, prepare: Prepare, plan: Plan, most: int) -> _Point:
        return cls(prepare, await _repeats(prepare, plan, most))

    async def sample(self) -> None:
        self.samples.append(await _sample(self._prepare, self.count) / self.count)


async def _sample(prepare: Prepare, count: int) -> float:
    run = prepare(count)
    gc.collect()
    start = time.process_time()
    awaitable = run()
    if awaitable is not None:
        await awaitable
    # 0 has no logarithm.
    return max(time.process_time() - start, 1e-9)


async def _repeats(prepare: Prepare, plan: Plan, most: int) -> int:
    """Return how many operations make a sample long enough, with a margin."""
    count = 1
    # An operation that takes this long needs no second run to be warm.
    if await _sample(prepare, count) >= plan.seconds * 20:
        return count
    while True:
        seconds = await _sample(prepare, count)
        if seconds >= plan.seconds * 1.2 or count >= most:
            return count
        wanted = int(count * plan.seconds * 1.5 / seconds) + 1
        count = min(most, max(count + 1, min(wanted, count * 100)))


def complete(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run a coroutine that never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: dict[str, Any] = end.value
        return result
    coroutine.close()
    raise RuntimeError("the measured coroutine must not wait")
