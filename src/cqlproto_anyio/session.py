"""The session: what users hold.

``connect`` (in ``entry``) gives one; it is the pool, shared by all tasks of a program and as
long-lived as the program. The verbs stand here with their types, and the short way through
``execute``: look the statement up, pack the values, choose a connection, wait for the reply, decode
it. What is not simple is in ``execution``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.messages.results import Rows, Void
from cqlproto.rows import Row
from cqlproto_anyio._execution.batch import BatchCall
from cqlproto_anyio._execution.call import Call
from cqlproto_anyio._execution.lifecycle import SessionLifecycle
from cqlproto_anyio._execution.paging import RowStream
from cqlproto_anyio._execution.replies import locate
from cqlproto_anyio._settings.profile import Options, overlaid
from cqlproto_anyio._statements.parameters import Partial
from cqlproto_anyio._statements.statement import Prepared, Statement, refuse_use
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    RemoteProtocolError,
    RowMappingError,
    UsageError,
    ValueConversionError,
)
from cqlproto_anyio.executor import Executor, typed_as
from cqlproto_anyio.policies.timestamps import ClockBehind
from cqlproto_anyio.results import Page, Result, _Answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn, Unpack
    from uuid import UUID

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.attempts import Outcome
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio.executor import BatchItem, BatchName
    from cqlproto_anyio.tracing import Trace

__all__ = ["Session"]


class Session(SessionLifecycle):
    """A client of a cluster, for all tasks of a program. Made by :func:`connect`.

    It belongs to the event loop that it was made in: elsewhere, and in other threads, each of its
    coroutines raises UsageError before anything is sent.

    ``execute``, ``page`` and ``batch`` always have a checkpoint; rows within a page have none, and
    neither has preparing a statement that is prepared already.

    Every verb takes the options of :class:`Profile` as keywords and raises:

    - UsageError, ParameterError, ValueConversionError, TypeError: the call is wrong; nothing was
      sent;
    - DatabaseError: the server refuses; one class per error code;
    - RequestTimeout: the deadline has passed;
    - ClockDrifted: the machine's clock was set back too far for a conditional statement;
    - ConnectionFailed: the connection was lost, or can't be made; SessionClosed; Overloaded;
    - ResponseTooLarge: the reply is longer than ``Limits.max_response``: lower ``page_size``;
      RemoteProtocolError: it can't be read. Neither concerns any other call.
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
        """Execute a statement and return all that it returns, following pages.

        Arguments:
            query: the statement, or what :meth:`prepare` returned. With parameters, text is
                prepared (once, and kept); without, it is sent as it is.
            parameters: one value per bind marker, as a sequence; or by name, as a mapping or an
                object with fields. None is null, ``UNSET`` leaves a column alone.
            row: what a row becomes: ``Row`` (the default), ``tuple``, ``dict``, a class that takes
                the columns by name (and objects for UDTs and tuples, where its fields are annotated
                so), a TypedDict, ``int`` or another class of values for the only column, or a
                ``RowTarget``.
            partial: whether names that the parameters lack are ``UNSET``, which leaves their
                columns alone: with a mapping or an object with fields, on protocol v4 and higher.
            options: see :class:`Profile`.

        Raises:
            ResultTooLarge: there are more than ``max_rows`` rows.
            and what every verb raises.
        """
        runtime = self._runtime
        if self._running() is not self._home:
            runtime.supervisor.refuse_here()
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
            statement = runtime.statements.get(key) if known else None
            target = Row if row is None else row
        if statement is None or not statement.fast_path or not settings.fast_path:
            return await self._execute(Call(runtime, query, parameters, row, settings))
        if type(parameters) is tuple and len(parameters) == statement.direct:
            values: Sequence[Any] = parameters
        else:
            try:
                values = statement.values(parameters)
            except ValueConversionError as exc:
                call = Call(runtime, query, parameters, row, settings, statement, exc)
                return await self._execute(call)
        connection = self._choose(statement, values)
        if connection is None or connection.version is not statement.version:
            return await self._execute(Call(runtime, query, values, row, settings))
        binder = statement.binders.get(settings.binder_key) or statement.binder(settings)
        request = runtime.request_class(
            statement.query, settings.timeout, binder, values, statement, settings
        )
        try:
            connection.submit(request)
            if request.stream_id:
                request.stamp = runtime.stamps.last
            timer = runtime.timer
            if timer.deadlines.add(request, timer.clock()):
                timer.rearm()
            event = await request
        except (ConnectionFailed, RemoteProtocolError) as exc:
            return await self._resume(request, exc, target)
        except ValueConversionError as exc:
            call = Call(runtime, query, parameters, row, settings, statement, exc)
            return await self._execute(call)
        except ClockBehind:
            return await self._execute(Call(runtime, query, values, row, settings))
        if event.notes is not None:
            runtime.take_notes(request, event)
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
        """Go on with a request that was sent, where its outcome isn't a result of one page."""
        call = Call.resumed(self._runtime, request, target)
        return await call.collect(await call.answer(request, outcome, None))

    async def _execute(self, call: Call) -> Result[Any]:
        self._runtime.supervisor.check_here()
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
            token: a page's ``next_token``, or None for the first page.
            query, parameters, row, partial, options: as for :meth:`execute`.

        Raises:
            PageTokenMismatch: the token is damaged or belongs to another query, other parameters or
                another keyspace.
            and what every verb raises.
        """
        self._runtime.supervisor.check_here()
        if more:
            refuse_more("page")
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token is a {type(token).__name__}, not a str")
        settings = self._resolve(options) if options else self._default
        if token is not None and settings.parameters.page_size is None:
            raise UsageError("token= continues a paged result: pass the page_size= that it had")
        parameters = Partial.of(partial, parameters)
        call = Call(self._runtime, query, parameters, row, settings)
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

        The next page is on its way while this one is worked on; at most two pages are in memory.
        ``timeout`` applies to each page. ``.pages()`` iterates by page, which is cheaper per row.

        A stream ends only where the result does. Reading on after a page that failed raises the
        same failure again; reading on after a page that was cancelled, or after ``aclose()``,
        raises UsageError. One task reads it at a time.

        Raises (while iterating):
            what every verb raises.
        """
        if more:
            refuse_more("stream")
        settings = self._resolve(options) if options else self._default
        call = Call(self._runtime, query, Partial.of(partial, parameters), row, settings)
        call.session = self
        return RowStream(call)

    @typed_as(Executor.prepare)
    async def prepare(self, query: str, /, *, row: Any = None) -> Prepared[Any]:
        """Prepare a statement: once, however many tasks ask at the same time.

        Not needed for speed, since ``execute`` prepares what has parameters by itself; it gives
        early errors, the types of markers and columns, and a row target that goes with the
        statement.

        Raises:
            DatabaseError: the server refuses it; and what every verb raises.
        """
        self._runtime.supervisor.check_here()
        if not isinstance(query, str):
            raise TypeError(f"a query is a str, not a {type(query).__name__}")
        refuse_use(query)
        runtime = self._runtime
        settings = self._default
        statement = runtime.statements.get(runtime.preparations.key(query, settings.keyspace))
        if statement is None or statement.stale:
            call = Call(runtime, query, (), row, settings)
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
        """Execute several statements as one request.

        Arguments:
            items: statements, or (statement, parameters).
            kind: ``"logged"``: all of them take effect, sooner or later, or none; ``"unlogged"``:
                for statements on one partition; ``"counter"``: for counters.
            partial: as for :meth:`execute`, for all statements.
            options: see :class:`Profile`.

        Raises:
            what every verb raises.
        """
        self._runtime.supervisor.check_here()
        settings = self._resolve(options) if options else self._default
        call = self._batch_call(settings, kind)
        await call.add(items, partial=partial)
        return await call.run()

    def _batch_call(self, settings: Settings, kind: Any) -> BatchCall:
        return BatchCall(self._runtime, settings, kind)

    def using(self, **options: Unpack[Options]) -> Session:
        """Return a session with other options on the same connections: ``using(timeout=30)``.

        Only what is given changes. Closing either session closes both.

        Arguments:
            options: see :class:`Profile`; ``profile`` is one, which the others lie over.

        Raises:
            UsageError: ``keyspace`` needs protocol v5.
            ConfigError, TypeError: an argument is wrong.
        """
        using = type(self)(self._runtime, overlaid(self._profile, options))
        version = self._runtime.version
        if options.get("keyspace") is not None and not version.has_keyspace_option:
            raise UsageError(
                f"using(keyspace=) needs protocol v5, this connection speaks v{version:d}:"
                " pass keyspace= to connect(), or write keyspace.table"
            )
        return using

    async def trace(
        self, result: Result[Any] | Page[Any] | UUID, /, *, timeout: float = 5.0
    ) -> Trace:
        """Return what the nodes did for a request that was made with ``trace=True``.

        Arguments:
            result: the request's result, or the id of its trace. Of a result of several pages it
                is the trace of the first; ``result.tracing_ids`` has those of all.
            timeout: how long to wait until the trace is complete, in seconds.

        Raises:
            UsageError: the request was not traced.
            TraceNotFound: there is no complete trace in time; ``.trace`` is what there is.
            and what every verb raises.
        """
        from cqlproto_anyio.tracing import fetch_trace

        self._runtime.supervisor.check_here()
        tracing_id = result.tracing_id if isinstance(result, _Answer) else result
        if tracing_id is None:
            raise UsageError("the request was not traced: pass trace=True")
        return await fetch_trace(self, tracing_id, timeout=timeout)


def refuse_more(verb: str) -> NoReturn:
    """Raise TypeError for parameters that were passed one by one."""
    raise TypeError(f"parameters are one sequence: {verb}(query, (1, 2))")
