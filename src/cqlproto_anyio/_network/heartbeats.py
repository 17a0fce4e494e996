"""Heartbeats: OPTIONS sent on a connection that may be dead, and how long to wait for the reply.

Only replies show that a connection is alive. Bytes don't: after a corrupted length, everything that
arrives is taken for one long frame, and no request is answered any more. Events and empty segments
don't either. So a heartbeat is sent when no reply has arrived for a while; when a request times out
while a frame is incomplete; and when a reply is skipped because of its length, which may be
corrupted.

The answer to a heartbeat may have to wait behind a large, slow reply. The connection is kept as
long as the incomplete frame grows by :data:`LEAST_RATE`, which the frame's length bounds. A body
that is skipped must arrive faster: nobody wants it, and all other replies wait behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.messages.requests import Options
from cqlproto_anyio._eventloop.request import Detached
from cqlproto_anyio.exceptions import CQLError

if TYPE_CHECKING:
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._network.connection import Connection

__all__ = ["LEAST_RATE", "LEAST_SKIPPED_RATE", "Heartbeats"]

# In bytes a second.
LEAST_RATE = 64 * 1024
LEAST_SKIPPED_RATE = 1024 * 1024


class Heartbeats:
    """Checks whether connections are alive.

    Arguments:
        timer: the session's timer.
        timeout: how long an answer may take before the connection is closed, in seconds.
    """

    __slots__ = ("_timeout", "_timer")

    def __init__(self, timer: Timer, timeout: float) -> None:
        self._timer = timer
        self._timeout = timeout

    def beat(self, connection: Connection) -> None:
        """Send a heartbeat if no reply has arrived since the last call."""
        if connection.heard:
            connection.heard = False
        else:
            self.ask(connection, LEAST_RATE)

    def ask(self, connection: Connection, rate: int) -> None:
        """Send a heartbeat now, unless one is under way.

        Arguments:
            connection: the connection.
            rate: how fast an incomplete frame must grow, in bytes a second.
        """
        under_way = connection.heartbeat
        if isinstance(under_way, _Heartbeat) and not under_way.done:
            under_way.rate = max(under_way.rate, rate)
            return
        connection.heard = False
        request = _Heartbeat("a heartbeat", self._timeout)
        request.rate = rate
        request.unread = connection.unread
        request.heartbeats = self
        request.call(_told)
        request.carry(Options())
        try:
            connection.submit_first(request)
        except CQLError:  # just lost, or without a free stream id, because many replies are due
            return
        connection.heartbeat = request
        self.wait_for(request)

    def wait_for(self, request: _Heartbeat) -> None:
        """Let a heartbeat expire one timeout from now."""
        request.deadline = self._timer.deadline(self._timeout)
        self._timer.keep_deadline(request)

    def least(self, rate: int) -> float:
        """Return how many bytes a frame must have grown by when a heartbeat expires."""
        return rate * self._timeout


class _Heartbeat(Detached):
    """An OPTIONS request that expires only if nothing shows that the connection is alive.

    Attributes:
        rate: see :meth:`Heartbeats.ask`.
        unread: how many bytes of an incomplete frame there were when the wait began.
        heartbeats: what has sent it.
    """

    __slots__ = ("heartbeats", "rate", "unread")
    connection: Connection | None
    heartbeats: Heartbeats
    rate: int
    unread: int

    def expire(self) -> None:
        connection = self.connection
        if self.done or connection is None:
            return
        unread = connection.unread
        if connection.heard:  # other replies arrived: the connection is slow
            self.abandon()
            connection.heartbeat = None
        elif unread - self.unread >= self.heartbeats.least(self.rate):
            self.unread = unread
            self.heartbeats.wait_for(self)
        else:
            super().expire()


def _told(request: Detached) -> None:
    assert isinstance(request, _Heartbeat)
    connection = request.connection
    if connection is None:
        return
    connection.heartbeat = None  # a cycle of references otherwise
    if request.error is not None and connection.lost is None:
        connection.give_up(f"no answer to a heartbeat within {request.timeout:g} s")
