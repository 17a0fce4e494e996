"""Time series: buckets, times to live, pages, steps, and mistakes."""

from __future__ import annotations

import math
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto_anyio.patterns import (
    InvalidInput,
    NewPoint,
    Point,
    PointExpired,
    TimeSeries,
    TimeStep,
    Written,
)
from tests.cqlproto_anyio.patterns.pointtable import PointTable
from tests.support.scripted import timed_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def series(table: PointTable, **options: Any) -> TimeSeries:
    return TimeSeries(table, keyspace="shop", **{"clock": lambda: NOON, **options})


async def read(metrics: TimeSeries, *args: Any, metric: str = "m", **options: Any) -> list[Point]:
    return [point async for point in metrics.query(metric, *args, **options)]


async def test_one_insert_for_a_point() -> None:
    table = PointTable()
    assert await series(table).write("cpu", 1, tags={"host": "a"})
    (request,) = table.asked
    assert request.options == {"idempotent": True}
    (row,) = table.rows
    milliseconds = int(NOON.timestamp() * 1000)
    assert row == {
        "metric": "cpu",
        "bucket": milliseconds // 86_400_000,
        "at": milliseconds,
        "id": row["id"],
        "value": 1.0,
        "tags": {"host": "a"},
        "ttl": 0,
    }


async def test_the_bucket_is_that_of_the_point() -> None:
    table = PointTable()
    metrics = series(table)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for moment, bucket, at in [
        (epoch, 0, 0),
        (epoch - timedelta(microseconds=1), -1, -1),
        (epoch - DAY, -1, -86_400_000),
        (epoch + DAY - timedelta(microseconds=1), 0, 86_399_999),
        (datetime(2024, 2, 29, tzinfo=UTC), 19_782, 1_709_164_800_000),
        (datetime(2024, 2, 29, 20, tzinfo=timezone(-5 * HOUR)), 19_783, 1_709_254_800_000),
        (datetime(1, 1, 1, tzinfo=UTC), -719_162, -62_135_596_800_000),
        (datetime.max.replace(tzinfo=UTC), 2_932_896, 253_402_300_799_999),
    ]:
        await metrics.write("m", 1, moment)
        assert (table.rows[-1]["bucket"], table.rows[-1]["at"]) == (bucket, at)


async def test_points_of_one_millisecond_are_apart_and_in_order() -> None:
    table = PointTable()
    metrics = series(table)
    for number in range(50):
        await metrics.write("m", number)
    assert [p.value for p in await read(metrics, NOON, NOON + SECOND)] == list(range(50))
    newest = await read(metrics, NOON, NOON + SECOND, newest_first=True)
    assert [p.value for p in newest] == list(range(49, -1, -1))


async def test_retention_counts_from_the_time_of_the_point() -> None:
    table = PointTable()
    metrics = series(table, retention=7 * DAY)
    for age, ttl in [
        (timedelta(0), 7 * 86_400),
        (6 * DAY, 86_400),
        (7 * DAY - timedelta(milliseconds=1), 1),
        (-DAY, 8 * 86_400),
        (-30_000 * DAY, 630_720_000),
    ]:
        assert await metrics.write("m", 1, NOON - age)
        assert table.rows[-1]["ttl"] == ttl
    with pytest.raises(PointExpired, match="older than the retention of 7 days") as info:
        await metrics.write("m", 1, NOON - 7 * DAY)
    assert (info.value.metric, info.value.timestamp) == ("m", NOON - 7 * DAY)
    assert info.value.retention == 7 * DAY
    assert await series(table, retention=1.5, expired="drop").write("m", 1, NOON - DAY) is False
    assert len(table.rows) == 5


async def test_what_is_past_its_retention_is_not_returned() -> None:
    """Servers count a time to live in whole seconds, and clocks differ."""
    table = PointTable()
    await series(table).write("m", 1, NOON - HOUR)
    await series(table).write("m", 2, NOON - HOUR + MILLISECOND)
    found = await read(series(table, retention=HOUR), NOON - 2 * DAY, NOON)
    assert [point.value for point in found] == [2.0]
    assert len(table.asked) == 3  # older buckets aren't read either
    assert await read(series(table, retention=HOUR), NOON - 2 * DAY, NOON - DAY) == []


POINTS = st.lists(st.integers(-3_000, 3_000), max_size=30)


@given(
    POINTS,
    st.integers(-3_500, 3_500),
    st.integers(0, 7_000),
    st.sampled_from([1, 7, 500, 100_000]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.none() | st.integers(1, 9),
    st.booleans(),
)
async def test_a_query_finds_what_is_in_its_range(
    times: list[int],
    start: int,
    length: int,
    width: int,
    size: int,
    ahead: int,
    limit: int | None,
    newest: bool,
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    table = PointTable(size)
    width = max(width, length // 50, 1)
    metrics = series(table, bucket=width * MILLISECOND, read_ahead=ahead)
    for value, time in enumerate(times):
        await metrics.write("m", value, epoch + time * MILLISECOND)
    begin = epoch + start * MILLISECOND
    end = begin + length * MILLISECOND
    found = await read(metrics, begin, end, limit=limit, newest_first=newest)
    expected = sorted(
        ((t, v) for v, t in enumerate(times) if start <= t < start + length), reverse=newest
    )
    assert [((p.timestamp - epoch) // MILLISECOND, p.value) for p in found] == expected[:limit]
    assert table.most <= ahead


async def test_buckets_are_read_at_once_and_no_more_than_asked_for() -> None:
    table = PointTable()
    metrics = series(table, bucket=HOUR, read_ahead=3)
    for number in range(24):
        await metrics.write("m", number, NOON + number * HOUR)
    table.asked.clear()
    table.most = 0
    stream = metrics.query("m", NOON, NOON + DAY)
    assert (await anext(stream)).value == 0.0
    assert (len(table.asked), table.most) == (3, 3)
    assert [point.value async for point in stream] == [float(n) for n in range(1, 24)]
    assert (len(table.asked), table.most) == (24, 3)
    table.asked.clear()
    assert len(await read(metrics, NOON, NOON + DAY, limit=2)) == 2
    assert len(table.asked) == 3


async def test_iterating_goes_on_after_an_error() -> None:
    table = PointTable(size=2)
    metrics = series(table, bucket=HOUR, read_ahead=2)
    for number in range(12):
        await metrics.write("m", number, NOON + number * HOUR / 4)
    table.failures = [None, timed_out(), None, None, timed_out(), timed_out()]
    stream, values, errors = metrics.query("m", NOON, NOON + 3 * HOUR), [], 0
    while True:
        try:
            values.append((await anext(stream)).value)
        except TimeoutError:
            errors += 1
        except StopAsyncIteration:
            break
    assert values == [float(n) for n in range(12)]
    assert errors == 3


async def test_steps() -> None:
    table = PointTable(size=3)
    metrics = series(table, bucket=HOUR)
    for number in range(12):
        await metrics.write("m", number, NOON + number * HOUR / 4)
    await metrics.write("m", -1.5, NOON + timedelta(minutes=45))
    start = NOON - timedelta(microseconds=300)  # points have whole milliseconds
    steps = await metrics.aggregate("m", start, NOON + 4 * HOUR, step=HOUR)
    assert steps == [
        TimeStep(start, 5, -1.5, 3.0, 0.9, -1.5),
        TimeStep(start + HOUR, 4, 4.0, 7.0, 5.5, 7.0),
        TimeStep(start + 2 * HOUR, 4, 8.0, 11.0, 9.5, 11.0),
    ]
    short = await metrics.aggregate("m", NOON, NOON + HOUR, step=0.5)
    assert [(s.start - NOON, s.count) for s in short] == [
        (timedelta(0), 1),
        (HOUR / 4, 1),
        (HOUR / 2, 1),
        (HOUR * 3 / 4, 2),
    ]
    assert await metrics.aggregate("m", NOON, NOON, step=1) == []


async def source(count: int) -> AsyncIterator[NewPoint]:
    for number in range(count):
        await anyio.lowlevel.checkpoint()
        yield NewPoint("m", number, NOON + number * SECOND)


async def test_writing_many() -> None:
    table = PointTable()
    metrics = series(table, retention=HOUR, expired="drop")
    done = await metrics.write_many(
        [NewPoint("m", 1), NewPoint("m", 2, NOON - DAY), NewPoint("m", 3)], concurrency=1
    )
    assert done == Written(2, 1)
    assert await metrics.write_many(source(100), concurrency=7) == Written(100, 0)
    assert table.most == 7
    assert len(table.rows) == 102
    assert await metrics.write_many([]) == Written(0, 0)


async def test_the_first_error_of_many() -> None:
    """No more points are taken after it, and those under way are waited for."""
    table = PointTable()
    metrics = series(table)
    table.failures = [None, None, timed_out()]
    closed = False

    async def endless() -> AsyncIterator[NewPoint]:
        nonlocal closed
        try:
            while True:
                yield NewPoint("m", 1)
        finally:
            closed = True

    with pytest.raises(TimeoutError):
        await metrics.write_many(endless(), concurrency=4)
    assert closed
    assert table.underway == 0
    assert len(table.asked) <= 7

    def wrong() -> Iterator[NewPoint]:
        yield NewPoint("m", 1)
        yield NewPoint("m", math.nan)

    with pytest.raises(InvalidInput, match="value must be a finite number, got nan"):
        await metrics.write_many(wrong(), concurrency=2)
    with pytest.raises(InvalidInput, match="points"):
        await metrics.write_many([("m", 1)])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="points"):
        await metrics.write_many(7)  # type: ignore[arg-type]


async def test_a_cancelled_load_leaves_nothing_behind() -> None:
    table = PointTable()
    table.answer = lambda request: anyio.sleep(100)
    closed = False

    async def endless() -> AsyncIterator[NewPoint]:
        nonlocal closed
        try:
            while True:
                yield NewPoint("m", 1)
        finally:
            closed = True

    with anyio.move_on_after(1) as scope:
        await series(table).write_many(endless(), concurrency=4)
    assert scope.cancelled_caught
    assert closed
    assert table.underway == 0


async def test_memory_stays_flat_over_a_long_load_and_a_long_query() -> None:
    """A hundred thousand points are streamed, of which a few pages are in memory."""
    table = PointTable()
    rows = [{"at": NOON, "value": 1.0, "tags": None}] * 1000
    table.answer = lambda request: rows if request.text.startswith("SELECT") else None
    metrics = series(table, bucket=HOUR)
    tracemalloc.start()
    count = 0
    async for _ in metrics.query("m", NOON, NOON + 100 * HOUR):
        count += 1
        table.asked.clear()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 4_000_000


WRONG_POINTS: list[tuple[str, dict[str, Any]]] = [
    ("metric", {"metric": ""}),
    ("metric", {"metric": "x" * 1025}),
    ("metric", {"metric": 7}),
    ("value", {"value": "1"}),
    ("value", {"value": True}),
    ("value", {"value": math.inf}),
    ("value", {"value": 10**400}),
    ("timestamp", {"timestamp": datetime(2024, 2, 29)}),
    ("timestamp", {"timestamp": 0}),
    ("timestamp", {"timestamp": datetime.min.replace(tzinfo=timezone(14 * HOUR))}),
    ("tags", {"tags": {"host": 1}}),
    ("tags", {"tags": {1: "a"}}),
    ("tags", {"tags": [("a", "b")]}),
    ("tags", {"tags": {"a": "x" * 17_000}}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG_POINTS)
async def test_wrong_points(name: str, wrong: dict[str, Any]) -> None:
    table = PointTable()
    with pytest.raises(InvalidInput) as info:
        await series(table).write(**{"metric": "m", "value": 1, **wrong})
    assert info.value.name == name
    assert table.asked == []


WRONG_QUERIES: list[tuple[str, dict[str, Any]]] = [
    ("metric", {"metric": ""}),
    ("start", {"start": datetime(2024, 2, 29)}),
    ("end", {"end": datetime(2024, 2, 29)}),
    ("end", {"end": NOON - MILLISECOND}),
    ("limit", {"limit": 0}),
    ("limit", {"limit": 1.0}),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG_QUERIES)
async def test_wrong_queries(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as info:
        series(PointTable()).query(**{"metric": "m", "start": NOON, "end": NOON, **wrong})
    assert info.value.name == name


@pytest.mark.parametrize("step", [0, -1, 0.0001, math.nan, "1", timedelta(0)])
async def test_wrong_steps(step: Any) -> None:
    with pytest.raises(InvalidInput, match="step must be"):
        await series(PointTable()).aggregate("m", NOON, NOON, step=step)


WRONG_SETTINGS: list[tuple[str, Any]] = [
    ("keyspace", "a b"),
    ("table", "a;b"),
    ("bucket", timedelta(0)),
    ("bucket", -DAY),
    ("bucket", timedelta(microseconds=1500)),
    ("bucket", 86_400),
    ("retention", 0),
    ("retention", 630_720_001),
    ("expired", "keep"),
    ("read_ahead", 0),
]


@pytest.mark.parametrize(("name", "value"), WRONG_SETTINGS)
def test_wrong_settings(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as info:
        TimeSeries(PointTable(), **{"keyspace": "shop", name: value})
    assert info.value.name == name


def test_the_table() -> None:
    (statement,) = TimeSeries.schema_cql("shop", table="metrics")
    assert statement == (
        'CREATE TABLE IF NOT EXISTS "shop"."metrics" ("metric" text, "bucket" bigint,'
        ' "at" timestamp, "id" timeuuid, "value" double, "tags" frozen<map<text, text>>,'
        ' PRIMARY KEY (("metric", "bucket"), "at", "id"))'
    )
