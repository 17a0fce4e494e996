"""What the adapter of Kailash's nodes refuses before anything is sent, and what it counts."""

from __future__ import annotations

from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import InvalidInput
from cqlproto_anyio.patterns.kailash import (
    AsyncSQLDatabaseNode,
    ConflictResolution,
    NodeExecutionError,
    OptimisticLockingNode,
    RetryConfig,
)


def test_errors_are_those_of_the_client() -> None:
    assert NodeExecutionError is cql.CQLError
    assert issubclass(InvalidInput, NodeExecutionError)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"transaction_mode": "zzz"}, "mode"),
        ({"max_retries": -1}, "max_retries"),
        ({"retry_config": {"max_delay": 0}}, "max_delay"),
        ({"retry_config": RetryConfig(), "validate_queries": True}, None),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], name: str | None) -> None:
    if name is None:
        AsyncSQLDatabaseNode("shop", **settings)
        return
    with pytest.raises(InvalidInput) as caught:
        AsyncSQLDatabaseNode("shop", **settings)
    assert caught.value.name == name


def test_passwords_are_not_shown() -> None:
    node = AsyncSQLDatabaseNode("shop", user="ann", password="secret")
    assert "secret" not in repr(node)
    assert "secret" not in repr(vars(node))


async def test_unknown_inputs_open_no_session() -> None:
    node = AsyncSQLDatabaseNode("shop", host="203.0.113.1")
    with pytest.raises(InvalidInput, match="fetch_modus"):
        await node.async_run(query="SELECT key FROM system.local", fetch_modus="one")
    assert node.get_metrics() == {}
    await node.cleanup()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ({"action": "read"}, "action"),
        ({"action": "read_with_version"}, "table_name"),
        ({"action": "read_with_version", "table_name": "t"}, "connection"),
        (
            {
                "action": "update_with_version",
                "table_name": "t",
                "conflict_resolution": "newest",
            },
            "conflict_resolution",
        ),
    ],
)
async def test_calls_are_checked(call: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await OptimisticLockingNode().execute(**call)
    assert caught.value.name == name


async def test_metrics_need_no_connection() -> None:
    lock = OptimisticLockingNode(default_conflict_resolution=ConflictResolution.MERGE)
    found = await lock.execute(action="get_metrics")
    assert (found["success"], found["total_operations"], found["success_rate"]) == (True, 0, 0)
    analysis = await lock.execute(action="analyze_conflicts")
    assert (analysis["total_conflicts"], analysis["recommendations"]) == (0, ())
    assert lock.get_conflict_history() == []
    with pytest.raises(InvalidInput, match="newest"):
        OptimisticLockingNode(default_conflict_resolution="newest")
