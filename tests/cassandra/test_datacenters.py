"""Two data centres of real nodes: which nodes serve a request, according to the nodes' traces."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import ProxiedCluster
from tests.cassandra.concurrently import all_of
from tests.cassandra.soak.faults import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tests.cassandra.conftest import Cluster

# The first of them waits for three nodes to start.
pytestmark = [pytest.mark.cassandra, pytest.mark.timeout(300)]

KEYS = range(40)
SELECT = "SELECT v FROM {}.t WHERE k = ?"
LWT = "INSERT INTO {}.t (k, v) VALUES (?, ?) IF NOT EXISTS"


@pytest.fixture(scope="module")
def cluster(two_datacenters: Cluster) -> Cluster:
    return settled(two_datacenters)


@pytest.fixture(scope="module")
def eu(cluster: Cluster) -> list[str]:
    return [node.address for node in cluster.nodes[:2]]


@pytest.fixture(scope="module")
def us(cluster: Cluster) -> str:
    return cluster.nodes[2].address


@asynccontextmanager
async def connected(
    hosts: Sequence[str], *, count: int = 2, **options: Any
) -> AsyncIterator[cql.Session]:
    """A session with connections to so many hosts."""
    async with cql.connect(hosts, **options) as session:
        await until(
            lambda: sum(bool(host.connections) for host in session.statistics().hosts) >= count
        )
        yield session


async def until(condition: Callable[[], bool]) -> None:
    deadline = anyio.current_time() + 60
    while not condition():
        assert anyio.current_time() < deadline
        await anyio.sleep(0.01)


@pytest.fixture
async def tables(cluster: Cluster, eu: list[str]) -> None:
    """``one.t`` has a replica in each data centre, ``two.t`` is on all three nodes."""
    async with connected(eu) as session:
        for keyspace, count in (("one", 1), ("two", 2)):
            replication = f"{{'class': 'NetworkTopologyStrategy', 'eu': {count}, 'us': 1}}"
            for statement in (
                f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}",
                f"CREATE TABLE IF NOT EXISTS {keyspace}.t (k int PRIMARY KEY, v int)",
            ):
                result = await session.execute(statement, timeout=60)
                assert result.schema_agreed is not False
            insert = partial(session.execute, f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
            insert = partial(insert, consistency=cql.Consistency.ALL, timeout=60)
            await all_of([partial(insert, (key, key)) for key in KEYS])


async def read(
    session: cql.Session, keyspace: str = "one", **options: Any
) -> list[cql.Result[Any]]:
    """Read all rows, one by one, and return the results."""
    results = []
    for key in KEYS:
        result = await session.execute(SELECT.format(keyspace), (key,), timeout=30, **options)
        assert result.one().v == key
        results.append(result)
    return results


def hosts_of(results: list[cql.Result[Any]]) -> set[str | None]:
    return {result.host for result in results}


@pytest.mark.usefixtures("tables")
async def test_the_data_centre_of_the_contact_points_is_the_local_one(
    eu: list[str], us: str
) -> None:
    for contact_points in (eu, eu[:1], eu[1:]):
        async with connected(contact_points) as session:
            assert hosts_of(await read(session)) == set(eu)
            hosts = session.statistics().hosts
            assert {host.address for host in hosts} == set(eu)
            assert {host.datacenter for host in hosts} == {"eu"}
    async with connected([us], count=1) as session:
        assert hosts_of(await read(session)) == {us}


async def test_contact_points_in_both_have_to_be_told_apart(eu: list[str], us: str) -> None:
    with pytest.raises(cql.ConfigError, match="local_dc") as caught:
        async with connected([*eu, us]):
            pass
    assert "eu" in str(caught.value)
    assert "us" in str(caught.value)
    async with connected([*eu, us], local_dc="us", count=1) as session:
        [host] = session.statistics().hosts
        assert (host.address, host.datacenter) == (us, "us")


@pytest.mark.usefixtures("tables")
async def test_the_other_data_centre_never_sees_a_client(eu: list[str], us: str) -> None:
    name = "does-not-go-there"
    clients = "SELECT client_options FROM system_views.clients"
    async with (
        connected(eu, config=cql.Config(application_name=name)) as session,
        cql.connect(us, config=cql.Config(discovery=False)) as there,
        cql.connect(eu[0], config=cql.Config(discovery=False)) as here,
    ):
        await read(session)
        options = [row.client_options or {} for row in await here.execute(clients)]
        assert name in [each.get("APPLICATION_NAME") for each in options]
        options = [row.client_options or {} for row in await there.execute(clients)]
        assert name not in [each.get("APPLICATION_NAME") for each in options]


@pytest.mark.usefixtures("tables")
async def test_the_replica_itself_is_asked(eu: list[str]) -> None:
    """With one replica, the traces show that no node but the coordinator takes part in a read."""
    level = cql.Profile(consistency=cql.Consistency.LOCAL_ONE)
    blind = cql.Config(routing=cql.Routing(token_aware=False))
    for config, is_replica in ((cql.Config(), True), (blind, False)):
        async with connected(eu, profile=level, config=config) as session:
            results = await read(session, trace=True)
            assert hosts_of(results) == set(eu)
            traces = [await session.trace(result) for result in results]
        parts = [({event.source for event in trace.events}, trace.coordinator) for trace in traces]
        alone = [nodes == {coordinator} for nodes, coordinator in parts]
        # without tokens it is a matter of chance: half of them
        assert all(alone) == is_replica


@pytest.mark.usefixtures("tables")
async def test_conditional_statements_of_a_partition_go_to_one_node(eu: list[str]) -> None:
    async with connected(eu) as session:
        asked: set[str | None] = set()
        for key in KEYS[:16]:
            results = [
                await session.execute(LWT.format("two"), (key, 0), timeout=60) for _ in range(4)
            ]
            assert not any(result.applied for result in results)
            assert len(hosts_of(results)) == 1
            asked |= hosts_of(results)
        assert asked == set(eu)
        # reads may go to either
        results = [await session.execute(SELECT.format("two"), (1,)) for _ in range(20)]
        assert hosts_of(results) == set(eu)


@pytest.mark.usefixtures("tables")
async def test_a_rack_comes_first(eu: list[str]) -> None:
    async with connected(eu, config=cql.Config(routing=cql.Routing(rack="r2"))) as session:
        assert hosts_of(await read(session, "two")) == {eu[1]}
        # one that isn't a replica would have to ask one, so it isn't worth it
        assert hosts_of(await read(session, "one")) == set(eu)


@pytest.mark.usefixtures("tables")
async def test_the_other_data_centre_serves_by_choice_when_none_is_left(
    cluster: Cluster, eu: list[str], us: str
) -> None:
    async with ProxiedCluster([node.address for node in cluster.nodes]) as proxies:
        near = proxies.contact_points[:2]
        reconnection = cql.ConstantReconnection(0.1)

        def config(*remote: str) -> cql.Config:
            return cql.Config(
                translate=proxies.translate,
                reconnection=reconnection,
                routing=cql.Routing(remote_datacenters=remote),
            )

        def near_hosts(session: cql.Session) -> int:
            hosts = session.statistics().hosts
            return sum(bool(host.connections) for host in hosts if host.datacenter == "eu")

        level = cql.Profile(consistency=cql.Consistency.LOCAL_QUORUM)
        async with (
            connected(near, profile=level, config=config()) as stays,
            connected(near, profile=level, config=config("us")) as roams,
        ):
            assert hosts_of(await read(roams)) == set(near)
            for proxy in proxies.proxies[:2]:
                proxy.refuse = True
                proxy.cut_all()
            await until(lambda: near_hosts(stays) == near_hosts(roams) == 0)
            with pytest.raises(cql.NoHostAvailable):
                await stays.execute(SELECT.format("one"), (1,), timeout=2)
            # LOCAL_QUORUM is that of the data centre that coordinates
            assert hosts_of(await read(roams)) == {proxies.contact_points[2]}
            for proxy in proxies.proxies[:2]:
                proxy.refuse = False
            await until(lambda: near_hosts(stays) == near_hosts(roams) == 2)
            for session in (stays, roams):
                assert hosts_of(await read(session)) == set(near)
