"""The timer of a session: one clock, the deadlines of all requests, and one task that expires them.

Whatever waits, retries or repeats in a session takes its time from here: a request expires at its
deadline, and an :class:`Alarm` calls a function at a time that may be changed. One cancel scope
sleeps until the earliest of them, so neither needs a task or a timer of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from cqlproto_anyio._eventloop.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio._eventloop.deadlines import Due

__all__ = ["Alarm", "Timer"]


class Timer:
    """The time of one session.

    Arguments:
        clock: returns seconds.

    Attributes:
        clock: returns seconds.
        deadlines: when requests and alarms are due. After :meth:`Deadlines.add` has returned True,
            call :meth:`rearm`; the hot path does so itself, to save a call.
    """

    __slots__ = ("_scope", "clock", "deadlines")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.deadlines = Deadlines()
        self._scope: anyio.CancelScope | None = None

    def deadline(self, timeout: float | None) -> float:
        """Return when something that starts now and may take ``timeout`` seconds is due."""
        return math.inf if timeout is None else self.clock() + timeout

    def keep_deadline(self, request: Due) -> None:
        """Expire the request at its ``deadline``."""
        if self.deadlines.add_until(request):
            self.rearm()

    def rearm(self) -> None:
        """Wake up for :attr:`Deadlines.next`, which has come nearer."""
        if self._scope is not None:
            self._scope.deadline = self.deadlines.next

    def alarm(self, function: Callable[[], None]) -> Alarm:
        """Return an alarm that calls the function, which must not raise; it is not set yet."""
        return Alarm(self, function)

    async def run(self) -> None:
        """Expire what is due, until cancelled."""
        deadlines = self.deadlines
        while True:
            with anyio.CancelScope(deadline=deadlines.next) as self._scope:
                await anyio.sleep_forever()
            self._scope = None
            while deadlines.expire(self.clock()):
                await anyio.lowlevel.checkpoint()


class Alarm:
    """A function that is called at some time: one deadline among those of the requests.

    Arguments:
        timer: calls it.
        function: what is called; it must not raise.
    """

    __slots__ = ("__weakref__", "_function", "_timer", "deadline", "queue", "timeout")

    def __init__(self, timer: Timer, function: Callable[[], None]) -> None:
        self._timer = timer
        self._function = function
        self.timeout: float | None = None
        self.deadline = math.inf
        self.queue: dict[Due, int] | None = None

    def set(self, deadline: float) -> None:
        """Call the function at this time of the clock, and at no other; infinity: never."""
        if deadline == self.deadline:
            return
        self.deadline = deadline
        self._timer.deadlines.remove(self)
        self._timer.keep_deadline(self)

    def cancel(self) -> None:
        """Don't call the function."""
        self.set(math.inf)

    def expire(self) -> None:
        self.deadline = math.inf
        self._function()
