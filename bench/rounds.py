"""Runs workers in turns and collects their samples.

In a round, every client does every cell (a kind of work with a number of requests in flight) once.
In each cell, the clients take turns in a rotated order, so that no client is always first after a
pause or always follows the one that made the server busy, and disturbances of the machine affect
all of them. A failure doesn't end the run: it is reported, and the client's cell is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.jobs import Job, Outcome, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.servers import Address

ROOT = Path(__file__).parent.parent
SCYLLA_DRIVER = ROOT / ".bench" / "scylla-driver"
_WORKER_SECONDS = 600
_END_SECONDS = 20
_MOST_FAILURES = 3


class WorkerFailed(Exception):
    """A worker ended with an error; the text is the worker's error message."""


def environment(client: str = "") -> dict[str, str]:
    """Return the environment of a worker, which imports this checkout, installed or not."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if client.startswith("scylla-driver"):
        # scylla-driver has the module name of cassandra-driver, so its folder comes first.
        paths.insert(0, str(SCYLLA_DRIVER))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


_ERROR = re.compile(r"^[\w.]*(Error|Exception|Result|Failed|Exit)\w*(: |$)")


def said(text: str) -> str:
    """Return the error at the end of a process's output: a traceback's message or the last line."""
    lines = text.strip().splitlines() or [""]
    return next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1])


class Worker:
    """A process that measures one client; see bench.worker."""

    def __init__(self, client: str, address: Address) -> None:
        host, port = address
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", client, host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(client),
        )

    def measure(self, job: Job) -> Outcome:
        """Run one job in the worker.

        Raises:
            WorkerFailed: the worker ended with an error or took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # If the worker is gone, reading its reply fails too, and reports its error.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(job.to_json() + "\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], _WORKER_SECONDS)[0]:
            raise WorkerFailed(f"no result in {_WORKER_SECONDS} s")
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            why = said(self._errors.read()) or f"its worker ended with status {status}"
            raise WorkerFailed(why)
        return Outcome.from_json(line)

    def close(self) -> None:
        """End the worker by closing its input; kill it if it does not end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def measure(job: Job) -> Outcome:
    """Run one job in a new process.

    Raises:
        WorkerFailed: the worker ended with an error or took too long.
    """
    with contextlib.closing(Worker(job.client, (job.host, job.port))) as worker:
        return worker.measure(job)


class Workers:
    """One worker per client, started for its first job and again after a failure."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._workers: dict[str, Worker] = {}

    def measure(self, job: Job) -> Outcome:
        if job.client not in self._workers:
            self._workers[job.client] = Worker(job.client, self._address)
        try:
            return self._workers[job.client].measure(job)
        except WorkerFailed:
            self._workers.pop(job.client).close()
            raise

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


@contextlib.contextmanager
def workers(address: Address) -> Iterator[Workers]:
    """Yield workers, and end them on leaving."""
    with contextlib.closing(Workers(address)) as them:
        yield them


@dataclasses.dataclass(slots=True)
class Sample:
    """All measurements of one client in one cell."""

    client: str
    work: Work
    in_flight: int
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    recipe: str = ""
    one_key: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return all values, with four significant digits."""
        first = self.outcomes[0]
        values: dict[str, list[float]] = {
            "rate": [each.rate for each in self.outcomes],
            "cpu_us": [each.cpu_each for each in self.outcomes],
            "before_mib": [each.memory_before / 2**20 for each in self.outcomes],
            "peak_mib": [each.memory_peak / 2**20 for each in self.outcomes],
        }
        for name in ("p50", "p99", "p999"):
            found = [getattr(each, name) for each in self.outcomes]
            if None not in found:
                values[f"{name}_us"] = found
        of_recipe: dict[str, Any] = {}
        if self.recipe:
            values["requests"] = [each.requests / each.count for each in self.outcomes]
            values["wrong"] = [each.wrong for each in self.outcomes]
            of_recipe = {"recipe": self.recipe, "one_key": self.one_key}
        return {
            "client": self.client,
            "work": self.work,
            "in_flight": self.in_flight,
            **of_recipe,
            "version": first.version,
            "protocol": first.protocol,
            "count": first.count,
            **{name: [rounded(value) for value in each] for name, each in values.items()},
        }


def rounded(value: float) -> float:
    """Return the value with four significant digits, as an int if it has no fraction."""
    text = float(f"{value:.4g}")
    return int(text) if text.is_integer() else text


def interleaved(
    jobs: Sequence[Sequence[Job]],
    rounds: int,
    run: Callable[[Job], Outcome],
    failed: Callable[[Job, str], None],
    longest: float = float("inf"),
) -> list[Sample]:
    """Run every job of every cell `rounds` times; a cell is a list of jobs, one per client.

    A job that takes more than `longest` seconds runs in one round only.

    Returns:
        The samples in the order of `jobs`, without the jobs that failed.
    """
    samples = {
        job: Sample(job.client, job.work, job.in_flight, [], job.recipe, job.one_key)
        for cell in jobs
        for job in cell
    }
    counts: dict[Job, int] = {}
    done: set[Job] = set()
    failures: dict[str, int] = {}
    for turn in range(rounds):
        for number, cell in enumerate(jobs):
            shift = (turn + number) % len(cell)
            for job in (*cell[shift:], *cell[:shift]):
                if job in done or failures.get(job.client, 0) >= _MOST_FAILURES:
                    continue
                try:
                    # Use the number of operations of the first round.
                    outcome = run(
                        dataclasses.replace(job, operations=counts.get(job, 0) or job.operations)
                    )
                except WorkerFailed as error:
                    done.add(job)
                    samples[job].outcomes.clear()
                    failures[job.client] = failures.get(job.client, 0) + 1
                    failed(job, str(error))
                else:
                    counts[job] = outcome.operations
                    samples[job].outcomes.append(outcome)
                    if outcome.seconds > longest:
                        done.add(job)
    return [sample for sample in samples.values() if sample.outcomes]
