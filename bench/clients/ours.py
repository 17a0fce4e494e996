"""cqlproto on asyncio, uvloop and trio, used as in an application.

A client's name has the backend, and the protocol version and row type if they differ from v5 and
the
default: `cqlproto/trio`, `cqlproto/asyncio/v4`, `cqlproto/asyncio/v4/tuple`.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from bench import jobs
from bench.clients import base
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def serve(client: str, host: str, port: int) -> None:
    backend = client.split("/")[1]
    entry = functools.partial(_serve, client.split("/"), host, port)
    if backend == "trio":
        anyio.run(entry, backend="trio")
    else:
        options = {"use_uvloop": backend == "uvloop"}
        anyio.run(entry, backend="asyncio", backend_options=options)


async def _serve(words: list[str], host: str, port: int) -> None:
    version = ProtocolVersion.V4 if "v4" in words else ProtocolVersion.V5
    config = cql.Config(protocol_version=version)
    async with cql.connect(host, port=port, config=config) as session:
        peer = _Ours(session, version, tuple if "tuple" in words else cql.Row)
        await peer.prepare()
        await base.serve(peer)


class _Ours:
    def __init__(self, session: cql.Session, version: ProtocolVersion, row: Any) -> None:
        self.version = cql.__version__
        self.protocol = f"v{int(version)}"
        self._session = session
        self._row = row
        self._id: Callable[[Any], Any]
        self._amount: Callable[[Any], Any]
        # How a user reads a column: of a tuple by index, of a Row as an attribute.
        if row is tuple:
            self._id, self._amount = operator.itemgetter(0), operator.itemgetter(3)
        else:
            self._id, self._amount = operator.attrgetter("id"), operator.attrgetter("amount")

    async def prepare(self) -> None:
        prepare = self._session.prepare
        self._write = await prepare(jobs.WRITE)
        self._read: cql.Prepared[Any] = await prepare(jobs.READ, row=self._row)
        self._scan: cql.Prepared[Any] = await prepare(jobs.SCAN, row=self._row)
        self._stream: cql.Prepared[Any] = await prepare(jobs.STREAM, row=self._row)

    def shape(self, values: Sequence[object]) -> tuple[object, ...]:
        return tuple(values)

    async def write(self, rows: Iterable[Sequence[object]]) -> None:
        execute, prepared = self._session.execute, self._write
        for row in rows:
            await execute(prepared, row)

    async def bulk(self, rows: Iterator[Sequence[object]], in_flight: int) -> int:
        done = await self._session.execute_many(self._write, rows, concurrency=in_flight)
        return done.count

    async def read(self, keys: Iterable[Sequence[object]]) -> int:
        execute, prepared, id_of = self._session.execute, self._read, self._id
        found = 0
        for key in keys:
            row = (await execute(prepared, key)).one()
            found += id_of(row) == key[0]
        return found

    async def mixed(self, steps: Iterable[Sequence[object]]) -> int:
        execute, id_of = self._session.execute, self._id
        found = 0
        for values in steps:
            if len(values) == 1:
                row = (await execute(self._read, values)).one()
                found += id_of(row) == values[0]
            else:
                await execute(self._write, values)
        return found

    async def one(self, query: str, key: str) -> Sequence[object]:
        return (await self._session.execute(query, (key,), row=tuple)).one()

    async def scan(self, page_size: int) -> Sequence[Any]:
        return (await self._session.execute(self._scan, page_size=page_size)).rows

    def plain(self, row: Sequence[object]) -> Sequence[object]:
        return row

    async def stream(self, page_size: int) -> tuple[int, int]:
        amount_of = self._amount
        count = amounts = 0
        async for row in self._session.stream(self._stream, page_size=page_size, timeout=None):
            count += 1
            amounts += amount_of(row)
        return count, amounts

    async def all(self, page_size: int) -> Sequence[Any]:
        result = await self._session.execute(
            self._stream, page_size=page_size, timeout=None, max_rows=100_000_000
        )
        return result.rows
