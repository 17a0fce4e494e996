"""All clients on one real Cassandra: rates, latencies, CPU and memory, at 1 to 1,024 in flight.

Each client is one process for the whole part; see bench.rounds for the turns. Before the first
round, the server gets some work of each kind, so that its JIT compiler warms up. A client's first
turn in a cell determines its number of operations, which stays the same in all rounds.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bench import charts, figures
from bench.figures import Figures
from bench.jobs import Job
from bench.parts import PEERS
from bench.rounds import WorkerFailed, interleaved, workers

if TYPE_CHECKING:
    from pathlib import Path

    from bench.jobs import Outcome, Work
    from bench.parts import Context, Gate

CLIENTS = ("cqlproto/asyncio", "cqlproto/uvloop", "cqlproto/trio", "cqlproto/asyncio/v4", *PEERS)
IN_FLIGHT = (1, 16, 128, 1_024)
WORKS: dict[Work, str] = {"write": "Writes", "read": "Reads", "mixed": "Mixed, one of two a write"}
_FIRST = "cqlproto/asyncio"
_WARM_UP_SECONDS = 2.0


def measure(context: Context) -> dict[str, Any]:
    """Measure every client in every cell, in turns."""
    assert context.cassandra is not None
    clients = context.present(CLIENTS)
    make = functools.partial(Job, host=context.cassandra[0], port=context.cassandra[1])
    cells: list[tuple[Work, int]] = [(work, n) for work in WORKS for n in IN_FLIGHT]
    cells.append(("scan", 1))
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        what = f"{job.client}, {job.work} at {job.in_flight:,}"
        left_out[what] = text
        context.problem(f"live: {what}: {text}")

    with workers(context.cassandra) as them:

        def run(job: Job) -> Outcome:
            context.say(f"live: {job.work} at {job.in_flight:,}: {job.client}")
            return them.measure(job)

        if not context.quick:
            for work in (*WORKS, "scan"):
                try:
                    run(make(_FIRST, work, seconds=_WARM_UP_SECONDS))
                except WorkerFailed as error:
                    failed(make(_FIRST, work), f"warming up: {error}")
        jobs = [
            [
                make(client, work, in_flight=n, seconds=context.seconds, timed=work != "scan")
                for client in clients
            ]
            for work, n in cells
        ]
        samples = interleaved(jobs, context.rounds, run, failed)
    return figures.of_samples(samples, left_out)


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return gates on ratios of medians, cqlproto to a peer."""
    found = Figures.of(data)
    limits: list[tuple[str, Work, float, tuple[str, ...]]] = [
        ("acsylla", "read", 1.0, ("asyncio", "trio")),
        ("acsylla", "write", 0.8, ("asyncio", "trio")),
        ("cassandra-driver", "read", 15, ("asyncio",)),
        ("cassandra-driver", "write", 6, ("asyncio",)),
        ("rsylla", "read", 4, ("asyncio",)),
        ("rsylla", "write", 4, ("asyncio",)),
        ("scyllapy", "read", 4, ("asyncio",)),
        ("scyllapy", "write", 4, ("asyncio",)),
    ]
    result: list[Gate] = []
    for peer, work, limit, backends in limits:
        for backend in backends:
            result += found.gate(
                f"live, {work}s/s at 128 in flight on {backend}, as a multiple of {peer}'s",
                limit,
                (f"cqlproto/{backend}", work, 128),
                (peer, work, 128),
                "rate",
                higher=True,
            )
    for backend in ("asyncio", "trio"):
        for work in ("read", "write"):
            result += found.gate(
                f"live, median latency of a {work} alone on {backend}, as a multiple of acsylla's",
                1.1,
                (f"cqlproto/{backend}", work, 1),
                ("acsylla", work, 1),
                "p50_us",
                higher=False,
            )
    return result


_TEXT = """\
Prepared statements that read or write one row of five columns (text, text, bigint, float, boolean)
on one node, and a scan of 20,000 such rows into a list in pages of 5,000. The clients share the
machine with the server, so rates depend on both: CPU that a client uses is missing for the server.
`cqlproto` speaks v5 unless its name says v4; the peers speak v4. For all clients, a latency is the
time from the Python values to the Python result. The tables show the median over the rounds of each
round's percentile, or `-` if a round had too few requests for it. Throughput of cassandra-driver
and scylla-driver is that of `execute_concurrent`; their latencies come from a shorter run of
`execute_async` with the same number in flight. coodie is an object mapper, here on acsylla: its
rows are Pydantic models. rsylla has no paging, and scyllapy is much faster without it, so both scan
in one request. rsylla guesses the type of a number from its value; all numbers here have values
that it guesses correctly. The last column is the peak resident set of the process, which lives for
all cells.
"""


def markdown(data: dict[str, Any]) -> str:
    found = Figures.of(data)
    blocks = [
        _TEXT,
        "![Live rates and latencies](live.svg)\n",
    ]
    for work, title in WORKS.items():
        blocks.append(f"### {title}\n")
        for each, in_flight in found.cells():
            if each == work:
                blocks.append(f"{in_flight:,} in flight:\n")
                blocks.append(_table(found, work, in_flight))
    if found.cell("scan", 1):
        blocks.append("### Scan of 20,000 rows\n")
        blocks.append(_table(found, "scan", 1))
    blocks.append(figures.left_out(data))
    return "\n".join(blocks)


def _table(found: Figures, work: Work, in_flight: int) -> str:
    ours = found.median(_FIRST, work, in_flight, "rate")
    scan = work == "scan"
    latencies = () if scan else ("p50 ms", "p99 ms", "p99.9 ms")
    head = ("client", "rows/s" if scan else "per second", "`cqlproto/asyncio` / it", *latencies)
    rows = []
    for sample in found.cell(work, in_flight):
        rate = found.median(sample["client"], work, in_flight, "rate")
        cpu = found.median(sample["client"], work, in_flight, "cpu_us")
        peak = found.median(sample["client"], work, in_flight, "peak_mib")
        assert cpu is not None
        assert peak is not None
        rows.append(
            (
                sample["client"],
                figures.spread(sample["rate"]),
                figures.ratio(ours, rate),
                *(figures.milliseconds(sample, name) for name in _LATENCIES if not scan),
                figures.number(cpu),
                f"{peak:.0f}",
            )
        )
    return figures.table((*head, "CPU us", "peak MiB"), rows)


_LATENCIES = ("p50_us", "p99_us", "p999_us")


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    found = Figures.of(data)
    panels = [
        charts.panel(f"{title}, a second, 128 in flight", found.cell(work, 128), "rate")
        for work, title in WORKS.items()
    ]
    panels.append(charts.panel("Rows of the scan, a second", found.cell("scan", 1), "rate"))
    for work, in_flight, what in (("read", 1, "p50"), ("read", 128, "p99")):
        panels.append(
            charts.panel(
                f"{what} of a {work} in ms, {in_flight} in flight",
                found.cell(work, in_flight),
                f"{what}_us",
                lambda value: value / 1e3,
            )
        )
    return [charts.write(folder / "live.svg", panels)]
