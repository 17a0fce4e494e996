"""One call of a verb: a statement with its parameters and options, and the type of its rows.

``Session.execute`` sends a prepared statement itself. It returns the result if that is a single
page, and hands the request over to :meth:`Call.resumed` otherwise. All other calls begin here:
statements to be prepared first, failing hosts, page tokens, lightweight transactions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from cqlproto.messages.results import Rows, SchemaChange
from cqlproto.rows import Row
from cqlproto_anyio._execution.bound import BoundStatement
from cqlproto_anyio._execution.replies import (
    adopt,
    columns_of,
    conditional_result,
    locate,
    read_rows,
    rows_of,
)
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._statements.pages import Pages
from cqlproto_anyio._statements.statement import Prepared, RecordingBinder
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    RemoteProtocolError,
    ResultTooLarge,
    RowMappingError,
    ValueConversionError,
)
from cqlproto_anyio.policies.timestamps import ClockBehind
from cqlproto_anyio.results import Notes, Page, PageToken, Result

if TYPE_CHECKING:
    from typing import Self

    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["Call"]


class Call(BoundStatement):
    """A statement whose rows are wanted; see :class:`BoundStatement`.

    Arguments:
        row: the row target, or None for the default.

    Attributes:
        timeout_per_page: whether the timeout applies to each page, not to all of them.
        page_failures: the failures of the attempts at the latest page.
    """

    session: object = None  # keeps the session of a stream alive until the stream is read
    timeout_per_page = False

    def __init__(
        self,
        context: SessionContext,
        query: Any,
        parameters: Any,
        row: Any,
        settings: Settings,
        statement: Statement | None = None,
        unfit: ValueConversionError | None = None,
    ) -> None:
        super().__init__(context, query, parameters, settings, statement, unfit)
        self.page_failures: tuple[CQLError, ...] = ()
        if row is None:
            row = query._row if isinstance(query, Prepared) else Row
        self.row = row

    @classmethod
    def resumed(cls, context: SessionContext, request: Request, row: Any) -> Self:
        """Return the call of a request that ``Session.execute`` has sent.

        Arguments:
            context: the session's context.
            request: the request.
            row: the row target.
        """
        statement: Statement = request.statement
        settings = request.settings
        assert settings is not None
        call = cls(context, request.query, request.values, row, settings, statement)
        call.values = request.values
        call._markers = statement.prepared.bind.columns
        call.deadline = request.deadline
        call._keep_timestamp(request)
        call.mark_tried(request.connection)
        return call

    def _keep_timestamp(self, request: Request) -> None:
        """Give further attempts the timestamp of the first one: what others have written since must
        stay. A request whose connection was lost before it was packed has none yet."""
        if self.settings.timestamps is not None and self._repeats():
            binder = request.binder
            if type(binder) is RecordingBinder:
                self._stamp = binder.stamp
            else:
                self._stamp = getattr(request, "stamp", None)

    # -- results

    async def fetch(self, paging_state: bytes | None = None) -> ResponseReceived:
        """Send a request and return the reply; raises what :meth:`answer` raises."""
        request = self.new_request()
        return await self.answer(request, await self.first(request, paging_state), paging_state)

    async def execute(self) -> Result[Any]:
        """Prepare the statement if need be, and return all of its result."""
        await self.ready()
        return await self.collect(await self.fetch())

    async def collect(self, event: ResponseReceived) -> Result[Any]:
        """Return the result that begins with this reply, following its pages.

        Raises:
            ResultTooLarge: there are more rows than ``max_rows``.
        """
        answered = self.answered
        self.page_failures = tuple(self.failures)
        message = event.message
        result: Result[Any] | None = None
        if type(message) is not Rows:
            result = Result([], (), event, answered.host)
            if type(message) is SchemaChange:
                connection = answered.connection
                assert isinstance(connection, Connection)
                result._agreed = await self.context.agree(message, connection, self.deadline)
        elif self.conditional:
            try:
                result = conditional_result(answered, event, message, self.row)
            except RowMappingError as exc:
                self.attach_attempts(exc)
                raise
        if result is None:
            assert type(message) is Rows
            return await self._collect_pages(event, message)
        result._failures = self.page_failures
        return result

    async def _collect_pages(self, event: ResponseReceived, message: Rows) -> Result[Any]:
        first = event
        most = self.settings.max_rows
        pages: Pages[Any] = Pages(self, most)
        notes: Notes | None = None
        rows = await pages.take(event)
        failures = self.page_failures
        columns = columns_of(message)
        while pages.request is not None:
            rows += await pages.fetch()
            failures += self.page_failures
            if notes is None:
                notes = Notes()
                notes.add(first)
            notes.add(pages.event)
        if pages.count > most:
            error = ResultTooLarge(
                f"the result has more than max_rows={most:,} rows: stream() has no such limit"
            )
            locate(error, self.answered)
            raise error
        result = Result(rows, columns, first, self.answered.host)
        result._failures = failures
        if notes is not None:
            result._later = notes
        return result

    async def page(self, token: str | None) -> Page[Any]:
        """Return one page."""
        try:
            cells = self.cells()
        except ValueConversionError:
            if not await self.renewed():
                raise
            cells = self.cells()
        tokens = PageToken(self.query, self.settings.keyspace, cells)
        paging_state = None if token is None else tokens.read(token)
        event = await self.fetch(paging_state)
        host = self.answered.host
        message = self.accept(event, first=token is None)
        if message is None:
            return Page([], (), event, host, None)
        next_token = tokens.write(message.paging_state)
        page = Page(self.decode(message), columns_of(message), event, host, next_token)
        page._failures = self.page_failures
        return page

    # -- pages: what the loop that fetches them needs

    async def send(self, paging_state: bytes | None) -> Request:
        """Send the request for a page if there is a connection; otherwise :meth:`receive` sends it.

        The request is sent at once: a program that iterates over the rows of a page may give the
        event loop no turn before the last one.
        """
        if self.timeout_per_page:
            self.restart()
        self.forget_attempts()
        request = self.new_request()
        connection = self.context.cluster.selector.choose(self.statement, self.values)
        if connection is None:
            return request
        try:
            self.fill(request, paging_state, connection)
            self.submit(request, connection)
        except (CQLError, ClockBehind):  # raised by receive(), after the page at hand
            request.connection = None
            return request
        try:
            await connection.flush()
        except BaseException:
            request.abandon()
            raise
        return request

    async def receive(self, request: Request, paging_state: bytes | None) -> ResponseReceived:
        """Return the reply to the request for a page; raises what :meth:`answer` raises."""
        unsent = request.connection is None and not request.done
        if self.timeout_per_page and (unsent or request.done):
            # the time that the user's program took with the last page doesn't count
            self.restart()
            request.deadline = self.deadline
        if unsent:
            outcome = await self.first(request, paging_state)
            return await self.answer(request, outcome, paging_state)
        if request.done:
            await anyio.lowlevel.checkpoint()  # or a fast server would starve other tasks
        try:
            outcome = await self.wait(request, paging_state)
        except (ConnectionFailed, RemoteProtocolError) as exc:
            outcome = exc
        except CQLError as exc:
            self.attach_attempts(exc)
            raise
        return await self.answer(request, outcome, paging_state)

    def accept(self, event: ResponseReceived, *, first: bool) -> Rows | None:
        """Return the message of a page; None if the first reply has no rows."""
        self.page_failures = tuple(self.failures)
        if first and type(event.message) is not Rows:
            return None
        try:
            message = rows_of(event)
            columns_of(message)
        except RemoteProtocolError as exc:
            locate(exc, self.answered)
            raise
        return message

    def decode(self, message: Rows) -> list[Any]:
        """Return the rows of a page."""
        statement = self.statement
        try:
            rows = read_rows(message, self.row, self.answered)
        except RowMappingError as exc:
            self.failures = [*self.page_failures]
            self.attach_attempts(exc)
            raise
        if statement is not None and message.metadata is not statement.prepared.result:
            adopt(statement, message)
        return rows
