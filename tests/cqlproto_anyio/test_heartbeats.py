"""Connections that have died without a word: heartbeats find them, and leave others alone."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.policies import ConstantReconnection
from tests.cqlproto_anyio.clusters import SELECT, connected, session_on, stats_of
from tests.cqlproto_anyio.fakecluster import FakeCluster, row_v
from tests.cqlproto_anyio.server import start, state, turns, until

pytestmark = pytest.mark.uvloop

NEVER = ConstantReconnection(3600.0, jitter=0.0)


async def test_an_idle_connection_that_is_dead_is_noticed() -> None:
    cluster = FakeCluster(2)
    async with session_on(
        cluster,
        cluster.hosts[0].address,
        heartbeat_interval=0.02,
        heartbeat_timeout=1.0,
        connect_timeout=1.0,
    ) as session:
        await connected(session, cluster.hosts)
        dead = cluster.hosts[1]
        dead.vanish()
        await until(lambda: stats_of(session, dead).lost == 1)
        await connected(session, [cluster.hosts[0]])
        for _ in range(20):
            await session.execute("SELECT v FROM ks.t")
        dead.revive()
        await connected(session, cluster.hosts)
        assert stats_of(session, cluster.hosts[0]).lost == 0


async def test_the_error_of_requests_says_that_no_heartbeat_was_answered() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(
        cluster,
        discovery=False,
        heartbeat_interval=0.02,
        heartbeat_timeout=0.1,
        reconnection=NEVER,
        connect_timeout=1.0,
    ) as session:
        await connected(session, cluster.hosts)
        host.vanish()
        with anyio.fail_after(10), pytest.raises(cql.ConnectionLost) as caught:
            await session.execute("SELECT v FROM ks.t", timeout=None)
        assert "heartbeat within 0.1 s" in str(caught.value)


async def test_idle_connections_that_live_stay() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, heartbeat_interval=0.01) as session:
        await connected(session, cluster.hosts)
        await until(lambda: all(host.beats >= 10 for host in cluster.hosts))
        assert sum(host.opened for host in cluster.hosts) == 3
        assert session.statistics().in_flight <= 2  # heartbeats that are being answered
    assert not cluster.errors


async def test_busy_connections_are_not_asked() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(cluster, discovery=False, heartbeat_interval=0.3) as session:
        await connected(session, cluster.hosts)
        began = anyio.current_time()
        while anyio.current_time() < began + 1.0:
            await session.execute("SELECT v FROM ks.t")
        busy = host.beats
        # on a machine that stops for long enough one may come
        assert busy <= 1
        await until(lambda: host.beats >= busy + 2)


async def test_a_node_that_is_slow_is_not_dead() -> None:
    """It doesn't answer a request for many intervals, but heartbeats."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    cluster.answer = lambda request: None
    async with session_on(
        cluster, discovery=False, heartbeat_interval=0.01, heartbeat_timeout=5.0
    ) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            call = start(group, lambda: session.execute("SELECT v FROM ks.t", timeout=None))
            await until(lambda: host.beats >= 20)
            assert not call.done
            cluster.waiting.pop().reply(row_v(3))
        assert call.result.one().v == 3
        assert host.opened == 1


async def test_a_full_connection_is_asked_when_there_is_room() -> None:
    """A heartbeat waits for its turn like any request, and what doesn't come up is given up."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    cluster.answer = lambda request: None
    async with session_on(
        cluster,
        discovery=False,
        heartbeat_interval=0.02,
        heartbeat_timeout=0.1,
        max_in_flight=2,
        max_connections_per_host=1,
        reconnection=NEVER,
        connect_timeout=1.0,
    ) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            calls = [
                start(group, lambda: session.execute("SELECT v FROM ks.t", timeout=None))
                for _ in range(5)
            ]
            await until(lambda: len(cluster.waiting) == 2)
            host.vanish()
        assert all(isinstance(call.error, cql.ConnectionFailed) for call in calls)
        assert stats_of(session, host).lost == 1


async def test_all_hosts_are_asked_at_once_and_nothing_is_left_of_it() -> None:
    cluster = FakeCluster(50)
    async with session_on(
        cluster, cluster.hosts[0].address, heartbeat_interval=0.05, max_connecting=64
    ) as session:
        await connected(session, cluster.hosts)
        await until(lambda: all(host.beats >= 2 for host in cluster.hosts))
        await until(lambda: state(session).in_flight == state(session).deadlines == 0)


async def test_the_session_closes_while_heartbeats_are_out() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, heartbeat_interval=0.01, heartbeat_timeout=60.0) as session:
        await connected(session, cluster.hosts)
        await session.execute(SELECT, (1,))
        for host in cluster.hosts:
            host.pause()
        await until(lambda: session.statistics().in_flight >= 3)
        await turns(20)
        began = anyio.current_time()
    assert anyio.current_time() - began < 5
