"""A request: what is sent, the task that waits for the answer, and the deadline.

There is one object per execution: the caller awaits it, the connection keeps it by stream id, and
the deadlines keep it by timeout. A second attempt submits the same request again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cqlproto_anyio._eventloop.waiter import Waiter
from cqlproto_anyio._text import READING, read_verb, shown
from cqlproto_anyio.exceptions import RequestTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cqlproto import messages
    from cqlproto.connection.streams import FrameBinder
    from cqlproto.messages.results import ResultMetadata
    from cqlproto_anyio._eventloop.deadlines import Due
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio.exceptions import ConnectionFailed, SessionClosed

__all__ = ["Detached", "Request", "RequestConnection"]


class RequestConnection(Protocol):
    """What a request needs of the connection that it was submitted to.

    Attributes:
        name: ``address:port`` of the node.
        lost: why the connection can't be used any more, or None.
    """

    name: str
    lost: ConnectionFailed | SessionClosed | None

    def abandon(self, request: Request, /) -> bool:
        """Forget the request; return whether it may have been sent."""
        ...

    def timed_out(self) -> None:
        """The request has reached its deadline."""
        ...

    def give_up(self, reason: str, /) -> None:
        """End the connection, which must not be used any more."""
        ...

    async def flush(self) -> None:
        """Send what is queued before the caller goes on to something that takes long."""
        ...


class Request(Waiter):
    """One execution; awaiting it returns the ResponseReceived that answers it.

    With a binder and values, it executes a prepared statement: the hot path.

    Attributes:
        query: the statement, for errors.
        timeout: how long the call may take, in seconds, or None.
        deadline: when it expires, in seconds of the session's clock.
        connection: the connection that it was submitted to last.
        stream_id: its stream id there; 0 unless it may have reached the server.
        statement: the prepared statement that it executes, or None.
        settings: the options of its call, or None where it belongs to no call.
        stamp: the timestamp of a write that the fast path has sent at once; otherwise not set.
        queue: the dict of ``Deadlines`` that contains it, or None.
    """

    __slots__ = (
        "binder",
        "connection",
        "deadline",
        "message",
        "metadata",
        "payload",
        "query",
        "queue",
        "settings",
        "stamp",
        "statement",
        "stream_id",
        "timeout",
        "trace",
        "values",
    )

    deadline: float
    stamp: int

    def __init__(
        self,
        query: str,
        timeout: float | None,
        binder: FrameBinder | None = None,
        values: Sequence[Any] = (),
        statement: Any = None,  # its class stands above this module
        settings: Settings | None = None,
    ) -> None:
        self._waiter = None
        self.done = False
        self.error = None
        self.query = query
        self.timeout = timeout
        self.statement = statement
        self.settings = settings
        self.queue: dict[Due, int] | None = None
        self.connection: RequestConnection | None = None
        self.stream_id = 0
        self.binder = binder
        self.values = values

    def bind(self, binder: FrameBinder, values: Sequence[Any]) -> None:
        """Execute a prepared statement."""
        self.binder = binder
        self.values = values

    def carry(
        self,
        message: messages.Request,
        metadata: ResultMetadata | None = None,
    ) -> None:
        """Send any message, with the tracing flag and the payload of the settings."""
        settings = self.settings
        self.binder = None
        self.message = message
        self.metadata = metadata
        self.trace = False if settings is None else settings.trace
        payload: Mapping[str, bytes | None] | None = None if settings is None else settings.payload
        self.payload = payload

    def again(self) -> None:
        """Prepare for another attempt within the same deadline."""
        self.done = False
        self.error = None
        self.stream_id = 0

    @property
    def host(self) -> str:
        """The node that it was submitted to last, as ``address:port``; empty if there is none."""
        return "" if self.connection is None else self.connection.name

    def maybe_applied(self) -> bool:
        """Whether the server may have executed a write, although no answer arrived."""
        return self.stream_id != 0 and read_verb(self.query) not in READING

    def settle(self, event: Any, connection: RequestConnection) -> None:
        """Complete with another attempt's answer, and abandon the attempt under way."""
        if not self.done:
            self._leave()
            self.connection = connection
            self.complete(event)

    # -- the end of an attempt

    def complete(self, value: Any) -> None:
        if self.done:
            return
        self.done = True
        self.value = value
        queue = self.queue
        if queue is not None:
            self.queue = None
            del queue[self]
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            self._wake(waiter)

    # Called for a reply where the task may run at once.
    answer = complete

    def abandon(self) -> None:
        """The caller was cancelled: give up the stream id, drop unsent bytes."""
        if not self.done:
            self.done = True
            if self.queue is not None:
                del self.queue[self]
                self.queue = None
            self._leave()

    def give_up(self, error: Exception) -> None:
        """Fail the request from another task; the error is raised to the caller."""
        if not self.done:
            self._leave()
            self.fail(error)

    def expire(self) -> None:
        """The deadline has passed."""
        if not self.done:
            self._leave()
            if self.connection is not None:
                self.connection.timed_out()
            where = "" if self.connection is None else f" from {self.connection.name}"
            error = RequestTimeout(
                f"no answer{where} within {self.timeout:g} s: {shown(self.query)}"
            )
            error.timeout = self.timeout
            error.query = self.query
            error.maybe_applied = self.maybe_applied()
            if self.connection is not None:
                error.host = self.connection.name
            self.fail(error)

    def _leave(self) -> None:
        if self.connection is not None and not self.connection.abandon(self):
            self.stream_id = 0  # it was not sent, and won't be


class Detached(Request):
    """A request that calls a function when it is done, instead of waking a task."""

    __slots__ = ()

    def call(self, function: Callable[[Detached], None]) -> None:
        self._waiter = function

    def _wake(self, waiter: Callable[[Detached], None]) -> None:
        waiter(self)
