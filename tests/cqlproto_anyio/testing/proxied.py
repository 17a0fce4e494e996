"""A proxy of the tests' server, and sessions through it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

import cqlproto_anyio as cql
from cqlproto_anyio.testing import (
    FaultProxy,
)
from cqlproto_anyio.testing._memory import MemoryStream
from tests.support.cluster_sessions import SOON
from tests.support.replies import echo
from tests.support.server import Server, open_sockets, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import anyio.lowlevel


SELECT = "SELECT v FROM t WHERE k = ?"


@asynccontextmanager
async def proxied(way: str, **options: Any) -> AsyncIterator[tuple[Server, FaultProxy]]:
    """Run a server that answers everything, and a proxy of it; no socket is left at the end."""
    before = open_sockets()
    async with serving() as server:
        server.answer = echo(server)
        if way == "tcp":
            proxy = FaultProxy("127.0.0.1", await server.listen(), seed=3, **options)
        else:
            proxy = FaultProxy("node", connector=server.connector, listen=None, seed=3, **options)
        async with proxy:
            yield server, proxy
        assert proxy.connections == 0
    await until(lambda: open_sockets() <= before)


def session(proxy: FaultProxy, way: str, **fields: Any) -> Any:
    fields.setdefault("connect_timeout", 2.0)
    fields.setdefault("discovery", False)  # the server has no system tables of a cluster
    fields.setdefault("max_connections_per_host", 1)
    # a connection that a fault ends is young, so its loss counts as a failure: don't wait for long
    fields.setdefault("reconnection", SOON)
    if way == "tcp":
        return cql.connect(proxy.host, port=proxy.port, config=cql.Config(**fields))
    return cql.connect("node", config=cql.Config(connector=proxy.connector, **fields))


async def selected(it: cql.Session, number: int, timeout: float = 5) -> int:
    row = (await it.execute(SELECT, (number,), timeout=timeout)).one()
    found: int = row.v
    return found


async def silent(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
    return MemoryStream.pair()[0]
