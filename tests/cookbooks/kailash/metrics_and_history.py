"""Counts and history of conflicts, which add up after a race."""

from __future__ import annotations

from typing import Any

import anyio

from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, OptimisticLockingNode

CREATE = (
    "CREATE TABLE IF NOT EXISTS tallies (id int PRIMARY KEY, n int, version bigint, writer uuid)"
)


async def main(host: str, port: int, keyspace: str) -> None:
    node = AsyncSQLDatabaseNode(
        name="tallies", host=host, port=port, database=keyspace, allow_admin=True
    )
    await node.async_run(query=CREATE)
    await node.async_run(query="INSERT INTO tallies (id, n, version) VALUES (1, 0, 1)")
    empty = OptimisticLockingNode().get_metrics()
    assert (empty["avg_retry_count"], empty["success_rate"]) == (0, 0)
    locks = [OptimisticLockingNode(default_conflict_resolution="fail_fast") for _ in range(2)]
    row: dict[str, Any] = {"connection": node, "table_name": "tallies", "record_id": 1}

    async def count(lock: OptimisticLockingNode) -> None:
        for _ in range(5):
            found = await lock.execute(action="read_with_version", **row)
            await lock.execute(
                action="update_with_version",
                update_data={"n": found["record"]["n"] + 1},
                expected_version=found["version"],
                **row,
            )

    async with anyio.create_task_group() as group:
        for lock in locks:
            group.start_soon(count, lock)
    metrics = [lock.get_metrics() for lock in locks]
    assert [each["total_operations"] for each in metrics] == [5, 5]
    won = sum(each["successful_operations"] for each in metrics)
    conflicts = sum(each["version_conflicts"] for each in metrics)
    assert won + conflicts == 10
    found = await locks[0].execute(action="read_with_version", **row)
    assert (found["record"]["n"], found["version"]) == (won, won + 1)
    history = [conflict for lock in locks for conflict in lock.get_conflict_history(limit=10)]
    assert len(history) == conflicts
    analysis = await locks[0].execute(action="analyze_conflicts")
    assert analysis["total_conflicts"] == metrics[0]["version_conflicts"]
    await each_tells_of_itself(node)
    await node.cleanup()


async def each_tells_of_itself(node: AsyncSQLDatabaseNode) -> None:
    """Conflicts of several rows at once: each result has that of its own row."""
    lock = OptimisticLockingNode(default_conflict_resolution="fail_fast")
    insert = "INSERT INTO tallies (id, n, version) VALUES (:id, 0, 5)"
    await node.execute_many_async(insert, [{"id": id} for id in range(10, 20)])

    async def lose(id: int) -> None:
        lost = await lock.execute(
            action="update_with_version",
            connection=node,
            table_name="tallies",
            record_id=id,
            update_data={"n": 1},
            expected_version=1,
        )
        info = lost["conflict_info"]
        assert (info["record_id"], info["expected_version"], info["current_version"]) == (id, 1, 5)

    async with anyio.create_task_group() as group:
        for id in range(10, 20):
            group.start_soon(lose, id)
