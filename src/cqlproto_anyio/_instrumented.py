"""A session that calls ``Hooks.request_finished`` after each request.

``connect`` makes such a session only if a hook is there, so that other sessions don't pay for it.
There is one record per call, made when the call has ended; a stream makes one for each page, a call
for many rows one for all of them. The
arguments are passed on to :class:`Session` unchanged, so both sessions refuse the same calls with
the same errors. Making a record calls no method of the arguments, which are the user's objects.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._execution.bulk.result import BulkResult
from cqlproto_anyio._settings.profile import OPTION_NAMES
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio.exceptions import BulkError, CQLError, DatabaseError, Overloaded
from cqlproto_anyio.hooks import RequestRecord
from cqlproto_anyio.session import Session

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from cqlproto_anyio._execution.batch import BatchCall
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["ObservedSession"]

# The batch that the task executes. How many statements it has is known after it has read them.
_batch: ContextVar[BatchCall | None] = ContextVar("_batch", default=None)


class ObservedSession(Session):
    """A :class:`Session` that calls the hooks after each request."""

    async def execute(self, /, *arguments: Any, **keywords: Any) -> Any:
        call = super().execute(*arguments, **keywords)
        return await self._observe("execute", arguments, keywords, call)

    async def page(self, /, *arguments: Any, **keywords: Any) -> Any:
        call = super().page(*arguments, **keywords)
        return await self._observe("page", arguments, keywords, call)

    def stream(self, /, *arguments: Any, **keywords: Any) -> Any:
        stream = super().stream(*arguments, **keywords)
        stream._pages.observer = lambda page: self._observe("stream", arguments, keywords, page)
        return stream

    async def prepare(self, /, *arguments: Any, **keywords: Any) -> Any:
        call = super().prepare(*arguments, **keywords)
        return await self._observe("prepare", arguments, keywords, call)

    async def execute_many(self, /, *arguments: Any, **keywords: Any) -> Any:
        call = super().execute_many(*arguments, **keywords)
        return await self._observe("execute_many", arguments, keywords, call)

    def map(self, /, *arguments: Any, **keywords: Any) -> Any:
        results = super().map(*arguments, **keywords)
        clock = self._context.timer.clock

        def ended(started: float, rows: int, error: BaseException | None) -> None:
            answer: BulkResult[Any] = BulkResult(rows, ())
            self._tell("map", arguments, keywords, clock() - started, answer, error)

        results.observer = ended
        return results

    async def batch(self, /, *arguments: Any, **keywords: Any) -> Any:
        _batch.set(None)
        call = super().batch(*arguments, **keywords)
        return await self._observe("batch", arguments, keywords, call)

    def _batch_call(self, settings: Settings, kind: Any) -> BatchCall:
        call = super()._batch_call(settings, kind)
        _batch.set(call)
        return call

    async def _observe(
        self,
        verb: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: Coroutine[Any, Any, Any],
    ) -> Any:
        try:
            self._context.supervisor.check_here()  # the hooks must not be called in another thread
        except CQLError:
            call.close()
            raise
        clock = self._context.timer.clock
        started = clock()
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = await call
            return answer
        except BaseException as exc:
            error = exc
            raise
        finally:
            self._tell(verb, arguments, keywords, clock() - started, answer, error)

    def _tell(
        self,
        verb: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        elapsed: float,
        answer: Any,
        error: BaseException | None,
    ) -> None:
        tell = self._context.tell.request_finished
        if tell is None:
            return
        failures = getattr(answer, "attempts", ())
        host = getattr(answer, "host", "")
        attempts = 1 + len(failures)
        source: Any = error if isinstance(error, DatabaseError) else answer
        tracing_id = getattr(source, "tracing_id", None)
        if isinstance(error, CQLError):
            sent = error.host and not isinstance(error, Overloaded)
            attempts = len(error.attempts) or (1 if sent else 0)
            host = error.host or ""
        elif isinstance(error, Exception):  # a wrong argument
            attempts = 0
        rows = len(getattr(answer, "rows", ()))
        bulk = error if isinstance(error, BulkError) else answer
        if isinstance(bulk, (BulkError, BulkResult)):
            rows = bulk.count
            attempts = bulk.count + len(bulk.failures)
        settings = self._record_settings(keywords)
        tell(
            RequestRecord(
                verb,
                _text(verb, arguments),
                settings.keyspace,
                settings.consistency,
                host,
                elapsed,
                attempts,
                rows,
                error,
                tracing_id,
                getattr(source, "warnings", ()),
                getattr(source, "tracing_ids", () if tracing_id is None else (tracing_id,)),
            )
        )

    def _record_settings(self, keywords: dict[str, Any]) -> Settings:
        """Return the settings of a call; the session's if the options of the call are wrong."""
        options = {name: keywords[name] for name in OPTION_NAMES & keywords.keys()}
        try:
            return self._resolve(options) if options else self._default
        except Exception:
            return self._default


def _text(verb: str, arguments: tuple[Any, ...]) -> str:
    """Return the text of a statement for a record, whatever was passed as the statement."""
    if verb == "batch":
        call = _batch.get()
        return f"BATCH of {0 if call is None else call.size}"
    query = arguments[0] if arguments else None
    if isinstance(query, Prepared):
        return query.query
    return query if isinstance(query, str) else f"a {type(query).__name__}"
