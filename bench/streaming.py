"""A large table, read row by row in pages, in a new process each time: rows per second and memory.

A user's loop visits each row once and keeps none. For comparison, cassandra-driver also fetches all
rows into a list. A turn takes long, so there are at most three rounds, and only one for a client
that takes longer than half a minute.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench import charts, figures
from bench.figures import Figures
from bench.jobs import Job
from bench.parts import PEERS
from bench.rounds import interleaved
from bench.rounds import measure as measure_alone

if TYPE_CHECKING:
    from pathlib import Path

    from bench.jobs import Outcome
    from bench.parts import Context, Gate

OURS = ("cqlproto/asyncio", "cqlproto/uvloop", "cqlproto/trio", "cqlproto/asyncio/tuple")
FETCHED = "cassandra-driver"
_MOST_ROUNDS = 3
_LONGEST = 30.0


def measure(context: Context) -> dict[str, Any]:
    """Load the rows, unless the table has them, and measure every client."""
    assert context.cassandra is not None
    host, port = context.cassandra
    rows = context.stream_rows
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        left_out[f"{job.client}, {job.work}"] = text
        context.problem(f"stream: {job.client}, {job.work}: {text}")

    def run(job: Job) -> Outcome:
        context.say(f"stream: {job.client}")
        return measure_alone(job)

    context.say(f"stream: loading {rows:,} rows")
    measure_alone(Job("admin", "load", host, port, operations=rows))
    clients = context.present((*OURS, *PEERS))
    cell = [Job(client, "stream", host, port, operations=rows, in_flight=1) for client in clients]
    if FETCHED in clients:
        cell.append(Job(FETCHED, "list", host, port, operations=rows, in_flight=1))
    samples = interleaved([cell], min(context.rounds, _MOST_ROUNDS), run, failed, _LONGEST)
    return {**figures.of_samples(samples, left_out), "rows": rows}


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return the gates: not slower than any peer, and at most half the memory of a list."""
    found = Figures.of(data)
    ours = (OURS[0], "stream", 1)
    result: list[Gate] = []
    for peer in PEERS:
        text = f"stream, rows/s on asyncio, as a multiple of {peer}'s"
        result += found.gate(text, 1.0, ours, (peer, "stream", 1), "rate", higher=True)
    text = "stream, peak memory on asyncio, as a multiple of cassandra-driver's fetching all"
    result += found.gate(text, 0.5, ours, (FETCHED, "list", 1), "peak_mib", higher=False)
    return result


def markdown(data: dict[str, Any]) -> str:
    found = Figures.of(data)
    rounds = max((len(sample["rate"]) for sample in found.cell("stream", 1)), default=0)
    ours = found.median(OURS[0], "stream", 1, "rate")
    samples = [*found.cell("stream", 1), *found.cell("list", 1)]
    rows = [
        (
            _name(sample),
            figures.spread(sample["rate"]),
            figures.ratio(ours, statistics.median(sample["rate"])),
            figures.number(statistics.median(sample["cpu_us"])),
            figures.spread(sample["peak_mib"]),
        )
        for sample in samples
    ]
    head = ("client", "rows/s", "`cqlproto/asyncio` / it", "CPU us", "peak MiB")
    text = (
        f"{data['rows']:,} rows of four columns (int, int, text, bigint), each visited once, with\n"
        "the client's own paging, in pages of 5,000 rows; `cqlproto` uses `async for` over\n"
        "`session.stream`. rsylla has no paging, so it holds all rows.\n"
        '"all in a list" is cassandra-driver with all rows in a list. Peak memory is the resident\n'
        f"set of a new process. {rounds} rounds; one for a client that takes half a minute.\n"
    )
    return "\n".join(
        [
            text,
            "![Rows per second and memory](stream.svg)\n",
            figures.table(head, rows),
            figures.left_out(data),
        ]
    )


def _name(sample: dict[str, Any]) -> str:
    return str(sample["client"]) + (", all in a list" if sample["work"] == "list" else "")


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    found = Figures.of(data)
    samples = [
        {**each, "client": _name(each)}
        for each in (*found.cell("stream", 1), *found.cell("list", 1))
    ]
    panels = [
        charts.panel("rows/s", samples, "rate"),
        charts.panel("peak memory, MiB", samples, "peak_mib"),
    ]
    return [charts.write(folder / "stream.svg", panels)]
