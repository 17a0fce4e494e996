"""The points of a time series, and reading them bucket by bucket."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from sys import float_info
from typing import Any

from cqlproto_anyio.executor import Executor
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.results import Page

__all__ = [
    "MILLISECOND", "NewPoint", "Point", "Reader", "TimeStep", "Written", "milliseconds", "number",
    "texts",
]  # fmt: skip

MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE = 1000  # points that are read at once from a bucket
_MOST_TAGS = 16_384  # bytes of all tags of a point


@dataclass(frozen=True, slots=True)
class NewPoint:
    """A point to write.

    Attributes:
        metric: the name of the series, of 1024 bytes at most.
        value: a finite number.
        timestamp: when it was measured, an aware datetime; None for now.
        tags: names and values that describe it, of 16 KiB at most.
    """

    metric: str
    value: float
    timestamp: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a series; its time is in UTC, in whole milliseconds."""

    timestamp: datetime
    value: float
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TimeStep:
    """The points of one step of time: how many, and their least, greatest, mean and last value."""

    start: datetime
    count: int
    min: float
    max: float
    mean: float
    last: float


@dataclass(frozen=True, slots=True)
class Written:
    """How many points ``write_many`` has written, and how many it has dropped as expired."""

    written: int
    dropped: int


@dataclass
class Reader:
    """Reads buckets in order, the first pages of ``ahead`` buckets at once."""

    executor: Executor
    query: str
    values: Mapping[str, Any]
    buckets: range
    ahead: int
    limit: int | None
    ready: deque[tuple[int, Page[Any]]] = field(default_factory=deque)  # first pages, not returned
    more: tuple[int, str] | None = None  # a bucket, and the token of its next page

    async def fetch(self) -> list[Point] | None:
        """Return the next points; None at the end."""
        if self.limit == 0:
            return None
        if self.more is not None:
            bucket, page = self.more[0], await self.page(*self.more)
        else:
            if not self.ready:
                await self.read_on()
            if not self.ready:
                return None
            bucket, page = self.ready.popleft()
        self.more = None if page.next_token is None else (bucket, page.next_token)
        rows = page.rows[: self.limit]
        if self.limit is not None:
            self.limit -= len(rows)
        return [Point(at, value, tags or {}) for at, value, tags in rows]

    async def read_on(self) -> None:
        """Read the first pages of the next buckets."""
        buckets, pages = self.buckets[: self.ahead], {}

        async def read(bucket: int) -> None:
            pages[bucket] = await self.page(bucket, None)

        await for_each(buckets, read, concurrency=self.ahead)
        self.ready.extend((bucket, pages[bucket]) for bucket in buckets)
        self.buckets = self.buckets[self.ahead :]

    async def page(self, bucket: int, token: str | None) -> Page[Any]:
        values = {**self.values, "bucket": bucket}
        return await self.executor.page(self.query, values, token=token, page_size=_PAGE)


def milliseconds(moment: datetime) -> int:
    """Return the milliseconds since 1970, cut down: before 1970 too."""
    return (moment - _EPOCH) // MILLISECOND


def number(value: Any) -> float:
    """Return the value of a point."""
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    if plain and abs(value) <= float_info.max:
        return float(value)
    raise InvalidInput("value", "a finite number", value)


def texts(value: object) -> dict[str, str]:
    """Return the tags of a point."""
    if isinstance(value, Mapping):
        parts = [part for item in value.items() for part in item]
        sizes = [len(part.encode(errors="replace")) for part in parts if isinstance(part, str)]
        if len(sizes) == len(parts) and sum(sizes) <= _MOST_TAGS:
            return dict(value)
    raise InvalidInput("tags", f"a mapping of texts, of {_MOST_TAGS:,} bytes at most", value)
