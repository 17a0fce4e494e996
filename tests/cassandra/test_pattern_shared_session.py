"""Shared sessions on a real node: one connection for a hundred tasks, and none left behind."""

from __future__ import annotations

import gc
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import SessionRegistry, SharedSession
from cqlproto_anyio.testing import Answer, Cut, Delay, Drop, Fault, FaultProxy, Rule
from tests.cassandra.concurrently import all_of
from tests.support.server import open_sockets

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

QUERY = "SELECT key FROM system.local"


class Connections(cql.Hooks):
    """Counts the connections that were opened."""

    def __init__(self) -> None:
        self.opened = 0

    def connection_opened(self, record: Any) -> None:
        self.opened += 1


async def test_a_hundred_tasks_connect_once(cassandra: Node) -> None:
    async with cql.connect(cassandra.host, port=cassandra.port) as warm:
        await warm.execute(QUERY)  # what the event loop opens once
    before = open_sockets()
    alone, together, naive = Connections(), Connections(), Connections()
    async with cql.connect(
        cassandra.host, port=cassandra.port, config=cql.Config(hooks=alone)
    ) as session:
        await session.execute(QUERY)

    shared = SharedSession(cassandra.host, port=cassandra.port, config=cql.Config(hooks=together))

    async def handle_request() -> int:
        session = await shared.get()
        await session.execute(QUERY)
        return id(session)

    calls: list[Any] = [handle_request] * 100
    assert len(set(await all_of(calls))) == 1
    assert together.opened == alone.opened
    assert open_sockets() > before
    await shared.aclose()
    gc.collect()
    assert open_sockets() == before

    # the naive way: a global that the first requests fill
    sessions: list[cql.Session] = []
    found: cql.Session | None = None

    async def naive_request() -> None:
        nonlocal found
        if found is None:
            config = cql.Config(hooks=naive)
            found = await cql.connect(cassandra.host, port=cassandra.port, config=config)
            sessions.append(found)

    naive_calls: list[Any] = [naive_request] * 5
    await all_of(naive_calls)
    assert len(sessions) == 5
    for session in sessions:
        await session.aclose()


async def test_requests_under_way_end_before_the_session_closes(cassandra: Node) -> None:
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        proxy.add(Rule(Delay(0.5), statement=QUERY))
        shared = SharedSession(proxy.host, port=proxy.port)
        session = await shared.get()
        results: list[Any] = []

        async def request() -> None:
            results.append((await session.execute(QUERY)).scalar())

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(request)
            await anyio.sleep(0.1)
            await shared.aclose()
            assert results == ["local"] * 10
        # without waiting, they would fail
        async with anyio.create_task_group() as group:
            again = await cql.connect(proxy.host, port=proxy.port)

            async def lost() -> None:
                with pytest.raises(cql.SessionClosed):
                    await again.execute(QUERY)

            group.start_soon(lost)
            await anyio.sleep(0.1)
            await again.aclose()


FAULTS: dict[str, Fault] = {
    "cut in the handshake": Cut(),
    "lost in the handshake": Drop(connection=True),
    "no reply": Drop(),
    "overloaded": Answer("OVERLOADED"),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(faults=st.lists(st.sampled_from(list(FAULTS)), min_size=1, max_size=2))
def test_failures_are_shared_and_leave_nothing_behind(
    cassandra: Node, backend: str, faults: list[str]
) -> None:
    """Each attempt of twenty tasks meets a fault, until one succeeds."""

    async def run() -> None:
        async with FaultProxy(cassandra.host, cassandra.port) as proxy:
            config = cql.Config(connect_timeout=0.4)
            shared = SharedSession(proxy.host, port=proxy.port, config=config)
            attempt: list[Any] = [partial(ask, shared)] * 20
            before = open_sockets()
            for number, fault in enumerate(faults, 1):
                rule = proxy.add(Rule(FAULTS[fault], opcode="STARTUP", times=1))
                found = await all_of(attempt)
                assert rule.hits == 1
                assert all(isinstance(each, cql.CQLError) for each in found), number
            assert await all_of(attempt) == ["local"] * 20
            await shared.aclose()
        gc.collect()
        assert open_sockets() <= before

    anyio.run(run, backend=backend)


async def ask(shared: SharedSession) -> Any:
    """Ask with the shared session; return the error if there is none."""
    try:
        return (await (await shared.get()).execute(QUERY)).scalar()
    except cql.CQLError as error:
        return error


async def test_a_registry_leaves_nothing_behind(cassandra: Node, keyspace: str) -> None:
    before = open_sockets()
    pool = SessionRegistry()

    async def task(number: int) -> None:
        arguments: dict[str, Any] = {"keyspace": keyspace} if number % 2 else {}
        with anyio.move_on_after(0.05 if number % 5 == 0 else 30):
            async with pool.hold(cassandra.host, port=cassandra.port, **arguments) as session:
                await session.execute(QUERY)
                await anyio.sleep(0.1)

    async with anyio.create_task_group() as group:
        for number in range(60):
            group.start_soon(task, number)
        await anyio.sleep(0.05)
        assert len(pool) == 2
    assert len(pool) == 0
    await pool.aclose()
    gc.collect()
    assert open_sockets() == before
