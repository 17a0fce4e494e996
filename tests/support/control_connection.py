"""A control connection without a session, on a cluster in memory."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto.messages import Column, Error, ResultMetadata, Rows, TopologyChange
from cqlproto_anyio._cluster import control_connection as control_module
from cqlproto_anyio._cluster.control_connection import ControlConnection
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._network.connector import open_connection
from tests.support.fakehosts import INT
from tests.support.task_groups import cancelled_at_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    import cqlproto_anyio as cql
    from cqlproto.messages import Response, SchemaChange
    from cqlproto_anyio._metadata.topology import Topology
    from cqlproto_anyio._network.connection import Connection
    from tests.support.fakecluster import FakeCluster, FakeHost, FakeRequest

__all__ = [
    "QUIET",
    "Fixture",
    "Names",
    "Owner",
    "controlling",
    "garbage",
    "nothing",
    "refused",
    "resolving",
]

QUIET = 0.05  # how long events are debounced here, in seconds


# In seconds: a twentieth of the defaults.
PACE = {
    "QUIET": QUIET,
    "MOST": 0.25,
    "SOON": 0.25,
    "FIRST_DELAY": 0.005,
    "LONGEST_DELAY": 0.05,
}


class Owner:
    """Records the calls, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.preferred: Sequence[cql.Endpoint] = ()
        self.down: set[UUID] = set()
        self.known: Callable[[], Iterable[UUID]] = list
        self.error: Exception | None = None

    def _note(self, name: str, what: Any) -> None:
        self.told.append((name, what))
        if self.error is not None:
            raise self.error

    def topology_changed(self, topology: Topology) -> None:
        self._note("topology", topology)

    def host_up(self, endpoint: cql.Endpoint) -> None:
        self._note("up", endpoint)

    def host_down(self, endpoint: cql.Endpoint) -> None:
        self._note("down", endpoint)

    def schema_changed(self, change: SchemaChange) -> None:
        self._note("schema", change)

    def candidates(self) -> Iterable[cql.Endpoint]:
        return self.preferred

    def hosts_up(self) -> list[UUID]:
        return [host_id for host_id in self.known() if host_id not in self.down]

    def control_lost(self, error: Exception) -> None:
        self._note("lost", error)

    def control_connected(self, endpoint: cql.Endpoint) -> None:
        self._note("connected", endpoint)

    def all(self, name: str) -> list[Any]:
        return [what for kind, what in self.told if kind == name]


class Fixture:
    """A control connection on a cluster, and its owner."""

    def __init__(
        self,
        cluster: FakeCluster,
        group: anyio.abc.TaskGroup,
        points: Sequence[cql.Endpoint],
        fields: dict[str, Any],
        *,
        resolves: bool,
    ) -> None:
        self.cluster = cluster
        self.owner = Owner()
        self.opened: list[cql.Endpoint] = []
        fields.setdefault("connect_timeout", 5.0)
        fields.setdefault("control_timeout", 5.0)
        self.config = cluster.config(**fields)
        self.failure: Exception | None = None
        self.timer = Timer(current_backend().clock)
        group.start_soon(self.timer.run)
        self.control = ControlConnection(
            backend=current_backend(),
            timer=self.timer,
            config=replace(self.config, connector=None) if resolves else self.config,
            contact_points=points or [host.endpoint for host in cluster.hosts],
            open=self.open,
            owner=self.owner,
            start=group.start_soon,
        )
        self.owner.known = lambda: self.control.topology.hosts

    async def open(self, endpoint: cql.Endpoint) -> Connection:
        self.opened.append(endpoint)
        if self.failure is not None:
            raise self.failure
        return await open_connection(
            endpoint,
            backend=current_backend(),
            config=self.config,
            version=ProtocolVersion.V5,
            auth=None,
            tls=None,
            keyspace=None,
        )

    @property
    def here(self) -> FakeHost:
        """The host of the control connection."""
        endpoint = self.control.endpoint
        assert endpoint is not None
        host = self.cluster.at(endpoint.address, endpoint.port)
        assert host is not None
        return host

    def refresh_soon(self) -> None:
        """Make it read the hosts and keyspaces again, as after an event about a host."""
        event = TopologyChange("NEW_NODE", (ip_address("192.0.2.1"), 9042))
        self.control._on_event(event)

    def names(self) -> set[str]:
        return {str(host.endpoint) for host in self.control.topology.hosts.values()}


@asynccontextmanager
async def controlling(
    cluster: FakeCluster,
    points: Sequence[cql.Endpoint] = (),
    *,
    begin: bool = True,
    resolves: bool = False,
    pace: Mapping[str, float] | None = None,
    **fields: Any,
) -> AsyncIterator[Fixture]:
    """A control connection that has begun and runs; at the end nothing of it may be left.

    Arguments:
        points: the contact points; all hosts if there are none.
        begin: whether it begins and runs here; otherwise the test starts it.
        resolves: whether it resolves names, as it does without a connector.
        pace: constants of the module that differ from PACE.
        fields: fields of Config.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in {**PACE, **(pace or {})}.items():
            patch.setattr(control_module, name, seconds)
        async with cancelled_at_end() as group:
            fixture = Fixture(cluster, group, points, fields, resolves=resolves)
            if begin:
                await fixture.control.begin()
                group.start_soon(fixture.control.run)
            yield fixture
    assert not cluster.connections
    assert not cluster.errors


def nothing(request: FakeRequest) -> Response:
    """A page without rows."""
    return Rows.of(ResultMetadata.of([Column("ks", "t", "x", INT)], ProtocolVersion.V4), 0, b"")


def refused(request: FakeRequest) -> Response:
    return Error(ErrorCode.UNAUTHORIZED, "not for you")


def garbage(request: FakeRequest) -> Response:
    metadata = ResultMetadata.of([Column("ks", "t", "host_id", INT)], ProtocolVersion.V4)
    return Rows.of(metadata, 1, b"\0\0\0\x07garbage")


Names = dict[str, list[str] | Exception | None]


@contextmanager
def resolving() -> Iterator[Names]:
    """Set the addresses of names; None for a name server that never answers."""
    known: Names = {}

    async def getaddrinfo(host: str, port: int, *, type: int) -> list[Any]:
        assert type == socket.SOCK_STREAM
        await anyio.lowlevel.checkpoint()
        found = known.get(host, socket.gaierror(-2, "Name or service not known"))
        if found is None:
            await anyio.sleep_forever()
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, list)
        twice = [*found, *found]
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in twice]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "getaddrinfo", getaddrinfo)
        yield known
