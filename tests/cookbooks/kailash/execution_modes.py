"""Statements by themselves, and transactions of tasks: committed, rolled back, side by side."""

from __future__ import annotations

import anyio

from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, NodeExecutionError

CREATE = "CREATE TABLE IF NOT EXISTS members (id int PRIMARY KEY, name text)"
INSERT = "INSERT INTO members (id, name) VALUES (:id, :name)"
SELECT = "SELECT id, name FROM members"


async def main(host: str, port: int, keyspace: str) -> None:
    admin = AsyncSQLDatabaseNode(
        name="admin", host=host, port=port, database=keyspace, allow_admin=True
    )
    await admin.async_run(query=CREATE)
    auto = AsyncSQLDatabaseNode(name="auto", host=host, port=port, database=keyspace)
    await auto.async_run(query=INSERT, params={"id": 1, "name": "Ann"})
    manual = AsyncSQLDatabaseNode(
        name="manual", host=host, port=port, database=keyspace, transaction_mode="manual"
    )

    async def names() -> dict[int, str]:
        rows = (await auto.async_run(query=SELECT))["result"]["data"]
        return {row["id"]: row["name"] for row in rows}

    try:
        await manual.async_run(query=INSERT, params={"id": 9, "name": "stray"})
    except NodeExecutionError:
        assert 9 not in await names()
    else:
        raise AssertionError("a write outside of a transaction was sent")

    committed, rolled_back = anyio.Event(), anyio.Event()

    async def first() -> None:
        await manual.begin_transaction()
        await manual.async_run(query=INSERT, params={"id": 2, "name": "Bob"})
        await rolled_back.wait()
        await manual.commit()
        committed.set()

    async def second() -> None:
        """Another task's transaction: its end takes nothing of the first one along."""
        await manual.begin_transaction()
        await manual.async_run(query=INSERT, params={"id": 3, "name": "Cid"})
        await manual.rollback()
        rolled_back.set()
        await committed.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)
    assert await names() == {1: "Ann", 2: "Bob"}
    for node in (admin, auto, manual):
        await node.cleanup()
