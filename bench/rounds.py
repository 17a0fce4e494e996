"""Workers in turns: who is measured when, and what is kept of it.

In a round every client does every cell (a work at so many requests in flight) once. The clients
take turns cell by cell, in an order that is rotated each time, so that no client is always first
after a pause or always behind the one that made the server busy, and what the machine does
meanwhile meets all of them. A failure doesn't end the run: it is told, and that client's cell is
left out.
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
    """A worker ended with an error; the text is the last line that it wrote."""


def environment(client: str = "") -> dict[str, str]:
    """The environment of a worker: it measures this checkout, installed or not."""
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    if client.startswith("scylla-driver"):
        # It has the module name of cassandra-driver, so it has a folder of its own, put first.
        paths.insert(0, str(SCYLLA_DRIVER))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


_ERROR = re.compile(r"^[\w.]*(Error|Exception|Result|Failed|Exit)\w*(: |$)")


def said(text: str) -> str:
    """What a process said last about an error: the message of a traceback, else its last line."""
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
        """Have it do one job.

        Raises:
            WorkerFailed: It ended with an error, or took too long.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # If it is gone, there is no reply to read either, and its last words say why.
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
        """End it, by the end of its input; if it doesn't heed that, by force."""
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
    """Run one job in a process of its own.

    Raises:
        WorkerFailed: It ended with an error, or took too long.
    """
    with contextlib.closing(Worker(job.client, (job.host, job.port))) as worker:
        return worker.measure(job)


class Workers:
    """A worker per client, started at its first job and again after a failure."""

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
    """Workers that are ended at the end."""
    with contextlib.closing(Workers(address)) as them:
        yield them


@dataclasses.dataclass(slots=True)
class Sample:
    """All measurements of one client in one cell."""

    client: str
    work: Work
    in_flight: int
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Every single value, each with four significant digits."""
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
        return {
            "client": self.client,
            "work": self.work,
            "in_flight": self.in_flight,
            "version": first.version,
            "protocol": first.protocol,
            "count": first.count,
            **{name: [rounded(value) for value in each] for name, each in values.items()},
        }


def rounded(value: float) -> float:
    """Four significant digits, as an int where none of them is a fraction."""
    text = float(f"{value:.4g}")
    return int(text) if text.is_integer() else text


def interleaved(
    jobs: Sequence[Sequence[Job]],
    rounds: int,
    run: Callable[[Job], Outcome],
    failed: Callable[[Job, str], None],
    longest: float = float("inf"),
) -> list[Sample]:
    """Run every job of every cell `rounds` times; a cell is the jobs of its clients.

    A job that takes more than `longest` seconds is run in one round only.

    Returns:
        The samples in the order of `jobs`; a job that failed has none and is left out.
    """
    samples = {job: Sample(job.client, job.work, job.in_flight) for cell in jobs for job in cell}
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
                    # As many operations as it did in the first round.
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
