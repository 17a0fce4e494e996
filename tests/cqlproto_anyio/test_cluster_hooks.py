"""Hooks for hosts, connections and the control connection: each event is reported once."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import SELECT, connected, knows, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.recorded_hooks import RecordedHooks
from tests.support.server import start, turns, until

pytestmark = pytest.mark.uvloop


async def test_a_session_that_begins_and_ends() -> None:
    cluster = FakeCluster(3)
    hooks = RecordedHooks()
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        for host in cluster.hosts:
            assert hooks.names(host) == ["added", "opened", "up"]
            [added] = hooks.all("added", host)
            assert (added.host_id, added.datacenter, added.rack) == (
                host.host_id,
                host.datacenter,
                host.rack,
            )
            [opened] = hooks.all("opened", host)
            assert opened.version == 5
            assert 0 <= opened.elapsed < 5
        [moved] = hooks.all("control")
        assert moved.endpoint == cluster.hosts[0].endpoint
        assert moved.previous is moved.error is None
        before = list(hooks.told)
    assert hooks.told == before  # connections that the session closes are not lost


async def test_a_host_that_dies_and_comes_back() -> None:
    cluster = FakeCluster(2)
    hooks = RecordedHooks()
    async with session_on(cluster, cluster.hosts[0].address, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        dying = cluster.hosts[1]
        hooks.told.clear()
        cluster.answer = lambda request: None
        async with anyio.create_task_group() as group:
            calls = [
                start(group, lambda: session.execute("INSERT", timeout=None)) for _ in range(10)
            ]
            await until(lambda: len(cluster.waiting) == 10)
            there = [each for each in cluster.waiting if each.host is dying]
            dying.kill()
            await until(lambda: hooks.all("lost"))
            for request in cluster.waiting:
                request.reply(VOID)
        assert sum(call.error is not None for call in calls) == len(there) > 0
        attempts = dying.attempts
        await until(lambda: dying.attempts > attempts + 2)
        assert hooks.names(dying) == ["lost", "down"]
        [lost] = hooks.all("lost")
        assert lost.in_flight == len(there)
        assert isinstance(lost.error, cql.ConnectionLost)
        assert 0 <= lost.elapsed < 30
        [down] = hooks.all("down")
        assert down.error is lost.error
        dying.revive()
        await connected(session, cluster.hosts)
        assert hooks.names(dying) == ["lost", "down", "opened", "up"]
        assert hooks.names(cluster.hosts[0]) == []


async def test_a_blip_is_a_down_and_an_up() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    hooks = RecordedHooks()
    async with session_on(cluster, hooks=hooks, discovery=False) as session:
        for number in range(3):
            await connected(session, cluster.hosts)
            host.cut()
            await until(partial(hooks.has, "lost", number + 1))
        await connected(session, cluster.hosts)
        assert hooks.names(host) == [
            "added", "opened", "up", *["lost", "down", "opened", "up"] * 3
        ]  # fmt: skip


async def test_one_of_several_connections_is_lost() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    hooks = RecordedHooks()
    async with session_on(cluster, hooks=hooks, discovery=False, connections_per_host=3) as session:
        await connected(session, cluster.hosts, 3)
        assert hooks.names(host) == ["added", "opened", "up", "opened", "opened"]
        hooks.told.clear()
        host.connections[1].cut()
        await until(lambda: host.opened == 4)
        await connected(session, cluster.hosts, 3)
        assert hooks.names(host) == ["lost", "opened"]


async def test_a_host_that_was_never_up() -> None:
    cluster = FakeCluster(2)
    cluster.hosts[1].kill()
    hooks = RecordedHooks()
    async with session_on(cluster, cluster.hosts[0].address, hooks=hooks):
        await until(lambda: cluster.hosts[1].attempts > 5)
        assert hooks.names(cluster.hosts[1]) == ["added", "down"]
        [down] = hooks.all("down")
        assert isinstance(down.error, cql.ConnectionFailed)


async def test_hosts_that_join_leave_and_move() -> None:
    cluster = FakeCluster(2)
    hooks = RecordedHooks()
    async with session_on(cluster, cluster.hosts[0].address, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        hooks.told.clear()
        new = cluster.add()
        for _ in range(3):
            cluster.tell_topology("NEW_NODE", new)
        await connected(session, cluster.hosts)
        assert hooks.names(new) == ["added", "opened", "up"]
        old = cql.Endpoint(new.address, new.port)
        new.change(address="10.7.7.7")
        cluster.tell_topology("MOVED_NODE", new)
        await connected(session, cluster.hosts)
        assert hooks.names(new) == ["added", "opened", "up"]
        assert [record.endpoint for record in hooks.all("removed")] == [old]
        hooks.told.clear()
        cluster.hosts.remove(new)
        cluster.moved()
        cluster.tell_topology("REMOVED_NODE", new)
        cluster.tell_topology("REMOVED_NODE", new)
        await until(lambda: not knows(session, new))
        await until(lambda: not new.connections)
        assert hooks.names(new) == ["removed"]
        [removed] = hooks.all("removed")
        assert removed.host_id == new.host_id


async def test_news_that_change_nothing() -> None:
    cluster = FakeCluster(2)
    hooks = RecordedHooks()
    async with session_on(cluster, cluster.hosts[0].address, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        hooks.told.clear()
        reads = cluster.reads["system.peers_v2"]
        for host in cluster.hosts:
            cluster.tell_up(host)
            cluster.tell_down(host)
            cluster.tell_topology("MOVED_NODE", host)
        await until(lambda: cluster.reads["system.peers_v2"] > reads)
        await turns(50)
        assert hooks.told == []


async def test_the_control_connection_moves() -> None:
    cluster = FakeCluster(2)
    hooks = RecordedHooks()
    never = ConstantReconnection(3600.0, jitter=0.0)
    async with session_on(
        cluster, cluster.hosts[0].address, hooks=hooks, reconnection=never
    ) as session:
        await connected(session, cluster.hosts)
        cluster.hosts[0].kill()
        await until(lambda: len(hooks.all("control")) == 2)
        moved = hooks.all("control")[1]
        assert moved.endpoint == cluster.hosts[1].endpoint
        assert moved.previous == cluster.hosts[0].endpoint
        assert isinstance(moved.error, cql.ConnectionLost)
        await turns(50)
        assert len(hooks.all("control")) == 2
        # the control connection is not counted as a connection for requests
        assert hooks.names(cluster.hosts[1]) == ["added", "opened", "up"]
        assert hooks.names(cluster.hosts[0])[:3] == ["added", "opened", "up"]
        assert hooks.names(cluster.hosts[0])[3:] == ["lost", "down"]


async def test_replaced_connections_are_not_lost() -> None:
    """The session itself closes a connection with too many orphans: the host stays up."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    hooks = RecordedHooks()
    async with session_on(cluster, hooks=hooks, discovery=False, max_orphans=2) as session:
        await session.execute(SELECT, (1,))
        cluster.answer = lambda request: None
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("INSERT")) for _ in range(3)]
            await until(lambda: len(cluster.waiting) == 3)
            for call in calls:
                call.scope.cancel()
        await until(lambda: host.opened == 2)
        for request in cluster.waiting:
            request.reply(VOID)
        cluster.answer = cluster.usual_answer
        await until(lambda: len(host.connections) == 1)
        await connected(session, cluster.hosts)
        assert hooks.names(host) == ["added", "opened", "up", "opened"]
