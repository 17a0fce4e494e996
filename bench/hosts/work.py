"""One measurement: a session on a large cluster, in a new process.

``python -m bench.hosts.work BACKEND PORT HOSTS`` prints the figures as JSON.
"""

from __future__ import annotations

import functools
import gc
import json
import random
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from bench import meter
from bench.hosts import server
from cqlproto_anyio._cluster.selector import Selector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONTACT_POINTS = 3
KEYS = 20_000
"""The number of partitions for *any*: nearly each is in another token range."""
FEW = 200
"""The number of partitions for *hot*."""
_SAMPLE = 500
_SAMPLES = 200
_PATIENCE = 60
_QUERY = f"SELECT v FROM {server.KEYSPACE}.t WHERE k = ?"


def each(run: Callable[[Any], object], values: Sequence[Any]) -> float:
    """Return the CPU time of one call, in microseconds: the median of short samples."""
    samples = []
    for turn in range(_SAMPLES):
        start = turn * _SAMPLE % len(values)
        part = values[start : start + _SAMPLE]
        began = time.process_time_ns()
        for value in part:
            run(value)
        samples.append((time.process_time_ns() - began) / len(part))
    return statistics.median(samples) / 1000


def nothing(value: object) -> None:
    """Do nothing: the cost of a call alone."""


class _Opened(cql.Hooks):
    """Waits until a number of connections, besides the control connection, is open."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self.complete = anyio.Event()

    def connection_opened(self, record: cql.ConnectionRecord) -> None:
        self._left -= 1
        if not self._left:
            self.complete.set()


async def measure(port: int, hosts: int) -> dict[str, float]:
    """Connect, wait for all connections, and measure choosing a connection."""
    gc.collect()
    before = meter.memory_now()
    points = [server.address(number * hosts // CONTACT_POINTS) for number in range(CONTACT_POINTS)]
    cpu, clock = meter.cpu_time(), time.perf_counter()
    hooks = _Opened(hosts)
    async with cql.connect(points, port=port, config=cql.Config(hooks=hooks)) as session:
        ready, ready_cpu = time.perf_counter() - clock, meter.cpu_time() - cpu
        at_ready = meter.memory_now()
        with anyio.fail_after(_PATIENCE):
            await hooks.complete.wait()
        everything, everything_cpu = time.perf_counter() - clock, meter.cpu_time() - cpu
        at_all = meter.memory_now()
        assert len(session.statistics().hosts) == hosts
        found = await session.execute(_QUERY, (7,))
        assert found.one().v == 7
        plan = await _plan(session)
    return {
        "ready_s": ready,
        "ready_cpu_s": ready_cpu,
        "all_s": everything,
        "all_cpu_s": everything_cpu,
        "before_mib": before / 2**20,
        "ready_mib": at_ready / 2**20,
        "all_mib": at_all / 2**20,
        "peak_mib": meter.memory_peak() / 2**20,
        **plan,
    }


async def _plan(session: cql.Session) -> dict[str, float]:
    """Measure choosing the connection for a prepared statement, including the hash of its key."""
    statement = (await session.prepare(_QUERY))._statement
    [selector] = [one for one in gc.get_objects() if type(one) is Selector]
    choose = functools.partial(selector.choose, statement)
    chance = random.Random(1)
    many = [(chance.getrandbits(32) - (1 << 31),) for _ in range(KEYS)]
    few = many[:FEW] * (_SAMPLE * 4 // FEW)
    for values in many:  # fill the caches
        choose(values)
    floor = each(nothing, many)
    return {"few_us": each(choose, few) - floor, "many_us": each(choose, many) - floor}


def main() -> None:
    backend, port, hosts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    options = {"use_uvloop": backend == "uvloop"} if backend != "trio" else {}
    found = anyio.run(
        measure,
        port,
        hosts,
        backend="trio" if backend == "trio" else "asyncio",
        backend_options=options,
    )
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
