"""Loading many rows by one call: rows per second, CPU and memory, live and on the canned server.

`cqlproto` uses `execute_many`, cassandra-driver `execute_concurrent_with_args` (with its generator
of results, so that it keeps none). acsylla has no such call: tasks share one iterator of rows, and
its best number of tasks counts. The rows are divided into turns of a second or so, between which
the other clients have theirs: whatever else the machine does meets all of them. At last each client
loads all rows at once in a process of its own, for its peak of memory. cassandra-driver always
loads a tenth of the rows.
"""

from __future__ import annotations

import functools
import statistics
from typing import TYPE_CHECKING, Any

from bench import charts, figures
from bench.jobs import Job
from bench.parts import Gate
from bench.rounds import WorkerFailed, interleaved, workers
from bench.rounds import measure as measure_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.jobs import Outcome
    from bench.parts import Context
    from bench.rounds import Sample

BACKENDS = ("asyncio", "uvloop", "trio")
PEER, DRIVER = "acsylla", "cassandra-driver"
_OURS_IN_FLIGHT = 256
_IN_FLIGHT = {PEER: (64, 256, 1_024), DRIVER: (100,)}
_TURNS = 20
_LEAST_RATE = 1.0
_LEAST_TO_DRIVER = 8.0
_MOST_CPU = 1 / 1.3
_MOST_MIB = 80e6 / 2**20


def measure(context: Context) -> dict[str, Any]:
    """Measure all clients in turns, on the canned server and live, and each alone."""
    assert context.cassandra is not None
    assert context.canned is not None
    canned = context.canned
    turns = context.rounds if context.quick else _TURNS
    rows = max(context.stream_rows // turns, 1)
    left_out: dict[str, str] = {}

    def failed(where: str) -> Callable[[Job, str], None]:
        def tell(job: Job, text: str) -> None:
            what = f"{where}: {job.client} at {job.in_flight:,}"
            left_out[what] = text
            context.problem(f"bulk, {what}: {text}")

        return tell

    def in_turns(where: str, jobs: Sequence[Job]) -> list[Sample]:
        with workers((jobs[0].host, jobs[0].port)) as them:

            def run(job: Job) -> Outcome:
                context.say(f"bulk, {where}: {job.client} at {job.in_flight:,}")
                before = canned.executed()
                outcome = them.measure(job)
                if where == "canned" and canned.executed() - before < outcome.operations:
                    raise WorkerFailed("it did not send its requests to the canned server")
                return outcome

            return interleaved([jobs], turns, run, failed(where))

    def alone(job: Job) -> Outcome:
        context.say(f"bulk, alone: {job.client} at {job.in_flight:,}")
        return measure_alone(job)

    replayed = in_turns("canned", _jobs(context, rows, "/v4", canned.address, one_key=True))
    live = in_turns("live", _jobs(context, rows, "", context.cassandra))
    all_rows = _jobs(context, context.stream_rows, "", context.cassandra)
    once = {job.client: job for job in all_rows}
    peaks = interleaved([[*once.values()]], 1, alone, failed("alone"))
    return {
        **figures.of_samples(live, left_out),
        "canned": [sample.to_json() for sample in replayed],
        "alone": [sample.to_json() for sample in peaks],
        "rows": context.stream_rows,
        "turns": turns,
    }


def _jobs(
    context: Context, rows: int, suffix: str, address: tuple[str, int], *, one_key: bool = False
) -> list[Job]:
    host, port = address
    make = functools.partial(Job, work="bulk", host=host, port=port, one_key=one_key)
    ours = [f"cqlproto/{backend}{suffix}" for backend in BACKENDS]
    return [
        make(
            client,
            operations=max(rows // (10 if client == DRIVER else 1), 1),
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


def _ratio(samples: Sequence[dict[str, Any]], client: str, peer: str, what: str) -> float | None:
    """The median of the turns' ratios of a client to the best of a peer.

    On a machine that does other work, it varies less than the ratio of the medians.
    """
    ours = next((each[what] for each in samples if each["client"] == client), None)
    best = _best(samples, peer, what)
    if ours is None or best is None:
        return None
    theirs = next(
        each[what]
        for each in samples
        if each["client"] == peer and statistics.median(each[what]) == best
    )
    return float(statistics.median(one / other for one, other in zip(ours, theirs, strict=False)))


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return gates on rates and CPU as multiples of the peers', and on memory."""
    live, canned = data["samples"], data["canned"]
    result = []
    for backend in BACKENDS:
        ours = f"cqlproto/{backend}"
        if (rate := _ratio(live, ours, PEER, "rate")) is not None:
            text = f"bulk, rows/s on {backend}, as a multiple of acsylla's best"
            result.append(Gate(text, _LEAST_RATE, rate, higher=True))
        if (rate := _ratio(live, ours, DRIVER, "rate")) is not None:
            text = f"bulk, rows/s on {backend}, as a multiple of execute_concurrent_with_args"
            result.append(Gate(text, _LEAST_TO_DRIVER, rate, higher=True))
        if (cpu := _ratio(canned, f"{ours}/v4", PEER, "cpu_us")) is not None:
            text = f"bulk, CPU of a row on {backend}, as a multiple of acsylla's"
            result.append(Gate(text, _MOST_CPU, cpu))
        peak = _best(data["alone"], ours, "peak_mib")
        if peak is not None:
            result.append(Gate(f"bulk, peak MiB on {backend}", _MOST_MIB, peak))
    return result


def markdown(data: dict[str, Any]) -> str:
    text = (
        f"{data['rows']:,} rows of five columns, from an iterator, in {data['turns']} turns of\n"
        f"one call each: by `execute_many` with {_OURS_IN_FLIGHT} rows under way, by\n"
        "`execute_concurrent_with_args` for cassandra-driver (a tenth of the rows), by tasks\n"
        "that share the iterator for acsylla. For the last table each loaded all rows by one\n"
        "call, in a new process; peak memory is its resident set.\n"
    )
    return "\n".join(
        [
            text,
            "![Rows per second and memory of loads](bulk.svg)\n",
            "### Live\n",
            _table(data["samples"]),
            "### On the canned server\n",
            _table(data["canned"]),
            "### All rows at once\n",
            _table(data["alone"]),
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
    live, alone = (
        [{**each, "client": f"{each['client']} at {each['in_flight']:,}"} for each in data[name]]
        for name in ("samples", "alone")
    )
    panels = [
        charts.panel("rows/s", live, "rate"),
        charts.panel("peak memory, MiB", alone, "peak_mib"),
    ]
    return [charts.write(folder / "bulk.svg", panels)]
