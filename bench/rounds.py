"""Running workers in turns, and keeping what they measured.

A round is one measurement of every client; the order is rotated from round to round, so that no
client is always first after a pause or always behind the one that made the server busy. One failure
of a client doesn't end the run: it is printed, it makes the exit status 1, and that client's
figures are left out where there are none.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.jobs import Job, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parent.parent
_WORKER_SECONDS = 600


class WorkerFailed(Exception):
    """A worker ended with an error; the text is the last line that it wrote."""


def environment() -> dict[str, str]:
    """The environment of a worker: it measures this checkout, installed or not."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def measure(job: Job) -> Outcome:
    """Run one job in a process of its own.

    Raises:
        WorkerFailed: It ended with an error, or took too long.
    """
    command = [sys.executable, "-m", "bench.worker", job.to_json()]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
            timeout=_WORKER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkerFailed(f"no result in {_WORKER_SECONDS} s") from error
    if done.returncode != 0:
        raise WorkerFailed(done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}")
    return Outcome.from_json(done.stdout.rpartition("\n")[0].rpartition("\n")[2])


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """Several measurements of one thing: their median and extremes."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def to_json(self) -> dict[str, object]:
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": self.values,
        }


@dataclasses.dataclass(slots=True)
class Samples:
    """All measurements of one client in one work."""

    client: str
    work: str
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)

    @property
    def rate(self) -> Figure:
        """Operations (or rows) a second."""
        return Figure(tuple(outcome.rate for outcome in self.outcomes))

    @property
    def cpu(self) -> Figure:
        """Client CPU for each operation, in microseconds."""
        return Figure(tuple(outcome.cpu_each for outcome in self.outcomes))

    @property
    def peak(self) -> Figure:
        """Peak resident set in MiB."""
        return Figure(tuple(outcome.memory_peak / 2**20 for outcome in self.outcomes))

    @property
    def rise(self) -> Figure:
        """Rise of the peak above what the process had once connected, in MiB."""
        return Figure(tuple(outcome.memory_rise / 2**20 for outcome in self.outcomes))

    def to_json(self) -> dict[str, object]:
        first = self.outcomes[0]
        return {
            "client": self.client,
            "work": self.work,
            "client_version": first.version,
            "protocol": first.protocol,
            "count": first.count,
            "rate_per_second": self.rate.to_json(),
            "cpu_microseconds": self.cpu.to_json(),
            "memory_peak_mib": self.peak.to_json(),
            "memory_rise_mib": self.rise.to_json(),
        }


def interleaved(
    jobs: Sequence[Job],
    rounds: int,
    run: Callable[[Job], Outcome],
    failed: Callable[[Job, str], None],
) -> list[Samples]:
    """Run every job `rounds` times, in rotating order.

    Returns:
        The samples in the order of `jobs`; a job that always failed has none and is left out.
    """
    samples = {job: Samples(job.client, job.work) for job in jobs}
    for turn in range(rounds):
        shift = turn % len(jobs)
        for job in (*jobs[shift:], *jobs[:shift]):
            try:
                samples[job].outcomes.append(run(job))
            except WorkerFailed as error:
                failed(job, str(error))
    return [sample for sample in samples.values() if sample.outcomes]
