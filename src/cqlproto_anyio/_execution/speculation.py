"""Speculative execution: a slow request is sent to a second host as well; the first answer wins.

The caller awaits one request. Speculative attempts are requests of their own that no task awaits:
the session's timer sends them. The first of them that is answered completes the caller's request,
which gives its own stream id up. A speculative attempt that fails is dropped, since the caller's
request is under way or is retried. If the caller's request fails and no host is left to retry, it
waits for the attempts under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import ErrorCode
from cqlproto.messages.errors import Error
from cqlproto_anyio._eventloop.request import Detached
from cqlproto_anyio.exceptions import ConnectionFailed, CQLError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio.policies.speculation import Tracker

__all__ = ["Race"]

# If there is no host for another attempt: how soon to look again, in seconds.
_SOON = 0.05


class Race:
    """A request and its speculative attempts.

    Arguments:
        context: the session's context.
        request: the request that the caller awaits; it is under way.
        tracker: says when to send another attempt, and records latencies.
        next_connection: returns a connection to a host that wasn't tried yet, or None.
        fill: sets what a request sends over a connection.
        failed: called for each attempt that failed, except for the last, whose failure is raised.
        is_last: True if no host is left to retry; only attempts in flight can still win.

    Attributes:
        left_behind: whether an attempt was given up that may have been applied.
    """

    __slots__ = (
        "_alarm",
        "_alone",
        "_failed",
        "_fill",
        "_is_last",
        "_left",
        "_next_connection",
        "_others",
        "_request",
        "_context",
        "_spare",
        "_started",
        "_tracker",
        "left_behind",
    )

    def __init__(
        self,
        context: SessionContext,
        request: Request,
        tracker: Tracker,
        *,
        next_connection: Callable[[], Connection | None],
        fill: Callable[[Request, Connection], None],
        failed: Callable[[Error | CQLError, Request], None],
        is_last: Callable[[Error | CQLError, Request], bool],
    ) -> None:
        self._context = context
        self._request = request
        self._tracker = tracker
        self._next_connection = next_connection
        self._fill = fill
        self._failed = failed
        self._is_last = is_last
        self._alone = False  # the caller's own attempt has failed, speculative ones are under way
        self._spare: Detached | None = None  # an attempt that was answered after the caller's
        self.left_behind = False
        self._left = tracker.attempts
        self._others: list[Detached] = []
        self._started = context.timer.clock()
        self._alarm = context.timer.alarm(self._send)

    async def run(self) -> Any:
        """Return the reply to the request, from whichever attempt.

        Raises:
            what awaiting the request raises.
        """
        request = self._request
        self._wait()
        try:
            while True:
                try:
                    event = await request
                    failure = event.message
                except (ConnectionFailed, RemoteProtocolError) as exc:
                    failure = exc
                    if not self._go_on(failure):
                        raise
                else:
                    if type(failure) is not Error or not self._go_on(failure):
                        self._tracker.record(self._context.timer.clock() - self._started)
                        return event
        finally:
            self._alarm.cancel()
            for other in self._others:
                if not other.done:
                    other.abandon()
                    self.left_behind = self.left_behind or other.maybe_applied()

    def _go_on(self, failure: Error | CQLError) -> bool:
        """The request has failed; return whether it now waits for the attempts under way."""
        request = self._request
        spare, self._spare = self._spare, None
        under_way = [other for other in self._others if not other.done]
        if self._alone or not (spare or under_way) or not self._is_last(failure, request):
            return False
        self._failed(failure, request)
        self._alone = True
        request.again()
        if spare is not None:
            request.connection = spare.connection
            request.complete(spare.value)
        else:
            request.connection = under_way[0].connection
            self._context.timer.keep_deadline(request)
        return True

    def _wait(self, least: float = 0.0) -> None:
        if self._left:
            delay = self._tracker.delay()
            if delay is not None:
                self._alarm.set(self._context.timer.clock() + max(delay, least))

    def _send(self) -> None:
        """Send another attempt, if there is a host for it. Called by the timer."""
        if self._request.done:
            return
        connection = self._next_connection()
        if connection is None:  # a host may be connected in a moment, after a restart
            self._wait(_SOON)
            return
        self._left -= 1
        request = self._request
        other = Detached(request.query, None, None, (), request.statement, request.settings)
        other.call(self._arrived)
        if self._submit(other, connection):
            self._others.append(other)
            self._context.speculative += 1
        self._wait()

    def _submit(self, other: Detached, connection: Connection) -> bool:
        try:
            self._fill(other, connection)
            connection.submit(other)
        except CQLError as exc:
            self._failed(exc, other)
            return False
        except BaseException as exc:  # raised by a value of the user's: no further attempt
            self._left = 0
            self._context.report_values(exc)
            return False
        return True

    def _arrived(self, other: Detached) -> None:
        request = self._request
        if other.error is not None:
            self._lost(other, other.error)
            return
        message = other.value.message
        connection = other.connection
        assert connection is not None
        if type(message) is Error and message.code != ErrorCode.UNPREPARED:
            self._lost(other, message)
        elif request.done:
            self._spare = other
        else:  # after UNPREPARED the caller's request continues at this host, the faster one
            request.settle(other.value, connection)
            self.left_behind = self.left_behind or request.maybe_applied()

    def _lost(self, other: Detached, what: Error | BaseException) -> None:
        """A speculative attempt has failed; if it was the last one, so has the request."""
        request = self._request
        if self._alone and not request.done and all(each.done for each in self._others):
            request.connection = other.connection
            if isinstance(what, BaseException):
                request.fail(what)
            else:
                request.complete(other.value)
        elif isinstance(what, (Error, CQLError)):
            self._failed(what, other)
        else:  # a value of the user's raised when it was packed
            self._left = 0
            self._context.report_values(what)
