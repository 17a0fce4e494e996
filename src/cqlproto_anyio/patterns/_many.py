"""Work on many items, of which a bounded number is under way at a time."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from inspect import isasyncgen
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from cqlproto_anyio.exceptions import BulkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from cqlproto_anyio.executor import BulkExecutor, Executor

__all__ = ["execute_many", "for_each"]

T = TypeVar("T")

_CLOSING = 1.0  # seconds that closing a source may take
_END: Any = object()


async def for_each(
    items: Iterable[T] | AsyncIterable[T],
    function: Callable[[T], Awaitable[object]],
    *,
    concurrency: int,
) -> None:
    """Call a function for each item, in ``concurrency`` tasks.

    After the first error, of the function or of the source, no more items are taken, and those
    under way are waited for. Then the error is raised.

    Arguments:
        items: the source; it is read by one task at a time, and a generator is closed.
        function: what is called with each item.
        concurrency: how many items are under way at a time.
    """
    turn = anyio.Lock()
    failures: list[Exception] = []
    finished = False
    source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    async def following() -> Any:
        nonlocal finished
        if not isinstance(source, AsyncIterator):
            return next(source, _END)
        async with turn:
            if finished or failures:
                return _END
            item = await anext(source, _END)
            finished = item is _END
            return item

    async def work() -> None:
        try:
            while not failures and (item := await following()) is not _END:
                await function(item)
        except Exception as exc:
            failures.append(exc)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(concurrency):
                group.start_soon(work)
    finally:
        if isasyncgen(items) and not finished:
            with anyio.move_on_after(_CLOSING, shield=True), suppress(Exception):
                await items.aclose()
    if failures:
        raise failures[0]


async def execute_many(
    executor: Executor,
    query: str,
    items: Iterable[T] | AsyncIterable[T],
    row: Callable[[T], Any],
    *,
    concurrency: int,
) -> None:
    """Execute an idempotent statement for each item; a session does it in bulk.

    Arguments:
        executor: the session.
        query: the statement.
        items: the source; an asynchronous generator is closed.
        row: makes the parameters of an item; None to leave it out.
        concurrency: how many rows are under way at a time.

    Raises:
        the first error, of a row or of the source, when all rows under way have ended.
    """
    rows = _rows(items, row) if isinstance(items, AsyncIterable) else filter(None, map(row, items))
    if not hasattr(executor, "execute_many"):

        async def execute(row: Any) -> None:
            await executor.execute(query, row, idempotent=True)

        return await for_each(rows, execute, concurrency=concurrency)
    bulk = cast("BulkExecutor", executor)
    try:
        await bulk.execute_many(query, rows, concurrency=concurrency, idempotent=True)
    except BulkError as exc:
        raise exc.failures[0].error from None


async def _rows(items: AsyncIterable[T], row: Callable[[T], Any]) -> AsyncIterator[Any]:
    try:
        async for item in items:
            if (found := row(item)) is not None:
                yield found
    finally:
        if isasyncgen(items):
            await items.aclose()
