"""scyllapy (the Rust driver, through PyO3) on asyncio.

Its rows are dicts. With paging it has pages of 5,000 rows and passes each row through the event
loop, which takes ten times as long; so jobs that fetch all rows use one request without paging.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import TYPE_CHECKING, Any

import scyllapy

from bench import jobs
from bench.clients import base

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def serve(client: str, host: str, port: int) -> None:
    del client
    asyncio.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    session = scyllapy.Scylla([f"{host}:{port}"])
    await session.startup()
    peer = _Scyllapy(session)
    await peer.prepare()
    await base.serve(peer)
    await session.shutdown()


class _Scyllapy:
    version = importlib.metadata.version("scyllapy")
    protocol = "v4"

    def __init__(self, session: Any) -> None:
        self._session = session

    async def prepare(self) -> None:
        self._write = await self._session.prepare(jobs.WRITE)
        self._read = await self._session.prepare(jobs.READ)
        self._scan = await self._session.prepare(jobs.SCAN)
        self._stream = await self._session.prepare(jobs.STREAM)

    def shape(self, values: Sequence[object]) -> list[object]:
        return list(values)

    async def write(self, rows: Iterable[list[object]]) -> None:
        execute, prepared = self._session.execute, self._write
        for row in rows:
            await execute(prepared, row)

    async def read(self, keys: Iterable[list[object]]) -> int:
        execute, prepared = self._session.execute, self._read
        found = 0
        for key in keys:
            row = (await execute(prepared, key)).first()
            found += row["id"] == key[0]
        return found

    async def mixed(self, steps: Iterable[list[object]]) -> int:
        execute = self._session.execute
        found = 0
        for values in steps:
            if len(values) == 1:
                row = (await execute(self._read, values)).first()
                found += row["id"] == values[0]
            else:
                await execute(self._write, values)
        return found

    async def one(self, query: str, key: str) -> Sequence[object]:
        return self.plain((await self._session.execute(query, [key])).first())

    async def scan(self, page_size: int) -> list[Any]:
        del page_size
        rows: list[Any] = (await self._session.execute(self._scan)).all()
        return rows

    def plain(self, row: dict[str, object]) -> Sequence[object]:
        # The columns of the small table, or of the large one.
        return [row[name] for name in (jobs.NAMES if "id" in row else jobs.READING_NAMES)]

    async def stream(self, page_size: int) -> tuple[int, int]:
        del page_size
        count = amounts = 0
        async for row in await self._session.execute(self._stream, paged=True):
            count += 1
            amounts += row["amount"]
        return count, amounts

    async def all(self, page_size: int) -> list[Any]:
        del page_size
        rows: list[Any] = (await self._session.execute(self._stream)).all()
        return rows
