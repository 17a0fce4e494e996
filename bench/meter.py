"""The clocks and the memory gauge of a worker process.

Memory is the peak resident set, reset before the part that counts. `ru_maxrss` would not do: a
child process starts with what its parent had at the fork, and it can't be reset. It serves where
the kernel has no /proc.
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
    """The resident set in bytes; the peak so far where the system can't say."""
    return _status("VmRSS") if _STATUS.exists() else memory_peak()


def memory_peak() -> int:
    """The largest resident set since the last reset, in bytes."""
    if _STATUS.exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cpu_time() -> float:
    """User and system time of all threads of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Meter:
    """Call `start` and `stop` around what is measured, once what it needs has been made."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._clock = self._cpu = 0.0

    def start(self) -> None:
        # What earlier measurements left behind is not this one's to collect.
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
        """Keep the percentiles of these latencies."""
        ordered = sorted(seconds)
        self.outcome.p50 = percentile(ordered, 0.5)
        self.outcome.p99 = percentile(ordered, 0.99)
        self.outcome.p999 = percentile(ordered, 0.999)


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """That part of the way up the sorted latencies, in microseconds.

    None where fewer than one request is beyond it: the largest one is no percentile.
    """
    if round(len(ordered) * (1 - part), 6) < 1:
        return None
    return ordered[int(len(ordered) * part)] * 1e6


def timed(values: Iterable[object], latencies: list[float]) -> Iterator[object]:
    """Pass values on, and note how long it took until the next was asked for.

    A task that loops over it makes one request of each value, so that is from the values in hand to
    the result in hand; all clients alike.
    """
    clock, note = time.perf_counter, latencies.append
    for value in values:
        began = clock()
        yield value
        note(clock() - began)
