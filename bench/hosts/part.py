"""The benchmark's part about large clusters: sizes and event loops in turns, and the gates."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench import figures, parts, rounds
from bench.parts import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.parts import Context

SIZES = (10, 100, 1_000)
TOKENS = 256
BACKENDS = ("asyncio", "uvloop", "trio")
_LARGEST = SIZES[-1]
_READY_SECONDS = 3.0
_PEAK_MIB = 150.0
_PLAN_US = 4.0
_GROWTH = 1.25
_SECONDS = 120


@contextlib.contextmanager
def _cluster(hosts: int) -> Iterator[int]:
    """Start the simulated nodes; yield their common port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.hosts.server", str(hosts), str(TOKENS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=rounds.ROOT,
        env=rounds.environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise rounds.WorkerFailed(f"the nodes ended with status {process.wait()}")
        yield int(line)
    finally:
        process.communicate()  # closes its standard input, which ends it


def _worker(backend: str, port: int, hosts: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.hosts.work", backend, str(port), str(hosts)],
        capture_output=True,
        text=True,
        cwd=rounds.ROOT,
        env=rounds.environment(),
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise rounds.WorkerFailed(rounds.said(done.stderr))
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(context: Context) -> dict[str, Any]:
    """Measure a session on each size of a cluster and each event loop, in turns.

    Raises:
        WorkerFailed: a process ended with an error.
    """
    installed = [each for each in BACKENDS if each == "asyncio" or parts.installed(each)]
    cells = [(hosts, backend) for hosts in SIZES for backend in installed]
    samples: dict[tuple[int, str], list[dict[str, float]]] = {cell: [] for cell in cells}
    with contextlib.ExitStack() as stack:
        ports = {hosts: stack.enter_context(_cluster(hosts)) for hosts in SIZES}
        for turn in range(context.rounds):
            shift = turn % len(cells)
            for hosts, backend in (*cells[shift:], *cells[:shift]):
                context.say(f"hosts: {hosts:,} on {backend}, round {turn + 1}")
                samples[hosts, backend].append(_worker(backend, ports[hosts], hosts))
    return {
        "tokens": TOKENS,
        "samples": [
            {
                "hosts": hosts,
                "backend": backend,
                **{name: [rounds.rounded(each[name]) for each in found] for name in found[0]},
            }
            for (hosts, backend), found in samples.items()
        ],
    }


_TEXT = """\
One process simulates a cluster whose nodes have {tokens} tokens each, in three racks, with
replication factor 3. It serves the system tables over TCP, and each node has its own address.
*Ready* is the time until `connect` returns, with the topology read and one connection open. *All*
is the time until every node has its connection; requests are served before that. The nodes share
the machine with the client, so the client's CPU time is shown as well. Memory is the resident set
of the client's process; *before* is that of the interpreter and its modules. A *plan* is the cost
of choosing the connection for a prepared statement from its values: the partition key's bytes,
their Murmur3 hash, the replicas, and the less busy of two connections. *Hot* cycles through 200
partitions, *any* through 20,000. Nearly each of the 20,000 is in another token range, so that on a
large cluster most lookups miss the processor's caches.
"""


def markdown(data: dict[str, Any]) -> str:
    """Return the text and the tables."""
    head = ("nodes", "ready, s", "its CPU, s", "all, s", "its CPU, s", "before, MiB", "peak, MiB")
    rows = [
        (
            _name(each),
            *(figures.spread(each[name]) for name in ("ready_s", "ready_cpu_s", "all_s")),
            figures.number(_median(each, "all_cpu_s")),
            f"{_median(each, 'before_mib'):.0f}",
            f"{_median(each, 'peak_mib'):.0f}",
        )
        for each in data["samples"]
    ]
    plans = [
        (_name(each), figures.spread(each["few_us"]), figures.spread(each["many_us"]))
        for each in data["samples"]
    ]
    return "\n".join(
        [
            _TEXT.format(tokens=data["tokens"]),
            figures.table(head, rows),
            figures.table(("nodes", "plan, hot, us", "plan, any, us"), plans),
        ]
    )


def gates(data: dict[str, Any]) -> list[Gate]:
    """Return the gates of a session on the largest cluster, and of a plan on each cluster."""
    found: list[Gate] = []
    by_cell = {(each["hosts"], each["backend"]): each for each in data["samples"]}
    for (hosts, backend), each in by_cell.items():
        where = f"{hosts:,} hosts on {backend}"
        if hosts == _LARGEST:
            found += [
                Gate(f"{where}, s until ready", _READY_SECONDS, _median(each, "ready_s")),
                Gate(f"{where}, MiB at the peak", _PEAK_MIB, _median(each, "peak_mib")),
            ]
        found.append(Gate(f"{where}, us of a plan", _PLAN_US, _median(each, "many_us")))
    for backend in BACKENDS:
        small, large = by_cell.get((SIZES[0], backend)), by_cell.get((_LARGEST, backend))
        if small is not None and large is not None:
            growth = _median(large, "few_us") / _median(small, "few_us")
            what = f"a hot plan on {backend}, {_LARGEST:,} hosts to {SIZES[0]}"
            found.append(Gate(what, _GROWTH, growth))
    return found


def _name(each: dict[str, Any]) -> str:
    return f"{each['hosts']:,}, {each['backend']}"


def _median(each: dict[str, Any], name: str) -> float:
    return float(statistics.median(each[name]))
