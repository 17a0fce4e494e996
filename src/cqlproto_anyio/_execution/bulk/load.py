"""Executing a statement for many rows, of which only the failures are kept."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from inspect import isasyncgen
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from cqlproto_anyio._checks.values import integer, synchronous
from cqlproto_anyio._execution.bulk.engine import Bulk
from cqlproto_anyio._execution.bulk.result import BulkResult
from cqlproto_anyio._execution.bulk.underway import SLICE
from cqlproto_anyio.exceptions import BulkError
from cqlproto_anyio.exceptions._failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio._execution.bulk.slot import Slot
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["CLOSING", "Load", "checked_concurrency", "checked_rows", "close_source"]

# How long closing an asynchronous generator may take, in seconds.
CLOSING = 1.0


def checked_rows(rows: object) -> None:
    """Raise TypeError unless this is an iterable of rows."""
    wrong = isinstance(rows, (str, bytes, bytearray, memoryview, Mapping))
    if wrong or not isinstance(rows, (Iterable, AsyncIterable)):
        raise TypeError(
            "rows must be an iterable or asynchronous iterable of parameters, got a"
            f" {type(rows).__name__}: pass [row, ..]"
        )


def checked_concurrency(concurrency: object) -> int:
    """Return the number of rows that may be under way; raise ConfigError for a wrong one."""
    return integer("concurrency", concurrency, 1, 1_000_000, "an int from 1 to 1000000")


async def close_source(rows: object) -> None:
    """Close an asynchronous generator that won't be read any more, within a bounded time."""
    if isasyncgen(rows):
        with anyio.move_on_after(CLOSING, shield=True), suppress(Exception):
            await rows.aclose()


class Load(Bulk):
    """The rows of one call of ``execute_many``.

    Arguments:
        context, query, settings, concurrency, partial: as for :class:`Bulk`.
        max_errors: how many rows may fail.
        progress: called with the number of rows that have ended since the last call; or None.
    """

    def __init__(
        self,
        context: SessionContext,
        query: Any,
        settings: Settings,
        *,
        concurrency: int,
        partial: bool,
        max_errors: Any,
        progress: Callable[[int], object] | None,
    ) -> None:
        if progress is not None:
            synchronous("progress", progress)
        super().__init__(context, query, settings, concurrency=concurrency, partial=partial)
        self.failures: list[Failure[Any]] = []
        self._max_errors = integer("max_errors", max_errors, 0, None, "an int of at least 0")
        self._progress = progress
        self._reported = 0
        self._reading: anyio.CancelScope | None = None  # while the source is awaited
        self._progress_error: BaseException | None = None  # raised meanwhile

    async def run(self, rows: Any) -> BulkResult[Any]:
        """Execute the statement for all rows; see :meth:`Session.execute_many`."""
        await anyio.lowlevel.checkpoint()
        await self.ready()
        finished = False
        try:
            try:
                if isinstance(rows, AsyncIterable):
                    await self._read(rows)
                else:
                    await self._iterate(iter(rows))
            except Exception as exc:  # of the source or of the progress function
                self._progress = None
                if exc is not self.fatal:
                    await self._drain()
                raise
            await self._drain()
            finished = len(self.failures) <= self._max_errors
        finally:
            self.close()
            if not finished:
                await self.unwind()
                await close_source(rows)
        if not finished:
            raise BulkError(self.count, tuple(self.failures), self._max_errors)
        return BulkResult(self.count, tuple(self.failures))

    async def _iterate(self, rows: Any) -> None:
        """Start all rows of an iterable."""
        while not self.start(rows) and not self.stopping:
            if self.free and self.has_room():  # the rows took their time
                await anyio.lowlevel.checkpoint()
            else:
                await self.wait()
            self._report()

    async def _read(self, rows: AsyncIterable[Any]) -> None:
        """Start all rows of an asynchronous iterable."""
        source = aiter(rows)
        with anyio.CancelScope() as scope:
            while not self.stopping:
                if not self.has_room():
                    await self.wait()
                    self._report()
                    continue
                self._reading = scope
                try:
                    row = await anext(source)
                except StopAsyncIteration:
                    break
                finally:
                    self._reading = None
                self._start(iter((row,)))
                self._report()
                if self.index % SLICE == 0:
                    await anyio.lowlevel.checkpoint()
        error = self.fatal or self._progress_error
        if error is not None:
            raise error

    async def _drain(self) -> None:
        """Wait for the rows under way."""
        while True:
            self.flush()
            self.has_room()  # starts a row that was refused
            if not self.busy and not self._held:
                break
            await self.wait()
            self._report()
        self._report()

    def flush(self) -> None:
        """Send what waits for more rows."""

    def _report(self) -> None:
        """Tell the progress function how many rows have ended."""
        ended = self.count + len(self.failures) - self._reported
        if ended and self._progress is not None:
            self._reported += ended
            self._progress(ended)

    # -- called by the engine

    def go_on(self, direct: bool) -> None:
        super().go_on(direct)
        if self._reading is not None and self.fatal is None:
            try:
                self._report()  # the caller's task waits for the source, maybe for long
            except BaseException as exc:
                self._progress, self._progress_error = None, exc
                self.stop()

    def succeeded(self, slot: Slot, value: Any) -> None:
        self.count += len(slot.items) or 1
        self._clear(slot)
        self.free.append(slot)

    def failed(self, slot: Slot, error: Exception) -> None:
        for index, row in self._rows(slot):
            self._fail(index, row, error)
        self._clear(slot)
        self.free.append(slot)

    def _rows(self, slot: Slot) -> list[tuple[int, Any]]:
        """Return the rows of a slot, with their places."""
        return [(slot.index, slot.row)]

    def _fail(self, index: int, row: Any, error: Exception) -> None:
        # without the frames that it went through, which would keep other rows alive
        self.failures.append(Failure(index, row, error.with_traceback(None)))
        if len(self.failures) > self._max_errors:
            self.stop()

    def stop(self) -> None:
        super().stop()
        if self._reading is not None:
            self._reading.cancel()
