"""acsylla (the C++ driver, through Cython) on asyncio: tasks that await one request at a time."""

from __future__ import annotations

import asyncio
import importlib.metadata
from typing import TYPE_CHECKING, Any

import acsylla

from bench import jobs
from bench.clients import base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PROTOCOL = 4


def serve(client: str, host: str, port: int) -> None:
    del client
    asyncio.run(_serve(host, port))


async def session_of(host: str, port: int) -> Any:
    # No job needs schema metadata; without it, the client starts faster and takes less memory.
    cluster = acsylla.create_cluster(
        [host],
        port=port,
        protocol_version=PROTOCOL,
        consistency=acsylla.Consistency.LOCAL_QUORUM,  # the default of cqlproto
        use_schema=False,
        log_level="error",
    )
    return await cluster.create_session()


async def _serve(host: str, port: int) -> None:
    session = await session_of(host, port)
    peer = _Acsylla(session)
    await peer.prepare()
    await base.serve(peer)
    await session.close()


class _Acsylla:
    version = importlib.metadata.version("acsylla")
    protocol = f"v{PROTOCOL}"

    def __init__(self, session: Any) -> None:
        self._session = session

    async def prepare(self) -> None:
        self._write = await self._session.create_prepared(jobs.WRITE)
        self._read = await self._session.create_prepared(jobs.READ)
        self._scan = await self._session.create_prepared(jobs.SCAN)
        self._stream = await self._session.create_prepared(jobs.STREAM)

    def shape(self, values: Sequence[object]) -> list[object]:
        # acsylla binds only lists.
        return list(values)

    async def write(self, rows: Iterable[list[object]]) -> None:
        execute, bind = self._session.execute, self._write.bind
        for row in rows:
            statement = bind()
            statement.bind_list(row)
            await execute(statement)

    async def read(self, keys: Iterable[list[object]]) -> int:
        execute, bind = self._session.execute, self._read.bind
        found = 0
        for key in keys:
            statement = bind()
            statement.bind_list(key)
            row = (await execute(statement)).first().as_tuple()
            found += row[0] == key[0]
        return found

    async def mixed(self, steps: Iterable[list[object]]) -> int:
        execute = self._session.execute
        found = 0
        for values in steps:
            statement = (self._read if len(values) == 1 else self._write).bind()
            statement.bind_list(values)
            result = await execute(statement)
            if len(values) == 1:
                found += result.first().as_tuple()[0] == values[0]
        return found

    async def one(self, query: str, key: str) -> Sequence[object]:
        statement = (await self._session.create_prepared(query)).bind()
        statement.bind_list([key])
        row: Sequence[object] = (await self._session.execute(statement)).first().as_tuple()
        return row

    async def _pages(self, prepared: Any, page_size: int, use: Callable[[Any], None]) -> None:
        statement = prepared.bind(page_size=page_size)
        while True:
            result = await self._session.execute(statement)
            use(result)
            if not result.has_more_pages():
                return
            statement.set_page_state(result.page_state())

    async def _list(self, prepared: Any, page_size: int) -> list[Any]:
        rows: list[Any] = []
        await self._pages(
            prepared, page_size, lambda result: rows.extend([row.as_tuple() for row in result])
        )
        return rows

    async def scan(self, page_size: int) -> list[Any]:
        return await self._list(self._scan, page_size)

    def plain(self, row: Sequence[object]) -> Sequence[object]:
        return row

    async def stream(self, page_size: int) -> tuple[int, int]:
        count = amounts = 0

        def use(result: Any) -> None:
            nonlocal count, amounts
            for row in result:
                values = row.as_tuple()
                count += 1
                amounts += values[3]

        await self._pages(self._stream, page_size, use)
        return count, amounts

    async def all(self, page_size: int) -> list[Any]:
        return await self._list(self._stream, page_size)
