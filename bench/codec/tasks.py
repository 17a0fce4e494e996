"""What a worker process measures: a function that runs so many times and says what CPU it took.

The clock is that of the process (``time.process_time``): other programs on the same cores take wall
time from a sample, and little of this. The garbage collector is on, as in an ordinary program, and
each sample begins behind a full collection. What a call returns is freed within the sample, since
every user of rows pays for that too.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from time import process_time
from typing import NamedTuple

__all__ = ["Task", "calls", "loops_for"]


class Task(NamedTuple):
    """Something to measure.

    Attributes:
        run: takes a number of loops, returns the CPU time of all of them, in seconds.
        units: what a loop counts for: 1, or the frames of a chunk.
    """

    run: Callable[[int], float]
    units: float = 1.0


def calls(call: Callable[[], object], *, units: float = 1.0, warm_up: int = 0) -> Task:
    """Return the task of calling a function over and over.

    Arguments:
        call: the function.
        units: what a call counts for.
        warm_up: how often it is called first, for decoders that are compiled after so many rows.
    """
    for _ in range(warm_up):
        call()

    def run(loops: int) -> float:
        repeat = itertools.repeat(None, loops)
        start = process_time()
        for _ in repeat:
            call()
        return process_time() - start

    return Task(run, units)


def loops_for(task: Task, seconds: float) -> int:
    """Return how many loops take so long; 1 if that is 0."""
    loops = 1
    while seconds:
        gc.collect()
        taken = task.run(loops)
        if taken >= seconds:
            break
        # Towards it by steps, as the first calls are often slow.
        loops = min(loops * 10, max(loops + 1, int(loops * seconds * 1.2 / max(taken, 1e-7))))
    return loops
