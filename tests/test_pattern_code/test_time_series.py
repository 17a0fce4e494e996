"""Time series as applications use them: a metrics writer, a chart, a backfill."""

from __future__ import annotations

import datetime
import itertools
from typing import TYPE_CHECKING

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import NewPoint, Point, PointExpired, TimeSeries, TimeStep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.cassandra

UTC = datetime.UTC
DAY = datetime.timedelta(days=1)
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
NOON = datetime.datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.fixture
async def metrics(session: cql.Session, keyspace: str) -> TimeSeries:
    metrics = TimeSeries(session, keyspace=keyspace)
    await metrics.create_schema()
    return metrics


async def test_a_writer_and_a_dashboard(metrics: TimeSeries) -> None:
    before = datetime.datetime.now(UTC) - MINUTE
    assert await metrics.write("cpu", 0.75, tags={"host": "a"}) is True
    await metrics.write("cpu", 0.5)
    await metrics.write("memory", 3)
    end = datetime.datetime.now(UTC) + MINUTE
    points = [point async for point in metrics.query("cpu", before, end)]
    assert sorted(point.value for point in points) == [0.5, 0.75]
    assert {point.value: dict(point.tags) for point in points} == {0.75: {"host": "a"}, 0.5: {}}
    assert all(before < point.timestamp < end for point in points)
    assert [point.value async for point in metrics.query("memory", before, end)] == [3.0]
    assert [point async for point in metrics.query("disk", before, end)] == []


async def test_points_are_found_by_their_own_time(metrics: TimeSeries) -> None:
    """Old points, midnight, a leap day, the epoch and what was before it."""
    moments = [
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime.datetime(1970, 1, 1, tzinfo=UTC),
        datetime.datetime(2024, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime.datetime(2024, 2, 29, tzinfo=UTC),
        datetime.datetime(2024, 3, 1, tzinfo=UTC),
    ]
    for number, moment in enumerate(moments):
        await metrics.write("edges", number, moment)
    for number, moment in enumerate(moments):
        millisecond = datetime.timedelta(milliseconds=1)
        found = [point async for point in metrics.query("edges", moment, moment + millisecond)]
        assert found == [Point(moment, float(number), {})]
    leap = metrics.query("edges", moments[2], moments[4])
    assert [point.value async for point in leap] == [2.0, 3.0]  # the end is not included
    new_york = datetime.timezone(datetime.timedelta(hours=-5))
    await metrics.write("local", 1, datetime.datetime(2024, 2, 29, 20, tzinfo=new_york))
    local = [point async for point in metrics.query("local", NOON, NOON + DAY)]
    assert [point.timestamp for point in local] == [datetime.datetime(2024, 3, 1, 1, tzinfo=UTC)]


async def test_a_backfill_and_a_chart(metrics: TimeSeries) -> None:
    """Many points across buckets, streamed in order, newest first, and in steps."""
    points = [NewPoint("load", n, NOON + n * 10 * MINUTE, {"n": str(n)}) for n in range(300)]
    done = await metrics.write_many(points, concurrency=32)
    assert (done.written, done.dropped) == (300, 0)
    end = NOON + 3 * DAY
    read = [point async for point in metrics.query("load", NOON, end)]
    assert [point.value for point in read] == [float(n) for n in range(300)]
    assert read[7] == Point(NOON + 70 * MINUTE, 7.0, {"n": "7"})
    newest = [p.value async for p in metrics.query("load", NOON, end, newest_first=True, limit=3)]
    assert newest == [299.0, 298.0, 297.0]
    first = []
    async for point in metrics.query("load", NOON, end):
        first.append(point.value)
        if len(first) == 5:
            break
    assert first == [0.0, 1.0, 2.0, 3.0, 4.0]

    steps = await metrics.aggregate("load", NOON, NOON + 2 * HOUR, step=HOUR)
    assert steps == [
        TimeStep(start=NOON, count=6, min=0.0, max=5.0, mean=2.5, last=5.0),
        TimeStep(start=NOON + HOUR, count=6, min=6.0, max=11.0, mean=8.5, last=11.0),
    ]
    shifted = await metrics.aggregate("load", NOON + 5 * MINUTE, NOON + 35 * MINUTE, step=600)
    assert [(step.start, step.count, step.last) for step in shifted] == [
        (NOON + 5 * MINUTE, 1, 1.0),
        (NOON + 15 * MINUTE, 1, 2.0),
        (NOON + 25 * MINUTE, 1, 3.0),
    ]
    assert await metrics.aggregate("load", NOON - DAY, NOON, step=HOUR) == []


async def test_points_of_one_millisecond_are_all_kept(metrics: TimeSeries) -> None:
    async def source() -> AsyncIterator[NewPoint]:
        for number in range(200):
            yield NewPoint("burst", number, NOON)

    assert (await metrics.write_many(source())).written == 200
    values = [point.value async for point in metrics.query("burst", NOON, NOON + MINUTE)]
    assert sorted(values) == [float(n) for n in range(200)]


async def test_a_retention_of_a_week(session: cql.Session, keyspace: str) -> None:
    """A point from last year is past its retention: it is refused, or dropped by choice."""
    now = itertools.repeat(NOON)
    strict = TimeSeries(
        session, keyspace=keyspace, bucket=HOUR, retention=7 * DAY, clock=lambda: next(now)
    )
    await strict.create_schema()
    assert await strict.write("kept", 1, NOON - 6 * DAY)
    with pytest.raises(PointExpired) as info:
        await strict.write("kept", 1, NOON - 8 * DAY)
    error = info.value
    assert isinstance(error, cql.UsageError)
    assert (error.metric, error.timestamp) == ("kept", NOON - 8 * DAY)
    assert error.retention == 7 * DAY

    lenient = TimeSeries(
        session,
        keyspace=keyspace,
        bucket=HOUR,
        retention=7 * 86_400,
        expired="drop",
        read_ahead=2,
        clock=lambda: NOON,
    )
    assert await lenient.write("kept", 2, NOON - 8 * DAY) is False
    done = await lenient.write_many(
        [NewPoint("kept", 3, NOON - 9 * DAY), NewPoint("kept", 4, NOON - DAY), NewPoint("kept", 5)]
    )
    assert (done.written, done.dropped) == (2, 1)
    found = lenient.query("kept", NOON - 10 * DAY, NOON + HOUR)
    assert [point.value async for point in found] == [1.0, 4.0, 5.0]


async def test_a_point_lives_no_longer_than_its_retention(
    session: cql.Session, keyspace: str
) -> None:
    """A backfilled point has only the rest of its time to live."""
    metrics = TimeSeries(session, keyspace=keyspace, table="short", retention=DAY)
    await metrics.create_schema()
    written = datetime.datetime.now(UTC) - 23 * HOUR
    await metrics.write("cpu", 1, written)
    left = (await session.execute("SELECT ttl(value) FROM short LIMIT 1")).scalar()
    assert 3000 < left <= 3600


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, metrics: TimeSeries
) -> None:
    naive = datetime.datetime(2024, 2, 29, 12)
    with pytest.raises(cql.UsageError, match="timestamp .*naive"):
        await metrics.write("cpu", 1, naive)
    with pytest.raises(cql.UsageError, match="start .*naive"):
        [point async for point in metrics.query("cpu", naive, NOON)]
    with pytest.raises(cql.UsageError, match="end"):
        [point async for point in metrics.query("cpu", NOON, NOON - HOUR)]
    with pytest.raises(cql.UsageError, match="metric"):
        await metrics.write("", 1)
    with pytest.raises(cql.UsageError, match="value"):
        await metrics.write("cpu", "1")  # type: ignore[arg-type]
    with pytest.raises(cql.UsageError, match="tags"):
        await metrics.write("cpu", 1, tags={"host": 1})  # type: ignore[dict-item]
    with pytest.raises(cql.UsageError, match="step"):
        await metrics.aggregate("cpu", NOON, NOON + HOUR, step=0)
    with pytest.raises(cql.UsageError, match="limit"):
        [point async for point in metrics.query("cpu", NOON, NOON + HOUR, limit=0)]
    with pytest.raises(cql.UsageError, match="concurrency"):
        await metrics.write_many([], concurrency=0)
    for bad in (datetime.timedelta(0), -DAY, datetime.timedelta(microseconds=5)):
        with pytest.raises(cql.UsageError, match="bucket"):
            TimeSeries(session, keyspace="shop", bucket=bad)
    for retention in (0, -1, datetime.timedelta(days=20 * 366)):
        with pytest.raises(cql.UsageError, match="retention"):
            TimeSeries(session, keyspace="shop", retention=retention)
    with pytest.raises(cql.UsageError, match="expired"):
        TimeSeries(session, keyspace="shop", expired="keep")  # type: ignore[arg-type]
    assert TimeSeries.schema_cql("shop", table="metrics")
