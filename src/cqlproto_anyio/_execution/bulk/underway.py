"""The rows under way of a bulk call: their slots and deadlines, and the task that waits for them.

One alarm serves all deadlines, and one waiter the caller's task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto_anyio._eventloop.waiter import shielded
from cqlproto_anyio._execution.bulk.slot import Slot

if TYPE_CHECKING:
    import anyio

    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["SLICE", "UnderWay"]

# How many rows are started or expire in one turn of the event loop.
SLICE = 256
# When the client is overloaded by others and no row is under way: how soon to look again.
_SOON = 0.02


class UnderWay:
    """The rows under way.

    Arguments:
        context: the session's context.
        query: the statement's text, for errors.
        settings: the options of each row.
        concurrency: how many rows may be under way.

    Attributes:
        free: the slots without a row.
        stopping: whether no more rows are started.
        closed: whether the rows under way were given up.
        fatal: what the call raises at once, such as SessionClosed; or None.
        will_go_on: whether a connection will call :meth:`go_on`.
    """

    slot_class: type[Slot] = Slot
    statement: Statement

    def __init__(
        self, context: SessionContext, query: str, settings: Settings, concurrency: int
    ) -> None:
        self.context = context
        self.query = query
        self.settings = settings
        self.free: list[Slot] = []
        self.stopping = self.will_go_on = self.closed = False
        self.fatal: BaseException | None = None
        self._concurrency = concurrency
        self._slots: list[Slot] = []
        self._retries_soon = False  # whether the alarm is set to look for room
        self._waiter: Any = context.request_class("", None)
        self._waiting = False
        self._scopes: set[anyio.CancelScope] = set()  # of rows on the slow path
        self._unwound: Any = None  # completed when none is left
        self._alarm = context.timer.alarm(self._expire)

    # -- slots

    @property
    def busy(self) -> int:
        """How many slots have a row."""
        return len(self._slots) - len(self.free)

    def _add_slots(self) -> bool:
        """Make more slots, up to the number of rows that may be under way."""
        slots = self._slots
        count = min(64, self._concurrency - len(slots))
        if count <= 0:
            return False
        more = [self.slot_class(self) for _ in range(count)]
        slots += more
        self.free += more
        return True

    # -- waiting

    def wake(self) -> None:
        """Let the caller's task go on soon."""
        self.go_on(False)

    def go_on(self, direct: bool) -> None:
        """Let the caller's task go on.

        Arguments:
            direct: whether the task may run at once, inside this call.
        """
        self.will_go_on = False
        if self._waiting and self.is_due():
            self._waiting = False
            if direct:
                self._waiter.answer(None)
            else:
                self._waiter.complete(None)

    def is_due(self) -> bool:
        """Return whether the caller's task has something to do."""
        return True

    async def wait(self) -> None:
        """Wait until a row has ended, or the call is over.

        Raises:
            what is fatal.
        """
        if self.fatal is None:
            waiter = self._waiter
            waiter.again()
            self._waiting = True
            try:
                await waiter
            finally:
                self._waiting = False
        if self.fatal is not None:
            raise self.fatal

    def give_up(self, error: BaseException) -> None:
        """End the call with this error, without waiting for the rows under way."""
        if self.fatal is None:
            self.fatal = error
        self.stop()

    def stop(self) -> None:
        """Start no more rows."""
        self.stopping = True
        if self._waiting:
            self._waiting = False
            self._waiter.complete(None)

    def close(self) -> None:
        """Give up the rows under way."""
        self.closed = self.stopping = True
        self.context.supervisor.unwatch(self)
        self._alarm.cancel()
        slots, self._slots, self.free = self._slots, [], []
        for slot in slots:
            slot.abandon()
        for scope in tuple(self._scopes):
            scope.cancel()

    async def unwind(self) -> None:
        """Wait until the tasks that were given up have ended, which they do at once."""
        while self._scopes:
            self._unwound = self.context.backend.waiter_class()
            await shielded(self._unwound)

    def slow_path_ended(self, scope: anyio.CancelScope) -> None:
        """The task of a row on the slow path ends."""
        self._scopes.discard(scope)
        if self._unwound is not None and not self._scopes:
            self._unwound.complete(None)

    # -- deadlines

    def _expire(self) -> None:
        """Expire the rows that are due, and set the alarm for the next."""
        now = self.context.timer.clock()
        due = [slot for slot in self._slots if not slot.done and slot.deadline <= now]
        for slot in due[:SLICE]:
            slot.expire()
        under_way = [slot.deadline for slot in self._slots if not slot.done]
        if under_way and not self.closed:
            self._alarm.set(min(under_way))
        if self._retries_soon:
            self._retries_soon = False
            self.wake()

    def _retry_soon(self) -> None:
        """Try again although no row of this call may end: others have filled the connections."""
        self._retries_soon = True
        self._alarm.set(min(self._alarm.deadline, self.context.timer.clock() + _SOON))
