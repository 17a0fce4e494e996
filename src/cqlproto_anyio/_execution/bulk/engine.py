"""The engine of bulk execution: it starts rows, and counts those that end.

The caller's task takes rows from the source and starts them while slots are free. Then it waits for
all rows under way together. A reply frees its slot (``slot``) in the callback that parses it. When
all replies of one read are counted, the connection lets the engine go on: the task wakes up and
starts as many rows as have ended. So a row costs its packing and its reply. Tasks, waiters, timers
and writes are shared by all rows of a read. The source is iterated, and values are packed, in the
caller's task.

A reply that is not a plain success takes the slow path: the row is handed over to a task of the
session, which makes a :class:`~cqlproto_anyio._execution.call.Call` of it. The call retries,
prepares statements again, and raises the errors that ``execute`` raises.

A full connection holds one row of the engine in its queue. No other row starts before that row is
sent. So the queue doesn't grow, and no row is refused.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from cqlproto.messages.results import Rows, Void
from cqlproto.rows import Row
from cqlproto_anyio._execution.bulk.slot import is_whole
from cqlproto_anyio._execution.bulk.underway import SLICE, UnderWay
from cqlproto_anyio._execution.call import Call
from cqlproto_anyio._statements.parameters import Partial
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    Overloaded,
    RemoteProtocolError,
    SessionClosed,
    ValueConversionError,
)
from cqlproto_anyio.policies.timestamps import ClockBehind

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from cqlproto._events import ResponseReceived
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.bulk.slot import Slot
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["Bulk", "BulkCall"]

# How long rows are started before other tasks have a turn, in seconds.
_TURN = 0.005


class BulkCall(Call):
    """A row of a bulk call on the slow path.

    Unlike a single call, it waits for the only host to be connected to again: a load goes on when
    the connection does.
    """

    reconnects = True

    def stamp_with(self, stamp: int | None) -> None:
        """Give all attempts this timestamp, unless the options or the statement have one."""
        if stamp is not None and self.settings.timestamps is not None and self.text.stamped:
            self._stamp = stamp

    def _keep_timestamp(self, request: Request) -> None:
        super()._keep_timestamp(request)
        self.stamp_with(getattr(request, "stamp", None))


class Bulk(UnderWay):
    """A statement with many rows.

    Arguments:
        context: the session's context.
        query: text, or what ``prepare`` returned.
        settings: the options of each row.
        concurrency: how many rows may be under way.
        partial: as for ``execute``.
        row: the row target, or None for the default.

    Attributes:
        window: the slots with a row in the order of the rows, where that order matters; or None.
        index: how many rows were taken from the source.
        count: how many rows have succeeded.
        exhausted: whether the source has ended.
    """

    def __init__(
        self,
        context: SessionContext,
        query: Any,
        settings: Settings,
        *,
        concurrency: int,
        partial: bool,
        row: Any = None,
    ) -> None:
        text = query.query if isinstance(query, Prepared) else query
        super().__init__(context, text, settings, concurrency)
        self.window: deque[Any] | None = None
        self.index = 0
        self.count = 0
        self.exhausted = False
        self._query = query
        self._partial = partial
        if row is None:
            row = query._row if isinstance(query, Prepared) else Row
        self.target = row
        self._queued: Slot | None = None  # waits in the queue of a full connection
        self._held: list[Any] = []  # a row that was refused there

    # -- before the first row, and after the last

    async def ready(self) -> None:
        """Prepare the statement; raises what ``prepare`` raises, and UsageError for options."""
        known = self._query._statement if isinstance(self._query, Prepared) else None
        call = Call(self.context, self.query, (), None, self.settings, known)
        call.refuse_timestamp()
        self.statement = await call.prepare() if known is None else known
        self.settings.check(self.statement.version)
        self.statement.binder(self.settings)
        self.context.supervisor.check_open()
        self.context.supervisor.watch(self)

    # -- starting rows

    def has_room(self) -> bool:
        """Return whether a row can be started now."""
        queued = self._queued
        if queued is not None:
            if not queued.done and not queued.stream_id:
                return False
            self._queued = None
        if not self.free and not self._add_slots():
            return False
        if self._held:
            held, self._held = self._held, []
            self.index -= 1
            self._start(iter(held))
            return not self._held and self.has_room()
        return True

    def start(self, rows: Iterator[Any]) -> bool:
        """Start rows while there is room, for a few milliseconds at most.

        Returns:
            whether the rows have ended.

        Raises:
            what the source raises.
        """
        return self.has_room() and not self.stopping and self._start(rows)

    def _start(self, rows: Iterator[Any]) -> bool:
        """As :meth:`start`, when there is room. This is the hot path: a pass per row."""
        context, settings, statement = self.context, self.settings, self.statement
        choose = context.cluster.selector.choose
        clock, stamps = context.timer.clock, context.stamps
        free, window = self.free, self.window
        partial = self._partial
        direct = -1 if partial else statement.direct
        timeout = math.inf if settings.timeout is None else settings.timeout
        binder = None
        if statement.fast_path and settings.fast_path:
            binder = statement.binders.get(settings.binder_key) or statement.binder(settings)
        end = math.inf
        left = SLICE
        for row in rows:
            slot = free.pop()
            if window is not None:
                window.append(slot)
            slot.row = row
            slot.index = self.index
            self.index += 1
            slot.deadline = deadline = (now := clock()) + timeout
            if deadline < self._alarm.deadline:
                self._alarm.set(deadline)
            if end == math.inf:
                end = now + _TURN
            try:
                if type(row) is tuple and len(row) == direct:
                    slot.values = row
                elif binder is not None:
                    slot.values = statement.values(Partial.of(partial, row))
                connection = None if binder is None else choose(statement, slot.values)
                if connection is None or connection.version is not statement.version:
                    self._stamp(slot)
                    self._hand_over(slot, None)
                else:
                    slot.binder = binder
                    slot.stream_id = 0
                    slot.done = False
                    connection.submit(slot)
                    if slot.stream_id:
                        slot.stamp = stamps.last
                    else:
                        self._stamp(slot)
                        self._queued = slot
                        return False
            except Exception as exc:
                if self._refused(slot, exc):
                    return False
            left -= 1
            if not free and not self._add_slots():
                return False
            if left <= 0 or now > end:
                return False
        return True

    def _refused(self, slot: Slot, error: Exception) -> bool:
        """A row could not be sent; return whether to start no more rows now."""
        slot.abandon()  # what raises may raise after it has queued the request
        slot.done = True
        if isinstance(error, ConnectionFailed):  # of the connection that was chosen
            slot.connection = None
        if isinstance(error, Overloaded):
            self._held.append(slot.row)
            if self.window is not None:
                self.window.pop()
            self._clear(slot)
            self.free.append(slot)
            self._retry_soon()
            return True
        self._stamp(slot)
        self._failed_attempt(slot, error)
        return self.stopping

    def _stamp(self, slot: Slot) -> None:
        """Make the timestamp of a row that wasn't sent at once, before that of the next row.

        So timestamps are in the order of the rows: of two rows with the same primary key, the later
        one wins.
        """
        slot.stamp = None
        timestamps = self.settings.timestamps
        if timestamps is not None and self.statement.text.stamped:
            with suppress(ClockBehind):  # the node makes it
                slot.stamp = timestamps()

    # -- the end of rows

    def arrived(self, slot: Slot, event: ResponseReceived | None) -> None:
        """A reply that is no plain success, or a failure, has ended the attempt of a slot."""
        if event is None:
            error, slot.error = slot.error, None
            if isinstance(error, SessionClosed):
                self.give_up(error)
            elif isinstance(error, Exception):
                self._failed_attempt(slot, error)
            else:
                self.give_up(error or RuntimeError("a request has ended without a reply"))
            return
        kind = type(event.message)
        if kind is Void or (kind is Rows and is_whole(event, self.settings.max_rows)):
            if event.notes is not None:
                self.context.take_notes(slot, event)
            self.succeeded(slot, event)
            self.wake()
        else:
            self._hand_over(slot, event)

    def _failed_attempt(self, slot: Slot, error: Exception) -> None:
        """The attempt on the fast path has failed: try again, or the row has failed."""
        if isinstance(error, (ConnectionFailed, RemoteProtocolError, ValueConversionError)):
            self._hand_over(slot, error)
        elif isinstance(error, ClockBehind):
            self._hand_over(slot, None)
        else:
            self.failed(slot, error)
            self.wake()

    def succeeded(self, slot: Slot, value: Any) -> None:
        """A row has succeeded.

        Arguments:
            slot: its slot.
            value: the reply, or a Result.
        """
        raise NotImplementedError

    def failed(self, slot: Slot, error: Exception) -> None:
        """A row has failed for good."""
        raise NotImplementedError

    def _clear(self, slot: Slot) -> None:
        """Forget the row, so that nothing is kept of it."""
        slot.row = None
        slot.values = ()
        slot.items = ()

    # -- the slow path

    def _hand_over(self, slot: Slot, outcome: Any) -> None:
        """Let a task of the session go on with a row.

        Arguments:
            slot: its slot.
            outcome: the reply, or the failure of the first attempt; None if nothing was sent.
        """
        self.context.supervisor.spawn(self._run_slow_path, slot, outcome)

    async def _run_slow_path(self, slot: Slot, outcome: Any) -> None:
        value: Any = None
        error: BaseException | None = None
        with anyio.CancelScope() as scope:
            if self.closed:
                return
            self._scopes.add(scope)
            try:
                value = await self._call(slot, outcome)
            except Exception as exc:
                error = exc
            except BaseException as exc:  # of a user's policy, unless it is the cancellation
                if self.context.backend.is_cancellation(exc):
                    raise
                error = exc
            finally:
                self.slow_path_ended(scope)
        if self.closed:
            return
        if error is None:
            self.succeeded(slot, value)
        elif isinstance(error, Exception) and not isinstance(error, SessionClosed):
            self.failed(slot, error)
        else:
            self.give_up(error)
        self.wake()

    async def _call(self, slot: Slot, outcome: Any) -> Any:
        """Go on with a row as ``execute`` would; return its result."""
        context, settings = self.context, self.settings
        if outcome is None or isinstance(outcome, ValueConversionError):
            values = () if outcome is not None else slot.values
            parameters = values or Partial.of(self._partial, slot.row)
            known = None if outcome is None else self.statement
            call = BulkCall(context, self._query, parameters, self.target, settings, known, outcome)
            call.deadline = slot.deadline
            call.stamp_with(slot.stamp)
            await call.ready()
            return await self.collect(call, await call.fetch())
        request = slot.awaitable(context.request_class)
        call = BulkCall.resumed(context, request, self.target)
        return await self.collect(call, await call.answer(request, outcome, None))

    async def collect(self, call: BulkCall, event: ResponseReceived) -> Any:
        """Return what is kept of a reply on the slow path."""
        return event
