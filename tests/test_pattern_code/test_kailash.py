"""Code that was written for Kailash's database and locking nodes, with its import line changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from cqlproto_anyio.patterns.kailash import (
    AsyncSQLDatabaseNode,
    ConflictResolution,
    LockStatus,
    NodeExecutionError,
    OptimisticLockingNode,
    RetryConfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import cqlproto_anyio as cql
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

CREATE_ACCOUNTS = (
    "CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, name text, balance bigint,"
    " email text, version bigint, writer uuid)"
)


@pytest.fixture
async def accounts(session: cql.Session) -> cql.Session:
    await session.execute(CREATE_ACCOUNTS)
    await session.execute("TRUNCATE accounts")
    for id in (1, 2):
        row = (id, "Ann", 100, 1)
        insert = "INSERT INTO accounts (id, name, balance, version) VALUES (?, ?, ?, ?)"
        await session.execute(insert, row)
    return session


def node(cassandra: Node, keyspace: str, **settings: Any) -> AsyncSQLDatabaseNode:
    return AsyncSQLDatabaseNode(
        name="bank", host=cassandra.host, port=cassandra.port, database=keyspace, **settings
    )


@pytest.fixture
async def bank(
    cassandra: Node, keyspace: str, accounts: cql.Session
) -> AsyncIterator[AsyncSQLDatabaseNode]:
    bank = node(cassandra, keyspace)
    yield bank
    await bank.cleanup()


async def test_queries_and_their_envelopes(bank: AsyncSQLDatabaseNode) -> None:
    await bank.connect()
    found = await bank.async_run(
        query="SELECT id, balance FROM accounts WHERE id = :id", params={"id": 1}, fetch_mode="one"
    )
    assert found["result"]["data"] == {"id": 1, "balance": 100}
    assert found["result"]["row_count"] == 1
    missing = await bank.async_run(
        query="SELECT id FROM accounts WHERE id = ?", params=[9], fetch_mode="one"
    )
    assert (missing["result"]["data"], missing["result"]["row_count"]) == (None, 0)
    everyone = await bank.process({"query": "SELECT id FROM accounts"})
    assert sorted(row["id"] for row in everyone["result"]["data"]) == [1, 2]
    one = await bank.execute_async(query="SELECT id FROM accounts", fetch_mode="many", fetch_size=1)
    assert len(one["result"]["data"]) == 1
    done = await bank.execute_many_async(
        "UPDATE accounts SET email = :email WHERE id = :id",
        [{"id": 1, "email": "a"}, {"id": 2, "email": "b"}],
    )
    assert done["result"]["batch_size"] == 2
    assert (await bank.health_check()).healthy


async def test_a_node_that_is_configured_once(
    cassandra: Node, keyspace: str, accounts: cql.Session
) -> None:
    bank = node(
        cassandra,
        keyspace,
        query="SELECT name FROM accounts WHERE id = :id",
        params={"id": 2},
        fetch_mode="one",
        timeout=30,
        retry_config=RetryConfig(max_retries=5, initial_delay=0.01),
        validate_queries=True,
        allow_admin=False,
    )
    assert (await bank.async_run())["result"]["data"] == {"name": "Ann"}
    with pytest.raises(NodeExecutionError):
        await bank.async_run(query="DROP TABLE accounts")
    await bank.cleanup()
    await bank.cleanup()


async def test_a_manual_transaction(cassandra: Node, keyspace: str, accounts: cql.Session) -> None:
    bank = node(cassandra, keyspace, transaction_mode="manual")
    update = "UPDATE accounts SET name = :name WHERE id = :id"
    await bank.begin_transaction()
    await bank.async_run(query=update, params={"name": "never", "id": 1})
    await bank.rollback()
    await bank.begin_transaction()
    await bank.async_run(query=update, params={"name": "Bea", "id": 1})
    await bank.async_run(query=update, params={"name": "Bob", "id": 2})
    with pytest.raises(NodeExecutionError):
        await bank.begin_transaction()
    await bank.commit()
    names = (await accounts.execute("SELECT name FROM accounts")).scalars()
    assert sorted(names) == ["Bea", "Bob"]
    with pytest.raises(NodeExecutionError):
        await bank.commit()
    await bank.cleanup()


async def test_nodes_share_a_session(cassandra: Node, keyspace: str, accounts: cql.Session) -> None:
    first, second = node(cassandra, keyspace), node(cassandra, keyspace)
    other = node(cassandra, keyspace, user="ann", password="secret")
    borrowed = AsyncSQLDatabaseNode(name="mine", session=accounts)
    for each in (first, second, other, borrowed):
        await each.async_run(query="SELECT id FROM accounts")
    for each in (first, second, other, borrowed):
        await each.cleanup()
    assert not accounts.closed
    assert "secret" not in repr(other)


async def test_optimistic_locking(bank: AsyncSQLDatabaseNode) -> None:
    """Results have the names of the page and those of the code."""
    lock = OptimisticLockingNode(
        version_field="version",
        max_retries=3,
        retry_delay=0.01,
        retry_backoff_multiplier=2.0,
        default_conflict_resolution=ConflictResolution.FAIL_FAST,
    )
    arguments: dict[str, Any] = {"connection": bank, "table_name": "accounts", "record_id": 1}
    read = await lock.execute(action="read_with_version", **arguments)
    assert (read["success"], read["version"], read["record"]["balance"]) == (True, 1, 100)
    assert read["data"] == read["record"]
    update: dict[str, Any] = {"action": "update_with_version", "expected_version": 1, **arguments}
    won = await lock.execute(update_data={"balance": 110}, **update)
    assert (won["success"], won["new_version"], won["retry_count"]) == (True, 2, 0)
    assert won["status"] == won["lock_status"] == LockStatus.SUCCESS
    lost = await lock.execute(update_data={"balance": 120}, **update)
    assert (lost["success"], lost["status"]) == (False, "version_conflict")
    assert (lost["expected_version"], lost["current_version"]) == (1, 2)

    forced_update = await lock.execute(
        update_data={"balance": 110},
        conflict_resolution="last_writer_wins",
        **update,
    )
    assert forced_update["success"] and forced_update["forced_update"]
    gone = await lock.execute(**{**update, "record_id": 9, "update_data": {"balance": 1}})
    assert gone["lock_status"] == LockStatus.RECORD_NOT_FOUND
    metrics = lock.get_metrics()
    assert (metrics["total_operations"], metrics["version_conflicts"]) == (4, 2)
    assert (await lock.execute(action="get_metrics"))["conflict_rate"] == 0.5
    forced, refused = lock.get_conflict_history(limit=10)
    assert (refused["record_id"], refused["expected_version"]) == (1, 1)
    assert forced["resolution_strategy"] == ConflictResolution.LAST_WRITER_WINS
    analysis = await lock.execute(action="analyze_conflicts")
    assert analysis["total_conflicts"] == 2


async def test_two_deposits_are_both_counted(bank: AsyncSQLDatabaseNode) -> None:
    """RETRY sends no stale value again: the caller that lost reads, and decides anew."""
    lock = OptimisticLockingNode(retry_delay=0.01)
    arguments: dict[str, Any] = {"connection": bank, "table_name": "accounts", "record_id": 2}

    async def deposit() -> None:
        while True:
            read = await lock.execute(action="read_with_version", **arguments)
            result = await lock.execute(
                action="update_with_version",
                update_data={"balance": read["record"]["balance"] + 10},
                expected_version=read["version"],
                conflict_resolution=ConflictResolution.RETRY,
                **arguments,
            )
            if result["success"]:
                return
            assert result["status"] in ("version_conflict", "retry_exhausted")

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(deposit)
    read = await lock.execute(action="read_with_version", **arguments)
    assert (read["record"]["balance"], read["version"]) == (140, 5)


async def test_a_batch_of_updates(bank: AsyncSQLDatabaseNode) -> None:
    lock = OptimisticLockingNode()
    result = await lock.execute(
        action="batch_update",
        connection=bank,
        table_name="accounts",
        batch_updates=[
            {"record_id": 1, "update_data": {"name": "Anna"}, "expected_version": 1},
            {"record_id": 2, "update_data": {"name": "Bob"}, "expected_version": 7},
        ],
        conflict_resolution=ConflictResolution.FAIL_FAST,
    )
    assert (result["total_operations"], result["total_updated"]) == (2, 1)
    assert (result["total_conflicts"], result["success_rate"]) == (1, 0.5)
    assert [each["status"] for each in result["results"]] == ["success", "version_conflict"]
