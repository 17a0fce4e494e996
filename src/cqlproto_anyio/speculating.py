"""Sending a request to a second host because the first one is slow; the first answer wins.

The request that the caller awaits stays what it is. Further attempts are requests of their own that
no task awaits: the session's timer sends them, and the first that is answered settles the caller's,
whose own stream id is then given up like that of any late reply. One that fails is forgotten: the
caller's request is still under way, or is being tried again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import ErrorCode
from cqlproto.messages.errors import Error
from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.request import Detached

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cqlproto_anyio.connection import Connection
    from cqlproto_anyio.policies.speculation import Tracker
    from cqlproto_anyio.request import Request
    from cqlproto_anyio.runtime import Runtime

__all__ = ["Race"]


class Race:
    """The attempts at one request.

    Arguments:
        runtime: the session's.
        request: what the caller awaits; it is under way.
        tracker: says when to send another attempt, and learns.
        next_connection: returns a connection to a host that wasn't tried yet, or None.
        fill: says to a request what to send, over a connection.
        failed: told of each further attempt that failed.
    """

    __slots__ = (
        "_alarm",
        "_failed",
        "_fill",
        "_left",
        "_next_connection",
        "_others",
        "_request",
        "_runtime",
        "_started",
        "_tracker",
    )

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        tracker: Tracker,
        *,
        next_connection: Callable[[], Connection | None],
        fill: Callable[[Request, Connection], None],
        failed: Callable[[Error | CQLError, Request], None],
    ) -> None:
        self._runtime = runtime
        self._request = request
        self._tracker = tracker
        self._next_connection = next_connection
        self._fill = fill
        self._failed = failed
        self._left = tracker.attempts
        self._others: list[Detached] = []
        self._started = runtime.clock()
        self._alarm = runtime.alarm(self._send)

    async def run(self) -> Any:
        """Return the event that answers the request, whichever attempt it answers.

        Raises:
            what awaiting the request raises.
        """
        self._wait()
        try:
            event = await self._request
            self._tracker.record(self._runtime.clock() - self._started)
            return event
        finally:
            self._alarm.cancel()
            for other in self._others:
                other.abandon()

    def _wait(self) -> None:
        if self._left:
            delay = self._tracker.delay()
            if delay is not None:
                self._alarm.set(self._runtime.clock() + delay)

    def _send(self) -> None:
        """The time is up: send another attempt, if there is a host for it."""
        if self._request.done:
            return
        connection = self._next_connection()
        if connection is None:
            return
        self._left -= 1
        other = Detached(self._request.query, None)
        other.call(self._arrived)
        if self._submit(other, connection):
            self._others.append(other)
            self._runtime.speculative += 1
        self._wait()

    def _submit(self, other: Detached, connection: Connection) -> bool:
        try:
            self._fill(other, connection)
            connection.submit(other)
        except CQLError as exc:
            self._failed(exc, other)
            return False
        return True

    def _arrived(self, other: Detached) -> None:
        if other.error is not None:
            if isinstance(other.error, CQLError):
                self._failed(other.error, other)
            return
        message = other.value.message
        connection = other.connection
        assert connection is not None
        if type(message) is Error and message.code != ErrorCode.UNPREPARED:
            self._failed(message, other)
        else:  # UNPREPARED: the caller's request goes on at this host, which is the faster one
            self._request.settle(other.value, connection)
