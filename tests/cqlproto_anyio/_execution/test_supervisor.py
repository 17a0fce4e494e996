"""A session whose own task fails, which only a bug can cause.

The failure closes the session: calls that wait and later calls raise SessionClosed with the failure
as its cause, and closing works as usual. Callers never see an exception group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto_anyio._cluster.cluster import Cluster
from cqlproto_anyio._cluster.connections import Connections
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._cluster.refresh import TopologyReader
from cqlproto_anyio._eventloop.deadlines import Deadlines
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._network.pool import Pool
from cqlproto_anyio.policies import Retry
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import SELECT, living_tasks
from tests.support.fakecluster import FakeCluster
from tests.support.faults import failure
from tests.support.server import Outcome, start, until

if TYPE_CHECKING:
    from cqlproto.messages import Error
    from tests.support.fakecluster import FakeRequest


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


PAUSES = "SELECT v FROM ks.paused"


class Patient:
    """A retry policy that pauses for days before every other attempt."""

    def decide(self, error: cql.CQLError, **_: Any) -> Retry:
        return Retry(next_host=True, delay=1e6)


def fails(*_: Any, **__: Any) -> Any:
    raise Bug("a mistake of ours")


Break = Callable[[FakeCluster, pytest.MonkeyPatch], None]


def in_an_alarm(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "beat", fails)  # at the next heartbeat


def in_the_timer(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Deadlines, "expire", fails)  # likewise


def in_the_control_task(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ControlConnection, "_step", fails)
    patch.setattr(ControlConnection, "_failed", fails)
    assert cluster.tell_topology("NEW_NODE", cluster.hosts[0])


def in_opening(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "add", fails)
    _lose_one(cluster)


def after_a_failed_opening(cluster: FakeCluster, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Connections, "open", fails)
    patch.setattr(Pool, "failed", fails)
    _lose_one(cluster)


def _lose_one(cluster: FakeCluster) -> None:
    """Break a connection without requests, and not the control connection."""
    busy = {request.connection for request in cluster.waiting}
    idle = [each for each in cluster.connections if each not in busy and not each.registered]
    idle[0].cut()


BREAKS = [in_an_alarm, in_the_timer, in_the_control_task, in_opening, after_a_failed_opening]


@pytest.mark.parametrize("break_it", BREAKS)
async def test_a_task_that_fails(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    before = living_tasks()
    cluster = FakeCluster(3)
    paused = 0

    def answer(request: FakeRequest) -> Error | None:
        nonlocal paused
        if request.text != PAUSES:
            return None
        paused += 1
        return failure(ErrorCode.OVERLOADED).message()

    cluster.answer = answer
    connecting = cql.connect(cluster.addresses, config=cluster.config(heartbeat_interval=1.0))
    session = await connecting.__aenter__()
    await until(lambda: all(host.connections for host in session.statistics().hosts))

    async def ask() -> None:
        await session.execute("SELECT v FROM ks.t", timeout=None)

    async def ask_in_pages() -> None:
        async for _ in session.stream(SELECT, (1,), timeout=None):
            pass

    async def pause() -> None:
        await session.execute(PAUSES, timeout=None, retry=Patient())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            outcomes = [start(group, call) for call in (ask, ask_in_pages, pause)]
            await until(lambda: len(cluster.waiting) == 2 and snapshot(session).pausing)
            break_it(cluster, monkeypatch)
        for outcome in outcomes:
            check(outcome)
        assert paused == 1
        later = Outcome()
        await later.run(ask)
        check(later)
        await session.aclose()
        await connecting.__aexit__(None, None, None)
    await ended(cluster, before)


@pytest.mark.parametrize("break_it", [in_an_alarm, in_the_timer])
async def test_a_task_that_fails_while_a_call_waits_for_a_connection(
    break_it: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = living_tasks()
    cluster = FakeCluster(1)
    config = cluster.config(
        heartbeat_interval=1.0, discovery=False, reconnection=cql.ConstantReconnection(60.0)
    )
    connecting = cql.connect(cluster.addresses, config=config)
    session = await connecting.__aenter__()
    cluster.hosts[0].vanish()
    cluster.hosts[0].cut()
    await until(lambda: not session.statistics().connections)
    async with anyio.create_task_group() as group:
        waits = start(group, lambda: session.execute(SELECT, (1,), timeout=None))
        await until(lambda: snapshot(session).waiting_calls)
        break_it(cluster, monkeypatch)
    check(waits)
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
    is_broken = False
    made: list[Connection] = []  # in this order

    def received(self: Connection, data: bytes, *, direct: bool) -> None:
        if self not in made:
            made.append(self)
        if self is made[0] and is_broken:
            fails()
        usual(self, data, direct=direct)

    monkeypatch.setattr(Connection, "received", received)
    cluster = FakeCluster(1)
    config = cluster.config(discovery=False)
    async with cql.connect(cluster.addresses, config=config) as session:
        await session.execute(SELECT, (1,))
        is_broken = True
        with pytest.raises(cql.ConnectionLost) as caught:
            await session.execute("INSERT INTO ks.t (k) VALUES (1)")
        assert caught.value.reason == "Bug: a mistake of ours"
        assert type(caught.value.__cause__) is Bug
        assert (await session.execute(SELECT, (1,))).one().v == 1
