"""CPU time of the client process for each operation, on a server that only replays (canned/).

The canned server speaks v4. Its system tables have the real server's address; a client that
connects there instead is detected by the canned server's count of requests, and left out.
"""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, Any

from bench import charts, figures
from bench.figures import Figures
from bench.jobs import Job
from bench.parts import PEERS, Gate
from bench.rounds import WorkerFailed, interleaved, workers

if TYPE_CHECKING:
    from pathlib import Path

    from bench.jobs import Outcome, Work
    from bench.parts import Context

BACKENDS = ("asyncio", "uvloop", "trio")
OURS = tuple(f"cqlproto/{backend}/v4" for backend in BACKENDS)
TUPLES = "cqlproto/asyncio/v4/tuple"
BARE = tuple(f"bare/{backend}" for backend in BACKENDS)
CLIENTS: dict[Work, tuple[str, ...]] = {
    "write": (*OURS, *BARE, *PEERS),
    "read": (*OURS, TUPLES, *BARE, *PEERS),
    "scan": (*OURS, TUPLES, *PEERS),
}
LIMITS = {"asyncio": 7.0, "trio": 8.0, "uvloop": 5.5}
_IN_FLIGHT = 128


def measure(context: Context) -> dict[str, Any]:
    """Measure every client in every kind of work, in turns."""
    assert context.canned is not None
    canned = context.canned
    make = functools.partial(
        Job,
        host=canned.address[0],
        port=canned.address[1],
        seconds=context.seconds,
        in_flight=_IN_FLIGHT,
        one_key=True,
    )
    left_out: dict[str, str] = {}

    def failed(job: Job, text: str) -> None:
        left_out[f"{job.client}, {job.work}"] = text
        context.problem(f"canned: {job.client}, {job.work}: {text}")

    with workers(canned.address) as them:

        def run(job: Job) -> Outcome:
            context.say(f"canned: {job.work}: {job.client}")
            before = canned.executed()
            outcome = them.measure(job)
            if canned.executed() - before < outcome.operations:
                raise WorkerFailed("it did not send its requests to the canned server")
            return outcome

        jobs = [
            [make(client, work) for client in context.present(clients)]
            for work, clients in CLIENTS.items()
        ]
        samples = interleaved([cell for cell in jobs if cell], context.rounds, run, failed)
    return figures.of_samples(samples, left_out)


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return the gates on CPU microseconds of writes and reads."""
    found = Figures.of(data)
    result = []
    for backend, limit in LIMITS.items():
        for work in ("write", "read"):
            measured = found.median(f"cqlproto/{backend}/v4", work, _IN_FLIGHT, "cpu_us")
            if measured is not None:
                result.append(Gate(f"canned, CPU us of a {work} on {backend}", limit, measured))
    return result


_TEXT = """\
User and system time of the client process for each operation, 128 in flight, against a server that
replays the answers of a real one at little cost. `bare` is the lower bound for a client on anyio:
frames packed in advance, one reader, one writer, a native waiter per request, and no binding,
routing, deadlines or decoding. The column "above bare" has the additional cost of each client. Rows
are tuples for most peers (dicts for scyllapy, models for coodie), and the default `Row` for
`cqlproto` unless its name says tuple.
"""


def markdown(data: dict[str, Any]) -> str:
    found = Figures.of(data)
    blocks = [
        _TEXT,
        "![CPU of the clients](canned.svg)\n",
    ]
    for work in CLIENTS:
        if not found.cell(work, _IN_FLIGHT):
            continue
        unit = "row of a scan" if work == "scan" else work
        blocks.append(f"### CPU of a {unit}\n")
        blocks.append(_table(found, work))
    blocks.append(figures.left_out(data))
    return "\n".join(blocks)


def _table(found: Figures, work: Work) -> str:
    ours = found.median(OURS[0], work, _IN_FLIGHT, "cpu_us")
    scan = work == "scan"
    rows = []
    for sample in found.cell(work, _IN_FLIGHT):
        family, _, rest = sample["client"].partition("/")
        floor = found.median(f"bare/{rest.partition('/')[0]}", work, _IN_FLIGHT, "cpu_us")
        own = statistics.median(sample["cpu_us"])
        above = figures.number(own - floor) if family == "cqlproto" and floor is not None else ""
        rows.append(
            (
                sample["client"],
                figures.spread(sample["cpu_us"]),
                figures.ratio(own, ours),
                *(() if scan else (above,)),
                figures.number(statistics.median(sample["rate"])),
            )
        )
    columns = () if scan else ("above bare, us",)
    head = ("client", "CPU us", "it / `cqlproto/asyncio/v4`", *columns, "per second")
    return figures.table(head, rows)


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    found = Figures.of(data)
    panels = [
        charts.panel(f"CPU us of a {work}", found.cell(work, _IN_FLIGHT), "cpu_us")
        for work in ("write", "read")
    ]
    return [charts.write(folder / "canned.svg", panels)]
