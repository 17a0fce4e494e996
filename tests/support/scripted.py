"""An executor without a server: a function of the test answers each request.

The answers of :class:`Scripted` are turned into the results that a session returns, so that recipes
are tested by what they send and by what they do with the answers.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from cqlproto.rows.targets.row import row_class
from cqlproto_anyio.exceptions import ConnectionLost, RequestTimeout, Unavailable
from cqlproto_anyio.results import Page, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Request", "Scripted", "lost", "refusal", "result", "timed_out"]


@dataclass
class Request:
    """A request that a recipe has sent.

    Attributes:
        statements: the text and the parameters of each statement; one, or those of a batch.
        options: the options of the call; ``kind`` too for a batch.
    """

    statements: list[tuple[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the first statement."""
        return self.statements[0][0]

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of all statements together, for those that are mappings."""
        return {name: value for _, each in self.statements for name, value in (each or {}).items()}

    @property
    def conditional(self) -> bool:
        return any(" IF " in text and "CREATE" not in text for text, _ in self.statements)


class refusal(list[dict[str, Any]]):
    """The answer of a conditional statement that was not applied: the rows in the way, if any."""


def result(answer: Any) -> Result[Any]:
    """Return the result for an answer.

    Arguments:
        answer: True for a conditional statement that was applied; a :class:`refusal`; a list of
            dicts for rows; None for no rows.
    """
    if answer is True or isinstance(answer, refusal):
        rows = [
            {"[applied]": answer is True, **row} for row in (answer if answer is not True else [])
        ]
        rows = rows or [{"[applied]": answer is True}]
    else:
        rows = list(answer or [])
    names = tuple(rows[0]) if rows else ()
    columns: Any = [SimpleNamespace(name=name, type="?") for name in names]
    made = [tuple.__new__(row_class(names), row.values()) for row in rows]
    outcome = tuple(rows[0].values()) if names[:1] == ("[applied]",) else None
    event: Any = SimpleNamespace(warnings=(), tracing_id=None, payload=None)
    return Result(made, columns, event, "scripted:9042", outcome)


class Scripted:
    """An executor whose requests a function answers.

    Arguments:
        answer: takes a :class:`Request` and returns what :func:`result` takes, or an exception,
            which is raised; a coroutine is awaited first.

    Attributes:
        asked: the requests, in order.
        prepared: the texts that were prepared, in order.
    """

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        self.answer = answer
        self.asked: list[Request] = []
        self.prepared: list[str] = []

    @property
    def lwts(self) -> int:
        """The number of conditional statements and batches."""
        return sum(each.conditional for each in self.asked)

    async def _answer(self, request: Request) -> Result[Any]:
        self.asked.append(request)
        await anyio.lowlevel.checkpoint()
        answer = self.answer(request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        return result(answer)

    async def execute(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        return await self._answer(Request([(_text(query), parameters)], options))

    async def batch(self, items: Iterable[Any], /, **options: Any) -> Any:
        pairs = [each if isinstance(each, tuple) else (each, None) for each in items]
        return await self._answer(
            Request([(_text(text), values) for text, values in pairs], options)
        )

    async def page(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        got = await self.execute(query, parameters, **options)
        return Page(got.rows, got._columns, got._event, got.host, None)

    def stream(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        return _Stream(self, query, parameters, options)

    async def prepare(self, query: str, /, **options: Any) -> Any:
        self.prepared.append(query)
        await anyio.lowlevel.checkpoint()
        return SimpleNamespace(
            query=query, parameters=(), key_positions=(), cells=lambda _parameters=None: ()
        )


class _Stream:
    def __init__(self, executor: Scripted, query: Any, parameters: Any, options: Any) -> None:
        self._call = (executor, query, parameters, options)
        self._rows: Iterator[Any] | None = None

    def pages(self) -> _Pages:
        return _Pages(self._call)

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> Any:
        if self._rows is None:
            executor, query, parameters, options = self._call
            self._rows = iter((await executor.execute(query, parameters, **options)).rows)
        for row in self._rows:
            return row
        raise StopAsyncIteration


class _Pages:
    def __init__(self, call: Any) -> None:
        self._call = call

    def __aiter__(self) -> _Pages:
        return self

    async def __anext__(self) -> Any:
        call, self._call = self._call, None
        if call is None:
            raise StopAsyncIteration
        executor, query, parameters, options = call
        rows = (await executor.execute(query, parameters, **options)).rows
        if not rows:
            raise StopAsyncIteration
        return rows


def _text(query: Any) -> str:
    return query if isinstance(query, str) else query.query


def lost(maybe_applied: bool = True) -> ConnectionLost:
    """Return the error of a connection that was lost while the request was in flight."""
    error = ConnectionLost("gone", host="h", stage="request", elapsed=1.0)
    error.maybe_applied = maybe_applied
    return error


def timed_out() -> RequestTimeout:
    """Return the error of a request without an answer."""
    error = RequestTimeout("no answer")
    error.maybe_applied = True
    return error


def unavailable() -> Unavailable:
    """Return the error of a request that was certainly not executed."""
    details = {"consistency": "SERIAL", "required": 2, "alive": 1}
    return Unavailable(0x1000, "as told", details, host="h", query=None)
