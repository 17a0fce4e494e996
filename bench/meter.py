"""The clocks and the memory gauge of a worker process.

Memory is the peak resident set, reset before the part that counts. `ru_maxrss` would not do: a
child process starts with what its parent had at the fork, and it can't be reset. It serves where
the kernel has no /proc.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from pathlib import Path

from bench.jobs import Outcome

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
    """Call `baseline` once connected, `start` and `stop` around what is measured."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._clock = self._cpu = 0.0

    def baseline(self) -> None:
        """Take the memory now as the state that a rise is counted from."""
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK)
        self.outcome.memory_before = memory_now()

    def start(self) -> None:
        self._cpu = cpu_time()
        self._clock = time.perf_counter()

    def stop(self, count: int) -> None:
        self.outcome.seconds = time.perf_counter() - self._clock
        self.outcome.cpu = cpu_time() - self._cpu
        self.outcome.memory_peak = memory_peak()
        self.outcome.count = count
