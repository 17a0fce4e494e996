"""The snapshot of a session shows the work under way, and none when it is over."""

from __future__ import annotations

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.server import start, turns, until


async def test_requests_are_counted_until_their_replies_come() -> None:
    cluster = FakeCluster(2)
    cluster.answer = lambda request: None
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("SELECT v FROM ks.t")) for _ in range(4)]
            await until(lambda: len(cluster.waiting) == 4)
            now = snapshot(session)
            assert (now.in_flight, now.orphans, now.deadlines) == (4, 0, 4)
            assert sum(each.requests for each in now.connections) == 4
            assert [each.control for each in now.connections] == [False, False, True]
            assert {each.host for each in now.connections} == {str(h) for h in cluster.hosts}
            assert {each.version for each in now.connections} == {session.protocol_version}
            calls[0].scope.cancel()
            await turns()
            now = snapshot(session)
            assert (now.in_flight, now.orphans, now.deadlines) == (4, 1, 3)
            for request in cluster.waiting:
                request.reply(cluster.usual_answer(request))
        await until(lambda: not snapshot(session).in_flight)
        now = snapshot(session)
        assert (now.orphans, now.deadlines, now.alarms, now.pausing, now.waiting_calls) == (0,) * 5


async def test_statements_are_counted_while_they_are_prepared_and_after() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        cluster.hosts[0].latency = 1.0
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(session.prepare, SELECT)
            await turns()
            assert (snapshot(session).preparing, snapshot(session).prepared) == ((3,), 0)
        assert (snapshot(session).preparing, snapshot(session).prepared) == ((), 1)


async def test_calls_that_wait_are_counted() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(cluster, reconnection=cql.ConstantReconnection(1.0)) as session:
        await connected(session, cluster.hosts)
        host.vanish()
        host.cut()
        await until(lambda: not session.statistics().connections)
        async with anyio.create_task_group() as group:
            call = start(group, lambda: session.execute("SELECT v FROM ks.t"))
            await until(lambda: snapshot(session).waiting_calls == 1)
            call.scope.cancel()
        assert snapshot(session).waiting_calls == 0
        host.revive()


async def test_the_cluster_is_described() -> None:
    cluster = FakeCluster({"eu": 2})
    async with session_on(cluster, local_dc="eu") as session:
        await connected(session, cluster.hosts)
        now = snapshot(session)
        assert (now.local_dc, now.pools, now.draining) == ("eu", 2, 0)
        assert {host.host_id for host in now.hosts} == {host.host_id for host in cluster.hosts}
        before = now.schema_changes
        cluster.tell_schema("UPDATED", "ks", "t")
        await until(lambda: snapshot(session).schema_changes == before + 1)
        with pytest.raises(AttributeError):
            now.pools = 3  # type: ignore[misc]  # it is frozen
