"""acsylla, the C++ driver under Cython, on asyncio: tasks that await one request after another."""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import TYPE_CHECKING, Any

import acsylla

from bench import jobs
from bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from bench.jobs import Job, Outcome

PROTOCOL = 4


def run(job: Job) -> Outcome:
    return asyncio.run(_connect(job))


async def _connect(job: Job) -> Outcome:
    meter = Meter()
    meter.outcome.version = importlib.metadata.version("acsylla")
    meter.outcome.protocol = f"v{PROTOCOL}"
    # The schema is not read, as no work needs it: that makes its start-up and memory smallest.
    cluster = acsylla.create_cluster(
        [job.host], port=job.port, protocol_version=PROTOCOL, use_schema=False, log_level="error"
    )
    session = await cluster.create_session()
    await _WORKS[job.work](session, job, meter)
    await session.close()
    return meter.outcome


async def _tasks(
    job: Job, worker: Callable[[Iterable[Any]], Awaitable[None]], values: list[Any]
) -> None:
    shared = iter(values)
    async with asyncio.TaskGroup() as group:
        for _ in range(job.in_flight):
            group.create_task(_as_coroutine(worker, shared))


async def _as_coroutine(
    worker: Callable[[Iterable[Any]], Awaitable[None]], shared: Iterable[Any]
) -> None:
    await worker(shared)


async def _requests(
    job: Job, meter: Meter, worker: Callable[[Iterable[Any]], Awaitable[None]], values: list[Any]
) -> None:
    meter.baseline()
    await _tasks(job, worker, values[: job.warm_up])
    measured = values[job.warm_up :]
    meter.start()
    await _tasks(job, worker, measured)
    meter.stop(len(measured))


async def _write(session: Any, job: Job, meter: Meter) -> None:
    prepared = await session.create_prepared(jobs.WRITE)

    async def worker(shared: Iterable[list[object]]) -> None:
        for values in shared:
            statement = prepared.bind()
            statement.bind_list(values)
            await session.execute(statement)

    await _requests(job, meter, worker, [list(row) for row in jobs.write_values(job)])


async def _read(session: Any, job: Job, meter: Meter) -> None:
    prepared = await session.create_prepared(jobs.READ)
    # It binds lists only.
    keys = [list(key) for key in jobs.read_keys(job)]
    found = 0

    async def worker(shared: Iterable[list[str]]) -> None:
        nonlocal found
        for key in shared:
            statement = prepared.bind()
            statement.bind_list(key)
            row = (await session.execute(statement)).first().as_tuple()
            found += row[0] == key[0]

    await _requests(job, meter, worker, keys)
    jobs.check(found, len(keys), "rows read")


async def _pages(session: Any, prepared: Any, page_size: int) -> tuple[int, int]:
    """All rows, page by page: their count, and the sum of their fourth column."""
    statement = prepared.bind(page_size=page_size)
    count = amounts = 0
    while True:
        result = await session.execute(statement)
        for row in result:
            values = row.as_tuple()
            count += 1
            amounts += values[3]
        if not result.has_more_pages():
            return count, amounts
        statement.set_page_state(result.page_state())


async def _scan(session: Any, job: Job, meter: Meter) -> None:
    prepared = await session.create_prepared(jobs.SCAN)
    meter.baseline()
    for _ in range(job.warm_up):
        await _pages(session, prepared, job.page_size)
    meter.start()
    total = 0
    for _ in range(job.operations):
        total += (await _pages(session, prepared, job.page_size))[0]
    meter.stop(total)
    jobs.check(total, job.operations * jobs.ITEM_ROWS, "rows scanned")


async def _stream(session: Any, job: Job, meter: Meter) -> None:
    prepared = await session.create_prepared(jobs.STREAM)
    meter.baseline()
    meter.start()
    count, amounts = await _pages(session, prepared, job.page_size)
    meter.stop(count)
    jobs.check(count, job.operations, "rows streamed")
    jobs.check(amounts, job.operations * (job.operations - 1) // 2, "sum of the rows streamed")


_WORKS = {"write": _write, "read": _read, "scan": _scan, "stream": _stream}
