"""A shared session: one attempt for all, failures, cancellation, and how it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID, Startup
from cqlproto_anyio.patterns import SharedSession
from tests.support.server import Outcome, Server, serving, start, turns

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.server import Asked


def shared_on(server: Server, **arguments: Any) -> SharedSession:
    return SharedSession("node", config=server.config(), **arguments)


async def test_a_hundred_tasks_connect_once() -> None:
    async with serving() as server:
        shared = shared_on(server)
        assert server.peers == []
        async with anyio.create_task_group() as group:
            found = [start(group, shared.get) for _ in range(100)]
        assert len({id(each.result) for each in found}) == 1
        assert len(server.peers) == 1
        assert await shared.get() is found[0].result
        await shared.aclose()
        assert all(client.closed for client in server.clients)


async def test_a_failure_is_one_for_all_that_have_waited() -> None:
    async with serving() as server:
        shared = shared_on(server)
        attempts = 0

        async def connector(endpoint: cql.Endpoint) -> Any:
            nonlocal attempts
            attempts += 1
            await anyio.sleep(1)
            if attempts == 1:
                raise OSError("nobody there")
            return await server.connector(endpoint)

        config = cql.Config(connector=connector, discovery=False, max_connections_per_host=1)
        shared = SharedSession("node", config=config)
        async with anyio.create_task_group() as group:
            found = [start(group, shared.get) for _ in range(10)]
        assert attempts == 1
        errors = [each.error for each in found]
        assert all(isinstance(each, cql.ConnectionFailed) for each in errors)
        assert len(set(map(id, errors))) == 10  # each has its own traceback
        assert isinstance(await shared.get(), cql.Session)
        assert attempts == 2
        await shared.aclose()


async def test_a_task_that_is_cancelled_fails_alone() -> None:
    async with serving() as server:
        go_on = server.hold()
        shared = shared_on(server)
        async with anyio.create_task_group() as group:
            first = start(group, shared.get)
            await turns()
            others = [start(group, shared.get) for _ in range(3)]
            await turns()
            first.scope.cancel()
            await turns()
            go_on()
        assert not first.done
        assert len({id(each.result) for each in others}) == 1
        assert not others[0].result.closed
        await shared.aclose()
        assert all(client.closed for client in server.clients)


async def test_closing_waits_for_requests_and_may_be_repeated() -> None:
    async with serving() as server:
        shared = shared_on(server)
        session = await shared.get()
        async with anyio.create_task_group() as group:
            request = start(group, lambda: session.execute("SELECT v FROM t"))
            asked = await server.next()
            closing = start(group, shared.aclose)
            await anyio.sleep(5)
            assert not session.closed
            with pytest.raises(cql.SessionClosed):
                await shared.get()
            asked.reply(VOID)
        assert request.error is None
        assert closing.done
        assert session.closed
        await shared.aclose()


async def test_closing_is_bounded_in_time() -> None:
    async with serving() as server:
        shared = shared_on(server, profile=cql.Profile(timeout=None))
        session = await shared.get()
        async with anyio.create_task_group() as group:
            request = start(group, lambda: session.execute("SELECT v FROM t"))
            await server.next()
            began = anyio.current_time()
            await shared.aclose()
            assert 9 <= anyio.current_time() - began <= 13
        assert isinstance(request.error, cql.SessionClosed)


async def test_closing_that_is_cancelled_closes_at_once() -> None:
    async with serving() as server:
        shared = shared_on(server, profile=cql.Profile(timeout=None))
        session = await shared.get()
        async with anyio.create_task_group() as group:
            request = start(group, lambda: session.execute("SELECT v FROM t"))
            await server.next()
            with anyio.move_on_after(1):
                await shared.aclose()
            assert session.closed
        assert isinstance(request.error, cql.SessionClosed)
        assert all(client.closed for client in server.clients)


async def test_closing_ends_an_attempt() -> None:
    async with serving() as server:
        server.hold()
        shared = shared_on(server)
        async with anyio.create_task_group() as group:
            waiting = [start(group, shared.get) for _ in range(3)]
            await turns()
            began = anyio.current_time()
            await shared.aclose()
            assert anyio.current_time() - began < 1
        assert all(isinstance(each.error, cql.SessionClosed) for each in waiting)
        assert all(client.closed for client in server.clients)


async def test_a_session_that_was_closed_by_its_user_is_opened_again() -> None:
    async with serving() as server:
        shared = shared_on(server)
        first = await shared.get()
        await first.aclose()
        second = await shared.get()
        assert second is not first
        assert not second.closed
        await shared.aclose()


async def test_a_block() -> None:
    async with serving() as server:
        shared = shared_on(server)
        async with shared as session:
            assert await shared.get() is session
        assert session.closed
        with pytest.raises(cql.SessionClosed):
            async with shared:
                pytest.fail("open again")


async def test_credentials_and_keyspace_reach_the_server() -> None:
    """What the session is opened with is what was passed, at every attempt."""
    async with serving() as server:
        startups: list[Asked] = []

        def handshake(asked: Asked) -> Response | None:
            if isinstance(asked.message, Startup):
                startups.append(asked)
            return server.usual_handshake(asked)

        server.handshake = handshake
        checked: list[bytes] = []

        def verify(token: bytes) -> bool:
            checked.append(token)
            return token == b"\0ann\0secret"

        server.verify = verify
        wrong = shared_on(server, auth=cql.PlainAuth("ann", "wrong"))
        for attempts in (1, 2):
            with pytest.raises(cql.AuthenticationFailed):
                await wrong.get()
            assert len(checked) == attempts
        right = SharedSession(
            "node",
            auth=cql.PlainAuth("ann", "secret"),
            keyspace="shop",
            config=server.config(compression="lz4"),
        )
        session = await right.get()
        assert session.keyspace == "shop"
        assert startups[-1].message.options["COMPRESSION"] == "lz4"  # type: ignore[union-attr]  # a Startup
        await right.aclose()


async def test_what_was_never_opened_is_closed_without_effect() -> None:
    shared = SharedSession("127.0.0.1", port=9)
    await shared.aclose()
    outcome = Outcome()
    await outcome.run(shared.get)
    assert isinstance(outcome.error, cql.SessionClosed)


def test_wrong_arguments() -> None:
    with pytest.raises(cql.ConfigError, match="port"):
        SharedSession(port=-1)
    with pytest.raises(cql.ConfigError, match="hosts"):
        SharedSession([])
    with pytest.raises(TypeError, match="prot"):
        SharedSession(prot=9042)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="port="):
        SharedSession("db1", 9042)  # type: ignore[arg-type]
