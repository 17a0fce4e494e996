"""The command `python -m bench`: what runs, in what order, with which numbers.

The package's own docstring says what for.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from bench import report, servers
from bench.imports import import_times
from bench.jobs import Job, Outcome, Work
from bench.rounds import Samples, WorkerFailed, interleaved, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.servers import Address, Canned

PARTS = ("live", "canned", "stream", "import")
OURS = ("cqlproto/asyncio", "cqlproto/trio", "cqlproto/uvloop")
PEERS = report.PEERS
BARE = ("bare/asyncio", "bare/trio", "bare/uvloop")
TUPLES = "cqlproto/asyncio/tuple"
NEWEST = "cqlproto/asyncio/v5"
UNITS: dict[Work, str] = {"write": "writes", "read": "reads", "scan": "rows", "stream": "rows"}
NEEDS = {"acsylla": "acsylla", "cassandra-driver": "cassandra", "trio": "trio", "uvloop": "uvloop"}

WARM_UP = 2_000
"""Requests before the clock runs, for decoders to be made and the server to be compiled."""
SCAN_PASSES = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    parts: tuple[str, ...]
    rounds: int
    operations: int
    stream_rows: int
    import_runs: int
    keep: bool


class Bench:
    """One run: its plan, its console, and the results so far."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._results: dict[str, object] = {
            "machine": report.machine(),
            "plan": dataclasses.asdict(plan),
        }
        self._missing = sorted(
            name for name, module in NEEDS.items() if importlib.util.find_spec(module) is None
        )
        self.problems: list[str] = []

    def run(self) -> None:
        for name in self._missing:
            self._problem(f"{NEEDS[name]} is not installed: {name} is left out")
        if {"live", "canned", "stream"}.intersection(self._plan.parts):
            with (
                self._console.status("a Cassandra to measure against"),
                servers.cassandra() as address,
            ):
                self._with_cassandra(address)
        if "import" in self._plan.parts:
            self._import()
        self._console.print(f"every measurement: {report.write(self._results)}")

    def _with_cassandra(self, address: Address) -> None:
        # A schema left by an earlier version of this benchmark would not fit.
        if not self._plan.keep:
            self._measure(_job("cqlproto/asyncio", "drop", address, 1))
        self._measure(_job("cqlproto/asyncio", "setup", address, 1))
        if "live" in self._plan.parts:
            self._live(address)
        if "canned" in self._plan.parts:
            try:
                with servers.canned(address) as canned:
                    self._canned(canned)
            except servers.Unavailable as error:
                self._problem(f"canned is left out: {error}")
        if "stream" in self._plan.parts:
            self._stream(address)
        if not self._plan.keep:
            self._measure(_job("cqlproto/asyncio", "drop", address, 1))

    def _live(self, address: Address) -> None:
        everyone = (*OURS, NEWEST, *PEERS)
        operations: dict[Work, int] = {
            "write": self._plan.operations,
            "read": self._plan.operations,
            "scan": SCAN_PASSES,
        }
        for work, count in operations.items():
            warm_up = 1 if work == "scan" else WARM_UP
            jobs = [
                _job(client, work, address, count, warm_up) for client in self._present(everyone)
            ]
            samples = self._rounds("live", jobs)
            title = f"live: {work}s, {_in_words(jobs[0])}, median of {self._plan.rounds} rounds"
            self._console.print(report.throughput(title, samples, UNITS[work]))

    def _canned(self, canned: Canned) -> None:
        def run(job: Job) -> Outcome:
            before = canned.executed()
            outcome = measure(job)
            # One that reads the real server's address in its tables, and goes there, is no use.
            requests = 1 if job.work == "scan" else outcome.count
            if canned.executed() - before < requests:
                raise WorkerFailed("it did not send its requests to the canned server")
            return outcome

        everyone: dict[Work, tuple[str, ...]] = {
            "write": (*OURS, *BARE, *PEERS),
            "read": (*OURS, TUPLES, *BARE, *PEERS),
            "scan": (*OURS, TUPLES, *PEERS),
        }
        for work, clients in everyone.items():
            jobs = []
            for client in self._present(clients):
                # CPU for each needs fewer of them from a client that takes twenty times as long.
                count = (
                    self._plan.operations // 2
                    if client == "cassandra-driver"
                    else self._plan.operations * 3
                )
                count, warm_up = (SCAN_PASSES, 1) if work == "scan" else (count, WARM_UP)
                jobs.append(_job(client, work, canned.address, count, warm_up, one_key=True))
            samples = self._rounds("canned", jobs, run)
            title = f"canned: CPU of {UNITS[work]}, {_in_words(jobs[0])}"
            self._console.print(report.cpu(title, samples))

    def _stream(self, address: Address) -> None:
        rows = self._plan.stream_rows
        loaded = self._measure(_job("cqlproto/asyncio", "load", address, rows))
        self._console.print(f"{rows:,} rows loaded in {loaded.seconds:.1f} s")
        clients = (*OURS, TUPLES, *PEERS)
        jobs = [_job(client, "stream", address, rows) for client in self._present(clients)]
        samples = self._rounds("stream", jobs, rounds=min(self._plan.rounds, 3))
        self._console.print(report.throughput(f"stream of {rows:,} rows", samples, "rows"))

    def _import(self) -> None:
        try:
            base, above = import_times("cqlproto_anyio", self._plan.import_runs)
        except WorkerFailed as error:
            self._problem(f"import is left out: {error}")
            return
        self._results["import"] = {"base_ms": base.to_json(), "above_ms": above.to_json()}
        self._console.print(report.imports(base, above))

    def _rounds(
        self,
        part: str,
        jobs: Sequence[Job],
        run: Callable[[Job], Outcome] = measure,
        rounds: int | None = None,
    ) -> list[Samples]:
        rounds = rounds or self._plan.rounds
        with self._console.status("") as status:

            def show(job: Job) -> Outcome:
                status.update(f"{part} {job.work}: {job.client}")
                return run(job)

            samples = interleaved(
                jobs,
                rounds,
                show,
                lambda job, error: self._problem(f"{job.client} {job.work}: {error}"),
            )
        kept = self._results.setdefault(part, [])
        assert isinstance(kept, list)
        kept.extend(sample.to_json() for sample in samples)
        return samples

    def _measure(self, job: Job) -> Outcome:
        with self._console.status(job.work):
            return measure(job)

    def _present(self, clients: Sequence[str]) -> list[str]:
        return [
            client for client in clients if not set(client.split("/")).intersection(self._missing)
        ]

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
            self._console.print(f"PROBLEM: {text}", style="bold red", markup=False, highlight=False)


def _job(
    client: str,
    work: Work,
    address: Address,
    operations: int,
    warm_up: int = 0,
    *,
    one_key: bool = False,
) -> Job:
    return Job(client, work, *address, operations=operations, warm_up=warm_up, one_key=one_key)


def _in_words(job: Job) -> str:
    if job.work == "scan":
        return f"{job.operations} passes in pages of {job.page_size:,}"
    return f"{job.operations:,} requests, {job.in_flight} in flight"


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure cqlproto beside its peers."
    )
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="this part alone; may be given again"
    )
    parser.add_argument("--rounds", type=int, help="measurements of every client (7)")
    parser.add_argument("--ops", type=int, help="requests of each live measurement (30,000)")
    parser.add_argument("--stream-rows", type=int, help="rows of the stream (1,000,000)")
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes less, and figures to match"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the keyspace, and use what an earlier run left"
    )
    given = parser.parse_args(arguments)
    quick: bool = given.quick
    return Plan(
        parts=tuple(given.only or PARTS),
        rounds=given.rounds or (3 if quick else 7),
        operations=given.ops or (5_000 if quick else 30_000),
        stream_rows=given.stream_rows or (100_000 if quick else 1_000_000),
        import_runs=11 if quick else 21,
        keep=given.keep,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the status is 1 if any part of it was left out or failed."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    bench = Bench(_plan(arguments), console)
    try:
        bench.run()
    except (WorkerFailed, servers.Unavailable, OSError) as error:
        console.print(f"bench: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if bench.problems else 0
