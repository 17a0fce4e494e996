"""Runs, times and checks the jobs of all clients on an event loop.

An adapter is a `Peer`: it only has the loops that make requests, written as a user of the client
would write them. This module runs a loop in as many tasks as there are requests in flight. The
tasks share one iterator of values. Tasks are the event loop's own (asyncio.TaskGroup, trio's
nursery), because anyio's cost more to start.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Protocol

import anyio.to_thread
import sniffio
import trio

from bench import jobs, worker
from bench.meter import Meter, timed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from bench.jobs import Job, Outcome

LEAST_WARM_UP = 256


class Peer(Protocol):
    """A connected client with its prepared statements.

    The loops consume values to the end. Each value is a row or a key in the container that `shape`
    has built beforehand; a key has one value.
    """

    version: str
    protocol: str

    def shape(self, values: Sequence[object], /) -> Any: ...
    async def write(self, rows: Iterable[Any], /) -> object: ...
    async def read(self, keys: Iterable[Any], /) -> int:
        """Return how many rows had the requested key."""

    async def mixed(self, steps: Iterable[Any], /) -> int:
        """Write the rows, read the keys; return the same as `read`."""

    async def one(self, query: str, key: str, /) -> Sequence[object]:
        """The values of one row, by `jobs.READ` or `jobs.READ_WRITTEN`."""

    async def scan(self, page_size: int, /) -> Sequence[Any]:
        """All rows of the table, page by page, each decoded."""

    def plain(self, row: Any, /) -> Sequence[object]:
        """The values of a row that `scan` gave."""

    async def stream(self, page_size: int, /) -> tuple[int, int]:
        """Go through the large table, page by page; return the rows and the sum of the amounts."""

    async def all(self, page_size: int, /) -> Sequence[Any]:
        """The large table as a list of rows."""


async def serve(peer: Peer) -> None:
    """Run the jobs that arrive on standard input."""
    # Read in a thread, so that the client's background tasks run while it is idle.
    while job := await anyio.to_thread.run_sync(worker.receive):
        worker.reply(await measure(peer, job))


async def measure(peer: Peer, job: Job) -> Outcome:
    """Run one job.

    Raises:
        WrongResult: the client did not return the stored values.
    """
    meter = Meter()
    meter.outcome.version, meter.outcome.protocol = peer.version, peer.protocol
    match job.work:
        case "scan":
            await _scan(peer, job, meter)
        case "stream" | "list":
            await _stream(peer, job, meter)
        case "bulk":
            await _bulk(peer, job, meter)
        case _:
            await _requests(peer, job, meter)
    return meter.outcome


async def _requests(peer: Peer, job: Job, meter: Meter) -> None:
    loop: Callable[[Iterable[Any]], Awaitable[object]] = getattr(peer, job.work)
    values = jobs.shaped(job, peer.shape)

    async def run(count: int, latencies: list[float] | None = None) -> int:
        return await in_tasks(loop, cycled(values, count), job.in_flight, latencies)

    count = job.operations or await calibrated(run, job)
    latencies: list[float] | None = [] if job.timed else None
    meter.start()
    found = await run(count, latencies)
    meter.stop(count)
    if latencies is not None:
        meter.latencies(latencies)
    if job.work != "write":
        jobs.check(found, jobs.keys_among(job, count), "rows that had their key")
        row = jobs.items()[0 if job.one_key else -1]
        jobs.check(tuple(await peer.one(jobs.READ, row[0])), row, "a row read")
    if job.work == "write":
        row = jobs.items()[0 if job.one_key else (count - 1) % jobs.ITEM_ROWS]
        jobs.check(tuple(await peer.one(jobs.READ_WRITTEN, row[0])), row, "a row written")


async def in_tasks(
    loop: Callable[[Iterable[Any]], Awaitable[object]],
    values: Iterator[Any],
    in_flight: int,
    latencies: list[float] | None,
) -> int:
    """Run the loop in `in_flight` tasks on the same iterator; return the sum of their results."""
    total = 0

    async def task() -> None:
        nonlocal total
        found = await loop(values if latencies is None else timed(values, latencies))
        total += found if isinstance(found, int) else 0

    if sniffio.current_async_library() == "trio":
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(task)
    else:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(task())
    return total


def cycled(values: Sequence[Any], count: int) -> Iterator[Any]:
    """Yield `count` values, starting again from the first when they are used up."""
    return itertools.islice(itertools.cycle(values), count)


async def calibrated(run: Callable[[int], Awaitable[object]], job: Job) -> int:
    """Warm up for about the time of a measurement; return how many operations take this time."""
    count = 1 if job.work == "scan" else max(LEAST_WARM_UP, 2 * job.in_flight)
    while True:
        began = time.perf_counter()
        await run(count)
        seconds = time.perf_counter() - began
        if seconds >= job.seconds / 3:
            return operations(job, count / seconds)
        count = max(count + 1, int(count * min(8, job.seconds / 2 / seconds)))


def operations(job: Job, rate: float) -> int:
    """Return how many operations to measure, for a client that does `rate` per second.

    With 1,024 in flight there are at least 8 operations per task, unless these take more than 2.4
    times as long as a turn should: fewer would mostly measure the start and the end.
    """
    if job.work == "scan":
        return max(1, round(rate * job.seconds))
    least = 8 * job.in_flight if job.in_flight > 1 else 64
    return max(int(rate * job.seconds), min(least, int(rate * job.seconds * 2.4)), 2)


async def _scan(peer: Peer, job: Job, meter: Meter) -> None:
    rows: Sequence[Any] = ()

    async def run(passes: int) -> None:
        nonlocal rows
        for _ in range(passes):
            # Free the first list before the second is built.
            rows = ()
            rows = await peer.scan(job.page_size)

    passes = job.operations or await calibrated(run, job)
    rows = ()
    meter.start()
    await run(passes)
    meter.stop(passes * len(rows), passes)
    check_scan(rows, peer.plain)


def check_scan(rows: Sequence[Any], plain: Callable[[Any], Sequence[object]]) -> None:
    """Check that the rows are those of the table, in any order."""
    jobs.check(len(rows), jobs.ITEM_ROWS, "rows scanned")
    found: dict[object, tuple[object, ...]] = {}
    for row in rows:
        values = tuple(plain(row))
        found[values[0]] = values
    for expected in jobs.items():
        jobs.check(found.get(expected[0]), expected, "a row scanned")


async def _bulk(peer: Peer, job: Job, meter: Meter) -> None:
    """Load rows by the client's own call for many rows, or else by tasks that share them."""
    values = jobs.shaped(job, peer.shape)
    bulk: Callable[[Iterator[Any], int], Awaitable[int]] | None = getattr(peer, "bulk", None)
    meter.start()
    if bulk is None:
        await in_tasks(peer.write, cycled(values, job.operations), job.in_flight, None)
    else:
        count = await bulk(cycled(values, job.operations), job.in_flight)
        jobs.check(count, job.operations, "rows loaded")
    meter.stop(job.operations)
    row = jobs.items()[0 if job.one_key else (job.operations - 1) % jobs.ITEM_ROWS]
    jobs.check(tuple(await peer.one(jobs.READ_WRITTEN, row[0])), row, "a row loaded")


async def _stream(peer: Peer, job: Job, meter: Meter) -> None:
    meter.start()
    if job.work == "list":
        count = len(rows := await peer.all(job.page_size))
        meter.stop(count)
        amounts = sum(peer.plain(row)[3] for row in rows)  # type: ignore[misc]  # of Any
    else:
        count, amounts = await peer.stream(job.page_size)
        meter.stop(count)
    jobs.check(count, job.operations, "rows streamed")
    jobs.check(amounts, job.operations * (job.operations - 1) // 2, "sum of the rows streamed")
