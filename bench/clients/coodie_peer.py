"""coodie, an object mapper, on asyncio: saves and fetches Pydantic models one by one.

coodie runs on another driver. Here this is acsylla, with a session of this event loop, as coodie's
documentation describes for async programs; with acsylla it costs less than cassandra-driver alone.
It builds the statement's text for each call and returns models instead of tuples, and is measured
with both, because users choose it for them.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import operator
from typing import TYPE_CHECKING, Annotated, Any

from coodie import ClusteringKey, PrimaryKey
from coodie.aio import Document, init_coodie

from bench import jobs
from bench.clients import acsylla_peer, base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class _Item(Document):  # type: ignore[misc]  # of a package that mypy skips
    id: Annotated[str, PrimaryKey()]
    name: str
    amount: int
    price: float
    active: bool

    class Settings:
        name = "items"
        keyspace = jobs.KEYSPACE


class _Written(_Item):
    class Settings:
        name = "written"
        keyspace = jobs.KEYSPACE


class _Reading(Document):  # type: ignore[misc]  # the same
    part: Annotated[int, PrimaryKey()]
    seq: Annotated[int, ClusteringKey()]
    sensor: str
    amount: int

    class Settings:
        name = "readings"
        keyspace = jobs.KEYSPACE


def serve(client: str, host: str, port: int) -> None:
    del client
    asyncio.run(_serve(host, port))


async def _serve(host: str, port: int) -> None:
    session = await acsylla_peer.session_of(host, port)
    await init_coodie(session=session, keyspace=jobs.KEYSPACE, driver_type="acsylla")
    await base.serve(_Coodie())
    await session.close()


class _Coodie:
    version = importlib.metadata.version("coodie")
    protocol = f"v{acsylla_peer.PROTOCOL}"

    def shape(self, values: Sequence[object]) -> dict[str, Any]:
        return jobs.as_dict(values)

    async def write(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            await _Written(**row).save()

    async def read(self, keys: Iterable[dict[str, Any]]) -> int:
        found = 0
        for key in keys:
            document: Any = await _Item.get(**key)
            found += document.id == key["id"]
        return found

    async def mixed(self, steps: Iterable[dict[str, Any]]) -> int:
        found = 0
        for values in steps:
            if len(values) == 1:
                document: Any = await _Item.get(**values)
                found += document.id == values["id"]
            else:
                await _Written(**values).save()
        return found

    async def one(self, query: str, key: str) -> Sequence[object]:
        document = _Item if query == jobs.READ else _Written
        return self.plain(await document.get(id=key))

    async def _pages(
        self, document: Any, page_size: int, use: Callable[[list[Any]], object]
    ) -> None:
        state: bytes | None = None
        while True:
            page = await document.find().fetch_size(page_size).page(state).paged_all()
            use(page.data)
            state = page.paging_state
            if not state:
                return

    async def scan(self, page_size: int) -> list[Any]:
        rows: list[Any] = []
        await self._pages(_Item, page_size, rows.extend)
        return rows

    def plain(self, row: Any) -> Sequence[object]:
        names = jobs.READING_NAMES if isinstance(row, _Reading) else jobs.NAMES
        values: Sequence[object] = operator.attrgetter(*names)(row)
        return values

    async def stream(self, page_size: int) -> tuple[int, int]:
        count = amounts = 0

        def use(rows: list[Any]) -> None:
            nonlocal count, amounts
            for row in rows:
                count += 1
                amounts += row.amount

        await self._pages(_Reading, page_size, use)
        return count, amounts

    async def all(self, page_size: int) -> list[Any]:
        rows: list[Any] = []
        await self._pages(_Reading, page_size, rows.extend)
        return rows
