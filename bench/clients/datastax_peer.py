"""cassandra-driver, and its fork scylla-driver, which has the same names.

Throughput is measured with `execute_concurrent_with_args`, rows as tuples and the libev event loop,
which the driver's documentation calls the fastest; with one request in flight, with `execute`.
These report no latencies, so a second, shorter run measures them: callbacks of `execute_async`
start the next request at each result, which keeps the same number in flight.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.concurrent import execute_concurrent, execute_concurrent_with_args
from cassandra.query import tuple_factory

from bench import jobs, worker
from bench.clients import base
from bench.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.jobs import Job, Outcome

PROTOCOL = 4
_SHARE_TIMED = 3
"""The number of operations of the first run is divided by this for the second run."""
_PATIENCE = 120


def serve(client: str, host: str, port: int) -> None:
    cluster = Cluster(
        [host],
        port=port,
        protocol_version=PROTOCOL,
        compression=False,
        schema_metadata_enabled=False,
        execution_profiles={
            EXEC_PROFILE_DEFAULT: ExecutionProfile(
                row_factory=tuple_factory,
                consistency_level=ConsistencyLevel.LOCAL_QUORUM,  # the default of cqlproto
            )
        },
    )
    try:
        driver = _Driver(cluster.connect(), importlib.metadata.version(client.split("/")[0]))
        while job := worker.receive():
            worker.reply(driver.measure(job))
    finally:
        cluster.shutdown()


class _Driver:
    def __init__(self, session: Any, version: str) -> None:
        self._session = session
        self._version = version
        self._write = session.prepare(jobs.WRITE)
        self._read = session.prepare(jobs.READ)
        self._scan = session.prepare(jobs.SCAN)
        self._stream = session.prepare(jobs.STREAM)

    def measure(self, job: Job) -> Outcome:
        """Run one job.

        Raises:
            WrongResult: the driver did not return the stored values.
        """
        meter = Meter()
        meter.outcome.version, meter.outcome.protocol = self._version, f"v{PROTOCOL}"
        match job.work:
            case "scan":
                self._measure_scan(job, meter)
            case "stream" | "list":
                self._measure_stream(job, meter)
            case "bulk":
                self._measure_bulk(job, meter)
            case _:
                self._measure_requests(job, meter)
        return meter.outcome

    def _measure_requests(self, job: Job, meter: Meter) -> None:
        values = jobs.requests(job)
        count = job.operations or self._calibrated(values, job)
        run = self._one_by_one if job.in_flight == 1 else self._concurrently
        latencies: list[float] = []
        meter.start()
        found = run(base.cycled(values, count), job, latencies)
        meter.stop(count)
        if job.timed and job.in_flight > 1:
            self._by_callbacks(base.cycled(values, count // _SHARE_TIMED), job, latencies)
        if job.timed:
            meter.latencies(latencies)
        if job.work != "write":
            jobs.check(found, jobs.keys_among(job, count), "rows that had their key")
            row = jobs.items()[0 if job.one_key else -1]
            jobs.check(self._one(jobs.READ, row[0]), row, "a row read")
        if job.work == "write":
            row = jobs.items()[0 if job.one_key else (count - 1) % jobs.ITEM_ROWS]
            jobs.check(self._one(jobs.READ_WRITTEN, row[0]), row, "a row written")

    def _measure_bulk(self, job: Job, meter: Meter) -> None:
        rows = base.cycled(jobs.requests(job), job.operations)
        meter.start()
        results = execute_concurrent_with_args(
            self._session, self._write, rows, concurrency=job.in_flight, results_generator=True
        )
        count = sum(success for success, _ in results)
        meter.stop(job.operations)
        jobs.check(count, job.operations, "rows loaded")
        row = jobs.items()[0 if job.one_key else (count - 1) % jobs.ITEM_ROWS]
        jobs.check(self._one(jobs.READ_WRITTEN, row[0]), row, "a row loaded")

    def _calibrated(self, values: Sequence[Any], job: Job) -> int:
        run = self._one_by_one if job.in_flight == 1 else self._concurrently
        count = max(base.LEAST_WARM_UP, 2 * job.in_flight)
        while True:
            began = time.perf_counter()
            run(base.cycled(values, count), job, [])
            seconds = time.perf_counter() - began
            if seconds >= job.seconds / 3:
                return base.operations(job, count / seconds)
            count = int(count * min(8, max(1.1, job.seconds / 2 / seconds)))

    def _one(self, query: str, key: str) -> tuple[Any, ...]:
        return tuple(self._session.execute(self._session.prepare(query), (key,))[0])

    def _one_by_one(self, values: Iterator[Any], job: Job, latencies: list[float]) -> int:
        execute, read, write, clock = (
            self._session.execute,
            self._read,
            self._write,
            time.perf_counter,
        )
        found = 0
        for each in values:
            began = clock()
            if len(each) == 1:
                found += execute(read, each)[0][0] == each[0]
            else:
                execute(write, each)
            latencies.append(clock() - began)
        return found

    def _concurrently(self, values: Iterator[Any], job: Job, _: list[float]) -> int:
        given = list(values)
        if job.work == "mixed":
            results = execute_concurrent(
                self._session,
                [(self._read if len(each) == 1 else self._write, each) for each in given],
                concurrency=job.in_flight,
            )
        else:
            statement = self._read if job.work == "read" else self._write
            results = execute_concurrent_with_args(
                self._session, statement, given, concurrency=job.in_flight
            )
        if job.work == "write":
            return 0
        return sum(
            result[0][0] == each[0]
            for (_, result), each in zip(results, given, strict=True)
            if len(each) == 1
        )

    def _by_callbacks(self, values: Iterator[Any], job: Job, latencies: list[float]) -> None:
        """Keep `job.in_flight` requests in flight; a result starts one, on the driver's thread."""
        chain = _Chain(self, values, latencies)
        for _ in range(job.in_flight):
            chain.start()
        chain.wait()

    def execute_async(self, values: Sequence[object]) -> Any:
        statement = self._read if len(values) == 1 else self._write
        return self._session.execute_async(statement, values)

    def _rows(self, prepared: Any, page_size: int) -> Any:
        """Return an iterable of all rows, which the driver pages."""
        statement = prepared.bind(())
        statement.fetch_size = page_size
        return self._session.execute(statement)

    def _measure_scan(self, job: Job, meter: Meter) -> None:
        rows: list[Any] = []
        passes = job.operations
        if not passes:
            rows = list(self._rows(self._scan, job.page_size))
            began = time.perf_counter()
            rows = list(self._rows(self._scan, job.page_size))
            passes = base.operations(job, 1 / (time.perf_counter() - began))
        rows = []
        meter.start()
        for _ in range(passes):
            rows = []
            rows = list(self._rows(self._scan, job.page_size))
        meter.stop(passes * len(rows), passes)
        base.check_scan(rows, tuple)

    def _measure_stream(self, job: Job, meter: Meter) -> None:
        count = amounts = 0
        meter.start()
        if job.work == "list":
            count = len(rows := list(self._rows(self._stream, job.page_size)))
            meter.stop(count)
            amounts = sum(row[3] for row in rows)
        else:
            for row in self._rows(self._stream, job.page_size):
                count += 1
                amounts += row[3]
            meter.stop(count)
        jobs.check(count, job.operations, "rows streamed")
        jobs.check(amounts, job.operations * (job.operations - 1) // 2, "sum of the rows streamed")


class _Chain:
    """Requests that start the next one when they are answered."""

    def __init__(self, driver: _Driver, values: Iterator[Any], latencies: list[float]) -> None:
        self._driver = driver
        self._values = values
        self._latencies = latencies
        self._lock = threading.Lock()
        self._running = 0
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> None:
        with self._lock:
            values = next(self._values, None)
            if values is None:
                if not self._running:
                    self._ended.set()
                return
            self._running += 1
        began = time.perf_counter()
        future = self._driver.execute_async(values)
        future.add_callbacks(self._answered, self._failed, callback_args=(began,))

    def _answered(self, rows: Any, began: float) -> None:
        self._latencies.append(time.perf_counter() - began)
        self._finished()

    def _failed(self, error: BaseException) -> None:
        self._error = error
        self._values = itertools.chain()
        self._finished()

    def _finished(self) -> None:
        with self._lock:
            self._running -= 1
        self.start()

    def wait(self) -> None:
        """Wait until all requests are answered.

        Raises:
            Exception: the error of a failed request, or a TimeoutError.
        """
        if not self._ended.wait(_PATIENCE):
            raise TimeoutError("callbacks that never came")
        if self._error is not None:
            raise self._error
