"""cassandra-driver, the way its own documentation says is fastest.

That is `execute_concurrent_with_args` with rows as tuples, on its libev event loop. Callbacks
chained by hand on `execute_async` were tried too; README.md of this folder has the comparison.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import tuple_factory

from bench import jobs
from bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.jobs import Job, Outcome

PROTOCOL = 4


def run(job: Job) -> Outcome:
    meter = Meter()
    meter.outcome.version = importlib.metadata.version("cassandra-driver")
    meter.outcome.protocol = f"v{PROTOCOL}"
    cluster = Cluster(
        [job.host],
        port=job.port,
        protocol_version=PROTOCOL,
        compression=False,
        schema_metadata_enabled=False,
        execution_profiles={EXEC_PROFILE_DEFAULT: ExecutionProfile(row_factory=tuple_factory)},
    )
    try:
        _WORKS[job.work](cluster.connect(), job, meter)
    finally:
        cluster.shutdown()
    return meter.outcome


def _requests(session: Any, job: Job, meter: Meter, query: str, values: list[Any]) -> list[Any]:
    prepared = session.prepare(query)
    meter.baseline()
    if job.warm_up:
        execute_concurrent_with_args(
            session, prepared, values[: job.warm_up], concurrency=job.in_flight
        )
    measured = values[job.warm_up :]
    meter.start()
    results = execute_concurrent_with_args(session, prepared, measured, concurrency=job.in_flight)
    found = [result[0] if query is jobs.READ else None for _, result in results]
    meter.stop(len(measured))
    return found


def _write(session: Any, job: Job, meter: Meter) -> None:
    _requests(session, job, meter, jobs.WRITE, jobs.write_values(job))


def _read(session: Any, job: Job, meter: Meter) -> None:
    keys = jobs.read_keys(job)
    rows = _requests(session, job, meter, jobs.READ, keys)
    found = sum(row[0] == key[0] for row, key in zip(rows, keys[job.warm_up :], strict=True))
    jobs.check(found, job.operations, "rows read")


def _rows(session: Any, prepared: Any, page_size: int) -> tuple[int, int]:
    """All rows, paged by the driver: their count, and the sum of their fourth column."""
    statement = prepared.bind(())
    statement.fetch_size = page_size
    count = amounts = 0
    for row in session.execute(statement):
        count += 1
        amounts += row[3]
    return count, amounts


def _scan(session: Any, job: Job, meter: Meter) -> None:
    prepared = session.prepare(jobs.SCAN)
    meter.baseline()
    for _ in range(job.warm_up):
        _rows(session, prepared, job.page_size)
    meter.start()
    total = sum(_rows(session, prepared, job.page_size)[0] for _ in range(job.operations))
    meter.stop(total)
    jobs.check(total, job.operations * jobs.ITEM_ROWS, "rows scanned")


def _stream(session: Any, job: Job, meter: Meter) -> None:
    prepared = session.prepare(jobs.STREAM)
    meter.baseline()
    meter.start()
    count, amounts = _rows(session, prepared, job.page_size)
    meter.stop(count)
    jobs.check(count, job.operations, "rows streamed")
    jobs.check(amounts, job.operations * (job.operations - 1) // 2, "sum of the rows streamed")


_WORKS: dict[str, Callable[[Any, Job, Meter], None]] = {
    "write": _write,
    "read": _read,
    "scan": _scan,
    "stream": _stream,
}
