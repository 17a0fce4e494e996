"""A versioned update inside of a transaction: it is committed with the others, or not at all."""

from __future__ import annotations

from typing import Any

from cqlproto_anyio.patterns import VersionConflict
from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, OptimisticLockingNode

CREATE = (
    "CREATE TABLE IF NOT EXISTS carts (id int PRIMARY KEY, total int, version bigint, writer uuid)"
)
INSERT = "INSERT INTO carts (id, total, version) VALUES (1, 5, 1)"


async def main(host: str, port: int, keyspace: str) -> None:
    node = AsyncSQLDatabaseNode(
        name="carts", host=host, port=port, database=keyspace, allow_admin=True
    )
    await node.async_run(query=CREATE)
    await node.async_run(query=INSERT)
    lock = OptimisticLockingNode()
    row: dict[str, Any] = {"connection": node, "table_name": "carts", "record_id": 1}

    async def total() -> tuple[int, int]:
        found = await lock.execute(action="read_with_version", **row)
        return found["record"]["total"], found["version"]

    update: dict[str, Any] = {"action": "update_with_version", "expected_version": 1, **row}
    adapter = node._adapter
    transaction = await adapter.begin_transaction()
    pending = await lock.execute(update_data={"total": 7}, transaction=transaction, **update)
    assert pending["status"] == "pending"
    await adapter.rollback_transaction(transaction)
    assert await total() == (5, 1)

    transaction = await adapter.begin_transaction()
    await lock.execute(update_data={"total": 8}, transaction=transaction, **update)
    await adapter.commit_transaction(transaction)
    assert await total() == (8, 2)

    transaction = await adapter.begin_transaction()
    await lock.execute(update_data={"total": 9}, transaction=transaction, **update)
    try:
        await adapter.commit_transaction(transaction)
    except VersionConflict as error:
        assert error.actual == 2
    else:
        raise AssertionError("a transaction has overwritten a version that it had not read")
    assert await total() == (8, 2)
    await node.cleanup()
