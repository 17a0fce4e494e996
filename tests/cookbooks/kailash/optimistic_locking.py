"""Updates with a version: each strategy, and what becomes of writers that race."""

from __future__ import annotations

from typing import Any

import anyio

from cqlproto_anyio.patterns.kailash import (
    AsyncSQLDatabaseNode,
    ConflictResolution,
    LockStatus,
    NodeExecutionError,
    OptimisticLockingNode,
)

CREATE = """
    CREATE TABLE IF NOT EXISTS wallets (
        id int PRIMARY KEY, name text, balance bigint, version bigint
    )
"""  # as the guide has it: without a column of the writer
INSERT = "INSERT INTO wallets (id, name, balance, version) VALUES (:id, :name, :balance, 1)"


async def main(host: str, port: int, keyspace: str) -> None:
    bank = AsyncSQLDatabaseNode(
        name="bank", host=host, port=port, database=keyspace, allow_admin=True
    )
    await bank.async_run(query=CREATE)
    for id in range(1, 7):
        await bank.async_run(query=INSERT, params={"id": id, "name": "Ann", "balance": 100})
    lock = OptimisticLockingNode(
        retry_delay=0.01,
        max_retries=20,
        default_conflict_resolution=ConflictResolution.FAIL_FAST,
    )
    row: dict[str, Any] = {"connection": bank, "table_name": "wallets"}

    async def read(id: int) -> dict[str, Any]:
        return await lock.execute(action="read_with_version", record_id=id, **row)

    async def update(id: int, data: Any, **options: Any) -> dict[str, Any]:
        return await lock.execute(
            action="update_with_version", record_id=id, update_data=data, **row, **options
        )

    # FAIL_FAST, also where the constructor says so
    before = await read(1)
    assert before["data"]["balance"] == 100
    won = await update(1, {"balance": 110}, expected_version=before["version"])
    lost = await update(1, {"balance": 120}, expected_version=before["version"])
    assert won["lock_status"] == LockStatus.SUCCESS
    assert lost["lock_status"] == LockStatus.VERSION_CONFLICT
    assert (await read(1))["data"]["balance"] == 110

    # RETRY: a function of fresh values; two deposits are both there
    async def deposit() -> None:
        retry = ConflictResolution.RETRY
        done = await update(
            2, lambda values: {"balance": values["balance"] + 10}, conflict_resolution=retry
        )
        assert done["success"]

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(deposit)
    assert (await read(2))["data"]["balance"] == 150  # sending values again has left 110

    # MERGE: fields that only one has changed; the same field needs a rule
    merge = ConflictResolution.MERGE
    base = await read(3)
    await update(3, {"name": "Bea"}, expected_version=base["version"])
    merged = await update(
        3, {"balance": 90}, expected_version=base["version"], conflict_resolution=merge
    )
    assert merged["lock_status"] == LockStatus.SUCCESS
    after = (await read(3))["data"]
    assert (after["name"], after["balance"]) == ("Bea", 90)
    base = await read(4)
    await update(4, {"balance": 130}, expected_version=base["version"])
    stale = {"expected_version": base["version"], "conflict_resolution": merge}
    refused = await update(4, {"balance": 50}, **stale)
    assert refused["lock_status"] == LockStatus.MERGE_CONFLICT
    base_again = {"merge_strategy": {"fields": {"balance": "numeric_add"}}}
    added = await update(4, {"balance": 150}, **stale, **base_again)
    assert added["lock_status"] == LockStatus.SUCCESS
    assert (await read(4))["data"]["balance"] == 180  # 130, and the 50 more of the other

    # LAST_WRITER_WINS overwrites, and says so
    forced = await update(
        5, {"balance": 1}, expected_version=7, conflict_resolution="last_writer_wins"
    )
    assert (forced["success"], forced["forced_update"]) == (True, True)

    # what is gone stays gone; a column that isn't one reaches no statement
    await bank.async_run(query="DELETE FROM wallets WHERE id = :id", params={"id": 6})
    gone = await update(6, {"balance": 1}, expected_version=1)
    assert gone["lock_status"] == LockStatus.RECORD_NOT_FOUND
    assert not (await read(6))["success"]
    try:
        await update(1, {"name = 'pwn', balance": -1}, expected_version=2)
    except NodeExecutionError:
        assert (await read(1))["data"]["name"] == "Ann"
    else:
        raise AssertionError("a hostile column was accepted")
    await bank.cleanup()
