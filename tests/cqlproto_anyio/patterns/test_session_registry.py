"""A registry of sessions: what is shared, what never is, and when sessions close."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import InvalidInput, SessionRegistry, TooManySessions
from tests.support.cancellation import cancelled_at
from tests.support.server import serving, start, turns, until


async def test_the_last_user_closes_the_session() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        first = await pool.acquire("node", config=config)
        assert await pool.acquire(["node"], config=config, port=9042, tls=False) is first
        assert (len(pool), len(server.peers)) == (1, 1)
        await pool.release(first)
        assert not first.closed
        await pool.release(first)
        assert first.closed
        assert len(pool) == 0
        with pytest.raises(cql.UsageError, match="acquire"):
            await pool.release(first)
        second = await pool.acquire("node", config=config)
        assert second is not first
        await pool.aclose()
        assert second.closed


async def test_what_differs_is_not_shared() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        password = functools.partial(str, "other")
        different: list[dict[str, Any]] = [
            {},
            {"hosts": "other"},
            {"hosts": "node,other"},
            {"port": 9043},
            {"keyspace": "shop"},
            {"auth": cql.PlainAuth("ann", "xyzzy")},
            {"auth": cql.PlainAuth("ann", "two")},
            {"auth": cql.PlainAuth("bob", "xyzzy")},
            {"auth": cql.PlainAuth("ann", password)},
            {"local_dc": "eu"},
            {"profile": cql.Profile(timeout=1)},
            {"config": server.config(application_name="other")},
        ]
        sessions = [
            await pool.acquire(**{"hosts": "node", "config": config, **arguments})
            for arguments in different
        ]
        assert len(set(map(id, sessions))) == len(different) == len(pool)
        same = [
            await pool.acquire(**{"hosts": "node", "config": config, **arguments})
            for arguments in different
        ]
        assert same == sessions
        again = await pool.acquire("node", config=config, auth=cql.PlainAuth("ann", "xyzzy"))
        assert again is sessions[5]
        waits = await pool.acquire("node", config=config, wait=30)
        assert waits is sessions[0]
        assert "xyzzy" not in repr(pool)
        assert "xyzzy" not in str(vars(pool))
        await pool.aclose()
        assert all(each.closed for each in sessions)


async def test_a_wrong_password_gets_no_session_of_the_right_one() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        server.verify = lambda token: token == b"\0ann\0xyzzy"
        async with pool.hold("node", config=config, auth=cql.PlainAuth("ann", "xyzzy")) as mine:
            for auth in (cql.PlainAuth("ann", "guess"), cql.PlainAuth("bob", "xyzzy")):
                with pytest.raises(cql.AuthenticationFailed):
                    await pool.acquire("node", config=config, auth=auth)
            assert len(pool) == 1
            assert not mine.closed
        assert len(pool) == 0


def test_a_registry_tells_tls_contexts_and_event_loops_apart() -> None:
    """Without a server: what the entries are made of."""
    pool = SessionRegistry()
    context = ssl.create_default_context()

    async def entries() -> list[Any]:
        return [
            pool._entry("node", {"tls": context}),
            pool._entry("node", {"tls": context}),
            pool._entry("node", {"tls": ssl.create_default_context()}),
            pool._entry("node", {"tls": True}),
            pool._entry("node", {"tls": False}),
            pool._entry("node", {}),
        ]

    first, second = anyio.run(entries), anyio.run(entries)
    assert first[0] is first[1]
    assert first[4] is first[5]
    assert len(set(map(id, first))) == 4
    assert not set(map(id, first)) & set(map(id, second))


async def test_a_hundred_tasks_at_once() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        seen = set()

        async def task() -> None:
            async with pool.hold("node", config=config) as session:
                seen.add(id(session))
                await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(task)
        assert len(seen) == len(server.peers) == 1
        assert len(pool) == 0
        assert all(client.closed for client in server.clients)


async def test_a_failure_or_a_cancellation_leaves_nothing() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        server.refuse = OSError("nobody there")
        async with anyio.create_task_group() as group:
            failed = [start(group, lambda: pool.acquire("node", config=config)) for _ in range(5)]
        assert all(isinstance(each.error, cql.ConnectionFailed) for each in failed)
        assert len(pool) == 0
        server.refuse = None
        go_on = server.hold()
        async with anyio.create_task_group() as group:
            first = start(group, lambda: pool.acquire("node", config=config))
            second = start(group, lambda: pool.acquire("node", config=config))
            await turns()
            first.scope.cancel()
            await turns()
            go_on()
        assert not first.done
        assert len(pool) == 1
        await pool.release(second.result)
        assert len(pool) == 0
        server.hold()
        with anyio.move_on_after(1):
            await pool.acquire("node", config=config)
        assert len(pool) == 0
        assert all(client.closed for client in server.clients)


async def test_a_block_may_be_cancelled_at_every_await() -> None:
    """While it connects, while it holds the session, and while it closes it."""
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()

        async def block() -> None:
            async with pool.hold("node", config=config) as session:
                assert not session.closed
                await anyio.lowlevel.checkpoint()

        for number in range(1, 200):
            cancelled = await cancelled_at(number, block())
            assert len(pool) == 0
            await until(lambda: all(client.closed for client in server.clients))
            if not cancelled:
                break
        assert 5 < number < 199


async def test_a_block_that_is_cancelled_releases() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        with anyio.move_on_after(1):
            async with pool.hold("node", config=config) as session:
                await anyio.sleep_forever()
        assert session.closed
        assert len(pool) == 0


async def test_a_session_of_the_callers_is_borrowed() -> None:
    async with serving() as server:
        pool = SessionRegistry()
        async with server.session() as mine:
            assert await pool.acquire(session=mine) is mine
            assert await pool.acquire(session=mine) is mine
            assert len(pool) == 0
            await pool.release(mine)
            await pool.release(mine)
            with pytest.raises(cql.UsageError):
                await pool.release(mine)
            async with pool.hold(session=mine):
                pass
            await pool.aclose()
            assert not mine.closed


async def test_a_session_of_the_registry_that_is_handed_in_has_one_more_user() -> None:
    async with serving() as server:
        pool = SessionRegistry()
        mine = await pool.acquire("node", config=server.config())
        assert await pool.acquire(session=mine) is mine
        await pool.release(mine)
        assert not mine.closed
        await pool.release(mine)
        assert mine.closed


async def test_a_limit_of_sessions() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(max_sessions=2), server.config()
        first = await pool.acquire("node", config=config)
        await pool.acquire("other", config=config)
        with pytest.raises(TooManySessions, match="has 2 sessions") as info:
            await pool.acquire("third", config=config)
        assert info.value.limit == 2
        assert await pool.acquire("node", config=config) is first
        await pool.release(first)
        await pool.release(first)
        await pool.acquire("third", config=config)
        await pool.aclose()
        with pytest.raises(cql.SessionClosed):
            await pool.acquire("node", config=config)
        await pool.release(first)  # blocks that end after the registry are no error


async def test_a_session_that_was_closed_elsewhere_is_not_handed_out() -> None:
    async with serving() as server:
        pool, config = SessionRegistry(), server.config()
        first = await pool.acquire("node", config=config)
        await first.aclose()
        second = await pool.acquire("node", config=config)
        assert second is not first
        assert not second.closed
        await pool.release(first)
        assert not second.closed
        await pool.release(second)
        assert second.closed
        assert len(pool) == 0


async def test_wrong_arguments() -> None:
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InvalidInput, match="max_sessions"):
            SessionRegistry(max_sessions=wrong)  # type: ignore[arg-type]
    pool = SessionRegistry()
    with pytest.raises(cql.ConfigError, match="port"):
        await pool.acquire(port=-1)
    with pytest.raises(TypeError, match="prot"):
        await pool.acquire(prot=9042)  # type: ignore[call-arg]
    assert len(pool) == 0
