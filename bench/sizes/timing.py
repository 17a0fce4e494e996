"""How a series is measured: process CPU time, long samples, all sizes in every round.

A sample repeats what it measures until it takes long enough for the clock. The number of
repetitions is found before the first round, which also warms up what is compiled or cached. Each
round takes every size once, beginning with another one than the round before, so that a machine
that becomes slower for a while does not bend the curve. The collector runs between samples, so that
none pays for the garbage of the one before; what is garbage within a sample is part of its cost.
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
"""What is measured; awaited if it is awaitable."""
Prepare: TypeAlias = Callable[[int], Run]
"""Makes ready, unmeasured, so many operations."""

DEFAULT_LIMIT = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: samples of every size.
        seconds: how long a sample takes at least, in CPU time.
        shrink: the largest size is the full one over this.
    """

    rounds: int = 7
    seconds: float = 0.010
    shrink: int = 1

    def sizes(self, full: Sequence[int], most: int = 1 << 20) -> list[int]:
        """Return the sizes to measure; the four smallest at least.

        Arguments:
            full: the sizes of a full run, ascending.
            most: how much they shrink at most: where small sizes cost little and say little.
        """
        shrink = min(self.shrink, most)
        kept = [size for size in full if size * shrink <= full[-1]]
        return kept if len(kept) >= 4 else list(full[:4])


@dataclass(frozen=True, slots=True)
class Series:
    """One curve.

    Attributes:
        key: its name in the data.
        plot: the plot that it stands in.
        label: its name for readers.
        make: takes a size and returns what prepares samples of it.
        most: takes a size and returns how many operations one sample may have.
        floor: as ``make``, for the least that could be done instead, or None: see ``fit``.
        limit: the exponent that must not be exceeded, or None.
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
        """Return the series as it is kept, with every single sample."""
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
    """Return least, least * factor, .. up to ``most``, which is the last in any case."""
    sizes = []
    size = least
    while size < most:
        sizes.append(size)
        size *= factor
    return [*sizes, most]


async def measure(series: Series, plan: Plan) -> dict[str, Any]:
    """Measure a series; its samples are seconds of CPU time for one operation.

    Returns:
        what :meth:`Series.record` makes of them.
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
    """One size of a series: how often a sample repeats it, and the samples so far."""

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
    # A clock that has not moved would have no logarithm.
    return max(time.process_time() - start, 1e-9)


async def _repeats(prepare: Prepare, plan: Plan, most: int) -> int:
    """Return how many operations take long enough, with something to spare."""
    count = 1
    # What takes so long the first time needs no second one to be warm.
    if await _sample(prepare, count) >= plan.seconds * 20:
        return count
    while True:
        seconds = await _sample(prepare, count)
        if seconds >= plan.seconds * 1.2 or count >= most:
            return count
        wanted = int(count * plan.seconds * 1.5 / seconds) + 1
        count = min(most, max(count + 1, min(wanted, count * 100)))


def complete(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Run a measurement that never waits to its end, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: dict[str, Any] = end.value
        return result
    coroutine.close()
    raise RuntimeError("a measurement that was to run through has waited")
