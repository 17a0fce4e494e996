"""Rates on three real nodes with replication factor 3, of cqlproto and the peers with pools.

`CQLPROTO_CLUSTER` (`host:port`) names one of the nodes; without it, three nodes are started for the
part and stopped after it. All clients read and write at LOCAL_QUORUM, so every request needs two
replicas. Each client discovers the nodes itself and distributes its requests.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bench import charts, figures, servers
from bench.figures import Figures
from bench.jobs import Job
from bench.rounds import WorkerFailed, interleaved, workers
from bench.rounds import measure as once

if TYPE_CHECKING:
    from pathlib import Path

    from bench.jobs import Outcome, Work
    from bench.parts import Context, Gate

OURS = ("cqlproto/asyncio", "cqlproto/uvloop", "cqlproto/trio")
CLIENTS = (*OURS, "acsylla", "cassandra-driver")
WORKS: dict[Work, str] = {"write": "Writes", "read": "Reads"}
NODES = 3
_IN_FLIGHT = 128
_FIRST = OURS[0]
_WARM_UP_SECONDS = 2.0


def measure(context: Context) -> dict[str, Any]:
    """Measure every client in every kind of work, in turns."""
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        what = f"{job.client}, {job.work}"
        left_out[what] = text
        context.problem(f"cluster: {what}: {text}")

    context.say("cluster: three nodes")
    with servers.cluster(NODES) as address:
        make = functools.partial(
            Job, host=address[0], port=address[1], in_flight=_IN_FLIGHT, replicas=NODES
        )
        once(make("admin", "drop"))
        once(make("admin", "setup"))
        try:
            with workers(address) as them:

                def run(job: Job) -> Outcome:
                    context.say(f"cluster: {job.work}: {job.client}")
                    return them.measure(job)

                if not context.quick:
                    for work in WORKS:
                        try:
                            run(make(_FIRST, work, seconds=_WARM_UP_SECONDS))
                        except WorkerFailed as error:
                            failed(make(_FIRST, work), f"warming up: {error}")
                jobs = [
                    [
                        make(client, work, seconds=context.seconds, timed=True)
                        for client in context.present(CLIENTS)
                    ]
                    for work in WORKS
                ]
                samples = interleaved([cell for cell in jobs if cell], context.rounds, run, failed)
        finally:
            once(make("admin", "drop"))
    return figures.of_samples(samples, left_out)


def gates(data: dict[str, Any]) -> list[Gate]:
    """Gates on ratios of medians, cqlproto to a peer: those of one node that apply to three."""
    found = Figures.of(data)
    result: list[Gate] = []
    for work, limit in (("read", 1.0), ("write", 0.8)):
        for backend in ("asyncio", "trio"):
            result += found.gate(
                f"three nodes, {work}s/s at 128 in flight on {backend}, as a multiple of acsylla's",
                limit,
                (f"cqlproto/{backend}", work, _IN_FLIGHT),
                ("acsylla", work, _IN_FLIGHT),
                "rate",
                higher=True,
            )
    return result


_TEXT = """\
The same rows and statements on three nodes, each in its own rack and with a replica of all rows, at
LOCAL_QUORUM, 128 in flight. All nodes share the machine with the client and do most of the work, so
clients differ mostly in how much CPU they leave to the nodes; the CPU column shows it. Each client
was given one node and discovered the others.
"""


def markdown(data: dict[str, Any]) -> str:
    """Return the text and the tables."""
    found = Figures.of(data)
    blocks = [_TEXT, "![Rates on three nodes](cluster.svg)\n"]
    for work, title in WORKS.items():
        if found.cell(work, _IN_FLIGHT):
            blocks += [f"### {title} on three nodes\n", _table(found, work)]
    blocks.append(figures.left_out(data))
    return "\n".join(blocks)


def _table(found: Figures, work: Work) -> str:
    ours = found.median(_FIRST, work, _IN_FLIGHT, "rate")
    rows = []
    for sample in found.cell(work, _IN_FLIGHT):
        client = sample["client"]
        rate = found.median(client, work, _IN_FLIGHT, "rate")
        rows.append(
            (
                client,
                figures.spread(sample["rate"]),
                figures.ratio(ours, rate),
                figures.milliseconds(sample, "p50_us"),
                figures.milliseconds(sample, "p99_us"),
                figures.spread(sample["cpu_us"]),
            )
        )
    head = ("client", "per second", f"`{_FIRST}` / it", "p50 ms", "p99 ms", "CPU us")
    return figures.table(head, rows)


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    """Write the picture."""
    found = Figures.of(data)
    panels = [
        charts.panel(f"{title}, a second, three nodes", found.cell(work, _IN_FLIGHT), "rate")
        for work, title in WORKS.items()
    ]
    return [charts.write(folder / "cluster.svg", panels)]
