"""One call of a user's: what is executed, how its rows are read, and what happens when it isn't
simple.

``Session.execute`` goes the short way by itself: one request, one reply, rows on one page.
Everything else is here: statements that must be prepared first, a connection that must be made
    anew, UNPREPARED,
more pages, tokens, errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cqlproto.enums import BatchKind, ErrorCode
from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Batch, BatchStatement, Execute, Query, QueryParameters
from cqlproto.messages.results import Rows, SetKeyspace
from cqlproto.rows import Row, decode_rows
from cqlproto_anyio.cqltext import read_statement
from cqlproto_anyio.exceptions import (
    DatabaseError,
    RemoteProtocolError,
    ResultTooLarge,
    RowMappingError,
    UsageError,
    database_error,
)
from cqlproto_anyio.outcome import may_have_applied
from cqlproto_anyio.prepared import Prepared, Statement, refuse_use
from cqlproto_anyio.results import APPLIED, Page, PageToken, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto._events import ResponseReceived
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages import Request as Message
    from cqlproto.messages.results import Column
    from cqlproto.wire import Unset
    from cqlproto_anyio.config import Settings
    from cqlproto_anyio.connection import Connection
    from cqlproto_anyio.request import Request
    from cqlproto_anyio.runtime import Runtime

__all__ = ["BatchCall", "Call"]

# A node that forgets a statement as soon as it is prepared (its cache is too small) is not asked
# forever.
MAX_PREPARATIONS = 3


class _Attempts:
    """What calls of every kind share: a deadline, a request, and another try after UNPREPARED."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.restart()

    def restart(self) -> None:
        """Let the time that the call may take begin now."""
        self.deadline = self.runtime.deadline(self.settings.timeout)

    def new_request(self, query: str) -> Request:
        """Return a request of this call, due when the call is."""
        request = self.runtime.request_class(query, self.settings.timeout)
        request.deadline = self.deadline
        return request

    async def connection(self, query: str) -> Connection:
        """Return the connection, made anew if need be."""
        connection = self.runtime.connection
        if connection is None or connection.lost is not None:
            return await self.runtime.connected(query, self.settings.timeout, self.deadline)
        return connection

    def error(self, message: Error, request: Request) -> DatabaseError:
        """Return the exception for a server's ERROR."""
        error = database_error(message, host=host_of(request), query=request.query)
        error.maybe_applied = may_have_applied(message.code, read_statement(request.query))
        return error


class Call(_Attempts):
    """A statement with its parameters, its settings and what its rows shall be.

    Arguments:
        runtime: the session's.
        query: text, or what ``prepare`` returned.
        parameters: the parameters, or None.
        row: the row target, or None for the default.
        settings: the options.
    """

    def __init__(
        self, runtime: Runtime, query: Any, parameters: Any, row: Any, settings: Settings
    ) -> None:
        super().__init__(runtime, settings)
        self.statement: Statement | None = None
        self.values: Sequence[Any] = ()
        self._parameters = parameters
        if isinstance(query, Prepared):
            self.query = query.query
            self.statement = query._statement
            self.row = query._row if row is None else row
            self.values = self.statement.values(parameters)
        elif isinstance(query, str):
            self.query = query
            self.row = Row if row is None else row
        else:
            raise TypeError(
                f"a query is a str or what prepare() returned, not a {type(query).__name__}"
            )
        refuse_use(self.query)

    async def ready(self) -> None:
        """Prepare the statement if it has parameters and isn't prepared yet."""
        if self.statement is None and self._parameters is not None:
            self.statement = await self.runtime.prepared(self.query, self.settings, self.deadline)
            self.values = self.statement.values(self._parameters)

    # -- requests

    def cells(self) -> list[bytes | None | Unset]:
        """Return the bound values as they are sent."""
        if self.statement is None:
            return []
        return self.statement.binder(self.settings).cells(self.values)

    async def send(self, request: Request, paging_state: bytes | None) -> None:
        """Send the request for a page, on a connection that is made anew if need be."""
        connection = await self.connection(self.query)
        self.fill(request, paging_state, connection.version)
        self.runtime.resume_request(request, connection)

    def fill(self, request: Request, paging_state: bytes | None, version: ProtocolVersion) -> None:
        """Say what to send for the first page, or for the one that a paging state leads to.

        Raises:
            UsageError: an option doesn't fit the version, or the statement.
            ValueConversionError: a value doesn't fit its column.
        """
        statement = self.statement
        settings = self.settings
        if statement is not None:
            statement.speak(version)
            if paging_state is None and settings.plain:
                request.bind(statement.binder(settings), self.values)
                return
        message: Message
        if statement is None:
            settings.check(version)
            parameters = with_values(settings.parameters, None, paging_state)
            parameters.keyspace = settings.wire_keyspace(version)
            message = Query(self.query, parameters)
            request.carry(message, settings=settings)
            return
        parameters = with_values(settings.parameters, self.cells(), paging_state)
        parameters.skip_metadata = statement.skips_metadata
        prepared = statement.prepared
        message = Execute(prepared.statement_id, parameters, prepared.result_metadata_id)
        request.carry(message, prepared.result, settings)

    async def fetch(self, paging_state: bytes | None = None) -> tuple[ResponseReceived, str]:
        """Send a request and return what answers it, and the node that did.

        Raises:
            DatabaseError: the server refuses.
            RequestTimeout, ConnectionFailed, SessionClosed, Overloaded: no answer came.
        """
        request = self.new_request(self.query)
        await self.send(request, paging_state)
        return await self.answer(request, await request, paging_state)

    async def answer(
        self, request: Request, event: ResponseReceived, paging_state: bytes | None
    ) -> tuple[ResponseReceived, str]:
        """Return the event that answers the request, after more attempts if one was an ERROR."""
        for _ in range(MAX_PREPARATIONS):
            message = event.message
            if type(message) is SetKeyspace:
                self._refuse_keyspace(request)
            if type(message) is not Error:
                break
            if message.code != ErrorCode.UNPREPARED or self.statement is None:
                break
            await self.runtime.prepared(
                self.query, self.settings, self.deadline, renew=self.statement
            )
            request.again()
            await self.send(request, paging_state)
            event = await request
        if type(event.message) is Error:
            raise self.error(event.message, request)
        return event, host_of(request)

    def _refuse_keyspace(self, request: Request) -> None:
        """The connection has changed its keyspace behind our back: no one must use it any more."""
        reason = "a statement changed the connection's keyspace, which was closed for it"
        if request.connection is not None:
            request.connection.give_up(reason)
        raise UsageError(reason)

    # -- results

    def rows(self, message: Rows) -> list[Any]:
        """Decode one page."""
        statement = self.statement
        columns_of(message)
        rows = decode_rows(message, self.row)
        if statement is not None and message.metadata is not statement.prepared.result:
            adopt(statement, message)
        return rows

    async def collect(self, event: ResponseReceived, host: str) -> Result[Any]:
        """Return the result that begins with this reply, following its pages.

        Raises:
            ResultTooLarge: there are more rows than ``max_rows``.
        """
        first = event
        message = event.message
        if type(message) is not Rows:
            return Result([], (), event, host)
        columns = columns_of(message)
        if columns and columns[0].name == APPLIED:
            return self._conditional(message, first, host)
        limit = self.settings.max_rows
        rows: list[Any] = []
        while (paging_state := message.paging_state) is not None and len(
            rows
        ) + message.row_count <= limit:
            # the server makes the next page while this one is decoded
            request = self.new_request(self.query)
            await self.send(request, paging_state)
            try:
                if request.connection is not None:
                    await request.connection.flush()
                rows += self.rows(message)
            except BaseException:
                request.abandon()
                raise
            event, host = await self.answer(request, await request, paging_state)
            message = rows_of(event)
        rows += self.rows(message)
        if len(rows) > limit:
            raise ResultTooLarge(
                f"the result has more than max_rows={limit:,} rows: stream() has no such limit"
            )
        return Result(rows, columns, first, host)

    def _conditional(self, message: Rows, event: ResponseReceived, host: str) -> Result[Any]:
        """An LWT's columns depend on its outcome, and a class may not fit all of them.

        Its rows are then left out: ``applied`` and ``existing`` tell what happened all the same.
        """
        columns = columns_of(message)
        plain = decode_rows(message, tuple)
        outcome = plain[0] if plain else None
        try:
            rows = decode_rows(message, self.row)
        except RowMappingError:
            rows = []
        return Result(rows, columns, event, host, outcome)

    async def page(self, token: str | None) -> Page[Any]:
        """Return one page."""
        tokens = PageToken(self.query, self.settings.keyspace, self.cells())
        paging_state = None if token is None else tokens.read(token)
        event, host = await self.fetch(paging_state)
        message = event.message
        if type(message) is not Rows:
            return Page([], (), event, host, None)
        next_token = tokens.write(message.paging_state)
        return Page(self.rows(message), columns_of(message), event, host, next_token)


class BatchCall(_Attempts):
    """Several statements in one request (v4 section 4.1.7)."""

    def __init__(self, runtime: Runtime, settings: Settings, kind: str) -> None:
        super().__init__(runtime, settings)
        try:
            self._kind = BatchKind[kind.upper()]
        except (KeyError, AttributeError):
            raise UsageError(
                f"kind={kind!r}: a batch is 'logged', 'unlogged' or 'counter'"
            ) from None
        self._items: list[tuple[str, Statement | None, Sequence[Any]]] = []

    async def add(self, items: Iterable[Any]) -> None:
        """Take the statements; those with parameters are prepared."""
        if isinstance(items, (str, Prepared)) or not isinstance(items, Iterable):
            raise TypeError(f"a batch takes a list of statements, not a {type(items).__name__}")
        for item in items:
            query, parameters = item if type(item) is tuple and len(item) == 2 else (item, None)
            call = Call(self.runtime, query, parameters, None, self.settings)
            call.deadline = self.deadline
            await call.ready()
            self._items.append((call.query, call.statement, call.values))

    async def _send(self, request: Request) -> None:
        connection = await self.connection(request.query)
        version = connection.version
        self.settings.check(version)
        request.carry(self._message(version), settings=self.settings)
        self.runtime.resume_request(request, connection)

    def _message(self, version: ProtocolVersion) -> Batch:
        profile = self.settings.profile
        statements = []
        for query, statement, values in self._items:
            if statement is None:
                statements.append(BatchStatement(query, []))
            else:
                statement.speak(version)
                cells = statement.binder(self.settings).cells(values)
                statements.append(BatchStatement(statement.prepared.statement_id, cells))
        return Batch(
            self._kind,
            statements,
            profile.consistency,
            serial_consistency=profile.serial_consistency,
            timestamp=profile.timestamp,
            keyspace=self.settings.wire_keyspace(version),
            now_in_seconds=profile.now_in_seconds,
        )

    async def run(self) -> Result[Row]:
        """Send the batch; raises as :meth:`Call.fetch` does."""
        request = self.new_request(f"BEGIN {self._kind.name} BATCH of {len(self._items)}")
        await self._send(request)
        event: ResponseReceived = await request
        # UNPREPARED names one statement; each may be unknown to the node
        for _ in range(len(self._items)):
            message = event.message
            if type(message) is not Error or message.code != ErrorCode.UNPREPARED:
                break
            await self._prepare_again(message, request)
            request.again()
            await self._send(request)
            event = await request
        if type(event.message) is Error:
            raise self.error(event.message, request)
        host = host_of(request)
        message = event.message
        if type(message) is not Rows:
            return Result([], (), event, host)
        columns = columns_of(message)
        rows = decode_rows(message, Row)
        outcome = tuple(rows[0]) if rows else None
        return Result(rows, columns, event, host, outcome)

    async def _prepare_again(self, message: Error, request: Request) -> None:
        unknown = message.fields.get("statement_id")
        for query, statement, _ in self._items:
            if statement is not None and statement.prepared.statement_id == unknown:
                await self.runtime.prepared(query, self.settings, self.deadline, renew=statement)
                return
        raise self.error(message, request)


def host_of(request: Request) -> str:
    """Return where a request was submitted."""
    connection: Connection | None = request.connection
    return "" if connection is None else connection.name


def columns_of(message: Rows) -> tuple[Column, ...]:
    """Return the columns of a reply, which the server was not allowed to leave out."""
    if message.metadata is None:
        raise RemoteProtocolError("rows came without their columns, which nobody else knows")
    return message.metadata.columns


def rows_of(event: ResponseReceived) -> Rows:
    """Return the rows of a page after the first, which can be nothing else."""
    message = event.message
    if type(message) is not Rows:
        raise RemoteProtocolError(
            f"{type(message).__name__} came where a page of rows was asked for"
        )
    return message


def adopt(statement: Statement, message: Rows) -> None:
    """Remember columns that PREPARED didn't announce, unless they serve this reply only.

    On v5 the server says when others are to be expected from now on; on v4 it is those of an LWT
    that depend on its outcome.
    """
    metadata = message.metadata
    if metadata is None:
        return
    if statement.version.has_result_metadata_id:
        lasting = message.metadata_id is not None
    else:
        lasting = bool(metadata.columns) and metadata.columns[0].name != APPLIED
    if lasting:
        statement.adopt(metadata, message.metadata_id)


def with_values(
    parameters: QueryParameters,
    values: Sequence[bytes | None | Unset] | None,
    paging_state: bytes | None,
) -> QueryParameters:
    """Return the options with values and a paging state."""
    return QueryParameters(
        parameters.consistency,
        values=values,
        page_size=parameters.page_size,
        paging_state=paging_state,
        serial_consistency=parameters.serial_consistency,
        timestamp=parameters.timestamp,
        now_in_seconds=parameters.now_in_seconds,
    )
