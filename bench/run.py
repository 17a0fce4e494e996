"""The command `python -m bench`: its options, running the parts, and reporting failures."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import parts, report, servers
from bench.jobs import Job
from bench.rounds import WorkerFailed, measure, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.servers import Address


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and where to write the results."""

    parts: tuple[str, ...]
    rounds: int
    quick: bool
    seconds: float
    stream_rows: int
    clients: tuple[str, ...]
    folder: Path
    keep: bool


class Bench:
    """One run: its plan, its console, and its problems so far."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._status = console.status("")
        self._cassandra = ""
        self.problems: list[str] = []

    def run(self) -> None:
        """Measure the parts of the plan, and write the results after each part."""
        with self._status, contextlib.ExitStack() as stack:
            context = self._context()
            if parts.NEED_CASSANDRA.intersection(self._plan.parts):
                self._say("a Cassandra to measure against")
                address = stack.enter_context(servers.cassandra())
                context = dataclasses.replace(context, cassandra=address)
                stack.enter_context(self._schema(address))
            if parts.NEED_CANNED.intersection(self._plan.parts):
                assert context.cassandra is not None
                try:
                    canned = stack.enter_context(servers.canned(context.cassandra))
                    context = dataclasses.replace(context, canned=canned)
                except servers.Unavailable as error:
                    self._problem(str(error))
            for part in self._plan.parts:
                if part in parts.NEED_CANNED and context.canned is None:
                    self._problem(f"{part} needs the canned server: left out")
                else:
                    self._part(part, context)

    def _context(self) -> parts.Context:
        plan = self._plan
        return parts.Context(
            plan.rounds,
            plan.quick,
            plan.seconds,
            plan.stream_rows,
            plan.clients,
            self._say,
            self._problem,
        )

    def _part(self, part: str, context: parts.Context) -> None:
        began = time.monotonic()
        try:
            data = parts.measure(part, context)
        except Exception as error:
            # Any error ends only this part; the others still run.
            self._problem(f"{part}: {type(error).__name__}: {said(str(error))}")
            return
        # Parts that are packages return their problems with their data.
        for text in data.get("problems", ()):
            self._problem(f"{part}: {text}")
        results = report.load(self._plan.folder)
        results["parts"][part] = {"about": report.about(self._plan.rounds), "data": data}
        if self._cassandra:
            results["cassandra"] = self._cassandra
        report.save(self._plan.folder, results)
        self._console.print(f"{part}: {time.monotonic() - began:.0f} s")

    @contextlib.contextmanager
    def _schema(self, address: Address) -> Iterator[None]:
        """Create the benchmark's tables, and drop them on leaving."""
        # Tables that an earlier version of the benchmark left may have other columns.
        if not self._plan.keep:
            measure(Job("admin", "drop", *address))
        self._cassandra = measure(Job("admin", "setup", *address)).version
        try:
            yield
        finally:
            if not self._plan.keep:
                measure(Job("admin", "drop", *address))

    def _say(self, text: str) -> None:
        self._status.update(text)

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)
            self._console.print(f"PROBLEM: {text}", style="bold red", markup=False, highlight=False)


def _plan(given: argparse.Namespace) -> Plan:
    quick: bool = given.quick
    return Plan(
        parts=tuple(part for part in parts.MODULES if not given.only or part in given.only),
        rounds=given.rounds or (2 if quick else 7),
        quick=quick,
        seconds=given.seconds or (0.1 if quick else 0.45),
        stream_rows=given.stream_rows or (100_000 if quick else 1_000_000),
        clients=tuple(given.clients or ()),
        folder=_folder(given),
        keep=given.keep,
    )


def _folder(given: argparse.Namespace) -> Path:
    if given.output:
        return Path(given.output)
    # With --clients, the figures of some clients would replace those of all.
    return report.SCRATCH if given.quick or given.clients else report.PUBLISHED


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure cqlproto and its peers, and write docs/performance.md.",
    )
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        choices=list(parts.MODULES),
        metavar="PART",
        help=f"only these parts; the others' figures stay: {', '.join(parts.MODULES)}",
    )
    parser.add_argument(
        "--render", action="store_true", help="only render the page from performance.json"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each client (7)")
    parser.add_argument("--seconds", type=float, help="approximate seconds of a turn (0.45)")
    parser.add_argument("--stream-rows", type=int, help="rows of the stream (1,000,000)")
    parser.add_argument(
        "--clients",
        action="extend",
        nargs="+",
        metavar="PATTERN",
        help="only clients whose names match, such as 'cqlproto/*'; written to bench/results",
    )
    parser.add_argument(
        "--quick", action="store_true", help="take a few minutes; written to bench/results"
    )
    parser.add_argument("--output", metavar="FOLDER", help="write to this folder instead of docs")
    parser.add_argument(
        "--keep", action="store_true", help="keep the keyspace, and reuse that of an earlier run"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if anything was left out or failed."""
    given = _arguments(arguments)
    console = Console(width=None if sys.stdout.isatty() else 150)
    plan = _plan(given)
    bench = Bench(plan, console)
    try:
        if not given.render:
            bench.run()
        page = report.render(plan.folder)
        _summary(report.load(plan.folder), console)
        console.print(f"written: {page}", soft_wrap=True)
    except (WorkerFailed, servers.Unavailable, OSError) as error:
        console.print(f"bench: {error}", style="bold red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if bench.problems else 0


def _summary(results: dict[str, Any], console: Console) -> None:
    for gate in report.gates(results):
        sign = ">=" if gate.higher else "<="
        style = "green" if gate.met else "red"
        console.print(
            f"{gate.measured:10.3f} {sign} {gate.limit:<6g} {gate.what}", style=style, markup=False
        )
