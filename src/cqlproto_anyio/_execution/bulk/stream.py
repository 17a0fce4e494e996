"""Executing a statement for many rows, whose results are read one after the other.

At most ``concurrency`` rows are between their start and the delivery of their result. The reader's
task takes rows from the source, and starts one for each result that it has got. An asynchronous
source is read in a task of the session, since results must not wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from cqlproto.messages.results import Rows
from cqlproto_anyio._execution.bulk.engine import Bulk
from cqlproto_anyio._execution.bulk.load import CLOSING, close_source
from cqlproto_anyio._execution.bulk.slot import ReadSlot
from cqlproto_anyio._execution.bulk.underway import SLICE
from cqlproto_anyio._execution.replies import adopt, columns_of, locate, read_rows
from cqlproto_anyio.exceptions import RemoteProtocolError, RowMappingError, UsageError
from cqlproto_anyio.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._execution.bulk.engine import BulkCall
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["ResultStream", "Results"]

P = TypeVar("P")
T = TypeVar("T")


class Results(Bulk):
    """The rows of one call of ``map``.

    Arguments:
        context, query, settings, concurrency, partial, row: as for :class:`Bulk`.
        source: where rows come from.
        ordered: whether results come in the order of their rows.
        return_errors: whether a row's error is returned in place of its result.

    Attributes:
        began: when the first result was asked for, in seconds of the session's clock.
    """

    slot_class = ReadSlot

    def __init__(
        self,
        context: SessionContext,
        query: Any,
        source: Any,
        settings: Settings,
        *,
        concurrency: int,
        partial: bool,
        row: Any,
        ordered: bool,
        return_errors: bool,
    ) -> None:
        super().__init__(
            context, query, settings, concurrency=concurrency, partial=partial, row=row
        )
        self._source = source
        self._return_errors = return_errors
        self._refill = max(1, concurrency // 4)  # free slots for which rows are started
        # slots: in the order of their rows, or in the order in which these have ended
        self._results: deque[Any] = deque()
        if ordered:
            self.window = self._results
        self._source_error: BaseException | None = None
        self._rows: Iterator[Any] | None = None
        self._puller: anyio.CancelScope | None = None
        self._room: Any = None  # what the puller waits in
        self._pulled: Any = None  # completed at the end of the puller
        self.began = context.timer.clock()

    # -- the reader's side

    async def begin(self) -> None:
        """Prepare the statement, and begin to read the source."""
        await self.ready()
        if isinstance(self._source, AsyncIterable):
            self._pulled = self.context.backend.waiter_class()
            self.context.supervisor.spawn(self._pull, copy_context())
        else:
            self._rows = iter(self._source)

    def ready_pair(self) -> tuple[Any, Any] | None:
        """Return the next row and its result or error, if that is there.

        Raises:
            the row's error.
        """
        results = self._results
        if not results or (self.window is not None and not results[0].finished):
            return None
        if len(self.free) >= self._refill and self._rows is not None:
            self._fill(self._rows)
        return self._take(results.popleft())

    async def next(self) -> tuple[Any, Any] | None:
        """Return the next row and its result or error; None at the end.

        Raises:
            the row's error; the source's error, after the results of all rows before it; what is
                fatal.
        """
        while True:
            if self.fatal is not None:
                raise self.fatal
            if self._rows is not None:
                self._fill(self._rows)
            elif self._held:
                self.has_room()  # starts the row that was refused
            pair = self.ready_pair()
            if pair is not None:
                return pair
            if self.exhausted and not self.busy and not self._held:
                if self._source_error is not None:
                    raise self._source_error
                return None
            if self._rows is not None and not self.exhausted and self.has_room():
                await anyio.lowlevel.checkpoint()
            else:
                await self.wait()

    def _fill(self, rows: Iterator[Any]) -> None:
        """Start rows while there is room."""
        if self.exhausted:
            self.has_room()  # starts a row that was refused
            return
        try:
            self.exhausted = self.start(rows)
        except Exception as exc:
            self._end_source(exc)

    def _end_source(self, error: BaseException | None) -> None:
        self.exhausted = True
        self._source_error = error

    def is_due(self) -> bool:
        """Return whether the next result is there, or the reader has something else to do."""
        results = self._results
        return self.window is None or not results or results[0].finished or bool(self._held)

    def _take(self, slot: ReadSlot) -> tuple[Any, Any]:
        """Return the row of a slot with its result, and free the slot."""
        row, index = slot.row, slot.index
        value, error = slot.value, slot.error
        if error is None and type(value) is not Result:
            try:
                value = self._result(slot, value)
            except Exception as exc:
                error = exc
        self._clear(slot)
        slot.value = slot.error = None
        slot.finished = False
        self.free.append(slot)
        self._let_pull()
        if error is None:
            return row, value
        if self._return_errors:
            return row, error
        error.add_note(f"row {index:,} of map()")
        raise error

    def _result(self, slot: ReadSlot, event: ResponseReceived) -> Result[Any]:
        message = event.message
        if type(message) is not Rows:
            return Result([], (), event, slot.host)
        metadata = message.metadata
        if metadata is self.statement.prepared.result:
            try:
                decode = metadata.cache.get(self.target)
            except TypeError:  # it can't be hashed
                decode = None
            if decode is not None:
                try:
                    return Result(decode(message), metadata.columns, event, slot.host)
                except (RemoteProtocolError, RowMappingError) as exc:
                    locate(exc, slot)
                    raise
        rows = read_rows(message, self.target, slot)
        if metadata is not self.statement.prepared.result:
            adopt(self.statement, message)
        return Result(rows, columns_of(message), event, slot.host)

    # -- called by the engine

    def finished(self, slot: ReadSlot) -> None:
        """The result of a row is there."""
        slot.finished = True
        if self.window is None:
            self._results.append(slot)

    def succeeded(self, slot: Any, value: Any) -> None:
        slot.value = value
        self.finished(slot)

    def failed(self, slot: Any, error: Exception) -> None:
        slot.error = error
        self.finished(slot)

    async def collect(self, call: BulkCall, event: ResponseReceived) -> Any:
        return await call.collect(event)

    def go_on(self, direct: bool) -> None:
        if self._held:
            self._let_pull()
        super().go_on(direct)

    # -- an asynchronous source

    def _let_pull(self) -> None:
        """Let the puller look for room."""
        room, self._room = self._room, None
        if room is not None:
            room.complete(None)

    async def _pull(self, variables: Context) -> None:
        """Start the rows of an asynchronous source, in a task of the session.

        Arguments:
            variables: the context variables of the reader, which the source sees too.
        """
        error: BaseException | None = None
        for variable, value in variables.items():
            variable.set(value)
        with anyio.CancelScope() as self._puller:
            try:
                await self._pull_all(aiter(self._source))
            except Exception as exc:
                error = exc
            except BaseException as exc:
                if self.context.backend.is_cancellation(exc):
                    await close_source(self._source)
                    self._pulled.complete(None)
                    raise
                error = exc
        await close_source(self._source)
        self._end_source(error)
        self._pulled.complete(None)
        self.wake()

    async def _pull_all(self, source: Any) -> None:
        while not self.stopping:
            if not self.has_room():
                self._room = self.context.backend.waiter_class()
                await self._room
                continue
            try:
                row = await anext(source)
            except StopAsyncIteration:
                return
            if self.stopping:
                return
            self._start(iter((row,)))
            if self.index % SLICE == 0:
                await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        super().close()
        self._results.clear()
        if self._puller is not None:
            self._puller.cancel()

    async def aclose(self) -> None:
        """Give up the rows under way, and wait until an asynchronous source is closed."""
        self.close()
        await self.unwind()
        if self._puller is not None and not self._pulled.done:
            with anyio.move_on_after(CLOSING, shield=True):
                await self._pulled


class ResultStream(Generic[P, T]):
    """Pairs of a row and its result, for ``async for``; made by :meth:`Session.map`.

    A loop that is left early gives up the rows under way; ``async with`` or :meth:`aclose` does so
    at once. Only one task may read at a time. After an error, reading raises the same error again.
    """

    __slots__ = (
        "_count",
        "_engine",
        "_failure",
        "_home",
        "_make",
        "_reading",
        "_running",
        "_session",
        "observer",
    )

    def __init__(self, make: Callable[[], Results], session: Any) -> None:
        self._make = make
        self._session = session  # kept alive until the results are read
        self._running: Callable[[], object] = session._running
        self._home = session._home
        self._engine: Results | None = None
        self._failure: Exception | None = None  # StopAsyncIteration after the end
        self._reading = False
        self._count = 0
        # called at the end with the time of the first read, the number of results, and the error
        self.observer: Callable[[float, int, BaseException | None], None] | None = None

    def __aiter__(self) -> ResultStream[P, T]:
        return self

    async def __anext__(self) -> tuple[P, T]:
        if self._running() is not self._home:
            self._session._context.supervisor.refuse_here()
        if self._reading:
            raise UsageError("another task reads the results: only one task at a time may do so")
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        self._reading = True
        try:
            engine = self._engine
            if engine is None:
                self._session._context.supervisor.check_here()
                engine = self._engine = self._make()
                await engine.begin()
            pair = engine.ready_pair() or await engine.next()
        except Exception as exc:
            await self._end(exc, exc)
            raise
        except BaseException as exc:
            cancelled = "reading a result was cancelled, and the results can't be continued"
            await self._end(UsageError(f"{cancelled}: call map() again"), exc)
            raise
        finally:
            self._reading = False
        if pair is None:
            await self._end(StopAsyncIteration(), None)
            raise StopAsyncIteration
        self._count += 1
        return pair

    async def _end(self, failure: Exception, raised: BaseException | None) -> None:
        """End the call; further reads raise the failure."""
        if self._failure is None:
            self._failure = failure
            if self._engine is not None:
                if self.observer is not None:
                    self.observer(self._engine.began, self._count, raised)
                await self._engine.aclose()

    async def aclose(self) -> None:
        """Give up the rows under way. Reading on raises UsageError, unless it came to the end."""
        self._session._context.supervisor.check_here()
        closed = UsageError("the results were closed before their end")
        if self._engine is not None and self._reading:
            self._engine.give_up(closed)  # raised in the task that reads
        await self._end(closed, None)

    async def __aenter__(self) -> ResultStream[P, T]:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.aclose()

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is not None and not engine.closed:
            engine.context.backend.call_from_thread(engine.close)
