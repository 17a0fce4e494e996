"""Streaming: the rows of a result of any size, with one page requested ahead.

The next page is requested before the rows of a page are returned. This needs no task and no cancel
scope that would stay open across a yield, so the caller may leave the loop at any point: the reply
to the one request under way is dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cqlproto.messages.results import Rows
from cqlproto_anyio._statements.pages import Pages
from cqlproto_anyio.exceptions import UsageError
from cqlproto_anyio.results import Notes, Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
    from types import TracebackType
    from uuid import UUID

    from cqlproto.messages.results import Column
    from cqlproto_anyio._execution.call import Call

__all__ = ["PageStream", "RowStream"]

R = TypeVar("R")


class _Seen:
    """What is known from the pages of a stream that were returned.

    Attributes:
        columns: the columns of the latest page.
        notes: the warnings and trace ids of all of them.
    """

    __slots__ = ("columns", "notes")

    def __init__(self) -> None:
        self.columns: Sequence[Column] = ()
        self.notes = Notes()


class _Described:
    """The properties of a stream: what its pages so far have brought; none sends a request."""

    __slots__ = ("_seen",)
    _seen: _Seen

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order; empty before the first page."""
        return tuple(column.name for column in self._seen.columns)

    @property
    def column_types(self) -> tuple[str, ...]:
        """The CQL types of the columns, as text; empty before the first page."""
        return tuple(str(column.type) for column in self._seen.columns)

    @property
    def warnings(self) -> Sequence[str]:
        """The server's warnings, of all pages so far; empty before the first page."""
        return tuple(self._seen.notes.warnings)

    @property
    def tracing_ids(self) -> tuple[UUID, ...]:
        """The ids of the traces that ``trace=True`` asked for, one for each page so far."""
        return tuple(self._seen.notes.tracing_ids)


class PageStream(_Described, Generic[R]):
    """The pages of a result, as lists of rows; empty pages are left out.

    It ends only at the end of the result. After a page that failed, further reads raise the same
    error again. After a page whose reading was cancelled, they raise :class:`UsageError`.

    Attributes:
        observer: optional wrapper around each page fetch, used for hooks.
    """

    __slots__ = (
        "_call",
        "_failure",
        "_fetched",
        "_reading",
        "_started",
        "_traceback",
        "observer",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        call.timeout_per_page = True
        self._fetched: Pages[R] = Pages(call)
        self.observer: Callable[[Coroutine[Any, Any, Page[R]]], Awaitable[Page[R]]] | None = None
        self._seen = _Seen()
        self._started = False
        self._reading = False
        self._failure: Exception | None = None
        self._traceback: TracebackType | None = None

    def __aiter__(self) -> PageStream[R]:
        return self

    async def __anext__(self) -> list[R]:
        self._call.context.supervisor.check_here()
        if self._reading:
            raise UsageError("another task reads the stream: only one task at a time may read it")
        self._reading = True
        try:
            while not self._is_over():
                asking = self._page()
                page = await (asking if self.observer is None else self.observer(asking))
                self._check()  # another task may have closed the stream
                if page.rows:
                    return page.rows
        except Exception as exc:
            self._fail(exc)
            raise
        except BaseException:
            self._fail(
                UsageError(
                    "reading a page was cancelled, and the stream can't be continued:"
                    " start another one"
                )
            )
            raise
        finally:
            self._reading = False
        raise StopAsyncIteration

    def _is_over(self) -> bool:
        """Return whether the last page was read; raise the error that the stream failed with."""
        self._check()
        return self._started and self._fetched.request is None

    def _check(self) -> None:
        if self._failure is not None:
            # with its first traceback, which would otherwise grow with every read
            raise self._failure.with_traceback(self._traceback)

    def _fail(self, error: Exception) -> None:
        """Keep the error for further reads, unless there is an earlier one."""
        if self._failure is None:
            self._failure = error
            self._traceback = error.__traceback__
        self._fetched.abandon()

    async def _page(self) -> Page[R]:
        call, fetched = self._call, self._fetched
        if not self._started:
            self._started = True
            call.restart()
            await call.ready()
            self._check()
            await fetched.begin()
        rows = await fetched.fetch()
        event, host = fetched.event, call.answered.host
        if type(event.message) is Rows and event.message.metadata is not None:
            self._seen.columns = event.message.metadata.columns
        self._seen.notes.add(event)
        # Keep the rows alone: the reply's bytes would take the memory of another page.
        del fetched.event
        call.answered.value = None
        page = Page(rows, self._seen.columns, event, host, None)
        page._failures = call.page_failures
        return page

    async def aclose(self) -> None:
        """Close the stream and give up the page that was requested ahead.

        Reading on raises UsageError, unless the stream was read to its end.
        """
        fetched = self._fetched
        if not self._started or self._reading or fetched.request is not None:
            self._call.context.supervisor.check_here()
            closed = UsageError("the stream was closed before its end")
            if self._failure is None:
                self._failure = closed
            request, fetched.request = fetched.request, None
            if request is not None:
                request.give_up(closed)


class RowStream(_Described, Generic[R]):
    """The rows of a result, for ``async for``; made by :meth:`Session.stream`.

    Leaving the loop early needs no clean-up. ``async with`` or :meth:`aclose` gives up the page
    that was requested ahead a little sooner.
    """

    __slots__ = ("_mode", "_pages", "_rows")

    def __init__(self, call: Call) -> None:
        self._pages: PageStream[R] = PageStream(call)
        self._seen = self._pages._seen
        self._rows: Iterator[R] = iter(())
        self._mode = ""

    def pages(self) -> PageStream[R]:
        """Return an iterator of pages, each a list of rows, which costs much less per row."""
        self._use("pages")
        return self._pages

    def __aiter__(self) -> RowStream[R]:
        self._use("rows")
        return self

    async def __anext__(self) -> R:
        for row in self._rows:
            return row
        self._rows = iter(await self._pages.__anext__())
        return next(self._rows)

    def _use(self, mode: str) -> None:
        if self._mode not in ("", mode):
            raise UsageError("a stream is read either by rows or by pages: start another one")
        self._mode = mode

    async def aclose(self) -> None:
        """Close the stream and give up the page that was requested ahead."""
        await self._pages.aclose()
        self._rows = iter(())

    async def __aenter__(self) -> RowStream[R]:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()
