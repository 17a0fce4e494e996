"""A small CQL server on ``ServerConnection``: what it takes to be one, in front of real drivers.

It has no storage. A test says which :class:`Statement` a text is: what it binds, what it returns.
Values that are bound are decoded and kept in :attr:`Server.bound`. Beside that, it answers what
drivers ask before they serve anybody: the handshake, REGISTER, USE, and the system tables, whose
rows come from catalog.py.

One thread serves one connection, with a blocking socket. The core wants no more than this:

1. bytes that came go into ``receive_data``;
2. each event of ``next_event`` is a request, whose answer goes into ``reply``;
3. what ``data_to_send`` returns goes out.

``reply`` comes before the next ``next_event``, since the answer to STARTUP decides how what follows
is to be read. A request whose text is unknown is answered as Cassandra would answer it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socketserver
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto import (
    ErrorCode,
    RemoteProtocolError,
    RequestReceived,
    ServerConnection,
    UnsupportedVersionReceived,
    handshake_reply,
)
from cqlproto.cqltypes import CQLType, decoder, encoder
from cqlproto.messages import (
    READY,
    VOID,
    Batch,
    BindMetadata,
    Column,
    Error,
    Execute,
    Prepare,
    Prepared,
    Query,
    Register,
    ResultMetadata,
    Rows,
    SetKeyspace,
    Startup,
)
from cqlproto.wire import write_bytes
from tests.peers.catalog import KEYSPACE, TABLE, VERSIONS, system_table

if TYPE_CHECKING:
    import socket
    from types import TracebackType
    from typing import Self

    from cqlproto import Event, ProtocolVersion
    from cqlproto.messages import QueryParameters, Request, Response, ServerEvent, Value

__all__ = ["Server", "Statement"]

SUPPORTED = {
    "CQL_VERSION": ["3.4.7"],
    "COMPRESSION": ["lz4", "snappy"],
    "PROTOCOL_VERSIONS": VERSIONS,
}
PASSWORD = b"\0user\0secret"


class Statement(NamedTuple):
    """What a text means.

    Attributes:
        binds: the types of its bind markers, by name; none for a statement without.
        returns: the types of the columns that it returns, by name; none for VOID.
        rows: what it returns.
        error: what it returns instead.
    """

    binds: Mapping[str, CQLType] = {}
    returns: Mapping[str, CQLType] = {}
    rows: Sequence[Sequence[Any]] = ()
    error: Error | None = None


def columns(types: Mapping[str, CQLType]) -> tuple[Column, ...]:
    return tuple(Column(KEYSPACE, TABLE, name, cql_type) for name, cql_type in types.items())


class Server:
    """Serves on a free port of the loopback address, from entering to leaving it.

    Arguments:
        statements: by their text.
        password: ask for the name "user" and the password "secret".

    Attributes:
        bound: each execution of a statement with bind markers: its text and its decoded values.
        clients: the options of each STARTUP, with the version that it came in.
    """

    def __init__(self, statements: Mapping[str, Statement], *, password: bool = False) -> None:
        self.statements = statements
        self.bound: list[tuple[str, list[Any]]] = []
        self.clients: list[tuple[int, Mapping[str, str]]] = []
        self.verify = PASSWORD.__eq__ if password else None
        self.prepared: dict[bytes, str] = {}
        self.peers: set[Peer] = set()
        self._tcp = _TCP(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        return int(self._tcp.server_address[1])

    def forget(self) -> None:
        """Forget prepared statements, as a server does that was restarted."""
        self.prepared.clear()

    def push(self, event: ServerEvent) -> None:
        """Send an event to those who registered for its kind."""
        for peer in list(self.peers):
            peer.push(event)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tcp.shutdown()
        for peer in list(self.peers):
            peer.close()
        self._tcp.server_close()  # waits for the peers' threads
        self._thread.join()


class _TCP(socketserver.ThreadingTCPServer):
    """Starts a thread with a :class:`Peer` for each connection."""

    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], server: Server) -> None:
        self.cql = server
        super().__init__(address, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _TCP

    def handle(self) -> None:
        peer = Peer(self.server.cql, self.request)
        self.server.cql.peers.add(peer)
        try:
            peer.serve()
        finally:
            self.server.cql.peers.discard(peer)


class Peer:
    """One connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self._server = server
        self._socket = sock
        self._connection = ServerConnection()
        self._events: set[str] = set()
        self._lock = threading.Lock()  # an event may be pushed while a request is answered

    def serve(self) -> None:
        """Answer requests until the client goes."""
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(65_536):
                with self._lock:
                    try:
                        self._connection.receive_data(data)
                        while (event := self._connection.next_event()) is not None:
                            self._answer(event)
                    except RemoteProtocolError:
                        return  # a client that breaks the protocol is let go
                    finally:
                        self._flush()

    def push(self, event: ServerEvent) -> None:
        with self._lock:
            if getattr(event, "kind", "SCHEMA_CHANGE") in self._events:
                self._connection.push(event)
                self._flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(2)

    def _flush(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(self._connection.data_to_send())

    def _answer(self, event: Event) -> None:
        if isinstance(event, UnsupportedVersionReceived):
            text = f"Invalid or unsupported protocol version ({event.version}); supported"
            text += f" versions are ({', '.join(VERSIONS)})"
            self._connection.reply(event.stream_id, Error(ErrorCode.PROTOCOL_ERROR, text))
        elif isinstance(event, RequestReceived):
            if isinstance(event.message, Startup):
                version = int(self._connection.version)
                self._server.clients.append((version, event.message.options))
            reply = handshake_reply(
                event.message, supported=SUPPORTED, verify=self._server.verify
            ) or self._result(event.message)
            self._connection.reply(event.stream_id, reply)

    # -- requests behind the handshake

    @property
    def _version(self) -> ProtocolVersion:
        return self._connection.version

    def _result(self, request: Request) -> Response:
        if isinstance(request, Register):
            self._events.update(request.event_types)
            return READY
        if isinstance(request, Query):
            return self._run(request.query, request.parameters)
        if isinstance(request, Prepare):
            return self._prepare(request.query)
        if isinstance(request, Execute):
            text = self._text(request.statement_id)
            if text is None:
                return _unprepared(request.statement_id)
            return self._run(text, request.parameters, request.result_metadata_id)
        assert isinstance(request, Batch)
        for statement in request.statements:
            text = self._text(statement.query)
            if text is None:
                return _unprepared(statement.query)
            if text not in self._server.statements:
                return _unknown(text)
            self._bind(text, self._server.statements[text], statement.values, None)
        return VOID

    def _text(self, query: str | bytes) -> str | None:
        return query if isinstance(query, str) else self._server.prepared.get(query)

    def _prepare(self, text: str) -> Response:
        statement = self._statement(text)
        if statement is None:
            return _unknown(text)
        statement_id = hashlib.md5(text.encode()).digest()
        self._server.prepared[statement_id] = text
        metadata = ResultMetadata.of(columns(statement.returns), self._version)
        metadata_id = _id_of(metadata) if self._version.has_result_metadata_id else None
        keys = (0,) if statement.binds else ()
        bind = BindMetadata(columns(statement.binds), keys)
        return Prepared(statement_id, metadata_id, bind, metadata)

    def _run(
        self, text: str, parameters: QueryParameters, metadata_id: bytes | None = None
    ) -> Response:
        if used := re.fullmatch(r'\s*USE\s+"?(\w+)"?\s*;?\s*', text, re.IGNORECASE):
            return SetKeyspace(used[1])
        statement = self._statement(text)
        if statement is None:
            return _unknown(text)
        if statement.binds:
            self._bind(text, statement, parameters.values or (), parameters.names)
        if statement.error is not None:
            return statement.error
        if not statement.returns:
            return VOID
        return self._page(statement, parameters, metadata_id)

    def _statement(self, text: str) -> Statement | None:
        """Return what a text means: a test's statement, or a query of a system table."""
        known = self._server.statements.get(text)
        if known is None and (table := system_table(text, self._server.port)) is not None:
            return Statement({}, table.columns, table.rows)
        return known

    def _bind(
        self,
        text: str,
        statement: Statement,
        cells: Sequence[Value],
        names: Sequence[str] | None,
    ) -> None:
        """Decode what was bound, by name or in the order of the markers."""
        given = dict(zip(names or statement.binds, cells, strict=True))
        values: list[Any] = []
        for name, cql_type in statement.binds.items():
            cell = given[name]
            values.append(decoder(cql_type)(cell) if isinstance(cell, bytes) else cell)
        self._server.bound.append((text, values))

    def _page(
        self, statement: Statement, parameters: QueryParameters, metadata_id: bytes | None
    ) -> Rows:
        """Return the page that is asked for; a paging state is the number of rows before it."""
        metadata = ResultMetadata.of(columns(statement.returns), self._version)
        first = int((parameters.paging_state or b"0").decode())
        rows = statement.rows[first : first + (parameters.page_size or len(statement.rows))]
        last = first + len(rows)
        encoders = [encoder(cql_type) for cql_type in statement.returns.values()]
        content = bytearray()
        for row in rows:
            for encode, value in zip(encoders, row, strict=True):
                write_bytes(content, None if value is None else encode(value))
        # Who has another id than this one's (v5) is told of the columns, and of their id.
        changed = metadata_id is not None and metadata_id != _id_of(metadata)
        return Rows.of(
            metadata,
            len(rows),
            bytes(content),
            paging_state=str(last).encode() if last < len(statement.rows) else None,
            metadata_id=_id_of(metadata) if changed else None,
            skip_metadata=parameters.skip_metadata and not changed,
        )


def _id_of(metadata: ResultMetadata) -> bytes:
    return hashlib.md5(metadata.raw).digest()


def _unknown(text: str) -> Error:
    return Error(ErrorCode.INVALID, f"this server knows nothing of {text!r}")


def _unprepared(statement_id: str | bytes) -> Error:
    return Error(ErrorCode.UNPREPARED, "not prepared here", {"statement_id": statement_id})
