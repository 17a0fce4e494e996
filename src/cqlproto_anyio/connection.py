"""One connection: a socket, the protocol core, and the requests that are under way on it.

Two tasks own the socket. The reader parses all that one read brought and wakes each request's
task; the writer sleeps until something is queued and then sends everything that was queued in that
turn of the event loop at once. Submitting a request is synchronous: the core packs it, and it is
kept by stream id until its answer comes. When ids or the room for unsent bytes run out, requests
wait here in their order.

When the socket breaks, every request learns what happened; none waits for its deadline.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any

import anyio

from cqlproto._events import (
    ConnectionEnded,
    HandshakeCompleted,
    HandshakeFailed,
    ResponseReceived,
)
from cqlproto.connection import ClientConnection
from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, MessageTooLarge, RemoteProtocolError
from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Query, QueryParameters
from cqlproto_anyio.exceptions import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    ConnectionLost,
    NotCQL,
    Overloaded,
    RequestTooLarge,
    SessionClosed,
    TLSFailed,
    VersionRejected,
    database_error,
)
from cqlproto_anyio.stream import Attempt, open_stream

if TYPE_CHECKING:
    import ssl

    from anyio.abc import ByteStream

    from cqlproto._events import Event
    from cqlproto_anyio._backend import Backend, Waiting
    from cqlproto_anyio.config import Auth, Config, Endpoint
    from cqlproto_anyio.request import Request

__all__ = ["Connection", "open_connection"]

DRIVER_NAME = "cqlproto"
_HINT = "(it may want TLS or a client certificate, or not speak CQL)"


class Connection:
    """A connection that is ready for requests.

    Arguments:
        stream: the transport; the connection owns it from now on.
        core: the protocol core, its handshake completed.
        endpoint: the node.
        backend: what the event loop offers.
        config: bounds.
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
        self._stream = stream
        self._core = core
        self._backend = backend
        self._clock = backend.clock
        self._config = config
        self._max_in_flight = config.max_in_flight
        self._max_unsent = config.max_unsent
        self._started = backend.clock()
        self._requests: dict[int, Request] = {}
        self._queue: OrderedDict[Request, None] = OrderedDict()
        self._orphans = 0
        self._writer: Waiting | None = None
        self._scope: anyio.CancelScope | None = None

    @property
    def in_flight(self) -> int:
        """How many requests are under way, orphans included."""
        return self._core.in_flight

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self._queue)

    # -- what requests call, synchronously

    def submit(self, request: Request) -> None:
        """Send a request, or let it wait for its turn.

        Raises:
            ConnectionFailed: the connection is lost.
            Overloaded: too many requests wait already.
            ValueConversionError, RequestTooLarge, LocalProtocolError: it can't be written.
        """
        if self.lost is not None:
            raise self._loss(request)
        request.connection = self
        core = self._core
        if (
            self._queue
            or len(self._requests) + self._orphans >= self._max_in_flight
            or core.unsent >= self._max_unsent
        ):
            if len(self._queue) >= self._config.max_waiting:
                error = Overloaded(
                    f"{len(self._queue)} requests wait for {self.endpoint} already,"
                    f" {core.in_flight} are in flight"
                )
                error.host = str(self.endpoint)
                raise error
            self._queue[request] = None
            return
        self._start(request)

    def abandon(self, request: Request) -> bool:
        """Nobody waits for this request any more; return whether it may have been sent."""
        stream_id = request.stream_id
        if stream_id == 0:
            self._queue.pop(request, None)
            return False
        if self._requests.pop(stream_id, None) is None:
            return True
        sent = self._core.abandon(stream_id)
        self._orphans = self._core.orphans
        if not sent and self._queue:
            self._start_waiting()  # it has made room, and nothing else may happen for long
        return sent

    def _is_full(self) -> bool:
        """Whether a request has to wait; one turn of the loop alone can queue too many bytes."""
        return (
            len(self._requests) + self._orphans >= self._max_in_flight
            or self._core.unsent >= self._max_unsent
        )

    def _start(self, request: Request) -> None:
        """Send a request that has its turn; raises as :meth:`submit` does."""
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
        request.sent = True
        self._requests[stream_id] = request
        writer = self._writer
        if writer is not None:
            self._writer = None
            writer.complete(None)

    def _start_waiting(self) -> None:
        """Send requests that wait, as far as there is room now."""
        while self._queue and not self._is_full():
            request, _ = self._queue.popitem(last=False)
            try:
                self._start(request)
            except Exception as exc:
                request.fail(exc)

    # -- the tasks that own the socket

    async def run(self) -> None:
        """Serve until the connection is lost or closed; then every request has been told."""
        try:
            async with anyio.create_task_group() as group:
                self._scope = group.cancel_scope
                group.start_soon(self._write)
                await self._read()
                group.cancel_scope.cancel()
        except Exception as exc:  # a bug of ours: the requests must not hang because of it
            self._lose(f"{type(exc).__name__}: {exc}", exc)
        finally:
            if self.lost is None:
                self._lose("the event loop is shutting down", None)
            with anyio.move_on_after(self._config.close_timeout, shield=True):
                with suppress(Exception):
                    await self._stream.aclose()

    def close(self, error: ConnectionFailed | SessionClosed) -> None:
        """End the connection; the requests under way get an error like this one."""
        if self.lost is None:
            self.lost = error
            self._tell_all(None)
        if self._scope is not None:
            self._scope.cancel()

    def give_up(self, reason: str) -> None:
        """End a connection that must not be used any more, as if it were lost."""
        self._lose(reason, None)

    async def _write(self) -> None:
        core = self._core
        send = self._stream.send
        waiting = self._backend.waiting
        try:
            while True:
                data = core.data_to_send()
                if data:
                    await send(data)
                    if self._queue:
                        self._start_waiting()
                else:
                    self._writer = writer = waiting()
                    await writer
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            self._lose(_cause(exc), exc)

    async def _read(self) -> None:
        core = self._core
        receive = self._stream.receive
        receive_data = core.receive_data
        next_event = core.next_event
        take = self._requests.pop
        size = self._backend.receive_size
        try:
            while self.lost is None:
                receive_data(await receive(size))
                while (event := next_event()) is not None:
                    if type(event) is ResponseReceived:
                        request = take(event.stream_id, None)
                        if request is not None:
                            request.complete(event)
                    else:
                        self._unasked(event)
                if self._orphans:
                    self._orphans = core.orphans
                if self._queue:
                    self._start_waiting()
        except RemoteProtocolError as exc:
            self._lose(str(exc), exc)
        except anyio.EndOfStream:
            core.receive_eof()
            event = core.next_event()
            clean = isinstance(event, ConnectionEnded) and event.clean
            where = "" if clean else " in the middle of a frame"
            self._lose(f"the server closed the connection{where}", None)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as exc:
            self._lose(_cause(exc), exc)

    def _unasked(self, event: Event) -> None:
        """Events are not registered for yet, so a push is for nobody."""

    # -- the end

    def _lose(self, reason: str, cause: BaseException | None) -> None:
        if self.lost is None:
            self.lost = ConnectionLost(
                reason,
                host=str(self.endpoint),
                stage="request",
                elapsed=self._clock() - self._started,
            )
            self._tell_all(cause)
        if self._scope is not None:
            self._scope.cancel()

    def _tell_all(self, cause: BaseException | None) -> None:
        requests = [*self._requests.values(), *self._queue]
        unsent = set(self._queue)
        self._requests.clear()
        self._queue.clear()
        for request in requests:
            if request in unsent or not self._core.abandon(request.stream_id):
                request.sent = False
            error = self._loss(request)
            error.__cause__ = cause
            request.fail(error)

    def _loss(self, request: Request) -> Exception:
        """Return this request's own copy of what happened to the connection."""
        error = copy(self.lost)
        assert error is not None
        error.host = str(self.endpoint)
        error.maybe_applied = request.maybe_applied()
        return error


def _cause(exc: BaseException) -> str:
    told = exc.__cause__ if isinstance(exc.__cause__, OSError) else exc
    return getattr(told, "strerror", None) or str(told) or "the connection was reset"


# -- connecting


async def open_connection(
    endpoint: Endpoint,
    *,
    backend: Backend,
    config: Config,
    version: ProtocolVersion,
    auth: Auth | None,
    tls: ssl.SSLContext | None,
    keyspace: str | None,
) -> Connection:
    """Connect to a node, within ``config.connect_timeout``.

    Arguments:
        endpoint: the node.
        backend: what the event loop offers.
        config: bounds, the transport, the compression.
        version: the highest version to speak; lower ones are tried, each on a new socket, unless
            ``config.protocol_version`` forbids it.
        auth: credentials, or None.
        tls: the TLS context, or None.
        keyspace: the keyspace of unqualified names, or None.

    Raises:
        ConnectionFailed: one of its kinds, with the stage it got to and how long that took.
        DatabaseError: the keyspace can't be used.
        ConfigError: the compression isn't to be had.
    """
    attempt = Attempt(endpoint, backend.clock)
    with anyio.move_on_after(config.connect_timeout):
        while True:
            authenticator = None if auth is None else await _authenticator(auth, attempt)
            try:
                core = ClientConnection(
                    version=version,
                    compression=config.compression,
                    authenticator=authenticator,
                    options=_startup_options(config),
                    limits=config.limits,
                )
            except LocalProtocolError as exc:
                raise ConfigError(str(exc)) from exc
            try:
                stream = await _open(core, attempt, config, tls, keyspace)
            except VersionRejected as exc:
                if config.protocol_version is not None or exc.next_version is None:
                    raise
                version = exc.next_version
            else:
                return Connection(stream, core, endpoint, backend, config)
    raise attempt.failure(f"nothing happened within {config.connect_timeout:g} s")


async def _open(
    core: ClientConnection,
    attempt: Attempt,
    config: Config,
    tls: ssl.SSLContext | None,
    keyspace: str | None,
) -> ByteStream:
    """Return a transport whose handshake is done; one that fails or is cancelled is closed."""
    stream = await open_stream(attempt, tls=tls, connector=config.connector)
    try:
        attempt.stage = "handshake"
        await _handshake(stream, core, attempt)
        if keyspace is not None:
            attempt.stage = "keyspace"
            await _choose(stream, core, attempt, keyspace)
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise
    return stream


async def _authenticator(auth: Auth, attempt: Attempt) -> Any:
    try:
        return await auth.authenticator(attempt.endpoint)
    except ConfigError:
        raise
    except Exception as exc:
        # its text may hold what must not be shown; the cause has it for who looks
        reason = f"the credential provider raised {type(exc).__name__}"
        raise attempt.failure(reason, AuthenticationFailed) from exc


def _startup_options(config: Config) -> dict[str, str]:
    from cqlproto._version import __version__

    options = {
        "DRIVER_NAME": DRIVER_NAME,
        "DRIVER_VERSION": __version__,
        # a server that limits rates then says so, where it would stop reading otherwise
        "THROW_ON_OVERLOAD": "1",
    }
    if config.application_name is not None:
        options["APPLICATION_NAME"] = config.application_name
    if config.application_version is not None:
        options["APPLICATION_VERSION"] = config.application_version
    return {**options, **config.startup_options}


async def _handshake(stream: ByteStream, core: ClientConnection, attempt: Attempt) -> None:
    core.initiate()
    event = await _exchange(stream, core, attempt)
    if isinstance(event, HandshakeCompleted):
        return
    if isinstance(event, HandshakeFailed):
        if event.authentication:
            hint = "" if event.error is not None else ": pass auth="
            raise attempt.failure(f"{event.reason}{hint}", AuthenticationFailed)
        if event.version_rejected:
            error = attempt.failure(event.reason, VersionRejected)
            assert isinstance(error, VersionRejected)
            error.supported_versions = event.supported_versions
            error.next_version = event.next_version
            raise error
        raise attempt.failure(event.reason)
    raise attempt.failure(f"unexpected {event!r}")


async def _choose(
    stream: ByteStream, core: ClientConnection, attempt: Attempt, keyspace: str
) -> None:
    """On v3 and v4 the keyspace belongs to the connection; this is the only USE there is.

    On v5 it travels with each request. Here the server is asked whether there is such a keyspace,
    so that a wrong name is known as early.
    """
    parameters = QueryParameters(Consistency.ONE)
    if core.version.has_keyspace_option:
        query = "SELECT key FROM system.local"
        parameters.keyspace = keyspace
    else:
        escaped = keyspace.replace('"', '""')
        query = f'USE "{escaped}"'
    core.send(Query(query, parameters))
    event = await _exchange(stream, core, attempt)
    while not isinstance(event, ResponseReceived):
        event = await _exchange(stream, core, attempt)  # a push that nobody asked for
    if isinstance(event.message, Error):
        raise database_error(event.message, host=str(attempt.endpoint), query=query)


async def _exchange(stream: ByteStream, core: ClientConnection, attempt: Attempt) -> Event:
    """Send what is queued and read until there is an event."""
    try:
        while True:
            event = core.next_event()
            if event is not None:
                return event
            data = core.data_to_send()
            if data:
                await stream.send(data)
            else:
                core.receive_data(await stream.receive())
    except RemoteProtocolError as exc:
        if exc.error is not None:
            raise attempt.failure(str(exc)) from exc
        if "b'\\x15\\x03" in str(exc):
            raise attempt.failure("the server speaks TLS: pass tls=", TLSFailed) from exc
        raise attempt.failure(str(exc), NotCQL) from exc
    except anyio.EndOfStream:
        raise attempt.failure(f"the server closed the connection {_HINT}") from None
    except (anyio.BrokenResourceError, OSError) as exc:
        raise attempt.failure(f"{_cause(exc)} {_HINT}") from exc
