"""Memory of a client's process: connected and idle, and with 20,000 rows in a list."""

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

CLIENTS = (
    "cqlproto/asyncio",
    "cqlproto/uvloop",
    "cqlproto/trio",
    "cqlproto/asyncio/tuple",
    *PEERS,
)


def measure(context: Context) -> dict[str, Any]:
    """Connect, prepare and scan once, in a new process each time."""
    assert context.cassandra is not None
    host, port = context.cassandra
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        left_out[job.client] = text
        context.problem(f"memory: {job.client}: {text}")

    def run(job: Job) -> Outcome:
        context.say(f"memory: {job.client}")
        return measure_alone(job)

    cell = [
        Job(client, "scan", host, port, operations=1, in_flight=1)
        for client in context.present(CLIENTS)
    ]
    return figures.of_samples(interleaved([cell], context.rounds, run, failed), left_out)


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return no gates."""
    del data
    return []


_TEXT = """\
The resident set of a new process: connected with four prepared statements, and the peak while it
fetches 20,000 rows into a list once. The figures include the interpreter and the event loop.
"""


def markdown(data: dict[str, Any]) -> str:
    samples = Figures.of(data).cell("scan", 1)
    rows = []
    for sample in samples:
        before, peak = (
            statistics.median(sample["before_mib"]),
            statistics.median(sample["peak_mib"]),
        )
        rows.append(
            (
                sample["client"],
                figures.spread(sample["before_mib"]),
                figures.spread(sample["peak_mib"]),
                figures.number(max(0.0, peak - before)),
            )
        )
    head = ("client", "connected, MiB", "peak of the scan, MiB", "rise, MiB")
    return "\n".join(
        [
            _TEXT,
            "![Memory of a process](memory.svg)\n",
            figures.table(head, rows),
            figures.left_out(data),
        ]
    )


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    samples = Figures.of(data).cell("scan", 1)
    panels = [
        charts.panel("connected, MiB", samples, "before_mib"),
        charts.panel("peak of a scan, MiB", samples, "peak_mib"),
    ]
    return [charts.write(folder / "memory.svg", panels)]
