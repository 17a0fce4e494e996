"""Which hosts a session uses: its local data centre, remote ones as a fallback, a host filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from tests.support.cluster_sessions import SELECT, connected, knows, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import turns, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.fakecluster import FakeHost

pytestmark = pytest.mark.uvloop


def of(cluster: FakeCluster, datacenter: str) -> list[FakeHost]:
    return [host for host in cluster.hosts if host.datacenter == datacenter]


def addresses(hosts: Sequence[FakeHost]) -> list[str]:
    return [host.address for host in hosts]


# -- which one is local


@pytest.mark.parametrize("count", [1, 2])
async def test_local_is_where_all_contact_points_are(count: int) -> None:
    cluster = FakeCluster({"eu": 3, "us": 3})
    us = of(cluster, "us")
    async with session_on(cluster, *addresses(us)[:count]) as session:
        await connected(session, us)
        for key in range(30):
            await session.execute(SELECT, (key,))
        assert all(host.served >= 5 for host in us)
    assert all(host.attempts == 0 for host in of(cluster, "eu"))


async def test_contact_points_in_two_datacenters_need_a_name() -> None:
    cluster = FakeCluster({"eu": 2, "us": 2})
    with pytest.raises(cql.ConfigError) as caught:
        async with session_on(cluster):
            pass
    text = str(caught.value)
    assert "local_dc" in text
    assert "eu" in text
    assert "us" in text
    assert not cluster.connections
    async with session_on(cluster, local_dc="eu") as session:
        await connected(session, of(cluster, "eu"))


async def test_an_unknown_datacenter_is_refused() -> None:
    cluster = FakeCluster({"eu": 2, "us": 2})
    with pytest.raises(cql.ConfigError) as caught:
        async with session_on(cluster, local_dc="EU"):
            pass
    text = str(caught.value)
    assert "'EU'" in text
    assert "eu" in text
    assert "us" in text
    assert not cluster.connections


# -- remote ones


async def test_remote_hosts_are_left_alone() -> None:
    cluster = FakeCluster({"eu": 2, "us": 2})
    eu, us = of(cluster, "eu"), of(cluster, "us")
    async with session_on(cluster, local_dc="eu") as session:
        await connected(session, eu)
        assert {each.datacenter for each in session.statistics().hosts} == {"eu"}
        for host in eu:
            host.kill()
        await until(lambda: not session.statistics().connections)
        with pytest.raises(cql.NoHostAvailable):
            await session.execute(SELECT, (1,))
        assert sum(host.served for host in us) == 0


@pytest.mark.parametrize("eager", [True, False])
async def test_remote_hosts_are_not_connected_to_before_they_are_needed(eager: bool) -> None:
    cluster = FakeCluster({"eu": 2, "us": 2})
    eu, us = of(cluster, "eu"), of(cluster, "us")
    routing = cql.Routing(remote_datacenters=("us",))
    async with session_on(
        cluster, *addresses(eu), local_dc="eu", routing=routing, eager=eager
    ) as session:
        for key in range(50):
            await session.execute(SELECT, (key,))
        await connected(session, eu)
        assert [host.attempts for host in us] == [0, 0]


async def test_remote_hosts_serve_while_no_local_one_does() -> None:
    cluster = FakeCluster({"eu": 2, "us": 3})
    eu, us = of(cluster, "eu"), of(cluster, "us")
    routing = cql.Routing(remote_datacenters=("us",), remote_hosts=2)
    async with session_on(cluster, *addresses(eu), local_dc="eu", routing=routing) as session:
        await connected(session, eu)
        eu[0].kill()
        for key in range(20):
            await session.execute(SELECT, (key,), idempotent=True)
        assert sum(host.served for host in us) == 0
        eu[1].kill()
        await until(lambda: not session.statistics().connections)
        for key in range(20):
            await session.execute(SELECT, (key,))
        assert sum(host.served for host in us) == 20
        assert sum(host.served > 0 for host in us) <= 2
        eu[0].revive()
        await until(lambda: stats_of(session, eu[0]).connections)
        before = sum(host.served for host in us)
        for key in range(20):
            await session.execute(SELECT, (key,))
        assert sum(host.served for host in us) == before


async def test_remote_datacenters_in_their_order() -> None:
    cluster = FakeCluster({"a": 1, "b": 1, "c": 1})
    a, b, c = cluster.hosts
    routing = cql.Routing(remote_datacenters=("c", "b"))
    async with session_on(cluster, a.address, local_dc="a", routing=routing) as session:
        await connected(session, [a])
        a.kill()
        await until(lambda: not session.statistics().connections)
        for key in range(10):
            await session.execute(SELECT, (key,))
        assert (c.served, b.attempts) == (10, 0)
        c.kill()
        await until(lambda: not session.statistics().connections)
        for key in range(10):
            await session.execute(SELECT, (key,))
        assert b.served == 10


async def test_a_silent_local_datacenter_is_waited_for_once() -> None:
    """Attempts at hosts that drop all packets go on, and no request waits for them."""
    cluster = FakeCluster({"eu": 6, "us": 1})
    [*eu, us] = cluster.hosts
    async with session_on(
        cluster,
        eu[0].address,
        routing=cql.Routing(remote_datacenters=("us",)),
        connect_timeout=1.0,
    ) as session:
        await connected(session, eu)
        for host in eu:
            host.vanish()
            host.cut()
        await until(lambda: not session.statistics().connections)
        assert us.attempts == 0
        await session.execute(SELECT, (1,))
        us.cut()
        await until(lambda: us.opened == 2)
        assert all(host.attempts >= 2 for host in eu)


# -- filters and racks


async def test_a_host_filter_keeps_hosts_out() -> None:
    cluster = FakeCluster(3)
    shunned = cluster.hosts[1]
    seen = []

    def wanted(host: cql.Host) -> bool:
        seen.append(host.host_id)
        return host.endpoint != shunned.endpoint

    routing = cql.Routing(host_filter=wanted)
    async with session_on(cluster, cluster.hosts[0].address, routing=routing) as session:
        kept = [cluster.hosts[0], cluster.hosts[2]]
        await connected(session, kept)
        for key in range(40):
            await session.execute(SELECT, (key,))
        assert not knows(session, shunned)
        for host in kept:
            host.kill()
        await until(lambda: not session.statistics().connections)
        with pytest.raises(cql.NoHostAvailable):
            await session.execute(SELECT, (1,))
    assert shunned.served == 0
    assert seen


async def test_a_filter_that_leaves_nothing() -> None:
    cluster = FakeCluster(2)
    routing = cql.Routing(host_filter=lambda host: False)
    with anyio.fail_after(5):
        with pytest.raises(cql.ConfigError, match="routing leaves none of 2 hosts"):
            async with session_on(cluster, routing=routing):
                pass
    assert not cluster.connections


async def test_the_preferred_rack_serves_as_long_as_it_can() -> None:
    cluster = FakeCluster(6, racks=("a", "b", "c"))
    near = [host for host in cluster.hosts if host.rack == "b"]
    routing = cql.Routing(rack="b")
    async with session_on(cluster, routing=routing) as session:
        await connected(session, cluster.hosts)
        for key in range(60):
            await session.execute(SELECT, (key,))
            await session.execute("SELECT v FROM ks.t")
        assert sum(host.served for host in near) == 120
        assert min(host.served for host in near) >= 20
        for host in near:
            host.kill()
        await until(lambda: session.statistics().connections == 4)
        for key in range(60):
            await session.execute(SELECT, (key,))
        others = [host for host in cluster.hosts if host not in near]
        assert sum(host.served for host in others) == 60
        near[0].revive()
        await until(lambda: session.statistics().connections == 5)
        await turns()
        for key in range(20):
            await session.execute(SELECT, (key,))
        assert sum(host.served for host in others) < 80
