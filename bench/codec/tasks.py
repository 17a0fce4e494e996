"""Tasks of a worker process: functions that run a number of loops and return the CPU time.

The clock is the CPU time of the process (``time.process_time``), because other programs on the same
cores affect it less than wall time. The garbage collector is on, as in an ordinary program, after a
full collection before each sample. The result of a call is freed within the sample, because every
user of rows pays for that as well.
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
        run: takes a number of loops; returns their total CPU time, in seconds.
        units: how many units a loop counts for: 1, or the number of frames in a chunk.
    """

    run: Callable[[int], float]
    units: float = 1.0


def calls(call: Callable[[], object], *, units: float = 1.0, warm_up: int = 0) -> Task:
    """Return the task of calling a function repeatedly.

    Arguments:
        call: the function.
        units: how many units a call counts for.
        warm_up: how often it is called first, so that decoders are compiled.
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
    """Return how many loops take ``seconds`` of CPU time, at least 1."""
    loops = 1
    while seconds:
        gc.collect()
        taken = task.run(loops)
        if taken >= seconds:
            break
        # Increase in steps, because the first calls are often slow.
        loops = min(loops * 10, max(loops + 1, int(loops * seconds * 1.2 / max(taken, 1e-7))))
    return loops
