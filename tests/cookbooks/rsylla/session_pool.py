"""One session for a program: a hundred tasks open it once; after closing, using it raises."""

from __future__ import annotations

import anyio

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SharedSession


async def main(contact: str, keyspace: str) -> None:
    host, _, port = contact.rpartition(":")
    shared = SharedSession(host, port=int(port), keyspace=keyspace)
    found: set[int] = set()

    async def use() -> None:
        session = await shared.get()
        found.add(id(session))
        assert (await session.execute("SELECT key FROM system.local")).scalar() == "local"

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(use)
    assert len(found) == 1
    session = await shared.get()
    await shared.aclose()
    await shared.aclose()
    try:
        await session.execute("SELECT key FROM system.local")
    except cql.SessionClosed:
        return
    raise AssertionError("the session is still open")
