"""Nodes of one configuration share a session; others don't, and a borrowed one is never closed."""

from __future__ import annotations

from functools import partial

import anyio

import cqlproto_anyio as cql
from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode

SELECT = "SELECT key FROM system.local"


async def main(host: str, port: int, keyspace: str) -> None:
    def node(**settings: object) -> AsyncSQLDatabaseNode:
        known: dict[str, object] = {"host": host, "port": port, "database": keyspace}
        return AsyncSQLDatabaseNode("pool", **{**known, **settings})  # type: ignore[arg-type]

    nodes = [node() for _ in range(20)]
    async with anyio.create_task_group() as group:
        for each in nodes:
            group.start_soon(partial(each.async_run, query=SELECT))
    sessions = {id((await each.connect()).session) for each in nodes}
    assert len(sessions) == 1
    others = [node(user="ann", password=word) for word in ("one", "two")]
    others.append(node(share_pool=False))
    assert len({id((await each.connect()).session) for each in others} | sessions) == 4
    assert "two" not in repr(others[1])

    session = (await nodes[0].connect()).session
    assert isinstance(session, cql.Session)
    borrower = AsyncSQLDatabaseNode("borrower", session=session)
    await borrower.async_run(query=SELECT)
    await borrower.cleanup()
    assert not session.closed
    for each in [*nodes, *others]:
        await each.cleanup()
    assert session.closed
