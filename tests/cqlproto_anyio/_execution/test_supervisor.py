"""A session whose own task fails, which only a bug can cause.

The failure closes the session: calls that wait and later calls raise SessionClosed with the failure
as its cause, and closing works as usual. Callers never see an exception group.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster.cluster import Cluster
from cqlproto_anyio._cluster.connections import Connections
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._cluster.refresh import TopologyReader
from cqlproto_anyio._eventloop.deadlines import Deadlines
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._network.pool import Pool
from cqlproto_anyio.testing.snapshot import context_of
from tests.support.cluster_sessions import SELECT, living_tasks
from tests.support.fakecluster import FakeCluster
from tests.support.server import Outcome, start, turns, until

if TYPE_CHECKING:
    from collections.abc import Callable


class Bug(Exception):
    """An error that the client doesn't expect."""


async def ended(cluster: FakeCluster, before: int) -> None:
    await until(lambda: not cluster.connections and living_tasks() == before)


def check(outcome: Outcome) -> None:
    """Check that a call raised SessionClosed because of the bug, and no group."""
    error = outcome.error
    assert type(error) is cql.SessionClosed
    assert "Bug: a mistake of ours" in str(error)
    assert isinstance(error.__cause__, Bug)


def fails(*_: Any, **__: Any) -> Any:
    raise Bug("a mistake of ours")


def in_an_alarm(session: cql.Session, patch: pytest.MonkeyPatch) -> None:
    context_of(session).timer.alarm(fails).set(0.0)


def in_the_timer(session: cql.Session, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deadlines, "expire", fails)
    context_of(session).timer.alarm(lambda: None).set(0.0)


def in_the_control_task(session: cql.Session, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ControlConnection, "_step", fails)
    patch.setattr(ControlConnection, "_failed", fails)
    control = context_of(session).cluster.control
    assert control is not None
    control._wake.set()


def in_opening(session: cql.Session, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "add", fails)
    _lose_one(session)


def after_a_failed_opening(session: cql.Session, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connections, "open", fails)
    patch.setattr(Pool, "failed", fails)
    _lose_one(session)


def _lose_one(session: cql.Session) -> None:
    pool = next(iter(context_of(session).cluster.pools.values()))
    pool.connections[0].give_up("as told")


@pytest.mark.parametrize(
    "break_it",
    [in_an_alarm, in_the_timer, in_the_control_task, in_opening, after_a_failed_opening],
)
async def test_a_task_that_fails(
    break_it: Callable[[cql.Session, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = living_tasks()
    cluster = FakeCluster(3)
    cluster.answer = lambda request: None
    connecting = cql.connect(cluster.addresses, config=cluster.config())
    session = await connecting.__aenter__()
    await until(lambda: all(host.connections for host in session.statistics().hosts))

    async def ask() -> None:
        await session.execute("SELECT v FROM ks.t", timeout=None)

    async def ask_in_pages() -> None:
        async for _ in session.stream(SELECT, (1,), timeout=None):
            pass

    async def wait_for_a_connection() -> None:
        context = context_of(session)
        waiting = context.backend.waiter_class()
        context.cluster._waiters.waiting.append(waiting)
        await waiting

    async def pause() -> None:
        context = context_of(session)
        request = context.request_class("", None)
        request.deadline = math.inf
        await context.supervisor.pause(request, 1e6)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            calls = (ask, ask_in_pages, wait_for_a_connection, pause)
            outcomes = [start(group, call) for call in calls]
            await until(lambda: len(cluster.waiting) == 2)
            await turns()
            break_it(session, monkeypatch)
        for outcome in outcomes:
            check(outcome)
        later = Outcome()
        await later.run(ask)
        check(later)
        await session.aclose()
        await connecting.__aexit__(None, None, None)
    await ended(cluster, before)


async def test_one_that_fails_while_it_connects() -> None:
    """``connect`` raises the failure, and nothing is left."""
    before = living_tasks()
    cluster = FakeCluster(3)
    for owner, name in ((TopologyReader, "read"), (Cluster, "topology_changed"), (Pool, "add")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, fails)
            outcome = Outcome()

            async def connect() -> None:
                async with cql.connect(cluster.addresses, config=cluster.config()):
                    pass

            with anyio.fail_after(10):
                await outcome.run(connect)
            error = outcome.error
            if type(error) is cql.SessionClosed:
                error = error.__cause__
            assert type(error) is Bug
            await ended(cluster, before)


async def test_resolving_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are resolved concurrently; the error of one is raised as it is."""
    monkeypatch.setattr(anyio, "getaddrinfo", fails)
    with pytest.raises(Bug):
        async with cql.connect(["one.invalid", "two.invalid"]):
            pass


async def test_a_transport_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its own connection is lost; the error says why."""
    usual = Connection.received
    broken: list[Connection] = []

    def received(self: Connection, data: bytes, *, direct: bool) -> None:
        if self in broken:
            fails()
        usual(self, data, direct=direct)

    monkeypatch.setattr(Connection, "received", received)
    cluster = FakeCluster(1)
    config = cluster.config(discovery=False)
    async with cql.connect(cluster.addresses, config=config) as session:
        (pool,) = context_of(session).cluster.pools.values()
        broken += pool.connections
        with pytest.raises(cql.ConnectionLost) as caught:
            await session.execute("INSERT INTO ks.t (k) VALUES (1)")
        assert caught.value.reason == "Bug: a mistake of ours"
        assert type(caught.value.__cause__) is Bug
        assert (await session.execute(SELECT, (1,))).one().v == 1
