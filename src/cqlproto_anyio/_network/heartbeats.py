"""Heartbeats: OPTIONS, sent on a connection that may be dead, and how long to wait for the reply.

Only replies show that a connection lives. Bytes do not: after a length that was corrupted on its
way everything that comes is taken for one long frame, and no request is answered any more. Events
and empty segments do not either. So a connection is asked when no reply has come for a while; when
a request times out while a part of a frame has come; and when a reply is skipped for its length,
which may be a corrupted one.

A reply that is large and slow has to pass before the answer can. As long as a frame grows by
:data:`LEAST_RATE` the connection is waited for; its length bounds how long that can take. A body
that is skipped must come faster: nobody wants it, and all other replies wait behind it.
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
    """Asks connections whether they live.

    Arguments:
        timer: of the session.
        timeout: how long an answer may take, in seconds; then the connection is given up.
    """

    __slots__ = ("_timeout", "_timer")

    def __init__(self, timer: Timer, timeout: float) -> None:
        self._timer = timer
        self._timeout = timeout

    def beat(self, connection: Connection) -> None:
        """Ask a connection on which no reply has come since the last time."""
        if connection.heard:
            connection.heard = False
        else:
            self.ask(connection, LEAST_RATE)

    def ask(self, connection: Connection, rate: int) -> None:
        """Ask a connection now, unless it is being asked.

        Arguments:
            connection: the connection.
            rate: how fast a frame that is under way must grow, in bytes a second.
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
        except CQLError:  # just lost, or without a stream id: too many replies are due for that
            return
        connection.heartbeat = request
        self.wait_for(request)

    def wait_for(self, request: _Heartbeat) -> None:
        """Let a heartbeat expire if nothing comes from now on."""
        request.deadline = self._timer.deadline(self._timeout)
        self._timer.keep_deadline(request)

    def least(self, rate: int) -> float:
        """Return by how many bytes a frame must have grown when a heartbeat is due."""
        return rate * self._timeout


class _Heartbeat(Detached):
    """An OPTIONS; it expires only if nothing else shows that its answer may still come.

    Attributes:
        rate: see :meth:`Heartbeats.ask`.
        unread: how much of a frame had come when it was waited for.
        heartbeats: what asks.
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
        if connection.heard:  # other replies came: it is slow
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
    connection.heartbeat = None  # each would keep the other alive
    if request.error is not None and connection.lost is None:
        connection.give_up(f"no answer to a heartbeat within {request.timeout:g} s")
