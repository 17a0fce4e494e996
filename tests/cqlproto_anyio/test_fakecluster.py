"""The cluster in memory behaves as documented: other tests rely on this."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import Consistency
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Error, Query, QueryParameters, Register, StatusChange
from cqlproto.rows import decode_rows
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._network.connector import open_connection
from tests.support.fakecluster import FakeCluster, FakeHost, FakeRequest, row_v
from tests.support.server import turns, until

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from cqlproto_anyio._network.connection import Connection

pytestmark = pytest.mark.uvloop


async def open_to(cluster: FakeCluster, host: FakeHost, **fields: Any) -> Connection:
    config = cluster.config(**fields)
    return await open_connection(
        host.endpoint,
        backend=current_backend(),
        config=config,
        version=config.highest_version,
        auth=None,
        tls=None,
        keyspace=None,
    )


async def ask(connection: Connection, query: str, **parameters: Any) -> Any:
    request = current_backend().request_class(query, None)
    request.carry(Query(query, QueryParameters(Consistency.ONE, **parameters)))
    connection.submit(request)
    with anyio.fail_after(10):
        return (await request).message


async def test_each_host_sees_itself_and_its_peers() -> None:
    cluster = FakeCluster({"eu": 2, "us": 2}, racks=("a", "b"), tokens=4)
    assert [(host.datacenter, host.rack) for host in cluster.hosts] == [
        ("eu", "a"),
        ("eu", "b"),
        ("us", "a"),
        ("us", "b"),
    ]
    async with anyio.create_task_group() as group:
        for host in cluster.hosts:
            connection = await open_to(cluster, host)
            group.start_soon(connection.run)
            [local] = decode_rows(await ask(connection, "SELECT * FROM system.local"), dict)
            assert local["host_id"] == host.host_id
            assert {int(token) for token in local["tokens"]} == set(host.tokens)
            for table in ("system.peers", "system.peers_v2"):
                peers = decode_rows(await ask(connection, f"SELECT * FROM {table}"), dict)
                others = [each for each in cluster.hosts if each is not host]
                assert [peer["host_id"] for peer in peers] == [each.host_id for each in others]
                assert [peer["data_center"] for peer in peers] == [
                    each.datacenter for each in others
                ]
        query = "SELECT keyspace_name, replication FROM system_schema.keyspaces"
        keyspaces = decode_rows(await ask(connection, query), tuple)
        assert keyspaces == [("ks", cluster.keyspaces["ks"])]
        assert cluster.reads["system.peers_v2"] == 4
        group.cancel_scope.cancel()
    assert not cluster.connections
    assert not cluster.errors


async def test_pages() -> None:
    cluster = FakeCluster(8)
    async with anyio.create_task_group() as group:
        connection = await open_to(cluster, cluster.hosts[0])
        group.start_soon(connection.run)
        found, state = [], None
        for size in (3, 3, 1):
            page = await ask(
                connection, "SELECT host_id FROM system.peers", page_size=3, paging_state=state
            )
            rows = decode_rows(page, tuple)
            assert len(rows) == size
            found += rows
            state = page.paging_state
        assert state is None
        assert found == [(host.host_id,) for host in cluster.hosts[1:]]
        group.cancel_scope.cancel()


async def test_what_is_not_there_is_refused_as_a_server_does() -> None:
    cluster = FakeCluster(1)
    del cluster.tables["system.peers_v2"], cluster.tables["system.local"]["rack"]
    async with anyio.create_task_group() as group:
        connection = await open_to(cluster, cluster.hosts[0])
        group.start_soon(connection.run)
        for query in ("SELECT * FROM system.peers_v2", "SELECT rack FROM system.local"):
            message = await ask(connection, query)
            assert isinstance(message, Error)
            assert message.code == ErrorCode.INVALID
        group.cancel_scope.cancel()


@pytest.mark.parametrize("pushes", [False, True])
async def test_a_session_on_it(pushes: bool) -> None:
    cluster = FakeCluster(1)
    cluster.pushes = pushes
    cluster.seen = []
    [host] = cluster.hosts
    select = "SELECT v FROM t WHERE k = ?"
    async with cql.connect(host.address, config=cluster.config()) as session:
        assert (await session.execute(select, (7,))).one().v == 7
        assert (await session.execute("SELECT v FROM t")).one().v == 0
        assert (await session.execute("INSERT INTO t (k) VALUES (1)")).rows == []
        host.prepared.clear()
        assert (await session.execute(select, (8,))).one().v == 8
        await session.batch([("INSERT INTO t (k, v) VALUES (?, ?)", (1, 2))])

        def answer(request: FakeRequest) -> Response | None:
            return None if request.number == 1 else row_v(*range(request.number))

        cluster.answer = answer
        assert [row.v for row in await session.execute(select, (3,))] == [0, 1, 2]
        async with anyio.create_task_group() as group:
            group.start_soon(session.execute, select, (1,))
            await until(lambda: cluster.waiting)
            cluster.waiting.pop().reply(row_v(1))
        texts = [request.text for request in cluster.seen]
        assert texts.count(select) >= 5
    assert host.opened >= 1
    await until(lambda: not cluster.connections)
    assert not cluster.errors


async def test_events_reach_who_has_registered() -> None:
    cluster = FakeCluster(2)
    one, other = cluster.hosts
    events: list[Any] = []
    async with anyio.create_task_group() as group:
        connection = await open_to(cluster, one)
        connection.listener = events.append
        group.start_soon(connection.run)
        assert cluster.tell_up(other) == 0
        request = current_backend().request_class("", None)
        request.carry(Register(["STATUS_CHANGE"]))
        connection.submit(request)
        await request
        assert cluster.tell_up(other) == 1
        assert cluster.tell_topology("NEW_NODE", other) == 0
        await until(lambda: events)
        [event] = events
        assert isinstance(event, StatusChange)
        assert (event.change, str(event.address[0])) == ("UP", other.address)
        group.cancel_scope.cancel()


async def test_hosts_die_stop_and_come_back() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    async with anyio.create_task_group() as group:
        connection = await open_to(cluster, host)
        group.start_soon(connection.run)
        host.pause()
        results: list[Any] = []

        async def run() -> None:
            results.append(await ask(connection, "INSERT"))

        group.start_soon(run)
        await turns()
        assert not results
        host.resume()
        await until(lambda: results)
        assert results == [VOID]
        host.latency = 0.05
        started = anyio.current_time()
        await ask(connection, "INSERT")
        assert anyio.current_time() - started == pytest.approx(0.05)
        host.kill()
        await until(lambda: connection.lost is not None)
        assert not host.connections
        with pytest.raises(cql.ConnectionFailed, match="refused"):
            await open_to(cluster, host)
        host.revive()
        host.latency = 0
        group.start_soon((await open_to(cluster, host)).run)
        assert (host.opened, host.attempts) == (2, 3)
        host.vanish()
        with pytest.raises(cql.ConnectionFailed, match="nothing happened"):
            await open_to(cluster, host, connect_timeout=0.05)
        assert cluster.connecting == 0
        group.cancel_scope.cancel()


def test_a_thousand_hosts_are_cheap_to_make() -> None:
    started = time.process_time()
    cluster = FakeCluster({"a": 500, "b": 500}, tokens=256)
    rows = [host.cells("system.peers_v2") for host in cluster.hosts]
    assert time.process_time() - started < 5
    assert len({row["host_id"] for row in rows}) == 1000
    assert cluster.at("10.0.3.232", 9042) is cluster.hosts[-1]
