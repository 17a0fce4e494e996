"""A session whose requests somebody wants to be told of.

A session is one of these only if its hooks have a ``request_finished``: the others don't pay for
what nobody hears. One record per call, made when it has ended; a stream makes one for each page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto_anyio.exceptions import CQLError, DatabaseError, Overloaded
from cqlproto_anyio.hooks import RequestRecord
from cqlproto_anyio.prepared import Prepared
from cqlproto_anyio.session import Session

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from cqlproto_anyio.paging import RowStream
    from cqlproto_anyio.results import Page, Result

__all__ = ["ObservedSession"]


class ObservedSession(Session):
    """As :class:`Session`; tells the hooks of each call."""

    async def execute(
        self, query: Any, parameters: Any = None, /, *, row: Any = None, **options: Any
    ) -> Result[Any]:
        call = super().execute(query, parameters, row=row, **options)
        result: Result[Any] = await self._observe("execute", query, options, call)
        return result

    async def page(
        self,
        query: Any,
        parameters: Any = None,
        /,
        *,
        row: Any = None,
        token: str | None = None,
        **options: Any,
    ) -> Page[Any]:
        call = super().page(query, parameters, row=row, token=token, **options)
        result: Page[Any] = await self._observe("page", query, options, call)
        return result

    def stream(
        self, query: Any, parameters: Any = None, /, *, row: Any = None, **options: Any
    ) -> RowStream[Any]:
        stream: RowStream[Any] = super().stream(query, parameters, row=row, **options)
        pages = stream._pages
        pages.observer = lambda page: self._observe("stream", query, options, page)
        return stream

    async def prepare(self, query: str, /, *, row: Any = None) -> Prepared[Any]:
        call = super().prepare(query) if row is None else super().prepare(query, row=row)
        prepared: Prepared[Any] = await self._observe("prepare", query, {}, call)
        return prepared

    async def batch(self, items: Any, /, *, kind: Any = "logged", **options: Any) -> Result[Any]:
        items = list(items)
        query = f"BATCH of {len(items)}"
        result: Result[Any] = await self._observe(
            "batch", query, options, super().batch(items, kind=kind, **options)
        )
        return result

    async def _observe(
        self, verb: str, query: Any, options: Mapping[str, Any], call: Coroutine[Any, Any, Any]
    ) -> Any:
        try:
            self._runtime.check_here()  # or the hooks would be called in another thread
        except CQLError:
            call.close()
            raise
        clock = self._runtime.clock
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
            self._tell(verb, query, options, clock() - started, answer, error)

    def _tell(
        self,
        verb: str,
        query: Any,
        options: Mapping[str, Any],
        elapsed: float,
        answer: Any,
        error: BaseException | None,
    ) -> None:
        tell = self._runtime.tell.request_finished
        if tell is None:
            return
        failures = getattr(answer, "attempts", ())
        host = getattr(answer, "host", "")
        attempts = 1 + len(failures)
        told: Any = error if isinstance(error, DatabaseError) else answer
        tracing_id = getattr(told, "tracing_id", None)
        if isinstance(error, CQLError):
            sent = error.host and not isinstance(error, Overloaded)
            attempts = len(error.attempts) or (1 if sent else 0)
            host = error.host or ""
        elif isinstance(error, Exception):  # a wrong argument
            attempts = 0
        profile = options.get("profile", self._profile)
        tell(
            RequestRecord(
                verb,
                query.query if isinstance(query, Prepared) else str(query),
                options.get("keyspace") or self._default.keyspace,
                options.get("consistency") or profile.consistency,
                host,
                elapsed,
                attempts,
                len(getattr(answer, "rows", ())),
                error,
                tracing_id,
                getattr(told, "warnings", ()),
                getattr(told, "tracing_ids", () if tracing_id is None else (tracing_id,)),
            )
        )
