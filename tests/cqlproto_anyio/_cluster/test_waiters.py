"""Requests that wait for a connection: which attempts they start, and the errors they get."""

from __future__ import annotations

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import connected, knows, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import IDLE, start, state, turns, until

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]

NEVER = ConstantReconnection(3600.0, jitter=0.0)
QUERY = "SELECT v FROM ks.t"


async def test_requests_wait_for_a_connection_that_is_being_made() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 0.1
        for host in cluster.hosts:
            host.cut()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(200)]
        assert [call.error for call in calls] == [None] * 200
        assert [host.attempts for host in cluster.hosts] == [2, 2]


async def test_so_many_wait_and_no_more() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster, discovery=False, max_waiting=50) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 1.0
        cluster.hosts[0].cut()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(120)]
            await until(lambda: any(call.done for call in calls))
            await turns(50)
            refused = [call for call in calls if call.done]
            assert all(type(call.error) is cql.Overloaded for call in refused)
            assert 68 <= len(refused) <= 70
        assert sum(call.error is None for call in calls) == 120 - len(refused)


async def test_a_deadline_ends_the_wait_and_leaves_nothing() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.vanish()
            host.cut()
        await until(lambda: not session.statistics().connections)
        with anyio.fail_after(4), pytest.raises(cql.RequestTimeout):
            await session.execute(QUERY, timeout=0.05)
        with anyio.move_on_after(0.02) as scope:
            await session.execute(QUERY, timeout=None)
        assert scope.cancelled_caught
        await until(lambda: state(session) == IDLE)


async def test_all_that_wait_learn_that_nothing_is_left() -> None:
    cluster = FakeCluster(9)
    async with session_on(cluster, discovery=False, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 0.05
        for host in cluster.hosts:
            host.kill()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(QUERY)) for _ in range(50)]
        for call in calls:
            assert type(call.error) is cql.NoHostAvailable
            assert len(call.error.attempts) == 9
        assert len({id(call.error) for call in calls}) == 50  # none is shared
        assert all(host.attempts == 2 for host in cluster.hosts)


async def test_the_host_that_is_waited_for_leaves() -> None:
    """If the host under connection is removed, other hosts are tried for the requests."""
    cluster = FakeCluster(2)
    staying, leaving = cluster.hosts
    async with session_on(
        cluster, staying.address, reconnection=NEVER, connect_timeout=1.0
    ) as session:
        await connected(session, cluster.hosts)
        leaving.vanish()
        leaving.cut()
        await until(lambda: stats_of(session, leaving).connecting == 1)
        cluster.hosts.remove(leaving)
        cluster.moved()
        cluster.tell_topology("REMOVED_NODE", leaving)
        await until(lambda: not knows(session, leaving))
        assert (await session.execute(QUERY)).one().v == 0
        attempts = leaving.attempts
        await until(lambda: not cluster.connecting)
        await turns(50)
        assert leaving.attempts == attempts
        assert len(session.statistics().hosts) == 1


async def test_a_keyspace_that_is_not_there_is_told_as_such() -> None:
    cluster = FakeCluster(3)
    with anyio.fail_after(10), pytest.raises(cql.InvalidQuery, match="nowhere"):
        async with session_on(cluster, keyspace="nowhere"):
            pass
    assert sum(host.attempts for host in cluster.hosts) <= 5


async def test_closing_tells_all_that_wait() -> None:
    cluster = FakeCluster(2)
    async with (
        anyio.create_task_group() as group,
        session_on(cluster, discovery=False) as session,
    ):
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            host.vanish()
            host.cut()
        await until(lambda: not session.statistics().connections)
        calls = [start(group, lambda: session.execute(QUERY)) for _ in range(20)]
        await turns(30)
        assert not any(call.done for call in calls)
    assert {type(call.error) for call in calls} == {cql.SessionClosed}
