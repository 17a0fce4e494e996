"""Time series on a real node: old points, full milliseconds, memory, faults, and naive versions."""

from __future__ import annotations

import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import NewPoint, SchemaMismatch, TimeSeries
from cqlproto_anyio.testing import Answer, Drop, FaultProxy, Rule
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import Counting, connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cqlproto_anyio.testing import Fault, Side
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
MANY = 100_000


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    for statement in TimeSeries.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(
        f"CREATE TABLE {keyspace}.naive (metric text, day text, at timestamp, value double,"
        " PRIMARY KEY ((metric, day), at))"
    )


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


@pytest.fixture(scope="module")
def many(cassandra: Node, keyspace: str) -> str:
    """Return a metric with 100,000 points of four days."""

    async def write() -> None:
        async with connected(cassandra, keyspace) as session:
            points = (NewPoint("many", n, NOON + n * 4 * DAY / MANY) for n in range(MANY))
            done = await TimeSeries(session, keyspace=keyspace).write_many(points, concurrency=256)
            assert (done.written, done.dropped) == (MANY, 0)

    anyio.run(write)
    return "many"


def fresh() -> str:
    return uuid.uuid4().hex


async def values(metrics: TimeSeries, metric: str, start: datetime, end: datetime) -> list[float]:
    return [point.value async for point in metrics.query(metric, start, end)]


async def naive_write(session: cql.Session, metric: str, value: float, at: datetime) -> None:
    """The bucket is that of the day on which the point is written."""
    insert = "INSERT INTO naive (metric, day, at, value) VALUES (?, ?, ?, ?)"
    await session.execute(insert, (metric, f"{datetime.now(UTC):%Y-%m-%d}", at, value))


async def naive_values(session: cql.Session, metric: str, day: datetime) -> list[float]:
    select = "SELECT value FROM naive WHERE metric = ? AND day = ?"
    return (await session.execute(select, (metric, f"{day:%Y-%m-%d}"))).scalars()


async def test_a_point_of_last_year_is_found(session: cql.Session, keyspace: str) -> None:
    metric, old = fresh(), datetime.now(UTC) - 365 * DAY
    metrics = TimeSeries(session, keyspace=keyspace)
    await metrics.write(metric, 1, old)
    assert await values(metrics, metric, old, old + SECOND) == [1.0]
    assert await values(metrics, metric, old - 3 * DAY, old + 3 * DAY) == [1.0]

    await naive_write(session, metric, 1, old)
    assert await naive_values(session, metric, old) == []


@pytest.mark.parametrize(
    "edge", [datetime(2024, 2, 29, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)]
)
@pytest.mark.parametrize("bucket", [HOUR, DAY, 7 * DAY])
async def test_the_edges_of_buckets(
    session: cql.Session, keyspace: str, edge: datetime, bucket: timedelta
) -> None:
    """Midnight, the leap day, 1970: each millisecond is in one range, and in one only."""
    metric, millisecond = fresh(), timedelta(milliseconds=1)
    metrics = TimeSeries(session, keyspace=keyspace, bucket=bucket)
    for number, offset in enumerate((-DAY, -millisecond, timedelta(0), millisecond, DAY)):
        await metrics.write(metric, number, edge + offset)
    assert await values(metrics, metric, edge - DAY, edge) == [0.0, 1.0]
    assert await values(metrics, metric, edge, edge + DAY) == [2.0, 3.0]
    assert await values(metrics, metric, edge - 2 * DAY, edge + 2 * DAY) == [
        0.0,
        1.0,
        2.0,
        3.0,
        4.0,
    ]


async def test_a_thousand_writes_in_one_millisecond(session: cql.Session, keyspace: str) -> None:
    metric, metrics = fresh(), TimeSeries(session, keyspace=keyspace)
    points = (NewPoint(metric, number, NOON) for number in range(1000))
    assert (await metrics.write_many(points)).written == 1000
    found = await values(metrics, metric, NOON, NOON + SECOND)
    assert found == [float(number) for number in range(1000)]

    for number in range(20):
        await naive_write(session, metric, number, NOON)
    assert len(await naive_values(session, metric, datetime.now(UTC))) == 1


async def test_a_hundred_thousand_points_are_streamed(
    cassandra: Node, keyspace: str, many: str
) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        metrics = TimeSeries(session, keyspace=keyspace)
        count, total, last = 0, 0.0, NOON
        tracemalloc.start()
        async for point in metrics.query(many, NOON, NOON + 4 * DAY):
            count, total = count + 1, total + point.value
            assert point.timestamp >= last
            last = point.timestamp
            if count % 10_000 == 0:
                counting.records.clear()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (count, total) == (MANY, MANY * (MANY - 1) / 2)
        assert peak < 8_000_000

        async for point in metrics.query(many, NOON, NOON + 4 * DAY, newest_first=True):
            assert point.value == MANY - 1
            break
        steps = await metrics.aggregate(many, NOON, NOON + DAY / 4, step=DAY / 8)
        assert [step.count for step in steps] == [MANY / 32] * 2
        assert [step.last for step in steps] == [MANY / 32 - 1, MANY / 16 - 1]


async def test_statements(cassandra: Node, keyspace: str) -> None:
    """A write is one INSERT; a query reads each of its buckets once."""
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        metrics, metric = TimeSeries(session, keyspace=keyspace), fresh()
        await all_of([lambda: metrics.write(metric, 1, NOON)] * 100)
        assert len(counting.records) == 100
        counting.records.clear()
        assert len(await values(metrics, metric, NOON - 5 * DAY, NOON + 4 * DAY)) == 100
        assert counting.reads == len(counting.records) == 10


async def test_points_end_with_their_retention(session: cql.Session, keyspace: str) -> None:
    """Two seconds are left to the backfilled point; the naive one would live for another hour."""
    metric, metrics = fresh(), TimeSeries(session, keyspace=keyspace, retention=HOUR)
    old = datetime.now(UTC) - HOUR + 2 * SECOND
    await metrics.write(metric, 1, old)
    assert await values(metrics, metric, old, old + HOUR) == [1.0]
    ttl = "SELECT ttl(value) FROM time_series WHERE metric = ? AND bucket = ?"
    bucket = int(old.timestamp()) // 86_400
    assert 0 < (await session.execute(ttl, (metric, bucket))).scalar() <= 2
    await anyio.sleep(2.1)
    assert await values(metrics, metric, old, old + HOUR) == []
    forever = TimeSeries(session, keyspace=keyspace)
    await anyio.sleep(0.9)
    assert await values(forever, metric, old, old + HOUR) == []


async def test_local_times(session: cql.Session, keyspace: str) -> None:
    """A naive datetime of New York is taken for UTC by the naive version, five hours off."""
    new_york = timezone(-5 * HOUR)
    local = datetime(2024, 2, 29, 20, tzinfo=new_york)
    metric, metrics = fresh(), TimeSeries(session, keyspace=keyspace)
    await metrics.write(metric, 1, local)
    assert [point.timestamp async for point in metrics.query(metric, local, local + SECOND)] == [
        local
    ]
    with pytest.raises(cql.UsageError, match="naive"):
        await metrics.write(metric, 1, local.replace(tzinfo=None))
    assert local.replace(tzinfo=UTC) - local == -5 * HOUR


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=5)
@given(faults=st.lists(st.sampled_from(["lost", "timeout", "request", None]), max_size=5))
def test_a_write_that_is_sent_again_is_one_point(
    cassandra: Node, keyspace: str, backend: str, faults: list[str | None]
) -> None:
    """The id of a point is the client's, so the client may send the write again."""
    kinds: dict[str, tuple[Fault, Side]] = {
        "lost": (Drop(connection=True), "reply"),
        "timeout": (Answer("WRITE_TIMEOUT", write_type="SIMPLE"), "reply"),
        "request": (Drop(connection=True), "request"),
    }

    async def run() -> None:
        metric = fresh()
        async with (
            FaultProxy(cassandra.host, cassandra.port) as proxy,
            cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as session,
        ):
            metrics = TimeSeries(session, keyspace=keyspace)
            await metrics.write(fresh(), 0)
            for number, name in enumerate(faults):
                if name is not None:
                    fault, side = kinds[name]
                    proxy.add(
                        Rule(
                            fault,
                            side=side,
                            opcode="EXECUTE",
                            statement="INSERT %",
                            skip=2 * number,
                            times=1,
                        )
                    )
            acknowledged = 0
            for number in range(5):
                try:
                    await metrics.write(metric, number, NOON)
                except cql.CQLError as error:
                    assert error.maybe_applied
                else:
                    acknowledged += 1
        async with connected(cassandra, keyspace) as session:
            metrics = TimeSeries(session, keyspace=keyspace)
            found = await values(metrics, metric, NOON, NOON + SECOND)
        # each once; a write that was lost before it arrived is told as an error
        assert acknowledged <= len(found) == len(set(found)) <= 5
        assert acknowledged >= 5 - sum(name is not None for name in faults)

    anyio.run(run, backend=backend)


async def test_a_table_of_another_shape(session: cql.Session, keyspace: str) -> None:
    with pytest.raises(SchemaMismatch) as info:
        await TimeSeries(session, keyspace=keyspace, table="naive").create_schema()
    assert info.value.column == "bucket"
