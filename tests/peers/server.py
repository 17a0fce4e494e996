"""A small CQL server on ``ServerConnection``, for real drivers.

The server has no storage. A test defines a :class:`Statement` for each text: its bind markers and
its result. The server decodes bound values and appends them to :attr:`Server.bound`. It also
answers the requests that drivers send first: the handshake, REGISTER, USE, and queries of the
system tables (catalog.py).

One thread serves one connection, with a blocking socket:

1. pass received bytes to ``receive_data``;
2. for each request of ``next_event``, pass the answer to ``reply``;
3. send the bytes of ``data_to_send``.

Call ``reply`` before the next ``next_event``, because the answer to STARTUP decides how the
following bytes are read. The server answers a request with an unknown text as Cassandra does.
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
    """The meaning of a statement's text.

    Attributes:
        binds: the types of its bind markers, by name.
        returns: the types of the result's columns, by name; empty for VOID.
        rows: the rows of the result.
        error: an error to return instead of a result.
    """

    binds: Mapping[str, CQLType] = {}
    returns: Mapping[str, CQLType] = {}
    rows: Sequence[Sequence[Any]] = ()
    error: Error | None = None


def columns(types: Mapping[str, CQLType]) -> tuple[Column, ...]:
    return tuple(Column(KEYSPACE, TABLE, name, cql_type) for name, cql_type in types.items())


class Server:
    """A context manager that serves on a free port of the loopback address.

    Arguments:
        statements: the known statements, by text.
        password: whether to require the name "user" and the password "secret".

    Attributes:
        bound: the text and decoded values of each execution with bind markers.
        clients: the protocol version and options of each STARTUP.
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
        """Forget all prepared statements, as after a restart."""
        self.prepared.clear()

    def push(self, event: ServerEvent) -> None:
        """Send an event to the clients that registered for its type."""
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
        """Answer requests until the client disconnects."""
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(65_536):
                with self._lock:
                    try:
                        self._connection.receive_data(data)
                        while (event := self._connection.next_event()) is not None:
                            self._answer(event)
                    except RemoteProtocolError:
                        return  # a client that violates the protocol is disconnected
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

    # -- requests after the handshake

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
        """Return the meaning of a text: a test's statement, or a query of a system table."""
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
        """Decode bound values, by name or in the order of the markers."""
        given = dict(zip(names or statement.binds, cells, strict=True))
        values: list[Any] = []
        for name, cql_type in statement.binds.items():
            cell = given[name]
            values.append(decoder(cql_type)(cell) if isinstance(cell, bytes) else cell)
        self._server.bound.append((text, values))

    def _page(
        self, statement: Statement, parameters: QueryParameters, metadata_id: bytes | None
    ) -> Rows:
        """Return the requested page; a paging state is the number of rows before the page."""
        metadata = ResultMetadata.of(columns(statement.returns), self._version)
        first = int((parameters.paging_state or b"0").decode())
        rows = statement.rows[first : first + (parameters.page_size or len(statement.rows))]
        last = first + len(rows)
        encoders = [encoder(cql_type) for cql_type in statement.returns.values()]
        content = bytearray()
        for row in rows:
            for encode, value in zip(encoders, row, strict=True):
                write_bytes(content, None if value is None else encode(value))
        # A client with another metadata id (v5) gets the columns and the new id.
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
    return Error(ErrorCode.INVALID, f"this server has no statement {text!r}")


def _unprepared(statement_id: str | bytes) -> Error:
    return Error(ErrorCode.UNPREPARED, "not prepared here", {"statement_id": statement_id})
