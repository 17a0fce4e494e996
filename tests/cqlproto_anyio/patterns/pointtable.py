"""The table of a time series, as a server keeps it, with pages of a few rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from cqlproto_anyio.results import Page
from tests.support.scripted import Request, Scripted

__all__ = ["PointTable"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = ("metric", "bucket", "at", "id", "value", "tags", "ttl")


class PointTable(Scripted):
    """Partitions of points.

    Attributes:
        size: how many rows a page has.
        rows: the rows that were written, in order.
        underway: how many requests are under way, and ``most`` the greatest number so far.
        failures: errors of the next requests; None for one that succeeds.
    """

    def __init__(self, size: int = 1000) -> None:
        super().__init__(self._reply)
        self.size = size
        self.rows: list[dict[str, Any]] = []
        self.most = self.underway = 0
        self.failures: list[Exception | None] = []

    def _reply(self, request: Request) -> Any:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            return failure
        ((text, values),) = request.statements
        if text.startswith("INSERT"):
            self.rows.append(dict(zip(COLUMNS, values, strict=True)))
            return None
        found = [
            row
            for row in self.rows
            if (row["metric"], row["bucket"]) == (values["metric"], values["bucket"])
            and values["first"] <= row["at"] < values["last"]
        ]
        found.sort(key=lambda row: (row["at"], row["id"].time), reverse="DESC" in text)
        return [
            {
                "at": EPOCH + timedelta(milliseconds=row["at"]),
                "value": row["value"],
                "tags": row["tags"] or None,
            }
            for row in found
        ]

    async def execute(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        self.underway += 1
        self.most = max(self.most, self.underway)
        try:
            await anyio.sleep(0.001)
            return await super().execute(query, parameters, **options)
        finally:
            self.underway -= 1

    async def page(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        token = options.pop("token")
        got = await self.execute(query, parameters, **options)
        begin = int(token or 0)
        end = begin + self.size
        following = str(end) if end < len(got.rows) else None
        return Page(got.rows[begin:end], got._columns, got._event, got.host, following)
