"""A cluster in memory, for tests with several hosts, up to a thousand.

    cluster = FakeCluster(3)                                  # or FakeCluster({"eu": 2, "us": 2})
    async with cql.connect(cluster.addresses, config=cluster.config()) as session: ..
    cluster.hosts[1].kill()                                   # cuts and refuses connections
    cluster.hosts[1].revive()
    cluster.tell_up(cluster.hosts[1])                         # sends the event
    new = cluster.add(datacenter="eu")
    cluster.tell_topology("NEW_NODE", new)
    cluster.hosts[0].opened                                   # the number of connections so far

Clients connect through ``Config(connector=...)``; the hosts use the protocol core's own server
side. They serve ``system.local``, ``system.peers_v2``, ``system.peers`` and
``system_schema.keyspaces``, in pages, each from its own point of view. Other statements go to
``FakeCluster.answer``, a function that takes a :class:`FakeRequest` and returns the reply, or None
if the test replies later. By default a SELECT returns one row ``v`` with the first bound value or
0, and any other statement returns VOID. Every prepared statement has int markers; the first marker
is ``k``, the partition key of ``ks.t``. Each host knows only the statements that were prepared on
it.

The cluster has no tasks: it answers a request within the client's own ``send``. A connection is
therefore cheap, nothing has to be closed, and a test decides the order of events.
``FakeHost.latency`` delays replies in the client's ``receive``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import anyio
import anyio.abc

import cqlproto_anyio as cql
from cqlproto import RequestReceived, handshake_reply
from cqlproto.enums import ErrorCode
from cqlproto.messages import (
    READY,
    VOID,
    Batch,
    BindMetadata,
    Column,
    Error,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    Register,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    Startup,
    StatusChange,
    TopologyChange,
)
from cqlproto_anyio._eventloop.auto import current_backend
from tests.support import faketables
from tests.support.fakehosts import INT, V_METADATA, FakeConnection, FakeHost, FakeRequest
from tests.support.faketables import KEYSPACES, LOCAL, PEERS, PEERS_V2, Select
from tests.support.memory_transport import pushing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cqlproto.messages import Response
    from cqlproto.messages.events import ServerEvent
    from cqlproto_anyio.testing._memory import MemoryStream

__all__ = ["MURMUR3", "FakeCluster", "FakeConnection", "FakeHost", "FakeRequest", "row_v"]

MURMUR3 = "org.apache.cassandra.dht.Murmur3Partitioner"
_NONE = ResultMetadata((), b"", False)
_MARKER = re.compile(r"\?|:\w+")


def row_v(*values: int) -> Rows:
    """Return rows of one column ``v``, the column of every prepared SELECT."""
    content = b"".join([b"\0\0\0\x04" + value.to_bytes(4, "big", signed=True) for value in values])
    return Rows.of(V_METADATA, len(values), content)


def _digest(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


class FakeCluster:
    """Hosts, and the state that they share.

    Arguments:
        hosts: the number of hosts, or the number in each datacenter by name.
        tokens: the number of tokens of each host.
        racks: the names of racks; the hosts of a datacenter take them in turn.
        keyspaces: replication options by keyspace; by default ``ks`` with three replicas in each
            datacenter.
        port: the port of the hosts.
        seed: the seed of the tokens and host ids.

    Attributes:
        hosts: in the order in which they joined.
        names: hosts by name; the connector takes these as DNS names.
        answer: called with each statement that is not on a system table; see above.
        answers: such functions by a table's full name, called first: for further tables and for
            invalid replies.
        tables: the columns of each system table and their types. A SELECT of a column or table that
            was removed is refused as a server refuses it.
        verify: checks a SASL token; None accepts every token.
        waiting: requests that ``answer`` left to the test.
        seen: records every statement if it is a list; None by default.
        reads: how many times each system table was read.
        errors: violations of the protocol by a client.
        connect_delay: how long connecting takes, in seconds.
        connecting: the number of attempts under way; ``most_connecting`` is its maximum.
        pushes: whether streams push on asyncio, as sockets do; otherwise the client reads them, as
            on trio.
    """

    def __init__(
        self,
        hosts: int | Mapping[str, int] = 3,
        *,
        tokens: int = 8,
        racks: Sequence[str] = ("r1",),
        keyspaces: Mapping[str, Mapping[str, str]] | None = None,
        port: int = 9042,
        seed: int = 0,
    ) -> None:
        self._random = random.Random(seed)
        self._racks = racks
        self._port = port
        self._vnodes = tokens
        self._addresses: dict[tuple[str, int], FakeHost] | None = None
        self._joined = 0
        self._members: Counter[str] = Counter()
        self.partitioner = MURMUR3
        self.schema_version = self._uuid()
        self.hosts: list[FakeHost] = []
        self.names: dict[str, FakeHost] = {}
        self.tables = {name: dict(columns) for name, columns in faketables.TABLES.items()}
        self.answer: Callable[[FakeRequest], Response | None] = self.usual_answer
        self.answers: dict[str, Callable[[FakeRequest], Response | None]] = {}
        self.verify: Callable[[bytes], bool] | None = None
        self.waiting: list[FakeRequest] = []
        self.seen: list[FakeRequest] | None = None
        self.reads: Counter[str] = Counter()
        self.errors: list[Exception] = []
        self.connect_delay = 0.0
        self.connecting = 0
        self.most_connecting = 0
        self.pushes = False
        counts = {"dc1": hosts} if isinstance(hosts, int) else hosts
        if keyspaces is None:
            replication = {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy"}
            keyspaces = {"ks": {**replication, **dict.fromkeys(counts, "3")}}
        self.keyspaces = {name: dict(options) for name, options in keyspaces.items()}
        for name, count in counts.items():
            for _ in range(count):
                self.add(datacenter=name)

    # -- hosts

    def add(
        self,
        *,
        datacenter: str = "dc1",
        rack: str | None = None,
        address: str | None = None,
        port: int | None = None,
        host_id: UUID | None = None,
        tokens: Sequence[int] | None = None,
    ) -> FakeHost:
        """Add a host without an event."""
        self._joined += 1
        there = self._members[datacenter]
        self._members[datacenter] += 1
        host = FakeHost(
            self,
            address or str(ipaddress.IPv4Address(0x0A000000 + self._joined)),
            port or self._port,
            host_id or self._uuid(),
            datacenter,
            rack or self._racks[there % len(self._racks)],
            self._tokens() if tokens is None else tokens,
        )
        self.hosts.append(host)
        self.moved()
        return host

    def remove(self, host: FakeHost) -> None:
        """Remove a host without an event."""
        host.kill()
        self.hosts.remove(host)
        self.moved()

    def moved(self) -> None:
        """Update the index of addresses: a host may have a new one."""
        self._addresses = None

    def _uuid(self) -> UUID:
        return UUID(int=self._random.getrandbits(128), version=4)

    def _tokens(self) -> tuple[int, ...]:
        return tuple(self._random.getrandbits(64) - (1 << 63) for _ in range(self._vnodes))

    @property
    def addresses(self) -> list[str]:
        """The addresses of the hosts, for ``connect``."""
        return [host.address for host in self.hosts]

    @property
    def connections(self) -> list[FakeConnection]:
        """All open connections."""
        return [each for host in self.hosts for each in host.connections]

    def at(self, address: str, port: int) -> FakeHost | None:
        """Return the host at an address."""
        if self._addresses is None:
            self._addresses = {(host.address, host.port): host for host in self.hosts}
        return self.names.get(address) or self._addresses.get((address, port))

    # -- connecting

    def config(self, **fields: Any) -> cql.Config:
        """Return a Config that connects to this cluster."""
        return cql.Config(connector=self.connector, **fields)

    async def connector(self, endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        """For ``Config(connector=...)``."""
        host = self.at(endpoint.address, endpoint.port)
        self.connecting += 1
        self.most_connecting = max(self.most_connecting, self.connecting)
        try:
            if host is not None:
                host.attempts += 1
                if not host.reachable:
                    await anyio.sleep_forever()
            await anyio.sleep(self.connect_delay)
        finally:
            self.connecting -= 1
        if host is None or not host.alive:
            raise ConnectionRefusedError(111, "Connection refused")
        connection = FakeConnection(host)
        host.connections.append(connection)
        host.opened += 1
        if self.pushes and current_backend().name == "asyncio":
            return pushing(cast("MemoryStream", connection))
        return connection

    # -- events

    def push(self, event: ServerEvent, hosts: Iterable[FakeHost] | None = None) -> int:
        """Send an event to the connections that have registered for it, and return their number.

        Arguments:
            event: the event.
            hosts: the hosts that send the event; all hosts by default.
        """
        kind = "SCHEMA_CHANGE" if isinstance(event, SchemaChange) else event.kind
        told = 0
        for host in self.hosts if hosts is None else hosts:
            for connection in host.connections:
                if kind in connection.registered:
                    connection.core.push(event)
                    connection.flush()
                    told += 1
        return told

    def tell_up(self, host: FakeHost) -> int:
        """Send the event that a host is up."""
        return self.push(StatusChange("UP", self._where(host)))

    def tell_down(self, host: FakeHost) -> int:
        """Send the event that a host is down."""
        return self.push(StatusChange("DOWN", self._where(host)))

    def tell_topology(self, change: str, host: FakeHost) -> int:
        """Send NEW_NODE, REMOVED_NODE or MOVED_NODE for a host."""
        return self.push(TopologyChange(change, self._where(host)))

    def tell_schema(
        self, change: str, keyspace: str, table: str | None = None, target: str = "TABLE"
    ) -> int:
        """Send CREATED, UPDATED or DROPPED for a keyspace, or for a table or type in it."""
        if table is None:
            target = "KEYSPACE"
        return self.push(SchemaChange(change, target, keyspace, table))

    def set_schema_version(self, *hosts: FakeHost) -> UUID:
        """Give these hosts, or all hosts, a new schema version, and return it."""
        version = self._uuid()
        if not hosts:
            self.schema_version = version
        for host in hosts or self.hosts:
            host.change(schema_version=version if hosts else None)
        return version

    def _where(self, host: FakeHost) -> tuple[Any, int]:
        return ipaddress.ip_address(host.address), host.port

    # -- requests

    def take(self, connection: FakeConnection, event: Any) -> None:
        """Answer the requests of a connection; the connection flushes."""
        core = connection.core
        if not isinstance(event, RequestReceived):
            named = ", ".join(f"{version:d}/v{version:d}" for version in core.versions)
            text = f"Invalid or unsupported protocol version ({event.version}); ({named})"
            core.reply(event.stream_id, Error(ErrorCode.PROTOCOL_ERROR, text))
            return
        request = FakeRequest(connection, event)
        reply = self._reply(request)
        if reply is None:
            self.waiting.append(request)
        elif connection.is_open:
            request.reply(reply)

    def _reply(self, request: FakeRequest) -> Response | None:
        message, host = request.message, request.host
        if isinstance(message, Register):
            request.connection.registered = frozenset(message.event_types)
            return READY
        if isinstance(message, Prepare):
            if self.seen is not None:
                self.seen.append(request)
            return self._prepare(request, message)
        if isinstance(message, Options):
            host.beats += request.connection.greeted
            request.connection.greeted = True
        if not isinstance(message, (Query, Execute, Batch)):
            if isinstance(message, Startup):
                request.connection.startup = message.options
            supported = request.connection.supported()
            return handshake_reply(message, supported=supported, verify=self.verify)
        if isinstance(message, Query):
            keyspace = message.parameters.keyspace
            if message.query.startswith("USE "):
                keyspace = message.query[4:].strip('"')
            if keyspace is not None and keyspace not in self.keyspaces:
                return Error(ErrorCode.INVALID, f"Keyspace '{keyspace}' does not exist")
            if message.query.startswith("USE "):
                request.connection.keyspace = keyspace or ""
                return SetKeyspace(request.connection.keyspace)
        if self.seen is not None:
            self.seen.append(request)
        unknown = self._unknown(request)
        if unknown is not None:
            return unknown
        select = Select.of(request.text)
        if select is not None:
            if select.table in self.tables or select.table in self.answers:
                self.reads[select.table] += 1
            if select.table in self.answers:
                return self.answers[select.table](request)
            if select.table.startswith(("system.", "system_schema.")):
                return self.system_answer(request, select)
        host.served += 1
        return self.answer(request)

    def usual_answer(self, request: FakeRequest) -> Response:
        """Return the reply to a statement."""
        if request.text.upper().startswith("SELECT"):
            return row_v(request.number)
        return VOID

    def system_answer(self, request: FakeRequest, select: Select | None = None) -> Response:
        """Return the reply to a SELECT of a system table, made from the hosts."""
        select = select or Select.of(request.text)
        assert select is not None
        table = select.table
        described = self.tables.get(table)
        if described is None:
            return Error(ErrorCode.INVALID, f"unconfigured table {table.partition('.')[2]}")
        for name in select.columns:
            if name not in described:
                return Error(ErrorCode.INVALID, f"Undefined column name {name} in table {table}")
        columns = {name: described[name] for name in select.columns or described}
        if table == LOCAL:
            rows = [request.host.cells(LOCAL)]
        elif table in (PEERS, PEERS_V2):
            rows = [host.cells(table) for host in self.hosts if host is not request.host]
        else:
            rows = [
                faketables.cells_of(
                    self.tables[KEYSPACES],
                    {"keyspace_name": name, "durable_writes": True, "replication": options},
                )
                for name, options in self.keyspaces.items()
            ]
        assert isinstance(request.message, (Query, Execute))
        parameters = request.message.parameters
        return faketables.rows_of(
            table,
            columns,
            rows,
            page_size=parameters.page_size,
            state=parameters.paging_state,
        )

    def _prepare(self, request: FakeRequest, message: Prepare) -> Response:
        text = message.query
        identity = _digest((message.keyspace or request.connection.keyspace) + text)
        request.host.prepared[identity] = text
        count = len(_MARKER.findall(text))
        names = ["k", *[f"v{number}" for number in range(1, count)]][:count]
        bind = BindMetadata(
            tuple(Column("ks", "t", name, INT) for name in names), (0,) if names else ()
        )
        result = V_METADATA if text.upper().startswith("SELECT") else _NONE
        return Prepared(identity, _digest(repr(result.columns)), bind, result)

    def _unknown(self, request: FakeRequest) -> Error | None:
        """Return UNPREPARED if the host does not know a statement of the request."""
        message = request.message
        ids: list[bytes] = []
        if isinstance(message, Execute):
            ids = [message.statement_id]
        elif isinstance(message, Batch):
            ids = [each.query for each in message.statements if isinstance(each.query, bytes)]
        for identity in ids:
            if identity not in request.host.prepared:
                return Error(ErrorCode.UNPREPARED, "unknown", {"statement_id": identity})
        return None
