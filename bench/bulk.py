"""Loading many rows by one call: rows per second, CPU and memory, live and on the canned server.

`cqlproto` uses `execute_many`, cassandra-driver `execute_concurrent_with_args` (with its generator
of results, so that it keeps none). acsylla has no such call: tasks share one iterator of rows, and
its best number of tasks counts. Each turn is a process of its own, so that its peak of memory is
that of this load alone. cassandra-driver loads a tenth of the rows.
"""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, Any

from bench import charts, figures
from bench.jobs import Job
from bench.parts import Gate
from bench.rounds import WorkerFailed, interleaved
from bench.rounds import measure as measure_alone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.jobs import Outcome
    from bench.parts import Context
    from bench.rounds import Sample

BACKENDS = ("asyncio", "uvloop", "trio")
PEER, DRIVER = "acsylla", "cassandra-driver"
_OURS_IN_FLIGHT = 256
_IN_FLIGHT = {PEER: (64, 256, 1_024), DRIVER: (100,)}
_MOST_ROUNDS = 3
_LONGEST = 60.0
_LEAST_RATE = 1.0
_LEAST_TO_DRIVER = 8.0
_MOST_CPU = 1 / 1.3
_MOST_MIB = 80e6 / 2**20


def measure(context: Context) -> dict[str, Any]:
    """Measure all clients in turns, first on the canned server, then live."""
    assert context.cassandra is not None
    assert context.canned is not None
    canned = context.canned
    left_out: dict[str, str] = {}

    def run(where: str, jobs: Sequence[Job]) -> list[Sample]:
        def turn(job: Job) -> Outcome:
            context.say(f"bulk, {where}: {job.client} at {job.in_flight:,}")
            before = canned.executed()
            outcome = measure_alone(job)
            if where == "canned" and canned.executed() - before < outcome.operations:
                raise WorkerFailed("it did not send its requests to the canned server")
            return outcome

        def failed(job: Job, text: str) -> None:
            what = f"{where}: {job.client} at {job.in_flight:,}"
            left_out[what] = text
            context.problem(f"bulk, {what}: {text}")

        return interleaved([jobs], min(context.rounds, _MOST_ROUNDS), turn, failed, _LONGEST)

    replayed = run("canned", _jobs(context, "/v4", canned.address, one_key=True))
    live = run("live", _jobs(context, "", context.cassandra))
    return {
        **figures.of_samples(live, left_out),
        "canned": [sample.to_json() for sample in replayed],
        "rows": context.stream_rows,
    }


def _jobs(
    context: Context, suffix: str, address: tuple[str, int], *, one_key: bool = False
) -> list[Job]:
    host, port = address
    make = functools.partial(Job, work="bulk", host=host, port=port, one_key=one_key)
    ours = [f"cqlproto/{backend}{suffix}" for backend in BACKENDS]
    return [
        make(
            client,
            operations=max(context.stream_rows // (10 if client == DRIVER else 1), 1),
            in_flight=in_flight,
        )
        for client in context.present([*ours, PEER, DRIVER])
        for in_flight in _IN_FLIGHT.get(client, (_OURS_IN_FLIGHT,))
    ]


def _best(samples: Sequence[dict[str, Any]], client: str, what: str) -> float | None:
    """The best of a client's medians, over the numbers in flight."""
    found = [statistics.median(each[what]) for each in samples if each["client"] == client]
    if not found:
        return None
    return float(max(found) if what == "rate" else min(found))


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return gates on rates and CPU as multiples of the peers', and on memory."""
    live, canned = data["samples"], data["canned"]
    result = []
    for backend in BACKENDS:
        ours = f"cqlproto/{backend}"
        rate, cpu = _best(live, ours, "rate"), _best(canned, f"{ours}/v4", "cpu_us")
        theirs, driver = _best(live, PEER, "rate"), _best(live, DRIVER, "rate")
        if rate is not None and theirs is not None:
            text = f"bulk, rows/s on {backend}, as a multiple of acsylla's best"
            result.append(Gate(text, _LEAST_RATE, rate / theirs, higher=True))
        if rate is not None and driver is not None:
            text = f"bulk, rows/s on {backend}, as a multiple of execute_concurrent_with_args"
            result.append(Gate(text, _LEAST_TO_DRIVER, rate / driver, higher=True))
        peer_cpu = _best(canned, PEER, "cpu_us")
        if cpu is not None and peer_cpu is not None:
            text = f"bulk, CPU of a row on {backend}, as a multiple of acsylla's"
            result.append(Gate(text, _MOST_CPU, cpu / peer_cpu))
        peak = _best(live, ours, "peak_mib")
        if peak is not None:
            result.append(Gate(f"bulk, peak MiB on {backend}", _MOST_MIB, peak))
    return result


def markdown(data: dict[str, Any]) -> str:
    text = (
        f"{data['rows']:,} rows of five columns, from an iterator, by one call of `execute_many`\n"
        f"with {_OURS_IN_FLIGHT} rows under way; by `execute_concurrent_with_args` for\n"
        "cassandra-driver (a tenth of the rows); by tasks that share the iterator for acsylla.\n"
        "Each turn is a new process; peak memory is its resident set.\n"
    )
    return "\n".join(
        [
            text,
            "![Rows per second and memory of loads](bulk.svg)\n",
            "### Live\n",
            _table(data["samples"]),
            "### On the canned server\n",
            _table(data["canned"]),
            figures.left_out(data),
        ]
    )


def _table(samples: Sequence[dict[str, Any]]) -> str:
    ours = next((each for each in samples if each["client"].startswith("cqlproto/asyncio")), None)
    rate = None if ours is None else statistics.median(ours["rate"])
    rows = [
        (
            each["client"],
            f"{each['in_flight']:,}",
            figures.spread(each["rate"]),
            figures.ratio(rate, statistics.median(each["rate"])),
            figures.spread(each["cpu_us"]),
            figures.number(statistics.median(each["peak_mib"])),
        )
        for each in samples
    ]
    head = (
        "client",
        "in flight",
        "rows/s",
        "`cqlproto/asyncio` / it",
        "CPU us of a row",
        "peak MiB",
    )
    return figures.table(head, rows)


def plots(data: dict[str, Any], folder: Path) -> list[str]:
    samples = [
        {**each, "client": f"{each['client']} at {each['in_flight']:,}"} for each in data["samples"]
    ]
    panels = [
        charts.panel("rows/s", samples, "rate"),
        charts.panel("peak memory, MiB", samples, "peak_mib"),
    ]
    return [charts.write(folder / "bulk.svg", panels)]
