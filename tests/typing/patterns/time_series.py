"""The types of time series. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_type

from cqlproto_anyio.patterns import NewPoint, Point, PointExpired, TimeSeries, TimeStep, Written

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def measuring(executor: cql.Executor, start: datetime, end: datetime) -> None:
    metrics = TimeSeries(executor, keyspace="shop")
    TimeSeries(
        executor,
        keyspace="shop",
        table="metrics",
        bucket=timedelta(days=1),
        retention=timedelta(days=7),
        expired="drop",
        read_ahead=2,
        clock=lambda: datetime.now(UTC),
    )
    assert_type(await metrics.create_schema(), None)
    assert_type(TimeSeries.schema_cql("shop"), tuple[str, ...])
    assert_type(await metrics.write("cpu", 0.75, tags={"host": "a"}), bool)
    assert_type(await metrics.write("cpu", 1, timestamp=start), bool)
    done = await metrics.write_many([NewPoint("cpu", 1)], concurrency=64)
    assert_type(done, Written)
    assert_type((done.written, done.dropped), tuple[int, int])

    async def source() -> AsyncIterator[NewPoint]:
        yield NewPoint("cpu", 0.5, start, {"host": "a"})

    assert_type(await metrics.write_many(source()), Written)
    assert_type(metrics.query("cpu", start, end), AsyncIterator[Point])
    async for point in metrics.query("cpu", start, end, newest_first=True, limit=10):
        assert_type(point.timestamp, datetime)
        assert_type(point.value, float)
        assert_type(point.tags, Mapping[str, str])
        point.value = 1  # type: ignore[misc]
    steps = await metrics.aggregate("cpu", start, end, step=timedelta(minutes=5))
    assert_type(steps, list[TimeStep])
    step = steps[0]
    assert_type((step.start, step.count), tuple[datetime, int])
    assert_type((step.min, step.max, step.mean, step.last), tuple[float, float, float, float])


async def mistakes(executor: cql.Executor, metrics: TimeSeries, start: datetime) -> None:
    TimeSeries(executor, keyspace="shop", bucket=86_400)  # type: ignore[arg-type]
    TimeSeries(executor, keyspace="shop", expired="keep")  # type: ignore[arg-type]
    await metrics.write("cpu", "1")  # type: ignore[arg-type]
    await metrics.write("cpu", 1, timestamp=0)  # type: ignore[arg-type]
    await metrics.write("cpu", 1, tags={"host": 1})  # type: ignore[dict-item]
    await metrics.aggregate("cpu", start, start)  # type: ignore[call-arg]
    metrics.query("cpu", "2024-02-29", start)  # type: ignore[arg-type]


def failing(error: PointExpired) -> None:
    usage: cql.UsageError = error
    assert usage
    assert_type((error.metric, error.timestamp), tuple[str, datetime])
    assert_type(error.retention, timedelta)
