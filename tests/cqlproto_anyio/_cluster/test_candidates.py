"""The search for a control connection: what a node is asked, and which nodes are asked for less."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import Query, Register
from cqlproto_anyio._cluster import candidates
from cqlproto_anyio._cluster.candidates import (
    EVERYTHING,
    NO_EVENTS,
    NOTHING,
    CandidateSearch,
)
from cqlproto_anyio._cluster.refresh import Reading, TopologyReader
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._network.connector import open_connection
from tests.support.control_connection import refused
from tests.support.fakecluster import FakeCluster, FakeRequest
from tests.support.server import start, turns, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cqlproto.messages import Request, Response
    from cqlproto_anyio._cluster.candidates import Candidate
    from cqlproto_anyio._cluster.system_tables import SystemTables
    from cqlproto_anyio._network.connection import Connection
    from tests.support.fakecluster import FakeHost


class Searching:
    """A search on a cluster.

    Attributes:
        opened: the nodes that were connected to, or tried.
        ended: how many connections of candidates have ended.
        error: what reading the tables raises, if it is set.
        latency: of the nodes' replies after the handshake, in seconds, if it is set.
    """

    def __init__(
        self, cluster: FakeCluster, group: anyio.abc.TaskGroup, fields: dict[str, Any]
    ) -> None:
        self.cluster = cluster
        self.config = cluster.config(**fields)
        self.opened: list[cql.Endpoint] = []
        self.ended = 0
        self.error: Exception | None = None
        self.latency: float | None = None
        backend = current_backend()
        timer = Timer(backend.clock)
        group.start_soon(timer.run)
        self._reader = TopologyReader(None, dict)
        self.search = CandidateSearch(
            backend=backend,
            timer=timer,
            config=self.config,
            open=self._open,
            spawn=group.start_soon,
            read=self._read,
            ended=self._ended,
        )

    @property
    def endpoints(self) -> list[cql.Endpoint]:
        return [host.endpoint for host in self.cluster.hosts]

    async def first(self) -> Candidate | None:
        return await self.search.first(self.endpoints)

    async def another(self) -> Candidate | None:
        return await self.search.another(self.endpoints)

    async def _open(self, endpoint: cql.Endpoint) -> Connection:
        self.opened.append(endpoint)
        connection = await open_connection(
            endpoint,
            backend=current_backend(),
            config=self.config,
            version=ProtocolVersion.V5,
            auth=None,
            tls=None,
            keyspace=None,
        )
        if self.latency is not None:
            for host in self.cluster.hosts:
                host.latency = self.latency
        return connection

    async def _read(self, tables: SystemTables) -> Reading:
        if self.error is not None:
            raise self.error
        return await self._reader.read(tables)

    def _ended(self) -> None:
        self.ended += 1


@asynccontextmanager
async def searching(cluster: FakeCluster, **fields: Any) -> AsyncIterator[Searching]:
    """A search; at the end no connection may be left but that of the last candidate."""
    async with anyio.create_task_group() as group:
        yield Searching(cluster, group, fields)
        group.cancel_scope.cancel()
    assert not cluster.connections
    assert not cluster.errors


def close_when_asked(host: FakeHost, *kinds: type[Request]) -> None:
    """Let a host close the connection when it gets such a request."""
    cluster = host.cluster
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        if request.host is host and isinstance(request.message, kinds):
            request.connection.close()
            return None
        return usual(request)

    cluster._reply = reply  # type: ignore[method-assign]  # the test replaces the method


# -- what a node is asked


async def test_a_node_is_asked_for_everything() -> None:
    cluster = FakeCluster(3)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert found.asked == EVERYTHING
        assert found.complete
        assert found.notes == found.events == []
        assert found.reading.found is not None
        assert len(found.reading.found.hosts) == 3
        assert found.reading.keyspaces == cluster.keyspaces
        assert fixture.opened == fixture.endpoints[:1]
        assert fixture.search.failures == []
        # it listens, and its connection is served
        assert cluster.tell_up(cluster.hosts[1]) == 1
        await until(lambda: len(found.events) == 1)
        assert fixture.ended == 0
        cluster.hosts[0].cut()
        await until(lambda: fixture.ended == 1)


async def test_events_are_kept_while_the_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MOST_EARLY", 3)
    cluster = FakeCluster(2)
    told = 0

    def slow(request: FakeRequest) -> Response:
        nonlocal told
        for _ in range(5):
            told += cluster.tell_up(cluster.hosts[1])
        return cluster.system_answer(request)

    cluster.answers["system.local"] = slow
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert told == 5
        assert len(found.events) == 3


async def test_events_count_from_the_answer_to_register() -> None:
    cluster = FakeCluster(1)
    async with searching(cluster) as fixture:
        fixture.latency = 0.25
        found = await fixture.first()
        assert found is not None
        assert found.since == found.tables.connection.since + 0.25


async def test_a_node_that_refuses_events_is_used(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster(1)
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        return refused(request) if isinstance(request.message, Register) else usual(request)

    cluster._reply = reply  # type: ignore[method-assign]  # the test replaces the method
    cluster.add().tell(rack=None)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert (found.asked, found.complete) == (EVERYTHING, False)
        assert "the node sends no events" in found.notes[0]
        assert "has no rack" in found.notes[1]


# -- nodes that close the connection when they are asked


@pytest.mark.parametrize(
    ("kinds", "asked", "unread", "said"),
    [
        ((Register,), NO_EVENTS, {"events"}, "when asked for events"),
        ((Register, Query), NOTHING, {"events"}, "when asked for the system tables"),
    ],
)
async def test_a_node_that_closes_when_asked_is_asked_for_less(
    kinds: tuple[type[Request], ...], asked: int, unread: set[str], said: str
) -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    close_when_asked(host, *kinds)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert (found.asked, found.complete) == (asked, False)
        assert (found.reading.found is None) is (asked == NOTHING)
        assert found.tables.unread == unread
        assert found.notes == [f"{host} closes the connection {said}"]
        assert found.since == found.tables.connection.since
        assert fixture.opened == [host.endpoint] * (asked + 1)
        [failure] = fixture.search.failures  # of the first round only
        assert isinstance(failure, cql.ConnectionFailed)


async def test_only_the_nodes_that_closed_are_asked_for_less() -> None:
    cluster = FakeCluster(4)
    one, two, three, four = cluster.hosts
    one.kill()
    close_when_asked(two, Register, Query)
    close_when_asked(three, Register)
    four.kill()
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert found.tables.connection.endpoint == three.endpoint
        assert fixture.opened == [*fixture.endpoints, two.endpoint, three.endpoint]
        assert len(fixture.search.failures) == 4


async def test_a_node_that_refuses_the_second_time_is_not_asked_a_third_time() -> None:
    cluster = FakeCluster(2)
    one, two = cluster.hosts
    close_when_asked(two, Register, Query)
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        if request.host is one and isinstance(request.message, Register):
            one.kill()  # from now on it refuses connections
            return None
        return usual(request)

    cluster._reply = reply  # type: ignore[method-assign]  # the test replaces the method
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert found.asked == NOTHING
        assert fixture.opened == [*fixture.endpoints, *fixture.endpoints, two.endpoint]


async def test_no_node_can_be_connected_to() -> None:
    cluster = FakeCluster(3)
    for host in cluster.hosts:
        host.kill()
    async with searching(cluster) as fixture:
        assert await fixture.first() is None
        assert fixture.opened == fixture.endpoints
        assert [type(each) for each in fixture.search.failures] == [cql.ConnectionFailed] * 3


async def test_later_searches_ask_for_everything_and_then_for_what_the_first_node_gave() -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts
    close_when_asked(host, Register)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        found.discard()
        fixture.opened.clear()
        found = await fixture.another()
        assert found is not None
        assert found.asked == NO_EVENTS
        assert fixture.opened == [host.endpoint] * 2
        assert len(fixture.search.failures) == 1  # those of later searches are logged


async def test_later_searches_ask_once_if_the_first_node_gave_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "cqlproto_anyio")
    cluster = FakeCluster(2)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        found.discard()
        for host in cluster.hosts:
            close_when_asked(host, Register)
        fixture.opened.clear()
        assert await fixture.another() is None
        assert fixture.opened == fixture.endpoints
        texts = [each.getMessage() for each in caplog.records]
        assert sum(each.startswith("no control connection: ") for each in texts) == 2


# -- errors


async def test_why_a_node_is_not_used() -> None:
    cluster = FakeCluster(1)
    async with searching(cluster) as fixture:
        fixture.latency = 0.25
        fixture.error = cql.RemoteProtocolError("no rows")
        assert await fixture.first() is None
        [failure] = fixture.search.failures
        assert isinstance(failure, cql.ConnectionFailed)
        assert (failure.reason, failure.stage) == ("no rows", "discovery")
        assert (failure.host, failure.elapsed) == (str(cluster.hosts[0]), 0.25)
        assert failure.__cause__ is fixture.error
        await until(lambda: fixture.ended == 1)  # the connection is closed
        fixture.search.failures.clear()
        fixture.error = cql.ConnectionFailed("down", host="x", stage="request", elapsed=9.0)
        assert await fixture.first() is None
        [failure] = fixture.search.failures
        assert isinstance(failure, cql.ConnectionFailed)
        assert failure.reason == "down"  # without the other attempt's host and stage


async def test_a_node_that_stops_answering_has_so_long() -> None:
    cluster = FakeCluster(1)
    async with searching(cluster, control_timeout=3.0) as fixture:
        fixture.latency = 60.0
        assert await fixture.first() is None
        [failure] = fixture.search.failures
        assert isinstance(failure, cql.ConnectionFailed)
        assert failure.elapsed == 6.0  # for REGISTER, and for the first table
        assert "within 3 s" in failure.reason


async def test_a_node_that_refuses_its_tables_is_used() -> None:
    cluster = FakeCluster(1)
    for table in ("system.local", "system.peers_v2", "system_schema.keyspaces"):
        cluster.answers[table] = refused
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert (found.asked, found.complete) == (EVERYTHING, False)
        assert found.tables.unread == {"local", "peers", "keyspaces"}


async def test_an_error_that_is_not_about_the_node_is_raised_at_first() -> None:
    cluster = FakeCluster(2)
    async with searching(cluster) as fixture:
        fixture.error = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            await fixture.first()
        assert fixture.opened == fixture.endpoints[:1]
        await until(lambda: fixture.ended == 1)
        fixture.error = None
        assert await fixture.first() is not None


async def test_an_error_that_is_not_about_the_node_is_logged_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster(2)
    async with searching(cluster) as fixture:
        fixture.error = ZeroDivisionError("a bug")
        assert await fixture.another() is None
        assert fixture.opened == fixture.endpoints
        assert caplog.text.count("ZeroDivisionError: a bug") == 2


# -- several nodes


async def test_a_node_that_makes_progress_is_waited_for() -> None:
    """Another node is tried two seconds after the last progress, and not after half a second."""
    cluster = FakeCluster(2)
    cluster.connect_delay = 0.4
    async with searching(cluster) as fixture:
        fixture.latency = 1.5
        found = await fixture.first()
        assert found is not None
        assert anyio.current_time() >= found.since + 1.5
        assert fixture.opened == fixture.endpoints[:1]


async def test_only_one_of_several_connections_is_kept() -> None:
    cluster = FakeCluster(3)
    slow, fast, _ = cluster.hosts
    slow.latency = 0.4
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        assert found.tables.connection.endpoint == fast.endpoint
        await turns()
        assert [each.host for each in cluster.connections] == [fast]


async def test_a_candidate_that_is_discarded_is_closed() -> None:
    cluster = FakeCluster(2)
    async with searching(cluster) as fixture:
        found = await fixture.first()
        assert found is not None
        found.discard()
        connection = found.tables.connection
        assert connection.listener is None
        assert "doesn't serve as a control connection" in str(connection.lost)
        await until(lambda: fixture.ended == 1)
        assert not cluster.connections


async def test_so_many_nodes_are_tried_at_a_time() -> None:
    cluster = FakeCluster(5)
    for host in cluster.hosts:
        host.vanish()
    async with searching(cluster, max_connecting=2, connect_timeout=3.0) as fixture:
        assert await fixture.first() is None
        assert cluster.most_connecting == 2
        assert fixture.opened == fixture.endpoints


async def test_a_search_that_is_cancelled_leaves_no_connection() -> None:
    cluster = FakeCluster(1)
    cluster.answers["system.local"] = lambda request: None
    async with searching(cluster) as fixture, anyio.create_task_group() as group:
        call = start(group, fixture.first)
        await until(lambda: cluster.waiting)
        call.scope.cancel()
        await until(lambda: fixture.ended == 1)
        assert not cluster.connections
        assert fixture.search.failures == []
