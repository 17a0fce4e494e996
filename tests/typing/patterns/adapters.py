"""What a type checker sees of the adapters of other packages."""

from __future__ import annotations

from typing import Any, assert_type

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import Database
from cqlproto_anyio.patterns.kailash import AsyncSQLDatabaseNode, OptimisticLockingNode
from cqlproto_anyio.patterns.rsylla import (
    Batch,
    PreparedStatement,
    Query,
    QueryResult,
    Row,
    Session,
    SessionBuilder,
)


async def rsylla_code() -> None:
    builder = SessionBuilder().known_nodes(["db1"]).use_keyspace("shop", False)
    assert_type(builder, SessionBuilder)
    session = await builder.build()
    assert_type(session, Session)
    assert_type(session.session, cql.Session)
    assert_type(Query("SELECT 1").with_consistency("ONE"), Query)
    prepared = await session.prepare("SELECT id FROM users")
    assert_type(prepared.set_idempotent(True), PreparedStatement)
    result = await session.execute_prepared(prepared, {})
    assert_type(result, QueryResult)
    assert_type(result.first_row(), Row | None)
    assert_type(result.rows(), list[Row])
    assert_type(await session.batch(Batch("unlogged"), []), QueryResult)


async def kailash_code() -> None:
    node = AsyncSQLDatabaseNode("bank", host="db1", transaction_mode="manual")
    assert_type(await node.connect(), Database)
    assert_type(await node.async_run(query="SELECT 1", params={"id": 1}), dict[str, Any])
    lock = OptimisticLockingNode(default_conflict_resolution="fail_fast")
    assert_type(await lock.execute(action="get_metrics"), dict[str, Any])
    assert_type(lock.get_conflict_history(limit=3), list[dict[str, Any]])
    AsyncSQLDatabaseNode(transaction_mode="zzz")  # type: ignore[arg-type]
