"""The system tables of one node: queries for hosts, keyspaces and schema versions.

The pages are small, so that decoding one takes a few milliseconds whatever the number of hosts, and
requests are not delayed. They get smaller still if one is longer than ``Limits.max_response``. The
first pages of all tables are requested together: a small cluster is read in one round trip.

``system.peers_v2`` came with Cassandra 4.0 and ``system_schema`` with 3.0. A node without the first
is asked for ``system.peers``; of a node without the second no keyspaces are known, and with them no
replicas.

Proxies, stubs and other databases that speak CQL answer some of these queries with an error, with
Void, or with rows that lack columns. A table that a node has never answered counts as unknown, and
a note says why. If the node has answered it before, the error is raised: the node is in trouble.

Nothing that a server sends is read without a limit on pages, rows, bytes and time.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio.lowlevel

from cqlproto.enums import Consistency
from cqlproto.exceptions import (
    ProtocolError,
    RemoteProtocolError,
    ResponseTooLarge,
    RowMappingError,
    ValueConversionError,
)
from cqlproto.messages import Error, Options, Query, QueryParameters, Register, Rows
from cqlproto.rows import decode_rows
from cqlproto_anyio._metadata.discovery import read_keyspaces
from cqlproto_anyio._statements.pages import Pages
from cqlproto_anyio.exceptions import (
    DatabaseError,
    InvalidQuery,
    RequestTimeout,
    database_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cqlproto import messages
    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._metadata.discovery import Found, HostReader
    from cqlproto_anyio._network.connection import Connection

__all__ = ["SystemTables"]

Rowdict = dict[str, Any]

# Errors of an unusable answer. The connection itself works.
_UNUSABLE = (DatabaseError, ProtocolError, ValueConversionError, RowMappingError, RequestTimeout)

EVENTS = ("TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE")

PAGE_SIZE = 50  # rows, of 256 tokens each if it comes to it
# There are no such clusters, but there may be a server that never ends.
MAX_PAGES = 1000
MAX_ROWS = 10_000
MAX_BYTES = 64 * 1024 * 1024
MAX_TIME = 6.0  # for all pages of a table, in timeouts of one

LOCAL = "SELECT * FROM system.local WHERE key = 'local'"
PEERS_V2 = "SELECT * FROM system.peers_v2"
PEERS = "SELECT * FROM system.peers"
KEYSPACES = "SELECT keyspace_name, replication FROM system_schema.keyspaces"
LOCAL_VERSION = "SELECT host_id, schema_version FROM system.local WHERE key = 'local'"
PEER_VERSIONS_V2 = "SELECT host_id, schema_version FROM system.peers_v2"
PEER_VERSIONS = "SELECT host_id, schema_version FROM system.peers"

_OLDER = {PEERS_V2: PEERS, PEER_VERSIONS_V2: PEER_VERSIONS}


class SystemTables:
    """The system tables of the node at the other end of a connection.

    Every method raises the errors of a request: DatabaseError, RequestTimeout, ConnectionLost,
    Overloaded; and RemoteProtocolError if the answer is not what the protocol says. A method that
    is cancelled leaves nothing behind.

    Arguments:
        connection: to the node; a task runs it already.
        request_class: the class of requests.
        timer: of the session.
        timeout: the timeout of each request, in seconds.
        tolerant: whether a table that the node has never answered counts as unknown; else the
            error is raised.

    Attributes:
        unread: what could not be read the last time: ``local``, ``peers``, ``keyspaces``,
            ``events``.
        answered: called after each answer.
    """

    def __init__(
        self,
        connection: Connection,
        request_class: type[Request],
        timer: Timer,
        timeout: float,
        *,
        tolerant: bool = False,
    ) -> None:
        self.connection = connection
        self.unread: set[str] = set()
        self.answered: Callable[[], object] = lambda: None
        self._read: set[str] = set()  # tables that the node has answered once
        self._request_class = request_class
        self.timer = timer
        self.timeout = timeout
        self._tolerant = tolerant
        self._has_peers_v2 = True

    async def register(self) -> str | None:
        """Register for events; the connection's listener is called with each.

        Returns:
            None, or a note if the node refuses or doesn't answer.
        """
        try:
            await self.receive(self._submit(Register(EVENTS), "REGISTER"), self.timeout)
        except (DatabaseError, RequestTimeout) as exc:
            if not self._tolerant:
                raise
            self.unread.add("events")
            return f"the node sends no events, so the hosts are read periodically: {exc}"
        return None

    async def heartbeat(self, timeout: float) -> None:
        """Wait for the node to answer an OPTIONS request, so many seconds at most."""
        await self.receive(self._submit(Options(), "OPTIONS"), timeout)

    async def cluster(
        self, begin: Callable[[Rowdict], HostReader]
    ) -> tuple[Found, dict[str, dict[str, str]], list[str]]:
        """Read the hosts and the keyspaces.

        Arguments:
            begin: returns a reader for the row of ``system.local``, which is empty if it can't be
                read; what ``begin`` raises is raised.

        Returns:
            the hosts; the keyspaces' replication options by name; notes on what can't be read.
        """
        peers = PEERS_V2 if self._has_peers_v2 else PEERS
        asked = [self.send(query, None) for query in (LOCAL, peers, KEYSPACES)]
        notes: list[str] = []
        try:
            local: list[Rowdict] = []
            with self._tolerated("local", "the datacenter and rack of the node itself are", notes):
                await self._pages(LOCAL, local.extend, asked[0])
                if len(local) != 1:
                    raise RemoteProtocolError(f"system.local has {len(local)} rows, not one")
            reader = begin(local[0] if len(local) == 1 else {})
            if not reader.complete:
                self.unread.add("local")
                self._read.discard("local")
            with self._tolerated("peers", "other hosts are", notes):
                await self._peers(peers, reader.add, asked[1])
            keyspaces, more = await self.keyspaces(asked[2])
        finally:
            for request in asked:
                request.abandon()
        return reader.found(), keyspaces, [*notes, *more]

    async def keyspaces(
        self, first: Request | None = None
    ) -> tuple[dict[str, dict[str, str]], list[str]]:
        """Read the keyspaces.

        Arguments:
            first: the request for the first page, if it has been submitted.

        Returns:
            their replication options by name, and notes on what can't be read.
        """
        rows: list[Rowdict] = []
        notes: list[str] = []
        try:
            with self._tolerated("keyspaces", "keyspaces and replicas are", notes):
                await self._pages(KEYSPACES, rows.extend, first)
        except InvalidQuery as exc:
            return {}, [f"keyspaces and replicas are unknown: {exc}"]
        if notes:
            return {}, notes
        return read_keyspaces(rows)

    @property
    def describes_itself(self) -> bool:
        """Whether the node has described itself in ``system.local`` once, and so must again."""
        return "local" in self._read

    @contextmanager
    def _tolerated(self, table: str, unknown: str, notes: list[str]) -> Iterator[None]:
        """Note a table that can't be read and pass over it, if the node has never answered it.

        Arguments:
            table: its short name, as in :attr:`unread`.
            unknown: what is unknown without the table.
            notes: where the note is added.
        """
        try:
            yield
        except _UNUSABLE as exc:
            required = table in self._read or not self._tolerant
            failed = required or self.connection.lost is not None
            # a node that doesn't answer its first query doesn't serve requests either
            if failed or (table == "local" and isinstance(exc, RequestTimeout)):
                raise
            if table == "keyspaces" and isinstance(exc, InvalidQuery):  # older than 3.0
                raise
            self.unread.add(table)
            notes.append(f"{self.connection.endpoint}: {unknown} unknown: {exc}")
        else:
            self.unread.discard(table)
            self._read.add(table)

    async def schema_versions(self) -> tuple[object, dict[UUID, object]]:
        """Return the node's own schema version, and the versions of all nodes by host id."""
        local: list[Rowdict] = []
        peers: list[Rowdict] = []
        await self._pages(LOCAL_VERSION, local.extend)
        query = PEER_VERSIONS_V2 if self._has_peers_v2 else PEER_VERSIONS
        await self._peers(query, peers.extend)
        ids = [(row.get("host_id"), row.get("schema_version")) for row in (*peers, *local)]
        versions = {host_id: version for host_id, version in ids if isinstance(host_id, UUID)}
        return local[0].get("schema_version") if local else None, versions

    # -- requests

    async def _peers(
        self,
        query: str,
        take: Callable[[list[Rowdict]], object],
        first: Request | None = None,
    ) -> None:
        try:
            await self._pages(query, take, first)
        except InvalidQuery:
            older = _OLDER.get(query)
            if older is None:
                raise
            self._has_peers_v2 = False
            await self._pages(older, take)

    async def _pages(
        self,
        query: str,
        take: Callable[[list[Rowdict]], object],
        first: Request | None = None,
    ) -> None:
        """Call a function with the rows of each page of a query, as dicts."""
        pages = Pages(_Query(self, query), request=first)
        try:
            if first is None:
                await pages.begin()
            while pages.request is not None:
                rows = await pages.fetch()
                await anyio.lowlevel.checkpoint()  # other tasks run before the rows are used
                take(rows)
        finally:
            pages.abandon()

    def send(self, query: str, state: bytes | None, size: int = PAGE_SIZE) -> Request:
        """Send the request for a page of a query."""
        parameters = QueryParameters(Consistency.ONE, page_size=size, paging_state=state)
        return self._submit(Query(query, parameters), query)

    def _submit(self, message: messages.Request, text: str) -> Request:
        request = self._request_class(text, None)
        request.carry(message)
        self.connection.submit(request)
        return request

    async def receive(self, request: Request, timeout: float) -> ResponseReceived:
        """Return the reply to a request; raise the error that it holds."""
        if not request.done:
            request.timeout = timeout
            request.deadline = self.timer.deadline(timeout)
            self.timer.keep_deadline(request)
        try:
            event: ResponseReceived = await request
        except RequestTimeout as exc:
            exc.maybe_applied = False  # whatever was asked, it changes nothing
            raise
        self.answered()
        if isinstance(event.message, Error):
            raise database_error(event.message, host=self.connection.name, query=request.query)
        return event


class _Query:
    """The pages of one system table, within limits.

    Arguments:
        tables: sends the requests.
        query: the query.
    """

    def __init__(self, tables: SystemTables, query: str) -> None:
        self._tables = tables
        self._query = query
        self._deadline = tables.timer.deadline(MAX_TIME * tables.timeout)
        self._size = PAGE_SIZE
        self._paging_state: bytes | None = None  # of the page that was received last
        self._pages_left, self._rows_left, self._bytes_left = MAX_PAGES, MAX_ROWS, MAX_BYTES

    async def send(self, paging_state: bytes | None) -> Request:
        return self._tables.send(self._query, paging_state, self._size)

    async def receive(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        """Return a page; a page that is too long is requested again with fewer rows."""
        tables = self._tables
        while True:
            left = max(self._deadline - tables.timer.clock(), 0.001)
            try:
                return await tables.receive(request, min(tables.timeout, left))
            except ResponseTooLarge:
                if self._size == 1:
                    raise
                self._size = max(self._size // 8, 1)
                request = tables.send(self._query, paging_state, self._size)

    def accept(self, event: ResponseReceived, *, first: bool) -> Rows:
        query, message = self._query, event.message
        if not isinstance(message, Rows):
            raise RemoteProtocolError(f"{query} was answered by {type(message).__name__}")
        if message.metadata is None or not message.metadata.columns:
            raise RemoteProtocolError(f"{query} was answered by rows without columns")
        self._pages_left -= 1
        self._rows_left -= message.row_count
        self._bytes_left -= len(message.body) - message.offset
        if self._rows_left < 0 or self._bytes_left < 0:
            raise RemoteProtocolError(
                f"{query} gives more than {MAX_ROWS:,} rows or {MAX_BYTES:,} bytes"
            )
        following = message.paging_state
        if following is not None:
            if not message.row_count and following == self._paging_state:
                raise RemoteProtocolError(f"{query} has no end: an empty page leads to itself")
            if not self._pages_left:
                raise RemoteProtocolError(f"{query} has no end")
        self._paging_state = following
        return message

    def decode(self, message: Rows) -> list[Rowdict]:
        return decode_rows(message, dict)
