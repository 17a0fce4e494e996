"""One call of a user's: what is executed, how its rows are read, and what happens when it isn't
simple.

``Session.execute`` goes the short way by itself: one request, one reply, rows on one page.
Everything else is here: statements that must be prepared first, hosts that fail and what is tried
after that, UNPREPARED, more pages, tokens, errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cqlproto.enums import BatchKind
from cqlproto.messages.requests import Batch, BatchStatement, Execute, Query, QueryParameters
from cqlproto.messages.results import Rows, SchemaChange
from cqlproto.rows import Row, decode_rows
from cqlproto_anyio._checks import values as checking
from cqlproto_anyio._execution.attempts import MAX_PREPARATIONS, Attempts, host_of
from cqlproto_anyio._execution.batch_rules import check_batch, check_item
from cqlproto_anyio._statements.parameters import Partial, is_read_once
from cqlproto_anyio._statements.statement import Prepared, Statement, refuse_use
from cqlproto_anyio._text import read_statement, shown
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    CQLError,
    RemoteProtocolError,
    ResultTooLarge,
    RowMappingError,
    UsageError,
    ValueConversionError,
)
from cqlproto_anyio.policies.timestamps import ClockBehind
from cqlproto_anyio.results import APPLIED, Notes, Page, PageToken, Result

if TYPE_CHECKING:
    from cqlproto import messages
    from cqlproto._events import ResponseReceived
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.errors import Error
    from cqlproto.messages.results import Column
    from cqlproto.wire import Unset
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.attempts import Outcome
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["BatchCall", "Call", "tell_whose"]


class Call(Attempts):
    """A statement with its parameters, its settings and what its rows shall be.

    Arguments:
        runtime: the session's context.
        query: text, or what ``prepare`` returned.
        parameters: the parameters, or None.
        row: the row target, or None for the default.
        settings: the options.
        unfit: why a parameter doesn't fit the markers, if that has been tried.
    """

    session: object = None  # of a stream, lest it be taken for dropped while that is read

    def __init__(
        self,
        runtime: SessionContext,
        query: Any,
        parameters: Any,
        row: Any,
        settings: Settings,
        unfit: ValueConversionError | None = None,
    ) -> None:
        super().__init__(runtime, settings)
        self._parameters = parameters
        self._unfit = unfit
        self._markers: Sequence[Column] | None = None
        if isinstance(query, Prepared):
            self.query = query.query
            self.statement = query._statement
            self.row = query._row if row is None else row
            if unfit is None and not self.statement.stale:
                self._take_values(self.statement)
        elif isinstance(query, str):
            self.query = query
            self.row = Row if row is None else row
        else:
            raise TypeError(
                f"a query is a str or what prepare() returned, not a {type(query).__name__}"
            )
        self._stamp = settings.timestamp
        statement = self.statement
        self.text = text = read_statement(self.query) if statement is None else statement.text
        if text.verb == "USE":
            refuse_use(self.query)
        self.conditional = text.conditional
        self.reads = text.reads

    def refuse_timestamp(self) -> None:
        """Raise UsageError for a conditional statement with a timestamp: servers ignore it."""
        if self.text.conditional and self.settings.timestamp is not None:
            raise UsageError(
                f"timestamp={self.settings.timestamp} can't go with a condition (IF): the server"
                " takes a timestamp of its own, and ignores this one; pass timestamp=None to"
                f" override a profile: {shown(self.query)}"
            )

    async def ready(self) -> None:
        """Prepare the statement if it has parameters and isn't prepared yet, or not any more.

        Raises:
            UsageError: it can't have the timestamp of the options.
        """
        self.refuse_timestamp()
        statement = self.statement
        if statement is None and self._parameters is None:
            return
        if statement is None:
            statement = self.statement = await self._prepared(None)
        elif statement.stale:
            await self._prepared(statement)
            self.fit(statement)
        if self._unfit is None and self._markers is None:
            self._take_values(statement)
        if (unfit := self._unfit) is not None and not await self.renewed():
            self.attach_attempts(unfit)
            raise unfit

    def _take_values(self, statement: Statement) -> None:
        """Fit the parameters to the markers; one that is refused has the markers doubted first."""
        self._markers = statement.prepared.bind.columns
        try:
            self.values = statement.values(self._parameters)
        except ValueConversionError as exc:
            self._unfit = exc

    async def prepare(self) -> Statement:
        """Prepare the statement at any host that can; raises what :meth:`answer` does."""
        return await self._prepared(None)

    async def _prepared(self, renew: Statement | None) -> Statement:
        """Return the statement, prepared at any host that can.

        One that is known takes no host's turn: with two of them, all requests that are not sent the
        short way would go to the same.
        """
        if renew is None:
            self.runtime.supervisor.check_open()
            known = self.runtime.preparations.known(self.query, self.settings.keyspace)
            if known is not None:
                return known
        return await self.learn(self.query, await self.connection(), renew)

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        statement = self.statement
        if statement is None:
            return False
        await self.teach(self.query, statement, connection)
        self.fit(statement)
        return True

    async def renewed(self) -> bool:
        statement = self.statement
        if statement is None:
            return False
        known = statement.prepared.bind.columns is self._markers
        if known and self.runtime.timer.clock() < statement.sound_until:
            return False
        if is_read_once(
            self._parameters
        ):  # half of it may have been read; the next call's value will fit
            if not known or await self.renew(statement):
                self.tell_change(statement, self._markers or ())
            return False
        if not known and self.fit(statement):  # another call has had it prepared anew
            return True
        return await self.renew(statement) and self.fit(statement)

    def fit(self, statement: Statement) -> bool:
        """Fit the parameters to the markers anew, if these are others than they were; whether so.

        Raises:
            ParameterError, ValueConversionError: the parameters don't fit.
        """
        if self._markers is None or not self.tell_change(statement, self._markers):
            return False
        self._unfit = None
        again = self.values if is_read_once(self._parameters) else self._parameters
        self._markers = statement.prepared.bind.columns
        self.values = statement.values(again)
        return True

    def doubt(self, statement: Statement) -> None:
        """Go on with a statement whose markers a parameter doesn't fit."""
        self.statement = statement
        self._markers = statement.prepared.bind.columns

    def take(self, statement: Statement, values: Sequence[Any]) -> None:
        """Go on with a statement and values that were fitted to it."""
        self.statement, self.values = statement, values
        self._markers = statement.prepared.bind.columns
        self._unfit = None

    # -- requests

    def started(self, request: Request) -> None:
        """A request of the call was sent the short way.

        Should it be sent again, it keeps its timestamp: what others have written since must stay.
        One that had to wait for its turn gets a later one, never one that is below.
        """
        timestamps = self.settings.timestamps
        if timestamps is not None and self._repeats():
            stamp: int | None = getattr(request, "stamp", None)
            if stamp is None:
                try:
                    stamp = timestamps()
                except ClockBehind:
                    stamp = self.runtime.stamps.last
            self._stamp = stamp

    def _repeats(self) -> bool:
        """Whether it may be sent twice with effect, so that all attempts need one timestamp."""
        return self.text.stamped and self.settings.idempotent

    def stamp(self) -> int | None:
        """Return the timestamp of all attempts, or None if each packer makes its own, or none."""
        timestamps = self.settings.timestamps
        if self._stamp is None and timestamps is not None and self.text.stamped:
            if self.settings.fast_path and self.statement is not None and not self._repeats():
                return None
            if not self.unstamped:
                try:
                    self._stamp = timestamps()
                except ClockBehind:
                    self.unstamped = True
        return self._stamp

    def cells(self) -> list[bytes | None | Unset]:
        """Return the bound values as they are sent."""
        if self.statement is None:
            return []
        return self.statement.binder(self.settings).cells(self.values)

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        """Say what to send for the first page, or for the one that a paging state leads to.

        Raises:
            UsageError: an option doesn't fit the version, or the statement.
            ValueConversionError: a value doesn't fit its column.
        """
        statement = self.statement
        settings = self.settings
        version = connection.version
        stamp = self.stamp()
        if statement is not None:
            statement.set_version(version)
            packed = (stamp is None and not self.unstamped) or settings.timestamp is not None
            if paging_state is None and settings.fast_path and packed:
                request.bind(statement.binder(settings), self.values)
                return
        settings.check(version)
        message: messages.Request
        if statement is None:
            parameters = with_values(settings.parameters, None, paging_state, stamp)
            parameters.keyspace = settings.wire_keyspace(version)
            message = Query(self.query, parameters)
            request.carry(message, settings=settings)
            return
        parameters = with_values(settings.parameters, self.cells(), paging_state, stamp)
        parameters.skip_metadata = statement.skips_metadata
        prepared = statement.prepared
        message = Execute(prepared.statement_id, parameters, prepared.result_metadata_id)
        request.carry(message, prepared.result, settings)

    async def fetch(self, paging_state: bytes | None = None) -> tuple[ResponseReceived, str]:
        """Send a request and return what answers it, and the node that did.

        Raises:
            what :meth:`answer` raises.
        """
        request = self.new_request(self.query)
        event = await self.answer(request, await self.first(request, paging_state), paging_state)
        return event, host_of(request)

    # -- results

    def rows(self, message: Rows) -> list[Any]:
        """Decode one page."""
        statement = self.statement
        try:
            columns_of(message)
            rows = decode_rows(message, self.row)
        except RemoteProtocolError as exc:
            self._tell_whose(exc)
            raise
        if statement is not None and message.metadata is not statement.prepared.result:
            adopt(statement, message)
        return rows

    def _tell_whose(self, error: RemoteProtocolError) -> None:
        answered_by = self.answered_by
        host = None if answered_by is None else answered_by.name
        tell_whose(error, self.query, host, maybe_applied=not self.reads)

    def _columns(self, message: Rows) -> tuple[Column, ...]:
        try:
            return columns_of(message)
        except RemoteProtocolError as exc:
            self._tell_whose(exc)
            raise

    def page_of(self, event: ResponseReceived) -> Rows:
        """Return the rows of a page after the first, as :func:`rows_of`."""
        try:
            return rows_of(event)
        except RemoteProtocolError as exc:
            self._tell_whose(exc)
            raise

    async def collect(self, event: ResponseReceived, host: str) -> Result[Any]:
        """Return the result that begins with this reply, following its pages.

        Raises:
            ResultTooLarge: there are more rows than ``max_rows``.
        """
        first = event
        failures = tuple(self.failures)
        message = event.message
        if type(message) is not Rows:
            nothing: Result[Any] = Result([], (), event, host)
            nothing._failures = failures
            if type(message) is SchemaChange:
                nothing._agreed = await self.runtime.agree(message, self.answered_by, self.deadline)
            return nothing
        if self.conditional:
            conditional = self._conditional(message, first, host)
            if conditional is not None:
                conditional._failures = failures
                return conditional
        columns = self._columns(message)
        limit = self.settings.max_rows
        rows: list[Any] = []
        notes: Notes | None = None
        while (paging_state := message.paging_state) is not None and len(
            rows
        ) + message.row_count <= limit:
            # the server makes the next page while this one is decoded
            request = await self.ask(paging_state)
            try:
                if request.connection is not None:
                    await request.connection.flush()
                rows += self.rows(message)
            except BaseException:
                request.abandon()
                raise
            event, host = await self.obtain(request, paging_state)
            failures += tuple(self.failures)
            if notes is None:
                notes = Notes()
                notes.add(first)
            notes.add(event)
            message = self.page_of(event)
        rows += self.rows(message)
        if len(rows) > limit:
            raise ResultTooLarge(
                f"the result has more than max_rows={limit:,} rows: stream() has no such limit"
            )
        result = Result(rows, columns, first, host)
        result._failures = failures
        if notes is not None:
            result._later = notes
        return result

    def _conditional(self, message: Rows, event: ResponseReceived, host: str) -> Result[Any] | None:
        """An LWT's columns depend on its outcome, and a class may not fit all of them.

        Its rows are then left out: ``applied`` and ``existing`` tell what happened all the same.

        Returns:
            None if the columns tell no outcome.

        Raises:
            RowMappingError: the class takes these columns, and refuses their values.
            RemoteProtocolError: the rows can't be read, so nobody knows the outcome.
        """
        try:
            columns = columns_of(message)
            if not tells_outcome(columns):
                return None
            plain = decode_rows(message, tuple)
        except RemoteProtocolError as exc:
            tell_whose(exc, self.query, host, maybe_applied=True)
            raise
        outcome = plain[0] if plain else None
        try:
            rows = decode_rows(message, self.row)
        except RowMappingError as exc:
            if exc.row is not None:
                exc.maybe_applied = bool(outcome and outcome[0])
                raise
            rows = []
        return Result(rows, columns, event, host, outcome)

    async def ask(self, paging_state: bytes) -> Request:
        """Send the request for a further page; :meth:`obtain` returns what answers it."""
        self.forget_attempts()
        request = self.new_request(self.query)
        connection = await self.connection()
        self.fill(request, paging_state, connection)
        try:
            self.submit(request, connection)
        except ConnectionFailed as exc:  # just now: awaiting the request tells it
            request.fail(exc)
        return request

    async def obtain(
        self, request: Request, paging_state: bytes | None
    ) -> tuple[ResponseReceived, str]:
        """Return the event that answers a page's request, and the node that sent it."""
        outcome: Outcome
        try:
            outcome = await self.wait(request, paging_state)
        except (ConnectionFailed, RemoteProtocolError) as exc:
            outcome = exc
        except CQLError as exc:
            self.attach_attempts(exc)
            raise
        event = await self.answer(request, outcome, paging_state)
        return event, host_of(request)

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
        event, host = await self.fetch(paging_state)
        message = event.message
        if token is not None:
            message = self.page_of(event)
        elif type(message) is not Rows:
            return Page([], (), event, host, None)
        next_token = tokens.write(message.paging_state)
        page = Page(self.rows(message), columns_of(message), event, host, next_token)
        page._failures = tuple(self.failures)
        return page


class BatchCall(Attempts):
    """Several statements in one request (v4 section 4.1.7).

    Attributes:
        size: how many there are, as far as they were looked at.
    """

    def __init__(self, runtime: SessionContext, settings: Settings, kind: str) -> None:
        super().__init__(runtime, settings)
        self.query = "BATCH"
        self._timestamp = settings.timestamp  # one for all attempts
        self.conditional = self.reads = False
        try:
            self._kind = BatchKind[str.upper(kind)]
        except (KeyError, TypeError):
            raise UsageError(
                f"kind={checking.shown(kind)}: a batch is 'logged', 'unlogged' or 'counter'"
            ) from None
        self._items: list[Call] = []
        self._sent: dict[Any, Statement] = {}
        self.size = 0

    async def add(self, items: Iterable[Any], *, partial: bool = False) -> None:
        """Take the statements; those with parameters are prepared."""
        Partial.of(partial, None)
        if isinstance(items, (str, bytes, Prepared, Mapping)) or not isinstance(items, Iterable):
            raise TypeError(
                f"a batch takes a list of statements, not a {type(items).__name__}:"
                " batch([(query, parameters), ..])"
            )
        calls = []
        at_once = not isinstance(items, Sequence)  # an iterator may change what it has given
        for number, item in enumerate(items, 1):
            query, parameters = parts_of(item, number)
            parameters = Partial.of(partial, parameters)
            call = Call(self.runtime, query, parameters, None, self.settings)
            check_item(self._kind, number, call.text)
            call.refuse_timestamp()
            self.size = number
            if at_once:
                await self._take(call)
            else:
                calls.append(call)
        for call in calls:  # now that nothing is wrong with the texts
            await self._take(call)

    async def _take(self, call: Call) -> None:
        call.deadline = self.deadline
        await call.ready()
        self._items.append(call)
        if self.statement is None:  # the first partition decides where the batch goes
            self.statement, self.values = call.statement, call.values

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        version = connection.version
        self.settings.check(version)
        request.carry(self._message(version), settings=self.settings)

    def _message(self, version: ProtocolVersion) -> Batch:
        options = self.settings.parameters
        statements = []
        for item in self._items:
            statement = item.statement
            if statement is None:
                statements.append(BatchStatement(item.query, []))
            else:
                statement.set_version(version)
                cells = statement.binder(self.settings).cells(item.values)
                identity = statement.prepared.statement_id
                self._sent[identity] = statement
                statements.append(BatchStatement(identity, cells))
        return Batch(
            self._kind,
            statements,
            options.consistency,
            serial_consistency=options.serial_consistency,
            timestamp=self._timestamp,
            keyspace=self.settings.wire_keyspace(version),
            now_in_seconds=options.now_in_seconds,
        )

    async def run(self) -> Result[Row]:
        """Send the batch; raises as :meth:`Call.fetch` does."""
        self.query = f"BEGIN {self._kind.name} BATCH of {len(self._items)}"
        texts = [item.text for item in self._items]
        check_batch(
            self._kind,
            [
                (text, () if item.statement is None else item.statement.prepared.bind.columns)
                for text, item in zip(texts, self._items, strict=True)
            ],
        )
        self.conditional = any(text.conditional for text in texts)
        timestamps = self.settings.timestamps
        if timestamps is not None and not self.conditional:
            with suppress(ClockBehind):  # the node makes it
                self._timestamp = timestamps()
        request = self.new_request(self.query)
        event = await self.answer(request, await self.first(request, None), None)
        host = host_of(request)
        message = event.message
        result: Result[Row]
        if type(message) is Rows:
            try:
                columns = columns_of(message)
                rows = decode_rows(message, Row)
            except RemoteProtocolError as exc:
                tell_whose(exc, self.query, host, maybe_applied=True)
                raise
            told = self.conditional and bool(rows) and tells_outcome(columns)
            outcome = tuple(rows[0]) if told else None
            result = Result(rows, columns, event, host, outcome)
        else:
            result = Result([], (), event, host)
        result._failures = tuple(self.failures)
        return result

    @property
    def most_preparations(self) -> int:
        # UNPREPARED names one statement; each may be unknown to the node
        return len(self._items) + MAX_PREPARATIONS

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        # by the ids that were sent: by now another call may have been told of others
        statement = self._sent.get(message.fields.get("statement_id"))
        if statement is None:
            return False
        await self.teach(statement.query, statement, connection)
        for call in self._items:
            if call.statement is statement and call.fit(statement):
                self.change = call.change
        return True

    async def renewed(self) -> bool:
        changed = False
        for call in self._items:
            if await call.renewed():
                self.change = call.change
                changed = True
        return changed


def tell_whose(
    error: RemoteProtocolError, query: str, host: str | None, *, maybe_applied: bool = False
) -> None:
    """Let the error of rows that can't be read say whose they are."""
    error.query = query
    error.host = host
    error.maybe_applied = maybe_applied


def parts_of(item: Any, number: int) -> tuple[Any, Any]:
    """Return the statement and the parameters of a batch's item.

    Raises:
        TypeError: it is neither a statement nor a tuple of a statement and its parameters.
    """
    if isinstance(item, (str, Prepared)):
        return item, None
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (str, Prepared)):
        return item
    hint = ""
    if isinstance(item, tuple) and len(item) > 2 and isinstance(item[0], (str, Prepared)):
        hint = f" of {len(item)}: the parameters are one sequence, (query, (1, 2))"
    elif number > 1 and isinstance(item, (tuple, list, Mapping)):
        hint = ": write batch([(query, parameters), ..])"
    raise TypeError(
        f"item {number} of a batch must be a statement or a tuple (statement, parameters), got a"
        f" {type(item).__name__}{hint}"
    )


def columns_of(message: Rows) -> tuple[Column, ...]:
    """Return the columns of a reply, which the server was not allowed to leave out."""
    if message.metadata is None:
        raise RemoteProtocolError("rows came without their columns, which nobody else knows")
    return message.metadata.columns


def tells_outcome(columns: Sequence[Column]) -> bool:
    """Whether the columns of a conditional statement's rows begin with whether it was applied.

    Of other statements the name says nothing: a SELECT may give it to any column.
    """
    return bool(columns) and columns[0].name == APPLIED


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
    if statement.prepared.result_metadata_id is not None:
        lasting = message.metadata_id is not None
    else:
        lasting = bool(metadata.columns) and not statement.conditional
    if lasting:
        statement.adopt(metadata, message.metadata_id)


def with_values(
    parameters: QueryParameters,
    values: Sequence[bytes | None | Unset] | None,
    paging_state: bytes | None,
    timestamp: int | None,
) -> QueryParameters:
    """Return the options with values, a paging state and maybe a timestamp."""
    return QueryParameters(
        parameters.consistency,
        values=values,
        page_size=parameters.page_size,
        paging_state=paging_state,
        serial_consistency=parameters.serial_consistency,
        timestamp=timestamp,
        now_in_seconds=parameters.now_in_seconds,
    )
