"""A database manager: statements with retries and a gate, units of work, health and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import anyio

from cqlproto_anyio._text import administration, read_statement
from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import Clock, now, one_of, utc_now
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._requests import (
    LEFT_OUT,
    DatabaseMetrics,
    Dicts,
    Health,
    Pages,
    Requests,
    RetryConfig,
    typed,
)
from cqlproto_anyio.patterns._unit import UnitOfWork
from cqlproto_anyio.patterns._writeerrors import AdminNotAllowed, TransactionError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cqlproto_anyio._execution.bulk.result import BulkResult
    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.patterns._breaker import CircuitBreaker

__all__ = ["Database"]

Mode = Literal["auto", "manual", "none"]
Units = Mapping[object, tuple[int, UnitOfWork]]

_HEALTH = "SELECT key FROM system.local WHERE key = 'local'"
# the unit of each database, and the task that began it; a task inherits those of its parent
_UNITS: ContextVar[Units | None] = ContextVar("units", default=None)


class Database:
    """Runs statements: ``rows = await database.run("SELECT ..", {"id": 1}, fetch="one")``.

    Guarantee: a statement is tried again only if its error may be gone a moment later, and if
    repeating it is harmless: it is a read, or ``idempotent=True`` without a condition, or was
    certainly not applied. ``timeout`` is one deadline for all attempts. Statements that change more
    than rows (DDL, roles, permissions, TRUNCATE) are recognised by their tokens.

    In the mode ``manual``, ``begin`` opens a unit of work for the task that calls it. ``run`` adds
    writes to it, and executes reads at once; ``commit`` sends it. Other tasks have their own.

    Not guaranteed: isolation, reading what the unit holds, or a way back after a commit. The gate
    is no protection from people who choose a statement: that is for the roles of the cluster.

    Cost: that of the statement.

    Arguments:
        session: the session, or another Executor.
        mode: ``auto`` and ``none``: each statement is executed at once. ``manual``: see above.
        retry: the retries; None for none besides those of the session.
        validate_queries: whether administrative statements are refused, unless ``allow_admin``.
        allow_admin: whether they are executed.
        breaker: a circuit breaker for all requests.
        clock: the time of :meth:`health`.

    Attributes:
        session: the session.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(
        self,
        session: Executor,
        *,
        mode: Mode = "auto",
        retry: RetryConfig | None = None,
        validate_queries: bool = True,
        allow_admin: bool = False,
        breaker: CircuitBreaker | None = None,
        clock: Clock = utc_now,
    ) -> None:
        one_of("mode", mode, "auto", "manual", "none")
        self.session = session
        self._manual = mode == "manual"
        self._requests = Requests(session, retry, breaker)
        self._gated = validate_queries and not allow_admin
        self._clock = clock
        self._token = object()

    @overload
    async def run(
        self,
        query: str,
        parameters: Any = None,
        *,
        fetch: Literal["all"] = "all",
        parameter_types: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = ...,
    ) -> Dicts: ...
    @overload
    async def run(
        self,
        query: str,
        parameters: Any = None,
        *,
        fetch: Literal["one"],
        parameter_types: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = ...,
    ) -> dict[str, Any] | None: ...
    @overload
    async def run(
        self,
        query: str,
        parameters: Any = None,
        *,
        fetch: Literal["many"],
        size: int,
        parameter_types: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = ...,
    ) -> Dicts: ...
    @overload
    async def run(
        self,
        query: str,
        parameters: Any = None,
        *,
        fetch: Literal["iterate"],
        parameter_types: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = ...,
    ) -> AsyncIterator[dict[str, Any]]: ...
    async def run(
        self,
        query: str,
        parameters: Any = None,
        *,
        fetch: str = "all",
        size: int | None = None,
        parameter_types: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        timeout: float | None = LEFT_OUT,
    ) -> Any:
        """Execute a statement.

        Arguments:
            query: its text.
            parameters: a sequence for ``?``, a mapping for ``:name`` markers.
            fetch: what to return: ``all`` rows; ``one``: the first, or None; ``many``: the first
                ``size``; ``iterate``: an async iterator, which reads page by page.
            size: for ``many``.
            parameter_types: a CQL type for a parameter, which is checked before it is sent; or
                ``json``: the parameter is stored as JSON text, and the column of this name is read
                from it.
            idempotent: whether repeating the statement is harmless.
            timeout: for all attempts and pauses together (of a page, for ``iterate``), in seconds;
                None for none. Left out, each attempt has the session's.

        Raises:
            AdminNotAllowed: the statement changes more than rows.
            CircuitOpen: the breaker is open.
            TransactionError: a write in the mode ``manual`` before :meth:`begin`.
            InvalidInput: an argument is wrong.
            CQLError: what the session raises.
        """
        self._check(query)
        one_of("fetch", fetch, "all", "one", "many", "iterate")
        if (fetch == "many") != (size is not None):
            raise InvalidInput("size", "the number of rows for fetch='many', and only for it", size)
        most = {"one": 1, "many": size}.get(fetch)
        parameters, columns = typed(parameters, parameter_types or {})
        if self._manual and not read_statement(query).reads:
            self._unit().add(query, parameters)
            return None if fetch == "one" else Fetched(_nothing) if fetch == "iterate" else []
        options = {} if idempotent is None else {"idempotent": idempotent}
        pages = Pages(self._requests, query, parameters, columns, timeout, options)
        if most is not None:
            pages.limit(most)
        if fetch == "iterate":
            return Fetched(partial(self._requests.measured, pages.fetch))
        rows = await self._requests.measured(partial(pages.collect, most))
        return (rows[0] if rows else None) if fetch == "one" else rows

    async def execute_many(
        self,
        query: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        atomic: bool = False,
        concurrency: int = 256,
    ) -> BulkResult[Any]:
        """Execute a statement for many rows of parameters.

        Arguments:
            query, rows: its text, and the parameters of each row.
            atomic: one LOGGED batch, or UnitRefused; else each row by itself.
            concurrency: how many are in flight.

        Raises:
            UnitRefused: the rows can't be one batch; nothing was written.
            BulkError: rows have failed.
            AdminNotAllowed, OutcomeUnknown, CQLError: as for :meth:`run` and a unit of work.
        """
        self._check(query)
        if not atomic:
            bulk: Any = self.session
            return await self._requests.measured(
                partial(bulk.execute_many, query, rows, concurrency=concurrency)
            )
        items = [row async for row in rows] if isinstance(rows, AsyncIterable) else list(rows)
        return await self._requests.measured(partial(self._atomic, query, items))

    async def _atomic(self, query: str, rows: list[Any]) -> BulkResult[Any]:
        from cqlproto_anyio._execution.bulk.result import BulkResult

        async with UnitOfWork(self.session) as unit:
            for row in rows:
                unit.add(query, row)
        return BulkResult(len(rows), ())

    async def health(self) -> Health:
        """Ask a node by one query, past the breaker and the metrics; raises no CQLError."""
        began, error = anyio.current_time(), None
        try:
            await self.session.execute(_HEALTH)
        except CQLError as exc:
            error = f"{type(exc).__name__}: {exc}"
        return Health(error is None, anyio.current_time() - began, error, now(self._clock))

    def metrics(self) -> DatabaseMetrics:
        """Return the counts of this object's calls."""
        return self._requests.metrics()

    def transaction(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """Return a unit of work, for ``async with``."""
        return UnitOfWork(self.session)

    async def begin(self) -> UnitOfWork:
        """Begin a transaction of this task, in the mode ``manual``; returns its unit of work.

        Raises:
            TransactionError: the mode is another one, or the task has begun already.
        """
        if not self._manual:
            raise TransactionError("begin() needs mode='manual'; transaction() works in any mode")
        if self._begun() is not None:
            raise TransactionError("begin() twice: this task has a transaction already")
        unit = await UnitOfWork(self.session).__aenter__()
        mine = {self._token: (anyio.get_current_task().id, unit)}
        _UNITS.set({**(_UNITS.get() or {}), **mine})
        return unit

    async def commit(self) -> None:
        """Commit the transaction of this task; raises TransactionError if it has none."""
        await self._end(None)

    async def rollback(self) -> None:
        """Discard the transaction of this task; raises TransactionError if it has none."""
        await self._end(TransactionError("the transaction was rolled back"))

    async def _end(self, error: TransactionError | None) -> None:
        unit = self._unit()
        others = dict(_UNITS.get() or {})
        del others[self._token]
        _UNITS.set(others)
        await unit.__aexit__(None, error, None)

    def _begun(self) -> UnitOfWork | None:
        task, unit = (_UNITS.get() or {}).get(self._token, (None, None))
        return unit if task == anyio.get_current_task().id else None

    def _unit(self) -> UnitOfWork:
        unit = self._begun()
        if unit is None:
            raise TransactionError("this task has no transaction: call begin() first")
        return unit

    def _check(self, query: object) -> None:
        if not isinstance(query, str):
            raise InvalidInput("query", "the text of a statement", query)
        kind = administration(query) if self._gated else ""
        if kind:
            raise AdminNotAllowed(kind, query)


async def _nothing() -> None:
    """Return no page."""
