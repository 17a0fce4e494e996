"""The connections to a host: how many there are, and when one is opened or replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import VOID
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import (
    SELECT,
    connected,
    replicas,
    session_on,
    stats_of,
    topology_of,
)
from tests.support.fakecluster import FakeCluster, FakeRequest, row_v
from tests.support.server import Outcome, start, turns, until

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeHost

pytestmark = [pytest.mark.uvloop, pytest.mark.futures]


ONE = {"ks": {"class": "SimpleStrategy", "replication_factor": "1"}}


def hold(request: FakeRequest) -> Response | None:
    return None


def reply_all(cluster: FakeCluster) -> None:
    waiting, cluster.waiting = cluster.waiting, []
    for request in waiting:
        request.reply(VOID)


# -- how many


async def test_as_many_as_are_wanted() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster, connections_per_host=3) as session:
        await connected(session, cluster.hosts, 3)
        await turns(50)
        assert sum(host.opened for host in cluster.hosts) == 7  # and the control connection
        for _ in range(60):
            await session.execute("SELECT v FROM ks.t")


async def test_crowded_connections_get_more_up_to_the_most() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(
        cluster, discovery=False, grow_at=10, max_connections_per_host=3
    ) as session:
        await connected(session, cluster.hosts)
        cluster.answer = hold
        async with anyio.create_task_group() as group:

            def ask(count: int) -> list[Outcome]:
                return [start(group, lambda: session.execute("INSERT")) for _ in range(count)]

            calls = ask(10)
            await until(lambda: len(cluster.waiting) == 10)
            await turns(50)
            assert host.opened == 1
            calls += ask(1)
            await until(lambda: host.opened == 2)
            await connected(session, cluster.hosts, 2)
            # the new connection takes all requests until both are at the watermark
            calls += ask(9)
            await until(lambda: len(cluster.waiting) == 20)
            await turns(50)
            assert host.opened == 2
            calls += ask(200)
            await until(lambda: len(cluster.waiting) == 220)
            await connected(session, cluster.hosts, 3)
            calls += ask(300)
            await until(lambda: len(cluster.waiting) == 520)
            await turns(100)
            assert host.opened == host.attempts == 3
            # the first connections get fewer requests, until all have about as many
            loads = [
                sum(r.connection is each for r in cluster.waiting) for each in host.connections
            ]
            assert sum(loads) == 520
            assert max(loads) - min(loads) <= 2
            reply_all(cluster)
        assert not [call.error for call in calls if call.error is not None]
        await connected(session, cluster.hosts, 3)


async def test_growth_ends_when_attempts_fail() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    never = ConstantReconnection(3600.0, jitter=0.0)
    async with session_on(
        cluster, discovery=False, grow_at=2, max_connections_per_host=8, reconnection=never
    ) as session:
        await connected(session, cluster.hosts)
        host.alive = False  # the host accepts no new connections, but serves the open ones
        cluster.answer = hold
        async with anyio.create_task_group() as group:
            for _ in range(100):
                start(group, lambda: session.execute("INSERT"))
            await until(lambda: len(cluster.waiting) == 100)
            await until(lambda: host.attempts == 2)
            await turns(50)
            assert host.attempts == 2
            assert stats_of(session, host).status == "UP"
            assert stats_of(session, host).failures == 1
            reply_all(cluster)


@pytest.mark.parametrize("bound", [1, 3])
async def test_so_many_are_in_the_making_at_a_time(bound: int) -> None:
    cluster = FakeCluster(12)
    cluster.connect_delay = 0.005
    async with session_on(
        cluster, max_connecting=bound, connections_per_host=2, discovery=False
    ) as session:
        await connected(session, cluster.hosts, 2)
        assert cluster.most_connecting == bound
        cluster.most_connecting = 0
        for host in cluster.hosts:
            host.cut()
        await until(lambda: not session.statistics().connections)
        await connected(session, cluster.hosts, 2)
        assert cluster.most_connecting == bound


async def test_hosts_that_hang_leave_room_for_those_that_work() -> None:
    cluster = FakeCluster(10)
    for host in cluster.hosts[:7]:
        host.vanish()
    async with session_on(
        cluster, max_connecting=4, discovery=False, connect_timeout=0.4
    ) as session:
        await connected(session, cluster.hosts[7:])
        hanging = sum(host.attempts for host in cluster.hosts[:7])
        cluster.hosts[9].cut()
        await until(lambda: cluster.hosts[9].opened == 2)
        await connected(session, cluster.hosts[7:])
        await until(lambda: sum(host.attempts for host in cluster.hosts[:7]) > hanging + 7)
        assert cluster.most_connecting <= 4


# -- opened when needed


async def test_a_session_that_is_not_eager_opens_what_it_needs() -> None:
    cluster = FakeCluster(6, keyspaces=ONE)
    async with session_on(cluster, eager=False) as session:
        await session.prepare(SELECT)
        await until(lambda: not any(each.connecting for each in session.statistics().hosts))
        opened = [host for host in cluster.hosts if stats_of(session, host).connections]
        left = [host for host in cluster.hosts if host not in opened]
        assert 1 <= len(opened) < 6
        for host in left:
            assert stats_of(session, host).status == "UNKNOWN"
        key = first_key(cluster, left[0])
        assert (await session.execute(SELECT, (key,))).one().v == key
        await until(lambda: stats_of(session, left[0]).connections)
        await connected(session, [*opened, left[0]])
        before = left[0].served
        await session.execute(SELECT, (key,))
        assert left[0].served == before + 1
        # hosts that no request needs are still not connected to
        for host in left[1:]:
            assert host.attempts == 0
        for _ in range(300):
            await session.execute("SELECT v FROM ks.t")
        await connected(session, cluster.hosts)


def first_key(cluster: FakeCluster, host: FakeHost) -> int:
    """Return a key of a partition that the host holds."""
    topology = topology_of(cluster)
    return next(key for key in range(10_000) if replicas(cluster, key, topology)[0] is host)


# -- orphans


async def test_too_many_orphans_replace_the_connection() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(cluster, discovery=False, max_orphans=5) as session:
        await connected(session, cluster.hosts)
        [first] = host.connections
        cluster.answer = hold
        async with anyio.create_task_group() as group:
            staying = [start(group, lambda: session.execute("INSERT")) for _ in range(3)]
            leaving = [start(group, lambda: session.execute("UPDATE")) for _ in range(6)]
            await until(lambda: len(cluster.waiting) == 9)
            for call in leaving[:5]:
                call.scope.cancel()
            await until(lambda: stats_of(session, host).orphans == 5)
            await turns(50)
            assert host.opened == 1
            leaving[5].scope.cancel()
            await until(lambda: host.opened == 2)
            await connected(session, cluster.hosts)
            # the old connection finishes its requests, the new one takes new requests
            found = stats_of(session, host)
            assert (found.connections, found.retiring) == (1, 1)
            assert (found.in_flight, found.orphans) == (3, 6)
            cluster.answer = lambda request: row_v(1)
            for _ in range(10):
                await session.execute("SELECT v FROM ks.t")
            assert not any(call.done for call in staying)
            for request in cluster.waiting:
                if request.text == "INSERT":
                    request.reply(VOID)
        assert [call.error for call in staying] == [None] * 3
        # it is closed without waiting for the replies to abandoned requests
        await until(lambda: not first.is_open)
        await until(lambda: not stats_of(session, host).retiring)
        found = stats_of(session, host)
        assert (found.connections, found.orphans, found.opened, found.lost) == (1, 0, 2, 1)


async def test_orphans_do_not_take_the_last_connection_of_a_dead_host() -> None:
    """A connection that can't be replaced is closed too, and its requests fail."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(cluster, discovery=False, max_orphans=2) as session:
        await connected(session, cluster.hosts)
        host.alive = False
        cluster.answer = hold
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("INSERT")) for _ in range(3)]
            await until(lambda: len(cluster.waiting) == 3)
            for call in calls:
                call.scope.cancel()
        await until(lambda: host.attempts >= 2)
        with anyio.fail_after(5), pytest.raises(cql.ConnectionFailed):
            await session.execute("SELECT v FROM ks.t")
        host.revive()
        cluster.answer = cluster.usual_answer
        await connected(session, cluster.hosts)
        assert (await session.execute("SELECT v FROM ks.t")).one().v == 0


# -- losses


async def test_sessions_have_connections_of_their_own() -> None:
    cluster = FakeCluster(2)
    async with cql.connect(cluster.addresses, config=cluster.config()) as one:
        await connected(one, cluster.hosts)
        async with cql.connect(cluster.addresses, config=cluster.config()) as other:
            await connected(other, cluster.hosts)
            assert len(cluster.connections) == 6
        await until(lambda: len(cluster.connections) == 3)
        await one.execute(SELECT, (1,))


async def test_a_connection_that_breaks_is_made_anew_at_once() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    never = ConstantReconnection(3600.0, jitter=0.0)
    async with session_on(cluster, discovery=False, reconnection=never) as session:
        for count in range(1, 6):
            await until(lambda: stats_of(session, host).lost == count - 1)  # noqa: B023
            await connected(session, cluster.hosts)
            host.cut()
        await until(lambda: stats_of(session, host).lost == 5)
        await connected(session, cluster.hosts)
        assert host.attempts == 6


async def test_a_host_that_drops_connections_is_not_stormed() -> None:
    """The node accepts each connection and drops it after the handshake."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(
        cluster,
        discovery=False,
        reconnection=ConstantReconnection(0.1, jitter=0.0),
        steady=5.0,
    ) as session:
        await connected(session, cluster.hosts)
        began = anyio.current_time()
        while anyio.current_time() < began + 0.6:
            host.cut()
            await anyio.sleep(0.001)
        assert 3 <= host.opened <= 8
        await connected(session, cluster.hosts)
        await session.execute("SELECT v FROM ks.t")
