"""Losing one of many hosts costs only its own connections and attempts, counted at the hosts."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from cqlproto_anyio.policies import ExponentialReconnection
from tests.support.cluster_sessions import SELECT, connected, session_on, stats_of
from tests.support.fakecluster import FakeCluster
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import cqlproto_anyio as cql
    from tests.support.fakecluster import FakeHost

LIMIT = 16
RECONNECTION = ExponentialReconnection(base=0.02, maximum=0.2)


class Doors:
    """Counts connections, attempts and reads at the hosts, from its creation on."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._opened = {host.host_id: host.opened for host in cluster.hosts}
        self._attempts = {host.host_id: host.attempts for host in cluster.hosts}
        self._reads = Counter(cluster.reads)
        cluster.most_connecting = 0

    def opened(self) -> dict[FakeHost, int]:
        """Return how many connections were opened at each host, without hosts that have none."""
        return self._since("opened", self._opened)

    def attempts(self) -> dict[FakeHost, int]:
        """Return how many attempts were made at each host, without hosts that have none."""
        return self._since("attempts", self._attempts)

    def reads(self, table: str) -> int:
        """Return how many times a system table was read."""
        return self._cluster.reads[table] - self._reads[table]

    def _since(self, name: str, before: Mapping[Any, int]) -> dict[FakeHost, int]:
        counts = {host: getattr(host, name) - before[host.host_id] for host in self._cluster.hosts}
        return {host: count for host, count in counts.items() if count}


def control_host(session: cql.Session, cluster: FakeCluster) -> FakeHost:
    """Return the host of the control connection."""
    where = session.statistics().control
    (found,) = [host for host in cluster.hosts if str(host.endpoint) == where]
    return found


async def connected_again(host: FakeHost, before: int) -> None:
    """Wait until a host has had more connections than before."""
    await until(lambda: host.opened > before)


async def asking(session: cql.Session, keys: random.Random) -> None:
    """Execute statements one after another until cancelled; none may fail."""
    while True:
        key = keys.getrandbits(31)
        assert (await session.execute(SELECT, (key,), idempotent=True)).one().v == key
        await anyio.sleep(0.001)


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_node_lost_and_back_costs_its_own_connections(connections: int) -> None:
    cluster = FakeCluster(200, racks=("a", "b", "c"), tokens=16)
    async with session_on(
        cluster,
        cluster.hosts[0].address,
        connections_per_host=connections,
        max_connecting=LIMIT,
        reconnection=RECONNECTION,
    ) as session:
        await connected(session, cluster.hosts, connections)
        assert sum(host.opened for host in cluster.hosts) == 200 * connections + 1
        control = control_host(session, cluster)
        lost = next(host for host in cluster.hosts[100:] if host is not control)
        others = [host for host in cluster.hosts if host is not lost]
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(asking, session, random.Random(number))
            doors = Doors(cluster)
            lost.kill()
            cluster.tell_down(lost)
            await connected(session, others, connections)
            await until(lambda: doors.attempts().get(lost, 0) >= 3)
            assert not doors.opened()
            lost.revive()
            cluster.tell_up(lost)
            await connected(session, cluster.hosts, connections)
            served = lost.served
            await until(lambda: lost.served > served)
            group.cancel_scope.cancel()
        assert doors.opened() == {lost: connections}
        assert set(doors.attempts()) == {lost}
        found = stats_of(session, lost)
        assert found is not None
        assert found.lost == connections
        # the event that it is up may cause one more read of the system tables
        assert doors.reads("system.peers_v2") <= 3


async def test_down_and_up_again_and_again_is_paced() -> None:
    """A host accepts connections, breaks them, and is reported up each time."""
    cluster = FakeCluster(200, tokens=4)
    async with session_on(
        cluster, cluster.hosts[0].address, max_connecting=LIMIT, reconnection=RECONNECTION
    ) as session:
        await connected(session, cluster.hosts)
        control = control_host(session, cluster)
        flapping = next(host for host in cluster.hosts[50:] if host is not control)
        doors = Doors(cluster)
        for _ in range(30):
            opened = flapping.opened
            flapping.kill()
            cluster.tell_down(flapping)
            flapping.revive()
            cluster.tell_up(flapping)
            await connected_again(flapping, opened)
            await connected(session, cluster.hosts)
        assert doors.opened() == {flapping: 30}
        # some attempts may have reached the dead host
        assert set(doors.attempts()) == {flapping}
        assert doors.attempts()[flapping] <= 60


async def test_the_control_connections_node_is_lost_and_back() -> None:
    cluster = FakeCluster(200, tokens=16)
    async with session_on(
        cluster, cluster.hosts[0].address, max_connecting=LIMIT, reconnection=RECONNECTION
    ) as session:
        await connected(session, cluster.hosts)
        lost = control_host(session, cluster)
        others = [host for host in cluster.hosts if host is not lost]
        doors = Doors(cluster)
        lost.kill()
        await connected(session, others)
        await until(lambda: session.statistics().control not in (None, str(lost.endpoint)))
        lost.revive()
        cluster.tell_up(lost)
        await connected(session, cluster.hosts)
        assert doors.opened() == {lost: 1, control_host(session, cluster): 1}


async def test_a_cluster_that_restarts_is_not_stormed() -> None:
    cluster = FakeCluster(200, tokens=4)
    async with session_on(
        cluster, cluster.hosts[0].address, max_connecting=LIMIT, reconnection=RECONNECTION
    ) as session:
        await connected(session, cluster.hosts)
        cluster.connect_delay = 0.001
        doors = Doors(cluster)
        for host in cluster.hosts:
            host.kill()
        await until(lambda: len(doors.attempts()) > 10)
        for host in cluster.hosts:
            host.revive()
        await connected(session, cluster.hosts)
        await until(lambda: session.statistics().control is not None)
        # the limit doesn't count the control connection
        assert cluster.most_connecting <= LIMIT + 1
        opened = doors.opened()
        assert opened.keys() == set(cluster.hosts)
        # one host more if the control connection's first candidate took half a second
        assert 1 <= sum(opened.values()) - len(opened) <= 2
        assert opened[control_host(session, cluster)] == 2


async def test_a_thousand_nodes_one_of_which_is_lost_and_back() -> None:
    cluster = FakeCluster({"eu": 600, "us": 400}, racks=("a", "b", "c"), tokens=256)
    near = [host for host in cluster.hosts if host.datacenter == "eu"]
    async with session_on(
        cluster, near[0].address, near[1].address, reconnection=RECONNECTION
    ) as session:
        assert len(session.statistics().hosts) == 600
        await connected(session, near)
        assert sum(host.opened for host in cluster.hosts) == 601
        doors = Doors(cluster)
        lost = near[300]
        lost.kill()
        await connected(session, [host for host in near if host is not lost])
        lost.revive()
        cluster.tell_up(lost)
        await connected(session, near)
        assert doors.opened() == {lost: 1}
        keys = random.Random(1)
        for _ in range(300):
            key = keys.getrandbits(31)
            assert (await session.execute(SELECT, (key,))).one().v == key
        assert doors.opened() == {lost: 1}
