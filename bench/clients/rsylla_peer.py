"""rsylla (the Rust driver, through PyO3) on asyncio.

It binds dicts. It has no paging: `execute_prepared` returns the whole result, so a scan is one
request whatever the page size, and the stream is a list.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING, Any

import rsylla

from bench import jobs
from bench.clients import base

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def serve(client: str, host: str, port: int) -> None:
    del client
    asyncio.run(_serve(host, port))
    # rsylla's threads can't be stopped, and panic when the interpreter exits.
    sys.stderr.flush()
    os._exit(0)


async def _serve(host: str, port: int) -> None:
    connect: Any = rsylla.Session.connect  # its type hints say that it is not async
    peer = _Rsylla(await connect([f"{host}:{port}"]))
    await peer.prepare()
    await base.serve(peer)


class _Rsylla:
    version = importlib.metadata.version("rsylla")
    protocol = "v4"

    def __init__(self, session: Any) -> None:
        self._session = session

    async def prepare(self) -> None:
        self._write = await self._session.prepare(jobs.WRITE)
        self._read = await self._session.prepare(jobs.READ)
        self._scan = await self._session.prepare(jobs.SCAN)
        self._stream = await self._session.prepare(jobs.STREAM)

    def shape(self, values: Sequence[object]) -> dict[str, object]:
        return jobs.as_dict(values)

    async def write(self, rows: Iterable[dict[str, object]]) -> None:
        execute, prepared = self._session.execute_prepared, self._write
        for row in rows:
            await execute(prepared, row)

    async def read(self, keys: Iterable[dict[str, object]]) -> int:
        execute, prepared = self._session.execute_prepared, self._read
        found = 0
        for key in keys:
            row = (await execute(prepared, key)).first_row().columns()
            found += row[0] == key["id"]
        return found

    async def mixed(self, steps: Iterable[dict[str, object]]) -> int:
        execute = self._session.execute_prepared
        found = 0
        for values in steps:
            if len(values) == 1:
                row = (await execute(self._read, values)).first_row().columns()
                found += row[0] == values["id"]
            else:
                await execute(self._write, values)
        return found

    async def one(self, query: str, key: str) -> Sequence[object]:
        prepared = await self._session.prepare(query)
        result = await self._session.execute_prepared(prepared, {"id": key})
        row: Sequence[object] = result.first_row().columns()
        return row

    async def _list(self, prepared: Any) -> list[Any]:
        result = await self._session.execute_prepared(prepared, None)
        return [row.columns() for row in result.rows()]

    async def scan(self, page_size: int) -> list[Any]:
        del page_size
        return await self._list(self._scan)

    def plain(self, row: Sequence[object]) -> Sequence[object]:
        return row

    async def stream(self, page_size: int) -> tuple[int, int]:
        del page_size
        count = amounts = 0
        for row in (await self._session.execute_prepared(self._stream, None)).rows():
            values = row.columns()
            count += 1
            amounts += values[3]
        return count, amounts

    async def all(self, page_size: int) -> list[Any]:
        del page_size
        return await self._list(self._stream)
