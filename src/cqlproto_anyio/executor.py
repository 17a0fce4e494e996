"""The types of a session's verbs, for sessions and for objects that stand in for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from cqlproto.rows import Row, RowTarget
from cqlproto_anyio._statements.parameters import Parameters
from cqlproto_anyio._statements.statement import Prepared

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from typing import Unpack

    from cqlproto_anyio._execution.bulk.result import BulkResult
    from cqlproto_anyio._execution.bulk.stream import ResultStream
    from cqlproto_anyio._execution.paging import RowStream
    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.results import Page, Result

__all__ = ["BatchItem", "BatchName", "BulkExecutor", "Executor", "Target", "typed_as"]

R = TypeVar("R")
P = TypeVar("P")
F = TypeVar("F", bound="Callable[..., Any]")
Target = type[R] | RowTarget[R]
BatchItem = str | Prepared[Any] | tuple[str | Prepared[Any], Parameters]
BatchName = Literal["logged", "unlogged", "counter"]


class Executor(Protocol):
    """What a library on top of the client needs: a session, or a stand-in for one in tests."""

    @overload
    async def execute(
        self,
        query: str | Prepared[Any],
        parameters: Parameters = None,
        /,
        *,
        row: Target[R],
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Result[R]: ...
    @overload
    async def execute(
        self,
        query: Prepared[R],
        parameters: Parameters = None,
        /,
        *,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Result[R]: ...
    @overload
    async def execute(
        self,
        query: str,
        parameters: Parameters = None,
        /,
        *,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Result[Row]: ...

    @overload
    async def page(
        self,
        query: str | Prepared[Any],
        parameters: Parameters = None,
        /,
        *,
        row: Target[R],
        token: str | None = None,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Page[R]: ...
    @overload
    async def page(
        self,
        query: Prepared[R],
        parameters: Parameters = None,
        /,
        *,
        token: str | None = None,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Page[R]: ...
    @overload
    async def page(
        self,
        query: str,
        parameters: Parameters = None,
        /,
        *,
        token: str | None = None,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Page[Row]: ...

    @overload
    def stream(
        self,
        query: str | Prepared[Any],
        parameters: Parameters = None,
        /,
        *,
        row: Target[R],
        partial: bool = False,
        **options: Unpack[Options],
    ) -> RowStream[R]: ...
    @overload
    def stream(
        self,
        query: Prepared[R],
        parameters: Parameters = None,
        /,
        *,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> RowStream[R]: ...
    @overload
    def stream(
        self,
        query: str,
        parameters: Parameters = None,
        /,
        *,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> RowStream[Row]: ...

    @overload
    async def prepare(self, query: str, /, *, row: Target[R]) -> Prepared[R]: ...
    @overload
    async def prepare(self, query: str, /) -> Prepared[Row]: ...

    async def batch(
        self,
        items: Iterable[BatchItem],
        /,
        *,
        kind: BatchName = "logged",
        partial: bool = False,
        **options: Unpack[Options],
    ) -> Result[Row]: ...


class BulkExecutor(Executor, Protocol):
    """What a library needs that executes statements for many rows."""

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
    ) -> BulkResult[P]: ...

    @overload
    def map(
        self,
        query: str | Prepared[Any],
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        row: Target[R],
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[R]]: ...
    @overload
    def map(
        self,
        query: Prepared[R],
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[R]]: ...
    @overload
    def map(
        self,
        query: str,
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[False] = False,
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[Row]]: ...
    @overload
    def map(
        self,
        query: str | Prepared[Any],
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        row: Target[R],
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[True],
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[R] | Exception]: ...
    @overload
    def map(
        self,
        query: Prepared[R],
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[True],
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[R] | Exception]: ...
    @overload
    def map(
        self,
        query: str,
        rows: Iterable[P] | AsyncIterable[P],
        /,
        *,
        concurrency: int = 64,
        ordered: bool = True,
        return_errors: Literal[True],
        partial: bool = False,
        **options: Unpack[Options],
    ) -> ResultStream[P, Result[Row] | Exception]: ...


def typed_as(method: F) -> Callable[[Callable[..., Any]], F]:
    """Decorate a method with the types of another one: ``@typed_as(Executor.execute)``.

    So the overloads of a verb are written once. At run time the decorator returns the method as it
    is.

    Arguments:
        method: the method whose types are taken.
    """

    def same(function: Any) -> Any:
        return function

    return same
