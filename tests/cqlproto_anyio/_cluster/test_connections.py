"""The connections of a session: when they are opened, what is told, and how they end."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import Consistency
from cqlproto.messages import Query, QueryParameters
from cqlproto_anyio._cluster.connections import SWEEP_INTERVAL, Connections
from cqlproto_anyio._cluster.host_pools import HostPools
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._metadata.topology import Topology
from cqlproto_anyio._network import host_state
from cqlproto_anyio._network.pool import Pool
from cqlproto_anyio.hooks import active
from tests.support.cluster_sessions import topology_of
from tests.support.fakecluster import FakeCluster
from tests.support.recorded_hooks import RecordedHooks
from tests.support.server import turns, until
from tests.support.task_groups import cancelled_at_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._network.connection import Connection

CLOSED = cql.SessionClosed("closed")
MINUTE = cql.ConstantReconnection(60.0, jitter=0.0)


class Owner:
    """Records the calls.

    Attributes:
        changes: how many changes there were.
        gained: how many connections there were.
        failures: the errors of attempts.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.gained = 0
        self.failures: list[Exception | None] = []

    def connections_changed(self) -> None:
        self.changes += 1

    def connected(self) -> None:
        self.gained += 1

    def connect_failed(self, error: Exception | None) -> None:
        self.failures.append(error)


class Fixture:
    """The connections to a cluster, and their owner.

    Attributes:
        pools: one for each host of the cluster, in the same order.
        errors: what tasks have raised.
    """

    def __init__(
        self, cluster: FakeCluster, group: anyio.abc.TaskGroup, fields: dict[str, Any]
    ) -> None:
        self.owner = Owner()
        self.told = RecordedHooks()
        self.errors: list[Exception] = []
        self._group = group
        self.config = cluster.config(**fields)
        tell = active(self.told)
        self.timer = Timer(current_backend().clock)
        group.start_soon(self.timer.run)
        self.hosts = HostPools(self.config.routing, None, tell)
        self.connections = Connections(
            backend=current_backend(),
            timer=self.timer,
            config=self.config,
            auth=None,
            tls=None,
            keyspace="ks",
            hosts=self.hosts,
            tell=tell,
            owner=self.owner,
        )
        self.hosts.update(topology_of(cluster), self.connections.new_pool)
        self.told.told.clear()  # all were added
        self.pools = [self.hosts.by_id[host.host_id] for host in cluster.hosts]

    def start(self) -> None:
        self.connections.start(self._spawn)

    def _spawn(self, function: Callable[..., Any], *arguments: Any) -> None:
        async def run() -> None:
            try:
                await function(*arguments)
            except Exception as exc:
                self.errors.append(exc)

        self._group.start_soon(run)

    async def connect(self) -> None:
        """Connect to all hosts."""
        self.start()
        for pool in self.pools:
            self.connections.need(pool)
        self.connections.open_due()
        await until(lambda: all(len(p.connections) >= p.state.wanted for p in self.pools))

    async def begin_to_connect(self) -> None:
        """Begin to connect to the first host, which must take longer than this to answer."""
        self.start()
        self.connections.need(self.pools[0])
        self.connections.open_due()
        await anyio.sleep(0.01)

    def ask(self, connection: Connection) -> Request:
        """Submit a request."""
        request = current_backend().request_class("SELECT v", None)
        request.carry(Query("SELECT v", QueryParameters(Consistency.ONE)))
        connection.submit(request)
        return request


@asynccontextmanager
async def connections_to(cluster: FakeCluster, **fields: Any) -> AsyncIterator[Fixture]:
    fields.setdefault("reconnection", MINUTE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_state, "STEADY", 0.0)  # no connection is lost too soon
        async with cancelled_at_end() as group:
            fixture = Fixture(cluster, group, fields)
            yield fixture
    assert not cluster.connections
    assert not cluster.errors
    assert not fixture.errors


# -- opening


async def test_nothing_is_opened_before_the_start() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with connections_to(cluster, protocol_version=ProtocolVersion.V4) as fixture:
        [pool] = fixture.pools
        assert fixture.connections.need(pool)
        fixture.connections.open_due()
        await turns()
        assert host.attempts == 0
        fixture.start()
        fixture.connections.open_due()
        await until(lambda: pool.connections)
        assert host.connections[0].keyspace == "ks"
        assert (fixture.owner.gained, fixture.owner.failures) == (1, [])
        assert fixture.owner.changes == 1


async def test_a_host_is_needed_now_or_later() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    host.kill()
    async with connections_to(cluster) as fixture:
        fixture.start()
        [pool] = fixture.pools
        assert fixture.connections.need(pool)
        fixture.connections.open_due()
        await until(lambda: fixture.owner.failures)
        assert not fixture.connections.need(pool)  # it has just failed
        fixture.connections.open_due()
        await turns()
        assert host.attempts == 1
        await anyio.sleep(0.25)
        assert host.attempts == 2


async def test_attempts_wait_until_others_have_ended() -> None:
    cluster = FakeCluster(6)
    cluster.connect_delay = 0.02
    async with connections_to(cluster, max_connecting=2) as fixture:
        began = anyio.current_time()
        await fixture.connect()
        assert cluster.most_connecting == 2
        assert 0.06 <= anyio.current_time() - began < 0.07
        records = [record for name, record in fixture.told.told if name == "opened"]
        assert [record.elapsed for record in records] == [pytest.approx(0.02)] * 6


@pytest.mark.parametrize("most", [2, 3])
async def test_pools_have_the_sizes_of_the_config(most: int) -> None:
    cluster = FakeCluster(1)
    async with connections_to(
        cluster, connections_per_host=2, max_connections_per_host=most, grow_at=4
    ) as fixture:
        await fixture.connect()
        [pool] = fixture.pools
        assert len(pool.connections) == 2
        cluster.answer = lambda request: None
        for _ in range(5):
            for connection in tuple(pool.connections):
                fixture.ask(connection)
        await until(lambda: pool.state.open == most)
        await turns()
        assert len(pool.connections) == most


@pytest.mark.parametrize(("most", "shards"), [(None, 5), (3, 3)])
async def test_a_host_with_shards_gets_a_connection_to_each(most: int | None, shards: int) -> None:
    cluster = FakeCluster(1)
    cluster.hosts[0].shards = 5
    async with connections_to(cluster, max_connections_per_host=most) as fixture:
        await fixture.connect()
        await turns()
        assert len(fixture.pools[0].connections) == shards


async def test_failures_are_told_and_tried_again_in_time() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    host.kill()
    async with connections_to(cluster) as fixture:
        fixture.start()
        fixture.connections.need(fixture.pools[0])
        fixture.connections.open_due()
        await until(lambda: fixture.owner.failures)
        [error] = fixture.owner.failures
        assert isinstance(error, cql.ConnectionFailed)
        assert fixture.pools[0].state.error is error
        assert fixture.told.kinds == ["down"]
        assert fixture.told.told[0][1].error is error
        await anyio.sleep(59.0)
        assert host.attempts == 1
        await anyio.sleep(2.0)
        assert host.attempts == len(fixture.owner.failures) == 2
        assert fixture.told.kinds == ["down"]  # once
        host.revive()
        await anyio.sleep(60.0)
        assert fixture.told.kinds == ["down", "opened", "up"]
        assert fixture.owner.gained == 1


async def test_a_host_that_is_reported_up_is_tried_at_once() -> None:
    cluster = FakeCluster(2)
    for host in cluster.hosts:
        host.kill()
    known, new = cluster.hosts
    async with connections_to(cluster) as fixture:
        fixture.start()
        fixture.connections.need(fixture.pools[0])
        fixture.connections.open_due()
        await until(lambda: fixture.owner.failures)
        for host in cluster.hosts:
            host.revive()
        changes = fixture.owner.changes
        fixture.connections.reported_up(fixture.pools[0])
        assert fixture.owner.changes == changes  # it was wanted before
        fixture.connections.reported_up(fixture.pools[1])
        assert fixture.owner.changes == changes + 1
        fixture.connections.open_due()
        await anyio.sleep(0.5)
        assert (known.opened, new.opened) == (1, 1)


# -- losses


async def test_a_loss_is_told_and_repaired() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    cluster.answer = lambda request: None
    async with connections_to(cluster) as fixture:
        await fixture.connect()
        [pool] = fixture.pools
        await anyio.sleep(7.0)
        request = fixture.ask(pool.connections[0])
        await until(lambda: cluster.waiting)
        fixture.told.told.clear()
        host.cut()
        with pytest.raises(cql.ConnectionLost):
            await request
        await until(lambda: pool.connections)
        (_, lost), (_, down), *_ = fixture.told.told
        assert fixture.told.kinds == ["lost", "down", "opened", "up"]
        assert (lost.endpoint, lost.version) == (host.endpoint, ProtocolVersion.V5)
        assert (lost.in_flight, 7.0 <= lost.elapsed < 7.1) == (1, True)
        assert down.error is lost.error
        assert isinstance(lost.error, cql.ConnectionLost)
        assert fixture.owner.gained == 2
        assert fixture.owner.changes == 3


async def test_a_host_with_another_connection_is_not_down() -> None:
    cluster = FakeCluster(1)
    async with connections_to(cluster, connections_per_host=2) as fixture:
        await fixture.connect()
        fixture.told.told.clear()
        cluster.connections[0].cut()
        await until(lambda: fixture.owner.gained == 3)
        assert fixture.told.kinds == ["lost", "opened"]


async def test_a_removed_host_is_not_down() -> None:
    cluster = FakeCluster(1)
    async with connections_to(cluster) as fixture:
        await fixture.connect()
        fixture.told.told.clear()
        fixture.hosts.update(Topology([], {}), fixture.connections.new_pool)
        cluster.hosts[0].cut()
        await until(lambda: "lost" in fixture.told.kinds)
        await turns()
        assert fixture.told.kinds == ["removed", "lost"]


async def test_a_host_that_leaves_while_it_is_connected_to() -> None:
    cluster = FakeCluster(1)
    cluster.connect_delay = 0.02
    async with connections_to(cluster) as fixture:
        await fixture.begin_to_connect()
        fixture.hosts.update(Topology([], {}), fixture.connections.new_pool)
        await until(lambda: fixture.owner.failures)
        assert fixture.owner.failures == [None]
        assert fixture.told.kinds == ["removed"]
        await until(lambda: not cluster.connections)
        assert cluster.hosts[0].opened == 1


async def test_a_bug_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pool: Pool, connection: Connection) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Pool, "add", fails)
    cluster = FakeCluster(1)
    async with connections_to(cluster) as fixture:
        fixture.start()
        fixture.connections.need(fixture.pools[0])
        fixture.connections.open_due()
        await until(lambda: fixture.errors)
        assert isinstance(fixture.errors.pop(), ZeroDivisionError)
        assert not cluster.connections


# -- versions


async def test_an_older_node_lowers_the_version_of_all() -> None:
    cluster = FakeCluster(2)
    new, old = cluster.hosts
    old.versions = [ProtocolVersion.V4]
    cluster.answer = lambda request: None
    async with connections_to(cluster) as fixture:
        fixture.start()
        newer, older = fixture.pools
        fixture.connections.need(newer)
        fixture.connections.open_due()
        await until(lambda: newer.connections)
        assert fixture.connections.version is ProtocolVersion.V5
        request = fixture.ask(newer.connections[0])
        await until(lambda: cluster.waiting)
        fixture.connections.need(older)
        fixture.connections.open_due()
        await until(lambda: older.connections and newer.connections)
        assert int(fixture.connections.version) == 4
        assert {each.version for pool in fixture.pools for each in pool.connections} == {4}
        assert len(new.connections) == 2  # the one of before finishes its requests
        cluster.waiting[0].reply(cluster.usual_answer(cluster.waiting[0]))
        await request
        assert "lost" not in fixture.told.kinds


async def test_a_version_that_is_lowered_while_others_connect() -> None:
    cluster = FakeCluster(2)
    new, old = cluster.hosts
    old.versions = [ProtocolVersion.V4]
    new.latency = 0.01  # its handshake ends after the other host's
    async with connections_to(cluster) as fixture:
        await fixture.connect()
        assert {each.version for pool in fixture.pools for each in pool.connections} == {4}
        assert new.opened == 2
        assert len(new.connections) == 1
        assert fixture.told.kinds.count("opened") == 2
        assert fixture.owner.gained == 2


async def test_a_connection_without_a_pool() -> None:
    """As for the control connection, which has no keyspace."""
    cluster = FakeCluster(1)
    async with connections_to(cluster, protocol_version=ProtocolVersion.V4) as fixture:
        connection = await fixture.connections.open(cluster.hosts[0].endpoint)
        assert connection.version is ProtocolVersion.V4
        assert cluster.connections[0].keyspace == ""
        connection.close(CLOSED)
        await connection.run()


# -- regular tasks


async def test_a_retired_connection_is_closed_when_its_requests_have_ended() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    cluster.answer = lambda request: None
    async with connections_to(cluster) as fixture:
        await fixture.connect()
        [pool] = fixture.pools
        [connection] = pool.connections
        request = fixture.ask(connection)
        await anyio.sleep(10 * SWEEP_INTERVAL)
        pool.retire(connection)
        await anyio.sleep(10 * SWEEP_INTERVAL)
        assert len(host.connections) == 2  # it has been replaced
        assert connection.lost is None
        cluster.waiting[0].reply(cluster.usual_answer(cluster.waiting[0]))
        await request
        await anyio.sleep(2 * SWEEP_INTERVAL)
        assert isinstance(connection.lost, cql.SessionClosed)
        await until(lambda: len(host.connections) == 1)
        assert "lost" not in fixture.told.kinds


async def test_connections_that_are_silent_get_heartbeats() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with connections_to(cluster, heartbeat_interval=5.0) as fixture:
        await fixture.connect()
        await anyio.sleep(60.0)
        assert host.beats == 0
        fixture.connections.start_heartbeats()
        await anyio.sleep(5.5)  # it was heard in the interval before
        assert host.beats == 0
        await anyio.sleep(15.0)
        assert host.beats >= 1
        host.pause()
        await anyio.sleep(5.0 + fixture.config.heartbeat_timeout + 5.0)
        assert fixture.told.kinds.count("lost") == 1


# -- the end


async def test_closing_ends_everything() -> None:
    cluster = FakeCluster(2)
    gone = cluster.hosts[1]
    gone.kill()
    cluster.answer = lambda request: None
    async with connections_to(cluster, heartbeat_interval=5.0) as fixture:
        fixture.start()
        for pool in fixture.pools:
            fixture.connections.need(pool)
        fixture.connections.open_due()
        await until(lambda: fixture.owner.gained and fixture.owner.failures)
        fixture.connections.start_heartbeats()
        pool = fixture.pools[0]
        request = fixture.ask(pool.connections[0])
        fixture.told.told.clear()
        fixture.connections.close(CLOSED)
        with pytest.raises(cql.SessionClosed, match="closed"):
            await request
        gone.revive()
        for each in fixture.pools:
            fixture.connections.need(each)
        fixture.connections.open_due()
        await anyio.sleep(120.0)
        assert fixture.timer.deadlines.next == math.inf  # no alarm is left
        assert not cluster.connections
        assert gone.opened == 0
        assert fixture.told.told == []


async def test_closing_while_a_connection_is_in_the_making() -> None:
    cluster = FakeCluster(1)
    cluster.connect_delay = 0.02
    async with connections_to(cluster) as fixture:
        await fixture.begin_to_connect()
        fixture.connections.close(CLOSED)
        await until(lambda: fixture.owner.failures)
        assert fixture.owner.failures == [None]
        assert fixture.told.told == []
        await until(lambda: not cluster.connections)
        assert cluster.hosts[0].opened == 1


async def test_a_process_that_was_forked_leaves_the_sockets_alone() -> None:
    cluster = FakeCluster(2)
    async with connections_to(cluster) as fixture:
        fixture.start()
        first, second = fixture.pools
        fixture.connections.need(first)
        fixture.connections.open_due()
        await until(lambda: first.connections)
        fixture.connections.forget(CLOSED)
        fixture.connections.need(second)
        fixture.connections.open_due()
        await turns()
        assert len(cluster.connections) == 1
        assert cluster.hosts[1].attempts == 0
        with suppress(cql.SessionClosed):
            first.close(CLOSED)
