"""Creates and drops the benchmark's keyspace and rows, with cqlproto.

The version in its outcomes is that of the server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio.to_thread

import cqlproto_anyio as cql
from bench import jobs, worker
from bench.clients import base
from bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.jobs import Job

_IN_FLIGHT = 128


def serve(client: str, host: str, port: int) -> None:
    del client
    asyncio.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    async with cql.connect(host, port=port) as session:
        release = (await session.execute(jobs.RELEASE)).one()
        while job := await anyio.to_thread.run_sync(worker.receive):
            meter = Meter()
            meter.outcome.version = release.release_version
            meter.start()
            await _WORKS[job.work](session, job)
            meter.stop(max(job.operations, 1))
            worker.reply(meter.outcome)


async def _write_all(session: cql.Session, query: str, rows: Iterable[Any]) -> None:
    prepared = await session.prepare(query)

    async def write(rows: Iterable[Any]) -> None:
        for row in rows:
            await session.execute(prepared, row)

    await base.in_tasks(write, iter(rows), _IN_FLIGHT, None)


async def _setup(session: cql.Session, job: Job) -> None:
    for statement in jobs.schema(job.replicas):
        await session.execute(statement, timeout=30)
    await _write_all(session, jobs.FILL, jobs.items())


async def _drop(session: cql.Session, _: Job) -> None:
    await session.execute(jobs.DROP, timeout=60)


async def _load(session: cql.Session, job: Job) -> None:
    """Write the rows of the stream, unless an earlier run left the same number."""
    found = (await session.execute(jobs.LOADED)).first()
    if found is None or found.rows != job.operations:
        await session.execute(f"TRUNCATE {jobs.KEYSPACE}.readings", timeout=60)
        rows = (jobs.reading(number, job.operations) for number in range(job.operations))
        await _write_all(session, jobs.LOAD, rows)
        await session.execute(jobs.SET_LOADED, (job.operations,))


_WORKS = {"setup": _setup, "drop": _drop, "load": _load}
