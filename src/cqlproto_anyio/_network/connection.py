"""One connection: a transport, the protocol core, and the requests that are under way.

Submitting a request is synchronous: the core packs it, and the connection keeps it by stream id
until its reply arrives. Everything queued in one turn of the event loop is sent together. All
frames of one read are parsed at once, and each reply wakes its request's task. When stream ids or
the limit of unsent bytes run out, requests wait here in order.

When the socket breaks, every request fails at once; none waits for its deadline.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

from cqlproto._events import (
    ConnectionEnded,
    PushReceived,
    ResponseReceived,
    ResponseUnreadable,
)
from cqlproto.exceptions import MessageTooLarge, RemoteProtocolError, ResponseTooLarge
from cqlproto_anyio._checks.callables import throwable
from cqlproto_anyio._network.transport import Transport
from cqlproto_anyio.exceptions import (
    ConnectionFailed,
    ConnectionLost,
    Overloaded,
    RequestTooLarge,
    SessionClosed,
    overloaded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import ByteStream

    from cqlproto._events import Event
    from cqlproto.connection import ClientConnection
    from cqlproto.messages.events import ServerEvent
    from cqlproto.routing import Sharding
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio.config import Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["Connection", "Owner"]


class Owner(Protocol):
    """The owner of a connection, such as its pool. Its methods must not raise."""

    def at_watermark(self, connection: Connection) -> None:
        """As many requests are in flight as :meth:`Connection.watch` named."""
        ...

    def too_many_orphans(self, connection: Connection) -> None:
        """There are more orphans than ``Config.max_orphans``."""
        ...

    def doubtful(self, connection: Connection, *, skipping: bool) -> None:
        """The connection may be dead.

        Arguments:
            connection: the connection.
            skipping: whether a reply is being skipped because of its length; otherwise a request
                has timed out while a frame is incomplete.
        """
        ...

    def connection_lost(self, connection: Connection) -> None:
        """The connection has ended; its requests fail after this."""
        ...


class Connection:
    """A connection that is ready for requests.

    Arguments:
        stream: the byte stream; the connection closes it.
        core: the protocol core, after the handshake.
        endpoint: the node.
        backend: the running event loop.
        config: limits.

    Attributes:
        requests: the requests under way, by stream id; read only.
        orphans: how many stream ids belong to abandoned requests without a reply yet; read only.
        backlog: the number of orphans and of requests that wait to be sent; read only.
        owner: gets the connection's events, or None.
        listener: called with each event that the server pushes; must not raise.
        since: when the connection was made, in seconds of the session's clock.
        heard: whether a reply has arrived since this was last set to False.
        heartbeat: the heartbeat under way, or None.
        answered: called once when this read's replies are passed on: may a task run at once?
        sharding: how a Scylla node divides its tokens among shards, or None.
        shard: the shard that serves the connection, or None.
    """

    def __init__(
        self,
        stream: ByteStream,
        core: ClientConnection,
        endpoint: Endpoint,
        backend: Backend,
        config: Config,
    ) -> None:
        self.endpoint = endpoint
        self.name = str(endpoint)
        self.version = core.version
        self.lost: ConnectionFailed | SessionClosed | None = None
        self.owner: Owner | None = None
        self.listener: Callable[[ServerEvent], None] | None = None
        self.heard = True
        self.heartbeat: Request | None = None
        self.sharding: Sharding | None = None
        self.shard: int | None = None
        self.answered: list[Callable[[bool], None]] = []
        self.requests: dict[int, Request] = {}
        self.orphans = self.backlog = 0
        self._core = core
        self._clock = backend.clock
        self._config = config
        self._max_in_flight = self._watermark = config.max_in_flight
        # a connection full of orphans is useless, whatever the limit
        self._max_orphans = min(config.max_orphans, config.max_in_flight - 1)
        self._max_unsent = config.max_unsent
        self.since = backend.clock()
        self._queue: OrderedDict[Request, None] = OrderedDict()
        self.data_to_send = core.data_to_send
        self.silent = True  # the transfer waits for wake()
        self._transport = Transport(stream, self, backend, config.close_timeout)
        self._wake = self._transport.wake
        self.flush = self._transport.flush

    @property
    def in_flight(self) -> int:
        """How many requests are under way, orphans included."""
        return self._core.in_flight

    @property
    def unread(self) -> int:
        """How many bytes of an incomplete frame have arrived."""
        return self._core.unread

    @property
    def waiting(self) -> int:
        """How many requests wait to be sent."""
        return len(self._queue)

    # -- submitting requests

    def submit(self, request: Request) -> None:
        """Send a request, or queue it.

        Raises:
            ConnectionFailed: the connection is lost.
            Overloaded: too many requests wait already.
            ValueConversionError, RequestTooLarge, LocalProtocolError: it can't be encoded.
        """
        if self.lost is not None:
            raise _loss_for(request, self)
        request.connection = self
        core = self._core
        if (
            self._queue
            or len(self.requests) + self.orphans >= self._watermark
            or core.unsent >= self._max_unsent
        ) and self._must_wait():
            if len(self._queue) >= self._config.max_waiting:
                raise _overloaded(self, self._config.max_waiting)
            self._queue[request] = None
            self.backlog += 1
            return
        self._start(request)

    def submit_first(self, request: Request) -> None:
        """Send a request ahead of those that wait, and beyond ``max_in_flight``.

        For heartbeats: if they waited, a connection full of slow requests would seem dead.

        Raises:
            ConnectionFailed: the connection is lost.
            LocalProtocolError: no stream id is free, or the request can't be encoded.
        """
        if self.lost is not None:
            raise _loss_for(request, self)
        request.connection = self
        self._start(request)

    def abandon(self, request: Request) -> bool:
        """Forget a request that no task awaits any more; return whether it may have been sent."""
        stream_id = request.stream_id
        if stream_id == 0:
            if request in self._queue:
                del self._queue[request]
                self.backlog -= 1
            return False
        if self.requests.pop(stream_id, None) is None:
            return True
        sent = self._core.abandon(stream_id)
        self.orphans = orphans = self._core.orphans
        self.backlog = orphans + len(self._queue)
        if orphans > self._max_orphans and self.owner is not None:
            self.owner.too_many_orphans(self)
        if not sent and self._queue:
            self.sent()  # there is room now, and nothing else may happen for long
        return sent

    def timed_out(self) -> None:
        """A request on this connection has reached its deadline."""
        if self._core.unread and self.owner is not None and self.lost is None:
            self.owner.doubtful(self, skipping=False)

    def watch(self, watermark: int) -> None:
        """Tell the owner once when so many requests are in flight."""
        self._watermark = min(watermark, self._max_in_flight)

    def _must_wait(self) -> bool:
        """Whether a request has to wait; tells the owner at the watermark."""
        if len(self.requests) + self.orphans >= self._watermark and self.owner is not None:
            self._watermark = self._max_in_flight
            self.owner.at_watermark(self)
        return bool(self._queue) or self._is_full()

    def _is_full(self) -> bool:
        """Whether there are too many requests in flight or bytes unsent to send another."""
        return (
            len(self.requests) + self.orphans >= self._max_in_flight
            or self._core.unsent >= self._max_unsent
        )

    def _start(self, request: Request) -> None:
        """Send a request; raises as :meth:`submit` does."""
        core = self._core
        try:
            if request.binder is not None:
                stream_id = core.send_bound(request.binder, request.values)
            else:
                stream_id = core.send(
                    request.message,
                    metadata=request.metadata,
                    trace=request.trace,
                    payload=request.payload,
                )
        except MessageTooLarge as exc:
            raise RequestTooLarge(str(exc)) from exc
        request.stream_id = stream_id
        self.requests[stream_id] = request
        if self.silent:
            self._wake()  # may raise RecursionError: the next request then calls it
            self.silent = False

    # -- what the transfer calls

    def sent(self) -> None:
        """Send waiting requests while there is room."""
        while self._queue and not self._is_full():
            request, _ = self._queue.popitem(last=False)
            self.backlog -= 1
            try:
                self._start(request)
            except BaseException as exc:  # raised by a value of that request alone
                request.fail(throwable(exc))

    def received(self, data: bytes, *, direct: bool) -> None:
        """Parse the bytes of one read, and wake the tasks whose requests they answer."""
        core = self._core
        next_event = core.next_event
        take = self.requests.pop
        request = None
        core.receive_data(data)
        while (event := next_event()) is not None:
            if type(event) is not ResponseReceived:
                self._unasked(event)
                continue
            request = take(event.stream_id, None)
            if request is not None:
                if direct:
                    request.answer(event)
                else:
                    request.complete(event)
        if request is not None:
            self.heard = True
        if self.orphans:
            left = core.orphans
            if left < self.orphans:
                self.heard = True
            self.orphans = left
            self.backlog = left + len(self._queue)
        if self._queue:
            self.sent()
        if self.answered:
            _tell(self.answered, direct)

    def ended(self) -> None:
        """The server has closed its side."""
        self._core.receive_eof()
        event = self._core.next_event()
        clean = isinstance(event, ConnectionEnded) and event.clean
        where = "" if clean else " in the middle of a frame"
        self.lose(f"the server closed the connection{where}", None)

    def lose(self, reason: str, cause: BaseException | None) -> None:
        """The transport has failed: fail the requests, and end :meth:`run`."""
        if self.lost is None:
            self.lost = ConnectionLost(
                reason,
                host=str(self.endpoint),
                stage="request",
                elapsed=self._clock() - self.since,
            )
            self._tell_owner()
            self._tell_all(cause)
        self._transport.stop()

    def _unasked(self, event: Event) -> None:
        """Handle an event other than a reply; only control connections register for pushes."""
        if isinstance(event, ResponseUnreadable):
            self._failed(event)
        elif self.listener is not None and isinstance(event, PushReceived):
            self.listener(event.event)

    def _failed(self, event: ResponseUnreadable) -> None:
        """Fail the request whose reply can't be read; the others continue."""
        request = self.requests.pop(event.stream_id, None)
        self.orphans = self._core.orphans
        self.backlog = self.orphans + len(self._queue)
        error = event.error
        too_large = isinstance(error, ResponseTooLarge)
        if too_large and self._core.unread and self.owner is not None:
            self.owner.doubtful(self, skipping=True)
        else:
            self.heard = True
        if request is not None:
            request.fail(_of_request(error, request, self.name))

    # -- the end

    def run(self) -> Coroutine[Any, Any, None]:
        """Serve until the connection is lost or closed; then every request has its answer.

        This is the transport's own coroutine: one more around it would be resumed with each read.
        """
        return self._transport.run()

    def close(self, error: ConnectionFailed | SessionClosed) -> None:
        """End the connection; each request under way fails with a copy of the error."""
        if self.lost is None:
            self.lost = error
            self._tell_owner()
            self._tell_all(error.__cause__)
        self._transport.stop()

    def give_up(self, reason: str) -> None:
        """End a connection that must not be used any more, as if the socket had broken."""
        self.lose(reason, None)

    def _tell_owner(self) -> None:
        if self.owner is not None:
            self.owner.connection_lost(self)

    def _tell_all(self, cause: BaseException | None) -> None:
        requests = [*self.requests.values(), *self._queue]
        unsent = set(self._queue)
        self.requests.clear()
        self._queue.clear()
        self.backlog = self.orphans
        for request in requests:
            if request in unsent or not self._core.abandon(request.stream_id):
                request.stream_id = 0
            error = _loss_for(request, self)
            error.__cause__ = cause
            request.fail(error)
        _tell(self.answered, False)


def _tell(answered: list[Callable[[bool], None]], direct: bool) -> None:
    """Let bulk calls start other rows in place of those that were answered."""
    while answered:  # one that raises doesn't keep the others from going on later
        answered.pop()(direct)


def _loss_for(request: Request, connection: Connection) -> Exception:
    """Return the request's own copy of the error that ended the connection."""
    assert connection.lost is not None
    error = copy(connection.lost)
    error.__cause__ = connection.lost.__cause__
    error.host = connection.name
    error.maybe_applied = request.maybe_applied()
    if isinstance(error, ConnectionLost):
        error.query = request.query
    return error


def _of_request(error: RemoteProtocolError, request: Request, host: str) -> RemoteProtocolError:
    """Say in the error of an unreadable reply which request it ends."""
    error.host = host
    error.query = request.query
    error.maybe_applied = request.maybe_applied()
    return error


def _overloaded(connection: Connection, max_waiting: int) -> Overloaded:
    """Return the error for a request that finds too many waiting."""
    where = f"{connection.name}, where {connection.in_flight} are in flight,"
    error = overloaded(connection.waiting, where, max_waiting)
    error.host = connection.name
    return error
