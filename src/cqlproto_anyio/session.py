"""The session: the client's main object, made by :func:`connect`.

All tasks of a program share one session, for as long as the program runs. This module has the
verbs ``execute``, ``page``, ``stream``, ``prepare`` and ``batch``, and the fast path of
``execute``: find the statement, pack the values, select a connection, wait for the reply, decode
it. The rest (retries, further pages, statements to be prepared) is in ``_execution``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cqlproto.messages.results import Rows, Void
from cqlproto.rows import Row
from cqlproto_anyio._checks.values import integer, switch
from cqlproto_anyio._execution.batch import BatchCall
from cqlproto_anyio._execution.call import Call
from cqlproto_anyio._execution.lifecycle import SessionLifecycle
from cqlproto_anyio._execution.paging import RowStream
from cqlproto_anyio._execution.replies import locate
from cqlproto_anyio._settings.profile import Options, overlaid
from cqlproto_anyio._statements.parameters import Partial
from cqlproto_anyio._statements.statement import Prepared, RecordingBinder, Statement, refuse_use
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    RemoteProtocolError,
    RowMappingError,
    UsageError,
    ValueConversionError,
)
from cqlproto_anyio.executor import BulkExecutor, Executor, typed_as
from cqlproto_anyio.policies.timestamps import ClockBehind
from cqlproto_anyio.results import Page, Result, _Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence
    from typing import NoReturn, Unpack
    from uuid import UUID

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.attempts import Outcome
    from cqlproto_anyio._execution.bulk.result import BulkResult
    from cqlproto_anyio._execution.bulk.stream import ResultStream
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio.executor import BatchItem, BatchName
    from cqlproto_anyio.tracing import Trace

__all__ = ["BulkVerbs", "Session"]

P = TypeVar("P")


class BulkVerbs(SessionLifecycle):
    """The verbs of a session that execute a statement for many rows.

    Their modules are imported on first use.
    """

    async def execute_many(
        self,
        query: str | Prepared[Any],
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        concurrency: int = 256,
        max_errors: int = 0,
        progress: Callable[[int], object] | None = None,
        batch: int = 1,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> BulkResult[P]:
        """Execute a statement for each of many rows, and return how many have succeeded.

        The statement is prepared once. A row is taken from the source when another one has ended,
        so that the number of rows doesn't matter to memory. Each row is executed as ``execute``
        would: it goes to a replica, has its own deadline (``timeout``), and is retried where that
        is safe and the policy says so. When connections are full, rows wait; Overloaded is never
        raised.

        Timestamps are in the order of the rows (unless ``Config.client_timestamps`` is off): of two
        rows with the same primary key the later one wins. Nothing is kept of a row that has
        succeeded, and not whether a conditional statement was applied: :meth:`map` tells it.

        When the call ends early, because of too many failures, an error of the source or one of
        ``progress``, no more rows are started, and those under way are waited for. The end of the
        session and a cancellation give them up.

        Arguments:
            query: the statement's text, or what :meth:`prepare` returned.
            rows: an iterable or asynchronous iterable of parameters, each as for :meth:`execute`.
                An asynchronous generator that isn't read to its end is closed.
            concurrency: how many rows may be under way at a time. No more than so many rows are
                read ahead.
            max_errors: how many rows may fail; one more raises BulkError.
            progress: called with the number of rows that have ended since its last call. What it
                raises ends this call.
            batch: the most rows that go into one request. Rows that follow each other and belong to
                one partition are sent as an unlogged batch. The rows of a batch have the same
                timestamp: of two with the same primary key, the one with the greater value wins.
            partial: as for :meth:`execute`.
            options: see :class:`Profile`; they apply to each row. With ``trace``, ``payload`` or
                ``speculation``, each row costs as much as an ``execute``.

        Returns:
            the number of rows that have succeeded, and the rows that have failed.

        Raises:
            BulkError: more than ``max_errors`` rows have failed; it has what was done until then.
            DatabaseError, ConnectionFailed: the statement can't be prepared; nothing was sent.
            UsageError, ConfigError, TypeError: the call is wrong; nothing was sent.
            SessionClosed: the session was closed meanwhile.
            Exception: what ``rows`` or ``progress`` has raised.
        """
        from cqlproto_anyio._execution.bulk.batches import BatchLoad
        from cqlproto_anyio._execution.bulk.load import Load, checked_concurrency, checked_rows

        context = self._context
        context.supervisor.check_here()
        settings = self._resolve(options) if options else self._default
        checked_rows(rows)
        how: dict[str, Any] = {
            "concurrency": checked_concurrency(concurrency),
            "partial": switch("partial", partial),
            "max_errors": max_errors,
            "progress": progress,
        }
        if integer("batch", batch, 1, None, "a number of rows of at least 1") == 1:
            load = Load(context, query, settings, **how)
        else:
            load = BatchLoad(context, query, settings, batch=batch, **how)
        return await load.run(rows)

    @typed_as(BulkExecutor.map)
    def map(
        self,
        query: Any,
        rows: Any,
        /,
        *,
        row: Any = None,
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: bool = False,
        partial: bool = False,
        **options: Any,
    ) -> ResultStream[Any, Any]:
        """Execute a statement for each of many rows, and return the results, for ``async for``.

        Each item is a row and its result, which has all pages, as that of :meth:`execute`. Rows are
        executed as by :meth:`execute_many`. At most ``concurrency`` rows are under way or wait to
        be read, so a slow reader slows the requests down.

        Arguments:
            query, rows, partial, options: as for :meth:`execute_many`. An asynchronous source is
                read by a task of the session, with the caller's context variables.
            row: the class of a row, as for :meth:`execute`.
            concurrency: how many rows may be under way at a time.
            ordered: whether results come in the order of their rows; otherwise as they arrive.
            return_errors: whether the error of a row is returned in place of its result. Otherwise
                it is raised when its turn comes, and ends the iteration.

        Raises (while iterating):
            Exception: what ``rows`` has raised.
            and what every verb raises.
        """
        from cqlproto_anyio._execution.bulk.load import checked_concurrency, checked_rows
        from cqlproto_anyio._execution.bulk.stream import Results, ResultStream

        settings = self._resolve(options) if options else self._default
        checked_rows(rows)
        options = {
            "concurrency": checked_concurrency(concurrency),
            "partial": switch("partial", partial),
            "row": row,
            "ordered": switch("ordered", ordered),
            "return_errors": switch("return_errors", return_errors),
        }
        context = self._context
        return ResultStream(lambda: Results(context, query, rows, settings, **options), self)


class Session(BulkVerbs):
    """A client of a cluster, shared by all tasks of a program. Made by :func:`connect`.

    A session belongs to the event loop in which it was made. In another event loop or thread, its
    coroutines raise UsageError before anything is sent.

    ``execute``, ``page`` and ``batch`` always have a checkpoint. Iterating over the rows of a page
    has none, and neither has ``prepare`` of a statement that is prepared already.

    Every verb takes the options of :class:`Profile` as keywords and raises:

    - UsageError, ParameterError, ValueConversionError, TypeError: the call is wrong; nothing was
      sent;
    - DatabaseError: the server answered with an error; one class per error code;
    - RequestTimeout: the deadline has passed;
    - ClockDrifted: the machine's clock was set back too far for a conditional statement;
    - ConnectionFailed: the connection was lost, or can't be made; SessionClosed; Overloaded;
    - ResponseTooLarge: the reply is longer than ``Limits.max_response``; lower ``page_size``;
      RemoteProtocolError: the reply can't be read. Other calls go on.
    """

    @typed_as(Executor.execute)
    async def execute(
        self,
        query: Any,
        parameters: Any = None,
        /,
        *more: Any,
        row: Any = None,
        partial: bool = False,
        **options: Any,
    ) -> Result[Any]:
        """Execute a statement and return its whole result, of all pages.

        Arguments:
            query: the statement's text, or what :meth:`prepare` returned. A text with parameters
                is prepared first, once; a text without parameters is sent as it is.
            parameters: one value per bind marker, as a sequence; or by name, as a mapping or an
                object with fields. None is null; ``UNSET`` leaves a column as it is.
            row: the class of a row: ``Row`` (the default), ``tuple``, ``dict``, a class that takes
                the columns by name (and objects for UDTs and tuples, where its fields are annotated
                so), a TypedDict, ``int`` or another class of values for the only column, or a
                ``RowTarget``.
            partial: whether names missing from the parameters are ``UNSET``, which leaves their
                columns as they are. This needs a mapping or an object with fields, and protocol v4
                or higher.
            options: see :class:`Profile`.

        Raises:
            ResultTooLarge: there are more than ``max_rows`` rows.
            and what every verb raises.
        """
        context = self._context
        if self._running() is not self._home:
            context.supervisor.refuse_here()
        if more:
            refuse_more("execute")
        settings = self._resolve(options) if options else self._default
        if partial is not False:
            parameters = Partial.of(partial, parameters)
        if type(query) is Prepared:
            statement: Statement | None = query._statement
            target = query._row if row is None else row
        else:
            known = parameters is not None and type(query) is str
            key = query if settings.default_keyspace else (settings.keyspace, query)
            statement = context.statements.get(key) if known else None
            target = Row if row is None else row
        if statement is None or not statement.fast_path or not settings.fast_path:
            return await self._execute(Call(context, query, parameters, row, settings))
        if type(parameters) is tuple and len(parameters) == statement.direct:
            values: Sequence[Any] = parameters
        else:
            try:
                values = statement.values(parameters)
            except ValueConversionError as exc:
                call = Call(context, query, parameters, row, settings, statement, exc)
                return await self._execute(call)
        connection = self._choose(statement, values)
        if connection is None or connection.version is not statement.version:
            return await self._execute(Call(context, query, values, row, settings))
        binder = statement.binders.get(settings.binder_key) or statement.binder(settings)
        request = context.request_class(
            statement.query, settings.timeout, binder, values, statement, settings
        )
        try:
            connection.submit(request)
            if request.stream_id:
                request.stamp = context.stamps.last
            elif settings.idempotent:  # it waits to be sent
                request.binder = RecordingBinder(binder, context.stamps)
            timer = context.timer
            if timer.deadlines.add(request, timer.clock()):
                timer.rearm()
            event = await request
        except (ConnectionFailed, RemoteProtocolError) as exc:
            return await self._resume(request, exc, target)
        except ValueConversionError as exc:
            call = Call(context, query, parameters, row, settings, statement, exc)
            return await self._execute(call)
        except ClockBehind:
            return await self._execute(Call(context, query, values, row, settings))
        if event.notes is not None:
            context.take_notes(request, event)
        message = event.message
        kind = type(message)
        if kind is Void:
            return Result([], (), event, connection.name)
        if kind is Rows and message.paging_state is None:
            metadata = message.metadata
            if metadata is statement.prepared.result:
                columns = metadata.columns
                try:
                    decode = metadata.cache.get(target)
                except TypeError:  # it can't be hashed
                    decode = None
                if decode is not None and message.row_count <= settings.max_rows:
                    try:
                        rows = decode(message)
                    except (RemoteProtocolError, RowMappingError) as exc:
                        locate(exc, request)
                        raise
                    return Result(rows, columns, event, connection.name)
        return await self._resume(request, event, target)

    async def _resume(self, request: Request, outcome: Outcome, target: Any) -> Result[Any]:
        """Continue with a request that the fast path has sent and can't finish."""
        call = Call.resumed(self._context, request, target)
        return await call.collect(await call.answer(request, outcome, None))

    async def _execute(self, call: Call) -> Result[Any]:
        self._context.supervisor.check_here()
        return await call.execute()

    @typed_as(Executor.page)
    async def page(
        self,
        query: Any,
        parameters: Any = None,
        /,
        *more: Any,
        row: Any = None,
        token: str | None = None,
        partial: bool = False,
        **options: Any,
    ) -> Page[Any]:
        """Return one page of at most ``page_size`` rows, and a token for the next.

        Arguments:
            token: the ``next_token`` of the page before, or None for the first page.
            query, parameters, row, partial, options: as for :meth:`execute`.

        Raises:
            PageTokenMismatch: the token is damaged, or was made for another query, other parameters
                or another keyspace.
            and what every verb raises.
        """
        self._context.supervisor.check_here()
        if more:
            refuse_more("page")
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token is a {type(token).__name__}, not a str")
        settings = self._resolve(options) if options else self._default
        if token is not None and settings.parameters.page_size is None:
            raise UsageError("token= continues a paged result: pass the page_size= that it had")
        parameters = Partial.of(partial, parameters)
        call = Call(self._context, query, parameters, row, settings)
        await call.ready()
        return await call.page(token)

    @typed_as(Executor.stream)
    def stream(
        self,
        query: Any,
        parameters: Any = None,
        /,
        *more: Any,
        row: Any = None,
        partial: bool = False,
        **options: Any,
    ) -> RowStream[Any]:
        """Return the rows of a result of any size, for ``async for``.

        The next page is requested before the rows of a page are returned; at most two pages are in
        memory. ``timeout`` applies to each page. ``.pages()`` iterates by page, which costs less
        per row.

        A stream ends only at the end of the result. After a page that failed, reading raises the
        same error again. After a page whose reading was cancelled, or after ``aclose()``, it raises
        UsageError. Only one task may read a stream at a time.

        Raises (while iterating):
            what every verb raises.
        """
        if more:
            refuse_more("stream")
        settings = self._resolve(options) if options else self._default
        call = Call(self._context, query, Partial.of(partial, parameters), row, settings)
        call.session = self
        return RowStream(call)

    @typed_as(Executor.prepare)
    async def prepare(self, query: str, /, *, row: Any = None) -> Prepared[Any]:
        """Prepare a statement; tasks that prepare the same one at the same time share a request.

        This isn't needed for speed: ``execute`` prepares statements with parameters itself.
        ``prepare`` raises errors early, tells the types of bind markers and columns, and keeps a
        row target with the statement.

        Raises:
            DatabaseError: the servers refuse the statement.
            and what every verb raises.
        """
        self._context.supervisor.check_here()
        if not isinstance(query, str):
            raise TypeError(f"a query is a str, not a {type(query).__name__}")
        refuse_use(query)
        context = self._context
        settings = self._default
        statement = context.statements.get(context.preparer.key(query, settings.keyspace))
        if statement is None or statement.stale:
            call = Call(context, query, (), row, settings)
            statement = await call.prepare()
        return Prepared(statement, Row if row is None else row)

    async def batch(
        self,
        items: Iterable[BatchItem],
        /,
        *,
        kind: BatchName = "logged",
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Result[Row]:
        """Execute several statements in one request.

        Arguments:
            items: statements, or (statement, parameters).
            kind: ``"logged"``: all statements take effect eventually, or none; ``"unlogged"``: for
                statements on one partition; ``"counter"``: for counters.
            partial: as for :meth:`execute`, for all statements.
            options: see :class:`Profile`.

        Raises:
            what every verb raises.
        """
        self._context.supervisor.check_here()
        settings = self._resolve(options) if options else self._default
        call = self._batch_call(settings, kind)
        await call.add(items, partial=partial)
        return await call.run()

    def _batch_call(self, settings: Settings, kind: Any) -> BatchCall:
        return BatchCall(self._context, settings, kind)

    def using(self, **options: Unpack[Options]) -> Session:
        """Return a session with other options and the same connections: ``using(timeout=30)``.

        Options that are not given stay as they are. Closing either session closes both.

        Arguments:
            options: see :class:`Profile`. The options of ``profile=`` apply where no other option
                is given.

        Raises:
            UsageError: ``keyspace`` needs protocol v5.
            ConfigError, TypeError: an argument is wrong.
        """
        using = type(self)(self._context, overlaid(self._profile, options))
        version = self._context.version
        if options.get("keyspace") is not None and not version.has_keyspace_option:
            raise UsageError(
                f"using(keyspace=) needs protocol v5, this connection speaks v{version:d}:"
                " pass keyspace= to connect(), or write keyspace.table"
            )
        return using

    async def trace(
        self, result: Result[Any] | Page[Any] | UUID, /, *, timeout: float = 5.0
    ) -> Trace:
        """Return the server's trace of a request that was made with ``trace=True``.

        Arguments:
            result: the request's result, or the id of its trace. The trace of a result of several
                pages is that of the first page; ``result.tracing_ids`` has the ids of all pages.
            timeout: how long to wait for the trace to be complete, in seconds.

        Raises:
            UsageError: the request was not traced.
            TraceNotFound: the trace is not complete in time; ``.trace`` is the part that is there.
            and what every verb raises.
        """
        from cqlproto_anyio.tracing import fetch_trace

        self._context.supervisor.check_here()
        tracing_id = result.tracing_id if isinstance(result, _Answer) else result
        if tracing_id is None:
            raise UsageError("the request was not traced: pass trace=True")
        return await fetch_trace(self, tracing_id, timeout=timeout)


def refuse_more(verb: str) -> NoReturn:
    """Raise TypeError for parameters that were passed as separate arguments."""
    raise TypeError(f"parameters are one sequence: {verb}(query, (1, 2))")
