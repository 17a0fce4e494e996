"""Time series: points of metrics, in buckets by their own time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from cqlproto_anyio.patterns import _arguments as check
from cqlproto_anyio.patterns._errors import InvalidInput, PointExpired
from cqlproto_anyio.patterns._many import execute_many
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._points import (
    MILLISECOND,
    NewPoint,
    Point,
    Reader,
    TimeStep,
    Written,
    milliseconds,
    number,
    texts,
)
from cqlproto_anyio.patterns._schema import TableSchema, create
from cqlproto_anyio.timeuuids import timeuuid

if TYPE_CHECKING:
    from cqlproto_anyio.executor import Executor

__all__ = ["NewPoint", "Point", "TimeSeries", "TimeStep", "Written"]

_LONGEST_STEP = 10_000 * 366 * 86_400  # seconds


class TimeSeries:
    """Points of metrics: ``await metrics.write("cpu", 0.75, tags={"host": "a"})``.

    Guarantee: a point is stored, and found, by its own time in UTC, cut to milliseconds; it never
    replaces another one. A query returns points in the order of their times, and those of one
    millisecond in the order in which a program wrote them. A point lives until its own time plus
    ``retention``, however late it is written, and isn't returned after that.

    Not guaranteed: that a query sees points which are written while it runs; that a call which was
    repeated by the caller has written one point.

    Cost: a write is one INSERT. A query reads each bucket of its range, ``read_ahead`` buckets at a
    time, in pages of 1000 points.

    Table: ``time_series``, a partition per metric and bucket, of some 50 bytes for a point.

    Arguments:
        session: the session, or another Executor.
        keyspace, table: the table.
        bucket: the time that a partition spans, in whole milliseconds. The same for all programs,
            and for ever: it decides where a point is.
        retention: how long points are kept, by their own time: a timedelta or seconds; None for
            ever.
        expired: whether a point that is past its retention already raises PointExpired
            (``refuse``), or isn't written (``drop``).
        read_ahead: how many buckets a query reads at once.
        clock: returns the current time.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "time_series",
        bucket: timedelta = timedelta(days=1),
        retention: check.Seconds | None = None,
        expired: Literal["refuse", "drop"] = "refuse",
        read_ahead: int = 4,
        clock: check.Clock = check.utc_now,
    ) -> None:
        if not isinstance(bucket, timedelta) or bucket < MILLISECOND or bucket % MILLISECOND:
            raise InvalidInput("bucket", "a timedelta of whole milliseconds", bucket)
        self._retention: timedelta | None = None
        if retention is not None:
            kept = check.seconds("retention", retention, least=0.001, most=check.MAX_TTL)
            self._retention = timedelta(seconds=kept)
        self._session = session
        self._schema = _schema(keyspace, table)
        self._width = bucket // MILLISECOND
        self._drops = check.one_of("expired", expired, "refuse", "drop") == "drop"
        self._ahead = check.integer("read_ahead", read_ahead, least=1, most=1024)
        self._now = partial(check.now, clock)
        self._write = (
            f"INSERT INTO {self._schema.name} (metric, bucket, at, id, value, tags)"
            " VALUES (:metric, :bucket, :at, :id, :value, :tags) USING TTL :ttl"
        )
        self._read = (
            f"SELECT at, value, tags FROM {self._schema.name}"
            " WHERE metric = :metric AND bucket = :bucket AND at >= :first AND at < :last"
        )

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "time_series") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return (_schema(keyspace, table).cql(),)

    async def create_schema(self) -> None:
        """Create the table if it doesn't exist, and wait until all nodes know it.

        Raises:
            SchemaMismatch: a table of this name has another shape.
        """
        await create(self._session, [self._schema])

    async def write(
        self,
        metric: str,
        value: float,
        timestamp: datetime | None = None,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> bool:
        """Write a point; :class:`NewPoint` explains the arguments.

        Returns:
            True; False if the point is past its retention, and was dropped.

        Raises:
            PointExpired: the point is past its retention, and ``expired`` is ``refuse``.
            InvalidInput: an argument is wrong.
        """
        row = self._row(NewPoint(metric, value, timestamp, {} if tags is None else tags))
        if row is not None:
            await self._session.execute(self._write, row, idempotent=True)
        return row is not None

    async def write_many(
        self, points: Iterable[NewPoint] | AsyncIterable[NewPoint], *, concurrency: int = 64
    ) -> Written:
        """Write many points, of which ``concurrency`` are under way at a time.

        Raises:
            Exception: the first error of a write or of the source, when the writes under way have
                ended. Points before and after the one that has failed may have been written.
        """
        check.integer("concurrency", concurrency, least=1, most=10_000)
        if not isinstance(points, (Iterable, AsyncIterable)):
            raise InvalidInput("points", "an iterable of NewPoint", points)
        counts = {True: 0, False: 0}

        def row(point: NewPoint) -> tuple[Any, ...] | None:
            found = self._row(point)
            counts[found is not None] += 1
            return found

        await execute_many(self._session, self._write, points, row, concurrency=concurrency)
        return Written(counts[True], counts[False])

    def _row(self, point: NewPoint) -> tuple[Any, ...] | None:
        """Return the parameters of a point's INSERT; None if the point is dropped."""
        if not isinstance(point, NewPoint):
            raise InvalidInput("points", "an iterable of NewPoint", point)
        metric, value = check.text("metric", point.metric), number(point.value)
        current, ttl = self._now(), 0
        when = current if point.timestamp is None else check.aware("timestamp", point.timestamp)
        if self._retention is not None:
            left = self._retention - (current - when)
            if left <= timedelta(0):
                if self._drops:
                    return None
                raise PointExpired(metric, when, self._retention)
            ttl = min(math.ceil(left.total_seconds()), check.MAX_TTL)
        at = milliseconds(when)
        return metric, at // self._width, at, timeuuid(), value, texts(point.tags), ttl

    def query(
        self,
        metric: str,
        start: datetime,
        end: datetime,
        *,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Point]:
        """Iterate over the points of a series from ``start`` to before ``end``, in order.

        Arguments:
            metric: the series.
            start, end: aware datetimes, cut to milliseconds as the points' times are.
            newest_first: whether the newest point comes first, instead of the oldest.
            limit: the most points to return; None for all.
        """
        values: dict[str, Any] = {"metric": check.text("metric", metric)}
        first, last = check.aware("start", start), check.aware("end", end)
        if last < first:
            raise InvalidInput("end", f"start ({start}) or later", end)
        if limit is not None:
            check.integer("limit", limit, least=1)
        if self._retention is not None:
            first = max(first, self._now() - self._retention + MILLISECOND)
        low, high = values["first"], values["last"] = milliseconds(first), milliseconds(last)
        beyond = (high - 1) // self._width + 1 if low < high else low // self._width
        buckets = range(low // self._width, beyond)
        query = self._read
        if newest_first:
            buckets, query = buckets[::-1], f"{query} ORDER BY at DESC, id DESC"
        return Fetched(Reader(self._session, query, values, buckets, self._ahead, limit).fetch)

    async def aggregate(
        self, metric: str, start: datetime, end: datetime, *, step: check.Seconds
    ) -> list[TimeStep]:
        """Return the points of a range in steps: what a chart needs. Reads all points.

        Arguments:
            metric, start, end: as for :meth:`query`.
            step: the length of a step: a timedelta or seconds, at least a millisecond.

        Returns:
            the steps that have points, in order; the n-th of all begins at ``start + n * step``.
        """
        width = timedelta(seconds=check.seconds("step", step, least=0.001, most=_LONGEST_STEP))
        found: dict[int, tuple[int, float, float, float, float]] = {}
        async for point in self.query(metric, start, end):
            value = point.value
            place = max(0, (point.timestamp - start) // width)
            count, least, most, total, _ = found.get(place) or (0, value, value, 0.0, 0.0)
            found[place] = count + 1, min(least, value), max(most, value), total + value, value
        begin = start.astimezone(UTC)
        return [
            TimeStep(begin + place * width, count, least, most, total / count, last)
            for place, (count, least, most, total, last) in found.items()
        ]


def _schema(keyspace: str, table: str) -> TableSchema:
    columns = {"metric": "text", "bucket": "bigint", "at": "timestamp", "id": "timeuuid"}
    columns |= {"value": "double", "tags": "frozen<map<text, text>>"}
    key, clustering = ("metric", "bucket"), ("at", "id")
    return TableSchema(keyspace, table, columns, key=key, clustering=clustering)
