"""A server that a test controls, and sessions on it.

The server uses the protocol core's own server side, so it sends valid CQL unless a test wants
otherwise. Clients connect through ``Config(connector=...)`` over bounded streams in memory, or over
TCP. The server completes the handshake by itself. Every other request goes to ``Server.answer``, or
waits in ``Server.asked`` until the test replies.
"""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSStream

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion, RequestReceived, ServerConnection, handshake_reply
from cqlproto.connection import Limits
from cqlproto.enums import RESPONSE_BIT, ROWS_NO_METADATA, ErrorCode, Opcode
from cqlproto.frames import write_frame
from cqlproto.messages import VOID, Error, Execute, Prepare, Query, Rows
from cqlproto.segments import write_segments
from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio.testing import snapshot
from cqlproto_anyio.testing._memory import MemoryStream
from tests.support.memory_transport import pushing
from tests.support.task_groups import cancelled_at_end

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cqlproto.messages import Request, Response, ResultMetadata

SUPPORTED = {"CQL_VERSION": ["3.4.7"], "COMPRESSION": ["lz4", "snappy"]}
_ENOUGH = 20.0  # seconds; a test that waits longer hangs


# What sessions ask for unless a test says otherwise; ``each_version`` lets tests run once for each.
asked_version = ProtocolVersion.V5
# Whether sessions on asyncio have a socket that pushes, as they have over TCP; else it is pulled.
pushes = True
# Hooks of sessions whose test names none; with some that hear of requests, sessions are observed.
hooks: cql.Hooks | None = None
CHECK_KEYSPACE = "SELECT key FROM system.local"


class Asked:
    """A request without a reply so far.

    Attributes:
        peer: the connection that it came on.
        message: the request.
        tracing, payload: what came with it.
    """

    def __init__(self, peer: Peer, event: RequestReceived) -> None:
        self.peer = peer
        self.stream_id = event.stream_id
        self.message = event.message
        self.tracing = event.tracing
        self.payload = event.payload

    @property
    def text(self) -> str:
        """The text of the statement; of an EXECUTE, the text that was prepared here."""
        message = self.message
        if isinstance(message, (Query, Prepare)):
            return message.query
        if isinstance(message, Execute):
            return self.peer.server.texts[message.statement_id]
        return ""

    @property
    def values(self) -> Sequence[Any]:
        """The cells of the bound values."""
        message = self.message
        if isinstance(message, (Query, Execute)):
            return message.parameters.values or ()
        return ()

    @property
    def number(self) -> int:
        """The first bound value, an int."""
        return int.from_bytes(self.values[0], "big", signed=True)

    @property
    def state(self) -> bytes | None:
        """The paging state of the request."""
        message = self.message
        if isinstance(message, (Query, Execute)):
            return message.parameters.paging_state
        return None

    def reply(self, message: Response, **prefix: Any) -> None:
        """Send the reply; ``prefix`` has the keyword arguments of ServerConnection.reply.

        Rows leave their columns out, as a server's do, if the client asks for that and knows them.
        """
        asked = self.message
        if isinstance(message, Rows) and isinstance(asked, Execute):
            known = self.peer.server.described.get(asked.statement_id)
            if asked.parameters.skip_metadata and message.metadata == known:
                message.flags |= ROWS_NO_METADATA
        self.peer.core.reply(self.stream_id, message, **prefix)
        self.peer.flush()

    def __repr__(self) -> str:
        return f"Asked({self.stream_id}, {self.message!r})"


class Peer:
    """The server's end of one connection.

    Attributes:
        core: the protocol core; what is queued there goes out with :meth:`flush`.
        stream: the transport.
        reading: set while the server reads.
    """

    def __init__(self, server: Server, stream: anyio.abc.ByteStream) -> None:
        self.server = server
        self.stream = stream
        self.core = ServerConnection(limits=server.limits, versions=server.versions)
        self.ended = anyio.Event()
        self.reading = anyio.Event()
        self.reading.set()
        self._raw = bytearray()
        self._wake = anyio.Event()
        self._closing = False

    def flush(self) -> None:
        self._raw += self.core.data_to_send()
        self._wake.set()

    def frame(self, stream_id: int, opcode: Opcode, body: bytes) -> bytes:
        """Return the bytes of a frame as this connection sends it, valid or not."""
        version = self.core.version
        data = write_frame(version | RESPONSE_BIT, 0, stream_id, opcode, body)
        return write_segments([data]) if version.has_segments else data

    def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be CQL."""
        self._raw += data
        self._wake.set()

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._closing = True
        self._wake.set()

    def pause(self) -> None:
        """Stop reading; a read that is under way waits."""
        self.reading = anyio.Event()

    async def serve(self) -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._write)
                await self._read()
        finally:
            self.ended.set()
            await anyio.aclose_forcefully(self.stream)

    async def _read(self) -> None:
        try:
            while True:
                data = await self.stream.receive()
                await self.reading.wait()
                self.core.receive_data(data)
                while (event := self.core.next_event()) is not None:
                    self.server.take(self, event)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self.ended.set()
            self.close()

    async def _write(self) -> None:
        try:
            while True:
                if self._raw:
                    data, self._raw = bytes(self._raw), bytearray()
                    await self.stream.send(data)
                elif self._closing:
                    await self.stream.aclose()
                    return
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass


def _chooses_keyspace(message: Request) -> bool:
    """Whether a new connection selects its keyspace with USE."""
    if not isinstance(message, Query):
        return False
    asks = message.parameters.keyspace is not None and message.query == CHECK_KEYSPACE
    return asks or message.query.startswith('USE "')


class Server:
    """The server that connections of a test reach.

    Attributes:
        answer: called with each request after the handshake; returns the reply, or None to leave
            the request in ``asked``.
        handshake: called with each request of the handshake, likewise.
        asked: the requests without a reply, in order.
        seen: all requests after the handshake, in order.
        peers: the connections, in order.
        refuse: if set, the connector raises this in place of a connection.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Asked], Response | None] = lambda asked: None
        self.handshake: Callable[[Asked], Response | None] = self.usual_handshake
        self.supported = SUPPORTED
        self.verify: Callable[[bytes], bool] | None = None
        self.limits = Limits()
        self.versions: Sequence[ProtocolVersion] = tuple(ProtocolVersion)
        self.capacity = 1 << 20
        self.asked: list[Asked] = []
        self.seen: list[Asked] = []
        self.peers: list[Peer] = []
        self.clients: list[MemoryStream] = []
        self.texts: dict[bytes, str] = {}
        self.described: dict[bytes, ResultMetadata] = {}
        self.refuse: Exception | None = None
        self.rejected_versions: list[int] = []
        self._arrived = anyio.Event()
        self._group: anyio.abc.TaskGroup | None = None

    # -- connections

    async def connector(self, endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
        """For ``Config(connector=...)``."""
        await anyio.lowlevel.checkpoint()
        if self.refuse is not None:
            raise self.refuse
        client, mine = MemoryStream.pair(self.capacity)
        self.clients.append(client)
        self.host(mine)
        if pushes and current_backend().name == "asyncio":
            return pushing(client)
        return client

    def host(self, stream: anyio.abc.ByteStream) -> Peer:
        peer = Peer(self, stream)
        self.peers.append(peer)
        assert self._group is not None
        self._group.start_soon(peer.serve)
        return peer

    async def listen(self, tls: ssl.SSLContext | None = None) -> int:
        """Serve on TCP as well; return the port."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        assert self._group is not None
        self._group.start_soon(self._accept, listener, tls)
        port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
        return port

    async def _accept(self, listener: Any, tls: ssl.SSLContext | None) -> None:
        async def serve(stream: anyio.abc.ByteStream) -> None:
            if tls is not None:
                stream = await TLSStream.wrap(
                    stream, ssl_context=tls, server_side=True, standard_compatible=False
                )
            peer = Peer(self, stream)
            self.peers.append(peer)
            await peer.serve()

        async with listener:
            await listener.serve(serve)

    # -- requests

    def take(self, peer: Peer, event: Any) -> None:
        if not isinstance(event, RequestReceived):
            self.rejected_versions.append(event.version)
            named = ", ".join(f"{version:d}/v{version:d}" for version in self.versions)
            text = f"Invalid or unsupported protocol version ({event.version}); ({named})"
            peer.core.reply(event.stream_id, Error(ErrorCode.PROTOCOL_ERROR, text))
            peer.flush()
            return
        asked = Asked(peer, event)
        if event.stream_id == 0 or _chooses_keyspace(event.message):
            self._offer(asked, self.handshake(asked))
        else:
            self.seen.append(asked)
            self._offer(asked, self.answer(asked))
        self._arrived.set()

    def _offer(self, asked: Asked, reply: Response | None) -> None:
        if reply is None:
            self.asked.append(asked)
        else:
            asked.reply(reply)

    def usual_handshake(self, asked: Asked) -> Response | None:
        if isinstance(asked.message, Query):
            return VOID
        return handshake_reply(asked.message, supported=self.supported, verify=self.verify)

    def hold(self) -> Callable[[], None]:
        """Hold new connections in their handshake; the returned function lets them continue."""
        usual, self.handshake = self.handshake, lambda asked: None

        def go_on() -> None:
            self.handshake = usual
            waiting, self.asked = self.asked, []
            for asked in waiting:
                self._offer(asked, usual(asked) if asked.stream_id == 0 else None)

        return go_on

    async def cut(self, session: cql.Session) -> None:
        """Close the newest connection, and wait until its session has noticed."""
        before = losses(session)
        self.peers[-1].close()
        await until(lambda: losses(session) > before)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; check it at each request and at intervals."""
        with anyio.fail_after(_ENOUGH):
            while not condition():
                self._arrived = anyio.Event()
                with anyio.move_on_after(0.01):
                    await self._arrived.wait()

    async def next(self) -> Asked:
        """Return the next request without a reply."""
        await self.until(lambda: self.asked)
        return self.asked.pop(0)

    async def take_all(self, count: int) -> list[Asked]:
        """Wait until so many requests have no reply, and return them."""
        await self.until(lambda: len(self.asked) >= count)
        taken, self.asked = self.asked[:count], self.asked[count:]
        return taken

    def texts_seen(self, kind: type[Request]) -> list[str]:
        return [asked.text for asked in self.seen if isinstance(asked.message, kind)]

    # -- sessions

    def config(self, **fields: Any) -> cql.Config:
        if asked_version is not ProtocolVersion.V5 and max(self.versions) >= asked_version:
            fields.setdefault("protocol_version", asked_version)
        # this server has no system tables; FakeCluster has
        fields.setdefault("discovery", False)
        fields.setdefault("client_timestamps", False)
        fields.setdefault("max_connections_per_host", 1)
        fields.setdefault("heartbeat_interval", 1e9)
        fields.setdefault("hooks", hooks)
        return cql.Config(connector=self.connector, **fields)

    @asynccontextmanager
    async def session(
        self, *, profile: cql.Profile | None = None, keyspace: str | None = None, **fields: Any
    ) -> AsyncIterator[cql.Session]:
        """A session on this server; nothing may be left of the session at its end."""
        config = self.config(**fields)
        async with cql.connect(
            "node", config=config, profile=profile, keyspace=keyspace
        ) as session:
            yield session
        assert all(client.closed for client in self.clients)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server that runs during the block; an error of the block is raised unchanged."""
    server = Server()
    async with cancelled_at_end() as group:
        server._group = group
        yield server


# -- what a session has under way


class State(NamedTuple):
    """Counts of the work of a session; all are zero when the session is idle."""

    in_flight: int
    orphans: int
    waiting: int
    deadlines: int
    preparing: int


IDLE = State(0, 0, 0, 0, 0)


def losses(session: cql.Session) -> int:
    """Return the number of lost connections."""
    return sum(host.lost for host in session.statistics().hosts)


def state(session: cql.Session) -> State:
    """Return the counts of the work of a session."""
    now = snapshot(session)
    for each in now.connections:
        assert each.requests + each.orphans == each.in_flight
    return State(now.in_flight, now.orphans, now.waiting, now.deadlines, len(now.preparing))


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    for _ in range(int(_ENOUGH / 0.002)):
        if condition():
            return
        await anyio.sleep(0.002)
    raise TimeoutError("what was waited for has not happened")


async def idle(session: cql.Session) -> None:
    """Wait until the session is idle."""
    await until(lambda: state(session) == IDLE)


async def turns(count: int = 10) -> None:
    """Run the other tasks until they wait for time or for I/O."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class Outcome:
    """How a call ended, for tests of many calls."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.scope = anyio.CancelScope()

    async def run(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Run a call and record how it ends; ``scope`` cancels the call."""
        with self.scope:
            try:
                self.result = await call()
            except Exception as exc:
                self.error = exc
            self.done = True


def start(group: anyio.abc.TaskGroup, call: Callable[[], Awaitable[Any]]) -> Outcome:
    """Run a call in a task of its own."""
    outcome = Outcome()
    group.start_soon(outcome.run, call)
    return outcome


def open_sockets() -> int:
    """Return the number of open TCP sockets of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                count += 1
        except OSError:
            continue
    return count
