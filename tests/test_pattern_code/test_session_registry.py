"""Sessions shared by configuration: the parts of an application that know nothing of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SessionRegistry, TooManySessions

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


async def test_two_parts_with_the_same_configuration(cassandra: Node, keyspace: str) -> None:
    pool = SessionRegistry()
    arguments: dict[str, Any] = {"port": cassandra.port}
    orders = await pool.acquire(cassandra.host, **arguments)
    reports = await pool.acquire(cassandra.host, **arguments)
    scoped = await pool.acquire(cassandra.host, keyspace=keyspace, **arguments)
    assert orders is reports
    assert scoped is not orders
    assert scoped.keyspace == keyspace
    assert len(pool) == 2

    await pool.release(orders)
    assert not reports.closed
    assert (await reports.execute("SELECT key FROM system.local")).scalar() == "local"
    await pool.release(reports)
    assert reports.closed
    assert len(pool) == 1
    with pytest.raises(cql.UsageError, match="acquire"):
        await pool.release(reports)
    fresh = await pool.acquire(cassandra.host, **arguments)
    assert not fresh.closed
    await pool.aclose()
    assert fresh.closed
    assert scoped.closed
    with pytest.raises(cql.SessionClosed):
        await pool.acquire(cassandra.host, **arguments)


async def test_different_users_never_share(cassandra: Node) -> None:
    """Names, passwords and TLS are part of the configuration."""
    pool = SessionRegistry()
    async with (
        pool.hold(cassandra.host, port=cassandra.port, auth=cql.PlainAuth("ann", "one")) as first,
        pool.hold(cassandra.host, port=cassandra.port, auth=cql.PlainAuth("ann", "two")) as second,
        pool.hold(cassandra.host, port=cassandra.port, auth=cql.PlainAuth("ann", "one")) as third,
    ):
        assert first is third
        assert first is not second
        assert len(pool) == 2
    assert first.closed
    assert second.closed
    assert "one" not in repr(pool)


async def test_a_hundred_tasks_at_once(cassandra: Node) -> None:
    pool = SessionRegistry()
    seen: set[int] = set()

    async def task() -> None:
        async with pool.hold(cassandra.host, port=cassandra.port) as session:
            seen.add(id(session))
            await session.execute("SELECT key FROM system.local")
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(task)
    assert len(seen) == 1
    assert len(pool) == 0
    await pool.aclose()


async def test_a_session_of_ones_own_is_borrowed(session: cql.Session) -> None:
    pool = SessionRegistry()
    assert await pool.acquire(session=session) is session
    assert len(pool) == 0
    await pool.release(session)
    async with pool.hold(session=session) as same:
        assert same is session
    await pool.aclose()
    assert not session.closed


async def test_a_limit_of_sessions(cassandra: Node, keyspace: str) -> None:
    pool = SessionRegistry(max_sessions=1)
    async with pool.hold(cassandra.host, port=cassandra.port):
        with pytest.raises(TooManySessions) as info:
            await pool.acquire(cassandra.host, port=cassandra.port, keyspace=keyspace)
        assert info.value.limit == 1
        async with pool.hold(cassandra.host, port=cassandra.port):
            pass
    async with pool.hold(cassandra.host, port=cassandra.port, keyspace=keyspace):
        pass
    await pool.aclose()
    with pytest.raises(cql.UsageError, match="max_sessions"):
        SessionRegistry(max_sessions=0)


async def test_a_failed_connection_leaves_nothing(cassandra: Node) -> None:
    pool = SessionRegistry()
    with pytest.raises(cql.ConnectionFailed):
        await pool.acquire("127.0.0.1", port=9)
    assert len(pool) == 0
    await pool.aclose()
