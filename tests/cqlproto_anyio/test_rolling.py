"""A cluster of mixed versions: a session that meets an older node uses its version everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import VOID
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import start, turns, until

if TYPE_CHECKING:
    from tests.support.fakecluster import FakeHost

pytestmark = pytest.mark.uvloop

V4 = (ProtocolVersion.V3, ProtocolVersion.V4)


def spoken(hosts: list[FakeHost]) -> set[int]:
    """Return the versions of the connections that requests use: those that have registered for no
    events."""
    return {
        int(each.core.version) for host in hosts for each in host.connections if not each.registered
    }


async def test_an_older_node_is_there_from_the_start() -> None:
    cluster = FakeCluster(4)
    cluster.hosts[2].versions = V4
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts)
        await until(lambda: spoken(cluster.hosts) == {4})
        await connected(session, cluster.hosts)
        for key in range(40):
            assert (await session.execute(SELECT, (key,))).one().v == key
        assert min(host.served for host in cluster.hosts) > 0


async def test_an_older_node_joins_while_requests_are_under_way() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts)
        assert spoken(cluster.hosts) == {5}
        select = await session.prepare(SELECT)
        insert = await session.prepare(INSERT)
        assert (await session.execute(select, (1,))).one().v == 1
        cluster.answer = lambda request: None
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute(insert, (1, 2))) for _ in range(20)]
            await until(lambda: len(cluster.waiting) == 20)
            new = cluster.add()
            new.versions = V4
            cluster.tell_topology("NEW_NODE", new)
            await until(lambda: spoken([new]) == {4})
            # the others are replaced; requests on the old connections finish there
            await connected(session, cluster.hosts)
            await turns(50)
            assert not any(call.done for call in calls)
            assert sum(each.retiring for each in session.statistics().hosts) == 3
            for request in cluster.waiting:
                request.reply(VOID)
            cluster.answer = cluster.usual_answer
        assert [call.error for call in calls] == [None] * 20
        await until(lambda: spoken(cluster.hosts) == {4})
        for key in range(60):
            assert (await session.execute(select, (key,))).one().v == key
            await session.execute(insert, (key, 1))
            await session.batch([(insert, (key, 1)), (insert, (key, 2))])
        assert new.served > 0
        found = [stats_of(session, host) for host in cluster.hosts]
        assert [each.connections for each in found] == [1] * 4
        assert [each.retiring for each in found] == [0] * 4


async def test_a_session_with_a_keyspace_goes_on() -> None:
    """On v5 requests carry the keyspace, on v4 it is set on connections."""
    cluster = FakeCluster(2)
    async with session_on(cluster, cluster.hosts[0].address, keyspace="ks") as session:
        await connected(session, cluster.hosts)
        query = "SELECT v FROM t WHERE k = ?"
        assert (await session.execute(query, (1,))).one().v == 1
        new = cluster.add()
        new.versions = V4
        cluster.tell_topology("NEW_NODE", new)
        await until(lambda: spoken([new]) == {4})
        await until(lambda: spoken(cluster.hosts) == {4})
        await connected(session, cluster.hosts)
        for key in range(30):
            assert (await session.execute(query, (key,))).one().v == key
            await session.execute("SELECT v FROM t")


async def test_a_version_that_was_asked_for_isn_t_lowered() -> None:
    cluster = FakeCluster(3)
    old = cluster.hosts[2]
    old.versions = V4
    async with session_on(
        cluster, cluster.hosts[0].address, protocol_version=ProtocolVersion.V5
    ) as session:
        await until(lambda: stats_of(session, old).status == "DOWN")
        assert isinstance(stats_of(session, old).error, cql.VersionRejected)
        for key in range(30):
            await session.execute(SELECT, (key,))
        assert old.served == 0
        assert spoken(cluster.hosts[:2]) == {5}


async def test_connections_begun_before_the_older_node_was_met() -> None:
    """They were opened with v5, and are ready when the session has switched to v4."""
    cluster = FakeCluster(8)
    for host in cluster.hosts[1:]:
        host.latency = 0.02
    cluster.hosts[3].versions = cluster.hosts[6].versions = V4
    async with session_on(cluster, cluster.hosts[0].address, connections_per_host=2) as session:
        await connected(session, cluster.hosts, 2)
        await until(lambda: spoken(cluster.hosts) == {4})
        await connected(session, cluster.hosts, 2)
        for key in range(40):
            await session.execute(SELECT, (key,))
