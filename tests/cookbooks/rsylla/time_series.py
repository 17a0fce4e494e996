"""Points of a metric with a TTL, in batches, over a range; then with buckets of their own time."""

from __future__ import annotations

import datetime

from cqlproto_anyio.patterns import NewPoint, TimeSeries
from cqlproto_anyio.patterns.rsylla import Batch, SessionBuilder

CREATE = """
    CREATE TABLE IF NOT EXISTS metrics (
        metric_name text, bucket date, ts timestamp, value double, tags map<text, text>,
        PRIMARY KEY ((metric_name, bucket), ts)
    ) WITH CLUSTERING ORDER BY (ts DESC)
"""
INSERT = (
    "INSERT INTO metrics (metric_name, bucket, ts, value, tags) VALUES (?, ?, ?, ?, ?) USING TTL ?"
)
SELECT = """
    SELECT ts, value, tags FROM metrics
    WHERE metric_name = ? AND bucket = ? AND ts >= ? AND ts <= ?
"""
EPOCH = datetime.date(1970, 1, 1)


async def main(contact: str, keyspace: str) -> None:
    session = await SessionBuilder().known_node(contact).use_keyspace(keyspace, False).build()
    await session.execute(CREATE)
    insert = await session.prepare(INSERT)
    noon = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    milliseconds = int(noon.timestamp()) * 1000

    def values(name: str, at: int, value: float) -> dict[str, object]:
        days = (noon.date() - EPOCH).days
        bucket = {"metric_name": name, "bucket": days, "ts": at}
        return {**bucket, "value": value, "tags": {"host": "server1"}, "ttl": 86400}

    await session.execute_prepared(insert, values("cpu.usage", milliseconds, 45.2))
    batch = Batch("unlogged")
    rows = []
    for at, value in enumerate((45.3, 45.4, 45.5), 1):
        batch.append_prepared(insert)
        rows.append(values("cpu.usage", milliseconds + at, value))
    await session.batch(batch, rows)
    found = await session.execute(
        SELECT,
        {
            "metric_name": "cpu.usage",
            "bucket": noon.date(),
            "ts_start": milliseconds,
            "ts_end": milliseconds + 2,
        },
    )
    assert [row[1] for row in found.rows()] == [45.4, 45.3, 45.2]

    series = TimeSeries(session.session, keyspace=keyspace)
    await series.create_schema()
    last_year = noon - datetime.timedelta(days=365)
    await series.write("cpu", 0.5, last_year)  # in the bucket of its own day
    same = [NewPoint("cpu", float(value), noon) for value in range(100)]
    assert (await series.write_many(same)).written == 100  # in one millisecond: all are kept
    day = datetime.timedelta(days=1)
    assert [point.value async for point in series.query("cpu", last_year, last_year + day)] == [0.5]
    points = [point.value async for point in series.query("cpu", noon, noon + day)]
    assert sorted(points) == [float(value) for value in range(100)]
    await session.aclose()
