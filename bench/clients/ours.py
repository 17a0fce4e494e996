"""cqlproto on asyncio, on uvloop and on trio, as an application would use it.

A client's name says the backend and, where they aren't the usual ones, the row and the version:
`cqlproto/trio`, `cqlproto/asyncio/tuple`, `cqlproto/asyncio/v5`.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from bench import jobs
from bench.meter import Meter
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bench.jobs import Job, Outcome


def run(job: Job) -> Outcome:
    backend = job.client.split("/")[1]
    entry = functools.partial(_connect, job)
    if backend == "trio":
        return anyio.run(entry, backend="trio")
    return anyio.run(entry, backend="asyncio", backend_options={"use_uvloop": backend == "uvloop"})


async def _connect(job: Job) -> Outcome:
    meter = Meter()
    newest = "v5" in job.client.split("/")
    config = cql.Config(protocol_version=ProtocolVersion.V5 if newest else ProtocolVersion.V4)
    async with cql.connect(job.host, port=job.port, config=config) as session:
        meter.outcome.version = cql.__version__
        await _WORKS[job.work](session, job, meter)
        meter.outcome.protocol = await _protocol(session)
    return meter.outcome


async def _protocol(session: cql.Session) -> str:
    """Ask the server which version was spoken; the canned one has no list of its clients."""
    try:
        clients = await session.execute(jobs.CLIENTS, row=tuple)
    except cql.InvalidQuery:
        return "?"  # before Cassandra 4.0
    versions = {version for name, version in clients if name == "cqlproto"}
    return "/".join(f"v{version}" for version in sorted(versions)) or "?"


async def _concurrently(
    session: cql.Session,
    prepared: cql.Prepared[Any],
    values: Iterable[Sequence[object]],
    in_flight: int,
) -> None:
    shared = iter(values)

    async def worker() -> None:
        for parameters in shared:
            await session.execute(prepared, parameters)

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(worker)


async def _write(session: cql.Session, job: Job, meter: Meter) -> None:
    values = jobs.write_values(job)
    prepared = await session.prepare(jobs.WRITE)
    meter.baseline()
    await _concurrently(session, prepared, values[: job.warm_up], job.in_flight)
    measured = values[job.warm_up :]
    meter.start()
    await _concurrently(session, prepared, measured, job.in_flight)
    meter.stop(len(measured))


async def _read(session: cql.Session, job: Job, meter: Meter) -> None:
    keys = jobs.read_keys(job)
    prepared = await session.prepare(jobs.READ, row=_row(job))
    id_of = _getter(job, 0, "id")
    found = 0

    async def worker(shared: Iterable[tuple[str]]) -> None:
        nonlocal found
        for key in shared:
            row = (await session.execute(prepared, key)).one()
            found += id_of(row) == key[0]

    async def read(keys: list[tuple[str]]) -> None:
        shared = iter(keys)
        async with anyio.create_task_group() as group:
            for _ in range(job.in_flight):
                group.start_soon(worker, shared)

    meter.baseline()
    await read(keys[: job.warm_up])
    measured = keys[job.warm_up :]
    meter.start()
    await read(measured)
    meter.stop(len(measured))
    jobs.check(found, len(keys), "rows read")


async def _scan(session: cql.Session, job: Job, meter: Meter) -> None:
    prepared = await session.prepare(jobs.SCAN, row=_row(job))

    async def scan() -> int:
        count = 0
        async for _ in session.stream(prepared, page_size=job.page_size):
            count += 1
        return count

    meter.baseline()
    for _ in range(job.warm_up):
        await scan()
    meter.start()
    total = 0
    for _ in range(job.operations):
        total += await scan()
    meter.stop(total)
    jobs.check(total, job.operations * jobs.ITEM_ROWS, "rows scanned")


async def _stream(session: cql.Session, job: Job, meter: Meter) -> None:
    prepared = await session.prepare(jobs.STREAM, row=_row(job))
    amount_of = _getter(job, 3, "amount")
    count = amounts = 0
    meter.baseline()
    meter.start()
    async for row in session.stream(prepared, page_size=job.page_size, timeout=None):
        count += 1
        amounts += amount_of(row)
    meter.stop(count)
    jobs.check(count, job.operations, "rows streamed")
    jobs.check(amounts, job.operations * (job.operations - 1) // 2, "sum of the rows streamed")


async def _setup(session: cql.Session, job: Job, meter: Meter) -> None:
    for statement in jobs.SCHEMA:
        await session.execute(statement, timeout=30)
    prepared = await session.prepare(jobs.FILL)
    rows = [jobs.item(number) for number in range(jobs.ITEM_ROWS)]
    meter.start()
    await _concurrently(session, prepared, rows, job.in_flight)
    meter.stop(len(rows))


async def _drop(session: cql.Session, job: Job, meter: Meter) -> None:
    meter.start()
    await session.execute(jobs.DROP, timeout=60)
    meter.stop(1)


async def _load(session: cql.Session, job: Job, meter: Meter) -> None:
    """Write the rows of the stream, unless an earlier run left just as many."""
    found = (await session.execute(jobs.LOADED)).first()
    meter.start()
    if found is None or found.rows != job.operations:
        await session.execute(f"TRUNCATE {jobs.KEYSPACE}.readings", timeout=60)
        prepared = await session.prepare(jobs.LOAD)
        rows = (jobs.reading(number, job.operations) for number in range(job.operations))
        await _concurrently(session, prepared, rows, job.in_flight)
        await session.execute(jobs.SET_LOADED, (job.operations,))
    meter.stop(job.operations)


def _row(job: Job) -> Any:
    return tuple if job.client.endswith("/tuple") else cql.Row


def _getter(job: Job, index: int, name: str) -> Callable[[Any], Any]:
    """How one reads a column: a tuple's by index, a Row's as an attribute."""
    return operator.itemgetter(index) if _row(job) is tuple else operator.attrgetter(name)


_WORKS = {
    "setup": _setup,
    "drop": _drop,
    "load": _load,
    "write": _write,
    "read": _read,
    "scan": _scan,
    "stream": _stream,
}
