"""Several versioned updates in one call, each with an outcome of its own."""

from __future__ import annotations

from typing import Any

from cqlproto_anyio.patterns.kailash import (
    AsyncSQLDatabaseNode,
    ConflictResolution,
    OptimisticLockingNode,
)

CREATE = (
    "CREATE TABLE IF NOT EXISTS seats (id int PRIMARY KEY, guest text, version bigint, writer uuid)"
)
INSERT = "INSERT INTO seats (id, version) VALUES (:id, 1)"


async def main(host: str, port: int, keyspace: str) -> None:
    node = AsyncSQLDatabaseNode(
        name="seats", host=host, port=port, database=keyspace, allow_admin=True
    )
    await node.async_run(query=CREATE)
    await node.execute_many_async(INSERT, [{"id": id} for id in (1, 2)])
    lock = OptimisticLockingNode()
    updates: list[dict[str, Any]] = [
        {"record_id": 1, "update_data": {"guest": "Ann"}, "expected_version": 1},
        {"record_id": 2, "update_data": {"guest": "Bob"}, "expected_version": 7},
        {"record_id": 3, "update_data": {"guest": "Cid"}, "expected_version": 1},
    ]
    done = await lock.execute(
        action="batch_update",
        connection=node,
        table_name="seats",
        batch_updates=updates,
        conflict_resolution=ConflictResolution.FAIL_FAST,
    )
    assert [each["status"] for each in done["results"]] == [
        "success",
        "version_conflict",
        "record_not_found",
    ]
    assert (done["total_updated"], done["total_conflicts"]) == (1, 1)
    await node.cleanup()
