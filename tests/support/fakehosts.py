"""The hosts of a ``FakeCluster``, the connections to them and the requests on those."""

from __future__ import annotations

import ipaddress
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion, RequestReceived, ServerConnection
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages import Column, Execute, Prepare, Query, ResultMetadata, Rows
from tests.support import faketables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from cqlproto.messages import Request, Response
    from tests.support.fakecluster import FakeCluster

__all__ = [
    "IGNORED_BITS",
    "INT",
    "SUPPORTED",
    "V_METADATA",
    "FakeConnection",
    "FakeHost",
    "FakeRequest",
]

SUPPORTED = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4", "snappy"]}
IGNORED_BITS = 12  # Scylla's usual SCYLLA_SHARDING_IGNORE_MSB
CAPACITY = 1 << 20  # bytes that a paused host accepts per connection, like its kernel

INT = NATIVE_TYPES["int"]
V_METADATA = ResultMetadata.of([Column("ks", "t", "v", INT)], ProtocolVersion.V4)


class FakeRequest:
    """A request of a client.

    Attributes:
        connection: the connection that it came over.
        host: the node.
        message: the request.
        tracing, payload: of the request's frame.
    """

    __slots__ = ("connection", "host", "message", "payload", "stream_id", "tracing")

    def __init__(self, connection: FakeConnection, event: RequestReceived) -> None:
        self.connection = connection
        self.host = connection.host
        self.stream_id = event.stream_id
        self.message: Request = event.message
        self.tracing = event.tracing
        self.payload = event.payload

    @property
    def text(self) -> str:
        """The statement, also of an EXECUTE; "" of what has none."""
        message = self.message
        if isinstance(message, (Query, Prepare)):
            return message.query
        if isinstance(message, Execute):
            return self.host.prepared.get(message.statement_id, "")
        return ""

    @property
    def values(self) -> Sequence[Any]:
        """The bound values, encoded."""
        message = self.message
        if isinstance(message, (Query, Execute)):
            return message.parameters.values or ()
        return ()

    @property
    def number(self) -> int:
        """The first bound value, an int; 0 if there is none."""
        return int.from_bytes(self.values[0], "big", signed=True) if self.values else 0

    def reply(self, message: Response, **prefix: Any) -> None:
        """Answer; ``prefix`` as for ServerConnection.reply. A late reply is dropped."""
        asked = self.message
        if isinstance(message, Rows) and isinstance(asked, Execute):
            known = message.metadata is V_METADATA and self.text.upper().startswith("SELECT")
            if known and asked.parameters.skip_metadata:
                message = Rows.of(
                    V_METADATA,
                    message.row_count,
                    message.content,
                    paging_state=message.paging_state,
                    skip_metadata=True,
                )
        if self.connection.is_open:
            self.connection.core.reply(self.stream_id, message, **prefix)
            self.connection.flush()

    def __repr__(self) -> str:
        return f"FakeRequest({self.host}, {self.message!r})"


class FakeConnection(anyio.abc.ByteStream):
    """One connection: the client's stream, and the server behind it.

    Attributes:
        host: the node.
        core: the protocol core of the server.
        registered: the kinds of events that the client wants.
        is_open: whether neither side has closed it.
        greeted: whether it has received OPTIONS, the first request of a handshake.
        startup: the options of STARTUP.
        keyspace: the keyspace of USE; empty if there was none.
        shard: the shard that serves it, on a host that has shards.
    """

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self.core = ServerConnection(versions=host.versions)
        self.registered: frozenset[str] = frozenset()
        self.is_open = True
        self.greeted = False
        self.startup: Mapping[str, str] = {}
        self.keyspace = ""
        self.shard = 0 if not host.shards else host.opened % host.shards
        self._closed = False  # by the client
        self._broken = False
        self._held = bytearray()  # bytes that arrived while the host is paused
        self._out: deque[tuple[float, bytes]] = deque()
        self._waiting: list[anyio.Event] = []

    def supported(self) -> Mapping[str, Sequence[str]]:
        """Return what the host says in SUPPORTED here: Scylla says which shard one has got."""
        host = self.host
        if not host.shards:
            return host.supported
        told = {
            "SCYLLA_SHARD": self.shard,
            "SCYLLA_NR_SHARDS": host.shards,
            "SCYLLA_SHARDING_IGNORE_MSB": IGNORED_BITS,
            "SCYLLA_PARTITIONER": "org.apache.cassandra.dht.Murmur3Partitioner",
            "SCYLLA_SHARDING_ALGORITHM": "biased-token-round-robin",
        }
        return {**host.supported, **{name: [str(value)] for name, value in told.items()}}

    # -- the client's side

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken:
                raise anyio.BrokenResourceError
            if len(self._held) < CAPACITY:
                break
            await self._changed()
        if not self.is_open:
            return  # the server has closed: nobody reads it
        if self.host.paused:
            self._held += item
        else:
            self._feed(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._broken:
                raise anyio.BrokenResourceError from ConnectionResetError(104, "reset by peer")
            if self._out:
                due, data = self._out[0]
                wait = due - anyio.current_time() if due else 0
                if wait <= 0:
                    self._out.popleft()
                    if len(data) > max_bytes:
                        self._out.appendleft((due, data[max_bytes:]))
                    return data[:max_bytes]
                with anyio.move_on_after(wait):
                    await self._changed()
            elif not self.is_open:
                raise anyio.EndOfStream
            else:
                await self._changed()

    async def send_eof(self) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._closed = True
        self._end()
        await anyio.lowlevel.checkpoint()

    async def _changed(self) -> None:
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()

    # -- the server's side

    def close(self) -> None:
        """Close it in order: the client reads the bytes that were sent, then the end."""
        self._end()

    def cut(self) -> None:
        """Break it with a reset: bytes under way are lost."""
        self._broken = True
        self._out.clear()
        self._end()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self.host.connections.remove(self)
        self._held.clear()
        self._wake()

    def flush(self) -> None:
        """Send the bytes that the core has queued, or hold them while the host is paused."""
        if self.host.paused:
            return
        data = self.core.data_to_send()
        if data and self.is_open:
            latency = self.host.latency
            self._out.append((anyio.current_time() + latency if latency else 0, data))
            self._wake()

    def send_raw(self, data: bytes) -> None:
        """Send any bytes, such as part of a frame, or no CQL."""
        if self.is_open:
            self._out.append((0, data))
            self._wake()

    def resumed(self) -> None:
        """The host continues: process the bytes that arrived meanwhile."""
        held, self._held = bytes(self._held), bytearray()
        self._feed(held)
        self._wake()

    def _feed(self, data: bytes) -> None:
        try:
            self.core.receive_data(data)
            while self.is_open and (event := self.core.next_event()) is not None:
                self.host.cluster.take(self, event)
        except RemoteProtocolError as exc:
            self.host.cluster.errors.append(exc)
            self.cut()
        self.flush()


class FakeHost:
    """A node. To change the columns of its rows, call :meth:`change`.

    Attributes:
        cluster: the cluster that it belongs to.
        address, port: the address that it listens on.
        host_id, datacenter, rack, tokens, release_version: the columns of its rows.
        schema_version: its own, if it isn't the cluster's.
        versions: the protocol versions that it speaks.
        supported: the options of its SUPPORTED.
        shards: how many it has, if it is Scylla's; connections get them in turn. 0 for Cassandra's.
        alive: whether it accepts connections.
        paused: whether it is stopped: it accepts connections and answers nothing.
        reachable: whether attempts to connect to it end at all.
        latency: seconds until its replies arrive.
        prepared: the statements that it knows, by id.
        connections: those that are open.
        opened: how many there have been.
        attempts: how many were tried.
        served: how many statements it has received, except those on system tables.
        beats: how many OPTIONS it has received, except those of handshakes.
        told: columns of its rows that are overridden, by name.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        address: str,
        port: int,
        host_id: UUID,
        datacenter: str,
        rack: str,
        tokens: Sequence[int],
    ) -> None:
        self.cluster = cluster
        self.address = address
        self.port = port
        self.host_id = host_id
        self.datacenter = datacenter
        self.rack = rack
        self.tokens = tokens
        self.release_version = "5.0.5"
        self.schema_version: UUID | None = None
        self.versions: Sequence[ProtocolVersion] = tuple(ProtocolVersion)
        self.supported: Mapping[str, Sequence[str]] = SUPPORTED
        self.shards = 0
        self.alive = True
        self.paused = False
        self.reachable = True
        self.latency = 0.0
        self.prepared: dict[bytes, str] = {}
        self.connections: list[FakeConnection] = []
        self.opened = 0
        self.attempts = 0
        self.served = 0
        self.beats = 0
        self.told: dict[str, Any] = {}
        self._cells: dict[str, dict[str, bytes]] = {}

    def __str__(self) -> str:
        return str(self.endpoint)

    @property
    def endpoint(self) -> cql.Endpoint:
        return cql.Endpoint(self.address, self.port)

    # -- failures

    def kill(self) -> None:
        """Break its connections, refuse new ones, and forget its prepared statements."""
        self.alive = False
        self.prepared.clear()
        self.cut()

    def revive(self) -> None:
        """Accept connections again, after any failure."""
        self.alive = self.reachable = True
        self.resume()

    def cut(self) -> None:
        """Break its open connections."""
        for connection in [*self.connections]:
            connection.cut()

    def pause(self) -> None:
        """Stop the process: the kernel accepts bytes, and nothing is answered."""
        self.paused = True

    def resume(self) -> None:
        """Continue with the bytes that arrived meanwhile."""
        self.paused = False
        for connection in [*self.connections]:
            connection.resumed()

    def vanish(self) -> None:
        """Drop every packet until it is revived: attempts don't end, and nothing is answered."""
        self.reachable = False
        self.paused = True

    def change(self, **fields: Any) -> None:
        """Set attributes that are columns of its rows."""
        for name, value in fields.items():
            assert hasattr(self, name)
            setattr(self, name, value)
        self._cells.clear()
        self.cluster.moved()

    def tell(self, **columns: Any) -> None:
        """Override these columns of its rows, in its own table and in its peers'."""
        self.told.update(columns)
        self._cells.clear()

    # -- its rows

    def cells(self, table: str) -> dict[str, bytes]:
        """Return its row in a table, encoded."""
        cells = self._cells.get(table)
        if cells is None:
            columns = self.cluster.tables[table]
            values = {**self._values(), **self.told}
            cells = self._cells[table] = faketables.cells_of(columns, values)
        return cells

    def _values(self) -> dict[str, Any]:
        address = ipaddress.ip_address(self.address)
        return {
            "key": "local",
            "bootstrapped": "COMPLETED",
            "cluster_name": "fake",
            "cql_version": "3.4.7",
            "native_protocol_version": "5",
            "partitioner": self.cluster.partitioner,
            "data_center": self.datacenter,
            "rack": self.rack,
            "host_id": self.host_id,
            "release_version": self.release_version,
            "schema_version": self.schema_version or self.cluster.schema_version,
            "tokens": self.tokens,
            **dict.fromkeys(
                ("broadcast_address", "listen_address", "rpc_address", "native_address", "peer"),
                address,
            ),
            **dict.fromkeys(("broadcast_port", "listen_port", "peer_port"), 7000),
            **dict.fromkeys(("rpc_port", "native_port"), self.port),
        }
