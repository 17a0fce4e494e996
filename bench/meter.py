"""Measures the time and memory of a worker process.

Memory is the peak resident set, which is reset before each measurement. `ru_maxrss` is only the
fallback for systems without /proc: it can't be reset, and a child process inherits its parent's
value at the fork.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.jobs import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def memory_now() -> int:
    """Return the resident set in bytes; without /proc, the peak so far."""
    return _status("VmRSS") if _STATUS.exists() else memory_peak()


def memory_peak() -> int:
    """Return the largest resident set since the last reset, in bytes."""
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_time() -> float:
    """Return the user and system time of all threads of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Meter:
    """Measures between `start` and `stop`; prepare everything before `start`."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._clock = self._cpu = 0.0

    def start(self) -> None:
        # Collect the garbage of earlier measurements first.
        gc.collect()
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK)
        self.outcome.memory_before = memory_now()
        self._cpu = cpu_time()
        self._clock = time.perf_counter()

    def stop(self, count: int, operations: int = 0) -> None:
        self.outcome.seconds = time.perf_counter() - self._clock
        self.outcome.cpu = cpu_time() - self._cpu
        self.outcome.memory_peak = memory_peak()
        self.outcome.count = count
        self.outcome.operations = operations or count

    def latencies(self, seconds: Sequence[float]) -> None:
        """Store the percentiles of these latencies, which are in seconds."""
        ordered = sorted(seconds)
        self.outcome.p50 = percentile(ordered, 0.5)
        self.outcome.p99 = percentile(ordered, 0.99)
        self.outcome.p999 = percentile(ordered, 0.999)


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """Return a percentile of sorted latencies, in microseconds.

    None if less than one latency would be above it, because the largest one is not a percentile.
    """
    if round(len(ordered) * (1 - part), 6) < 1:
        return None
    return ordered[int(len(ordered) * part)] * 1e6


def timed(values: Iterable[object], latencies: list[float]) -> Iterator[object]:
    """Yield the values, and record the time until the next one is requested.

    A task makes one request for each value, so this is the time from the values to the result, for
    all clients alike.
    """
    clock, note = time.perf_counter, latencies.append
    for value in values:
        began = clock()
        yield value
        note(clock() - began)
