"""``session.statistics()``: a snapshot of the session's state."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Error
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on, stats_of
from tests.support.fakecluster import FakeCluster, FakeRequest, row_v
from tests.support.server import start, until

if TYPE_CHECKING:
    from cqlproto.messages import Response

pytestmark = pytest.mark.uvloop

NEVER = ConstantReconnection(3600.0, jitter=0.0)


async def test_an_idle_session() -> None:
    cluster = FakeCluster({"eu": 2, "us": 1}, racks=("a", "b"))
    async with session_on(cluster, local_dc="eu") as session:
        await connected(session, cluster.hosts[:2])
        found = session.statistics()
        assert {
            (each.host_id, each.address, each.datacenter, each.rack) for each in found.hosts
        } == {
            (host.host_id, str(host.endpoint), host.datacenter, host.rack)
            for host in cluster.hosts[:2]
        }
        for each in found.hosts:
            numbers = dataclasses.replace(each, address="", datacenter="", rack="")
            assert numbers == type(each)(
                each.host_id, "", "", "", "UP", 1, 0, 0, 0, 0, 0, 1, 0, 0, None
            )
        assert found.control == str(cluster.hosts[0].endpoint)
        assert (found.connections, found.in_flight, found.orphans, found.waiting) == (2, 0, 0, 0)
        assert (found.prepared, found.retries, found.speculative) == (0, 0, 0)
        await session.execute(SELECT, (1,))
        await session.execute(SELECT, (2,))
        await session.execute(INSERT, (1, 2))
        assert session.statistics().prepared == 2
        assert found.prepared == 0  # a snapshot


async def test_requests_under_way_given_up_and_waiting() -> None:
    cluster = FakeCluster(2)
    cluster.answer = lambda request: None
    async with session_on(cluster, max_in_flight=5, max_connections_per_host=1) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            calls = [start(group, lambda: session.execute("INSERT")) for _ in range(10)]
            await until(lambda: len(cluster.waiting) == 10)
            calls += [start(group, lambda: session.execute("INSERT")) for _ in range(4)]
            await until(lambda: session.statistics().waiting == 4)
            found = session.statistics()
            assert (found.in_flight, found.orphans) == (10, 0)
            assert [each.in_flight for each in found.hosts] == [5, 5]
            assert sum(each.waiting for each in found.hosts) == 4
            for call in calls[:3]:
                call.scope.cancel()
            await until(lambda: session.statistics().orphans == 3)
            found = session.statistics()
            assert (found.in_flight, found.waiting) == (7, 4)
            cluster.answer = lambda request: VOID
            for request in cluster.waiting:
                request.reply(VOID)
        await until(lambda: session.statistics().orphans == 0)
        found = session.statistics()
        assert (found.in_flight, found.waiting, found.connections) == (0, 0, 2)


async def test_a_host_that_is_down() -> None:
    cluster = FakeCluster(2)
    dying = cluster.hosts[1]
    async with session_on(cluster, cluster.hosts[0].address, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        dying.kill()
        await until(lambda: stats_of(session, dying).status == "DOWN")
        found = stats_of(session, dying)
        assert (found.connections, found.connecting, found.opened, found.lost) == (0, 0, 1, 1)
        assert found.failures == 1
        assert isinstance(found.error, cql.ConnectionFailed)
        assert found.error.stage == "connect"
        for count in (2, 3):
            cluster.connect_delay = 0.05
            cluster.tell_up(dying)
            await until(lambda: stats_of(session, dying).connecting == 1)
            await until(lambda: stats_of(session, dying).connecting == 0)
            # the UP event has reset the failures
            assert stats_of(session, dying).failures >= 1, count
            await anyio.sleep(0.01)
        cluster.connect_delay = 0.0
        dying.revive()
        cluster.tell_up(dying)
        await connected(session, cluster.hosts)
        found = stats_of(session, dying)
        assert (found.status, found.opened, found.lost, found.failures) == ("UP", 2, 1, 0)
        assert found.error is None


async def test_hosts_that_were_not_tried() -> None:
    cluster = FakeCluster({"eu": 1, "us": 2})
    async with session_on(
        cluster,
        cluster.hosts[0].address,
        routing=cql.Routing(remote_datacenters=("us",)),
    ) as session:
        await connected(session, cluster.hosts[:1])
        for host in cluster.hosts[1:]:
            found = stats_of(session, host)
            assert (found.status, found.opened, found.connecting) == ("UNKNOWN", 0, 0)


async def test_retries_and_requests_to_a_second_host_are_counted() -> None:
    cluster = FakeCluster(3)
    async with session_on(cluster, reconnection=NEVER) as session:
        await connected(session, cluster.hosts)
        await session.prepare(SELECT)
        slow = cluster.hosts[0]
        cluster.answer = lambda request: (
            None if request.host is slow else cluster.usual_answer(request)
        )
        speculation = cql.ConstantSpeculation(0.005, attempts=1)
        for key in range(12):
            await session.execute(SELECT, (key,), speculation=speculation)
        raced = session.statistics().speculative
        assert 1 <= raced <= 12
        assert session.statistics().retries == 0
        refused = 0

        def refuse(request: FakeRequest) -> Response:
            nonlocal refused
            if request.host is not slow:
                return cluster.usual_answer(request)
            refused += 1
            return Error(ErrorCode.IS_BOOTSTRAPPING, "not yet")

        cluster.answer = refuse
        for request in cluster.waiting:
            request.reply(row_v(0))
        await until(lambda: not session.statistics().orphans)
        for key in range(12):
            await session.execute(SELECT, (key,))
        assert session.statistics().retries == refused > 0
        assert session.statistics().speculative == raced


async def test_what_is_left_of_a_host_that_has_gone() -> None:
    """Its requests count as under way until they end."""
    cluster = FakeCluster(2)
    cluster.answer = lambda request: None
    async with session_on(cluster, cluster.hosts[0].address) as session:
        await connected(session, cluster.hosts)
        leaving = cluster.hosts[1]
        async with anyio.create_task_group() as group:
            for _ in range(8):
                start(group, lambda: session.execute("INSERT"))
            await until(lambda: len(cluster.waiting) == 8)
            cluster.hosts.remove(leaving)
            cluster.moved()
            cluster.tell_topology("REMOVED_NODE", leaving)
            await until(lambda: session.statistics().connections == 1)
            found = session.statistics()
            assert found.in_flight == 8
            [gone] = [each for each in found.hosts if each.address == str(leaving)]
            assert (gone.status, gone.connections, gone.retiring) == ("REMOVED", 0, 1)
            for request in cluster.waiting:
                request.reply(VOID)
        await until(lambda: len(session.statistics().hosts) == 1)
        assert session.statistics().in_flight == 0


async def test_a_closed_session() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
    found = session.statistics()
    assert (found.connections, found.in_flight, found.waiting) == (0, 0, 0)
    assert found.control is None
