"""One session for an application: opened by the first request, closed at the end."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SharedSession

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


async def test_an_app_that_connects_with_its_first_requests(cassandra: Node, keyspace: str) -> None:
    shared = SharedSession(cassandra.host, port=cassandra.port, keyspace=keyspace, wait=30)
    sessions: list[cql.Session] = []

    async def handle_request() -> None:
        session = await shared.get()
        assert (await session.execute("SELECT key FROM system.local")).scalar() == "local"
        sessions.append(session)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(handle_request)
    assert len(sessions) == 100
    assert len(set(map(id, sessions))) == 1
    assert sessions[0].keyspace == keyspace
    await shared.aclose()
    await shared.aclose()
    assert sessions[0].closed
    with pytest.raises(cql.SessionClosed):
        await shared.get()


async def test_a_block_for_scripts(cassandra: Node) -> None:
    shared = SharedSession([cassandra.host], port=cassandra.port)
    async with shared as session:
        assert isinstance(session, cql.Session)
        assert await shared.get() is session
    assert session.closed
    with pytest.raises(cql.SessionClosed):
        async with shared:
            pytest.fail("open again")


async def test_a_cluster_that_is_not_there_yet(cassandra: Node) -> None:
    """A failed attempt fails for all that wait for it, and the next call tries again."""
    attempts = 0

    def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
        nonlocal attempts
        attempts += 1
        return cql.Endpoint("127.0.0.1", 9) if attempts == 1 else endpoint

    shared = SharedSession(
        cassandra.host,
        port=cassandra.port,
        config=cql.Config(translate=translate),
        profile=cql.Profile(timeout=5),
    )
    failures: list[cql.ConnectionFailed] = []

    async def handle_request() -> None:
        try:
            await shared.get()
        except cql.ConnectionFailed as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(handle_request)
    assert len(failures) == 10
    session = await shared.get()
    assert not session.closed
    await shared.aclose()


async def test_a_first_request_that_is_cancelled(cassandra: Node) -> None:
    """The others that wait for the connection get it all the same."""
    shared = SharedSession(cassandra.host, port=cassandra.port)
    opened: list[cql.Session] = []

    async def other() -> None:
        opened.append(await shared.get())

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def first() -> None:
            with scope:
                await shared.get()

        group.start_soon(first)
        await anyio.lowlevel.checkpoint()
        group.start_soon(other)
        await anyio.lowlevel.checkpoint()
        scope.cancel()
    assert not opened[0].closed
    await shared.aclose()


async def test_nothing_is_opened_before_it_is_used(cassandra: Node) -> None:
    shared = SharedSession("127.0.0.1", port=9)
    await shared.aclose()
    del shared
    gc.collect()


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(cql.ConfigError, match="port"):
        SharedSession(port=-1)
    with pytest.raises(TypeError, match="prot"):
        SharedSession(prot=9042)  # type: ignore[call-arg]
