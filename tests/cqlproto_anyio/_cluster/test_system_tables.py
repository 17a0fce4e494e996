"""Reading the system tables of one node: first pages concurrently; every request is cleaned up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.messages import Query
from cqlproto_anyio._cluster.system_tables import SystemTables
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._metadata.discovery import HostReader
from cqlproto_anyio._network.connector import open_connection
from tests.support.control_connection import refused
from tests.support.fakecluster import FakeCluster, FakeRequest
from tests.support.faketables import KEYSPACES, LOCAL, PEERS, PEERS_V2
from tests.support.server import start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from cqlproto.messages import Response

pytestmark = pytest.mark.uvloop


@asynccontextmanager
async def reading(cluster: FakeCluster, timeout: float = 5.0) -> AsyncIterator[SystemTables]:
    """The tables of the cluster's first host."""
    config = cluster.config()
    backend = current_backend()
    connection = await open_connection(
        cluster.hosts[0].endpoint,
        backend=backend,
        config=config,
        version=config.highest_version,
        auth=None,
        tls=None,
        keyspace=None,
    )
    async with anyio.create_task_group() as group:
        group.start_soon(connection.run)
        timer = Timer(backend.clock)
        group.start_soon(timer.run)
        yield SystemTables(connection, backend.request_class, timer, timeout)
        group.cancel_scope.cancel()
    assert not cluster.connections


def reader(local: dict[str, Any]) -> HostReader:
    return HostReader(local, contact=cql.Endpoint("10.0.0.1"))


def later(cluster: FakeCluster) -> None:
    """Hold each query until the test answers it."""
    for table in (LOCAL, PEERS_V2, PEERS, KEYSPACES):
        cluster.answers[table] = lambda request: None


async def test_the_first_pages_are_asked_for_together() -> None:
    cluster = FakeCluster(3)
    later(cluster)
    async with reading(cluster) as tables, anyio.create_task_group() as group:
        outcome = start(group, lambda: tables.cluster(reader))
        await until(lambda: len(cluster.waiting) == 3)
        for request in reversed(cluster.waiting):
            request.reply(cluster.system_answer(request))
        await until(lambda: outcome.done)
        found, keyspaces, notes = outcome.result
        assert [host.host_id for host in found.hosts] == [host.host_id for host in cluster.hosts]
        assert keyspaces == cluster.keyspaces
        assert notes == []


async def test_a_page_follows_the_one_before() -> None:
    cluster = FakeCluster(120, tokens=1)
    states: list[bytes | None] = []

    def answer(request: FakeRequest) -> Response:
        assert isinstance(request.message, Query)
        states.append(request.message.parameters.paging_state)
        return cluster.system_answer(request)

    cluster.answers[PEERS_V2] = answer
    async with reading(cluster) as tables:
        found, _, _ = await tables.cluster(reader)
        assert len(found.hosts) == 120
        assert states == [None, b"50", b"100"]


async def test_the_older_table_is_remembered() -> None:
    cluster = FakeCluster(3)
    del cluster.tables[PEERS_V2]
    refusals: list[str] = []

    def answer(request: FakeRequest) -> Response:
        refusals.append(request.text)
        return cluster.system_answer(request)

    cluster.answers[PEERS_V2] = answer
    async with reading(cluster) as tables:
        for _ in range(2):
            found, _, _ = await tables.cluster(reader)
            assert len(found.hosts) == 3
            mine, versions = await tables.schema_versions()
            assert mine == cluster.schema_version
            assert versions == {host.host_id: mine for host in cluster.hosts}
        assert len(refusals) == 1


async def test_cancelled_it_waits_for_nothing() -> None:
    cluster = FakeCluster(2)
    later(cluster)
    async with reading(cluster) as tables:
        async with anyio.create_task_group() as group:
            group.start_soon(tables.cluster, reader)
            await until(lambda: len(cluster.waiting) == 3)
            group.cancel_scope.cancel()
        connection = tables.connection
        assert connection.orphans == connection.in_flight == 3
        for request in cluster.waiting:
            request.reply(cluster.system_answer(request))
        await until(lambda: connection.in_flight == 0)
        cluster.answers.clear()
        assert len((await tables.cluster(reader))[0].hosts) == 2


@pytest.mark.parametrize("table", [LOCAL, PEERS_V2, KEYSPACES])
async def test_a_refusal_ends_it_all(table: str) -> None:
    cluster = FakeCluster(2)
    later(cluster)
    async with reading(cluster) as tables, anyio.create_task_group() as group:
        outcome = start(group, lambda: tables.cluster(reader))
        await until(lambda: len(cluster.waiting) == 3)
        for request in list(cluster.waiting):
            if f"FROM {table}" in request.text:
                request.reply(refused(request))
            elif table == KEYSPACES:
                request.reply(cluster.system_answer(request))
        if table == PEERS_V2:
            await turns()
            assert not outcome.done  # its first query is not answered yet
            cluster.waiting[0].reply(cluster.system_answer(cluster.waiting[0]))
        await until(lambda: outcome.done)
        assert type(outcome.error) is cql.Unauthorized
        assert outcome.error.query is not None
        assert table in outcome.error.query
        connection = tables.connection
        assert connection.orphans == connection.in_flight


async def test_no_answer_in_time() -> None:
    cluster = FakeCluster(1)
    async with reading(cluster, timeout=0.05) as tables:
        cluster.hosts[0].pause()
        for call in (tables.register, tables.schema_versions, tables.keyspaces):
            with pytest.raises(cql.RequestTimeout, match="within 0.05 s") as info:
                await call()
            assert info.value.timeout == 0.05
            assert info.value.host == "10.0.0.1:9042"
        with pytest.raises(cql.RequestTimeout, match="within 0.02 s: OPTIONS"):
            await tables.heartbeat(0.02)
        cluster.hosts[0].resume()
        await tables.heartbeat(5)


async def test_the_connection_is_lost() -> None:
    cluster = FakeCluster(2)
    later(cluster)
    async with reading(cluster) as tables, anyio.create_task_group() as group:
        outcome = start(group, lambda: tables.cluster(reader))
        await until(lambda: len(cluster.waiting) == 3)
        cluster.hosts[0].kill()
        await until(lambda: outcome.done)
        assert type(outcome.error) is cql.ConnectionLost
        with pytest.raises(cql.ConnectionLost):
            await tables.register()
