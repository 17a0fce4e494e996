"""Heartbeats find connections that died silently, and keep the others open."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto import Limits, ProtocolVersion, write_segment
from cqlproto.frames import write_frame
from cqlproto.messages import SchemaChange
from cqlproto_anyio._network import heartbeats
from cqlproto_anyio.policies import ConstantReconnection
from tests.support.cluster_sessions import SELECT, connected, session_on, stats_of
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.server import start, state, turns, until

if TYPE_CHECKING:
    from tests.support.fakehosts import FakeConnection, FakeRequest

pytestmark = pytest.mark.uvloop
V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5

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
        for _ in range(10):
            await session.execute("SELECT v FROM ks.t")
            await anyio.sleep(0.1)
        assert host.beats == 0
        await until(lambda: host.beats >= 2)


async def test_a_node_that_is_slow_is_not_dead() -> None:
    """The node answers heartbeats, but not a request for many intervals."""
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
    """A heartbeat waits behind other requests, and connections without an answer are closed."""
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
    assert anyio.current_time() - began < 0.1


# -- replies show that a connection is alive, other bytes don't


def reply_header(stream_id: int, length: int, version: ProtocolVersion = V4) -> bytes:
    """Return the header of a reply with a body of so many bytes."""
    return write_frame(version | 0x80, 0, stream_id, 8, b"")[:5] + length.to_bytes(4, "big")


@pytest.mark.parametrize("length", [10_000_000, 0x7FFFFFFF], ids=["accepted", "too long"])
async def test_a_corrupted_length_is_noticed_though_bytes_come_on(length: int) -> None:
    """Every later reply is read as part of the announced frame."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    spoiled: list[FakeConnection] = []

    def answer(request: FakeRequest) -> object:
        if not spoiled:
            spoiled.append(request.connection)
            request.connection.core.reply(request.stream_id, row_v(1))
            request.connection.core.data_to_send()
            request.connection.send_raw(reply_header(request.stream_id, length))
            return None
        return cluster.usual_answer(request)

    cluster.answer = answer  # type: ignore[assignment]  # typed as object
    async with session_on(
        cluster,
        discovery=False,
        protocol_version=V4,
        heartbeat_interval=60.0,  # no heartbeat is sent in this test
        heartbeat_timeout=0.1,
    ) as session:
        await connected(session, cluster.hosts)
        failed = 0
        with anyio.fail_after(5):
            while not stats_of(session, host).lost:
                try:
                    await session.execute("SELECT v FROM ks.t", timeout=0.02)
                except cql.CQLError:
                    failed += 1
                await anyio.sleep(0.005)
        assert failed >= 2
        await connected(session, cluster.hosts)
        assert (await session.execute("SELECT v FROM ks.t")).one().v == 0
        assert host.opened == 2


@pytest.mark.parametrize("what", ["empty segments", "events", "part of a frame"])
async def test_what_answers_nothing_is_no_sign_of_life(what: str) -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    version = V4 if what == "part of a frame" else V5
    async with session_on(
        cluster,
        discovery=False,
        protocol_version=version,
        heartbeat_interval=0.03,
        heartbeat_timeout=0.1,
        reconnection=NEVER,
    ) as session:
        await connected(session, cluster.hosts)
        [connection] = host.connections
        host.pause()
        connection.core.push(cql_event())
        event = connection.core.data_to_send()
        data = {
            "empty segments": write_segment(b"", self_contained=True),
            "events": event,
            "part of a frame": b"x",
        }[what]
        if what == "part of a frame":
            connection.send_raw(reply_header(1, 1_000_000))
        with anyio.fail_after(5):
            while not stats_of(session, host).lost:
                connection.send_raw(data)
                await anyio.sleep(0.005)


def cql_event() -> SchemaChange:
    return SchemaChange("UPDATED", "TABLE", "ks", "t")


async def test_an_answered_heartbeat_is_not_kept() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with session_on(cluster, discovery=False, heartbeat_interval=0.01) as session:
        await connected(session, cluster.hosts)
        await until(lambda: host.beats >= 3)
        await until(lambda: not heartbeats_alive())


def heartbeats_alive() -> int:
    gc.collect()
    return sum(type(each) is heartbeats._Heartbeat for each in gc.get_objects())


@pytest.mark.parametrize("size", [300_000, 20_000], ids=["skipped", "accepted"])
async def test_a_long_reply_may_take_long_as_long_as_it_comes(size: int) -> None:
    """Heartbeats wait behind the reply for longer than their timeout."""
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    cluster.answer = lambda request: None
    with pytest.MonkeyPatch.context() as patch:
        # far less than what arrives
        patch.setattr(heartbeats, "LEAST_RATE", 100)
        patch.setattr("cqlproto_anyio._network.pool.LEAST_RATE", 100)
        patch.setattr("cqlproto_anyio._network.pool.LEAST_SKIPPED_RATE", 1000)
        async with session_on(
            cluster,
            discovery=False,
            protocol_version=V4,
            heartbeat_interval=0.02,
            heartbeat_timeout=0.2,
            limits=Limits(max_response=100_000),
        ) as session:
            await connected(session, cluster.hosts)
            async with anyio.create_task_group() as group:
                call = start(group, lambda: session.execute("SELECT v FROM ks.t", timeout=None))
                await until(lambda: len(cluster.waiting) == 1)
                request = cluster.waiting.pop()
                connection = request.connection
                host.pause()
                connection.core.reply(request.stream_id, row_v(1))
                connection.core.data_to_send()
                body = b"\0\0\0\x02" + bytes(size - 4)
                frame = reply_header(request.stream_id, size) + body
                step = len(frame) // 40
                for begin in range(0, len(frame), step):
                    connection.send_raw(frame[begin : begin + step])
                    await anyio.sleep(0.02)
                host.resume()
            if size > 100_000:
                assert type(call.error) is cql.ResponseTooLarge
            else:
                assert call.error is None
            await until(lambda: state(session).in_flight == 0)
            assert stats_of(session, host).lost == 0
            assert host.beats >= 1


async def test_the_control_connection_is_no_more_fooled_than_others() -> None:
    cluster = FakeCluster(2)
    async with session_on(
        cluster,
        protocol_version=V4,
        heartbeat_interval=0.05,
        heartbeat_timeout=0.1,
        control_timeout=0.2,
    ) as session:
        await connected(session, cluster.hosts)
        [connection] = [
            each for host in cluster.hosts for each in host.connections if each.registered
        ]
        connection.send_raw(reply_header(1, 10_000_000))
        with anyio.fail_after(5):
            while connection.is_open:
                connection.core.push(cql_event())
                connection.flush()
                await anyio.sleep(0.01)
        await until(lambda: session.statistics().control is not None)
