"""Opens a connection: the stream, the handshake, the keyspace, and lower protocol versions.

Every failure is a kind of ConnectionFailed, with the stage that was reached and the time it took;
or the server's error about the keyspace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from cqlproto._events import (
    HandshakeCompleted,
    HandshakeFailed,
    ResponseReceived,
    ResponseUnreadable,
)
from cqlproto.connection import ClientConnection
from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages.errors import Error
from cqlproto.messages.requests import Query, QueryParameters
from cqlproto.routing import Sharding
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._eventloop.transfer import cause_of
from cqlproto_anyio._metadata.tablets import EXTENSION
from cqlproto_anyio._network.connection import Connection
from cqlproto_anyio._network.stream import Attempt, close_forcefully, open_stream
from cqlproto_anyio.exceptions import (
    AuthenticationFailed,
    ConfigError,
    ConnectionFailed,
    CQLError,
    NotCQL,
    TLSFailed,
    VersionRejected,
    database_error,
)

if TYPE_CHECKING:
    import ssl

    from anyio.abc import ByteStream

    from cqlproto._events import Event
    from cqlproto.connection import Authenticator
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["open_connection"]

DRIVER_NAME = "cqlproto"
_HINT = "(it may want TLS or a client certificate, or not speak CQL)"
# The most bytes to read for one message of the handshake; usual ones have some hundreds.
_LONGEST = 1 << 20


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
        backend: the running event loop.
        config: limits, the connector, the compression.
        version: the highest version to speak; lower ones are tried, each on a new socket, unless
            ``config.protocol_version`` forbids it.
        auth: credentials, or None.
        tls: the TLS context, or None.
        keyspace: the keyspace of unqualified names, or None.

    Raises:
        ConnectionFailed: one of its kinds, with the stage that was reached and the time it took.
            Exceptions of the connector, the credential provider and the TLS context are its cause.
        DatabaseError: the keyspace can't be used.
        ConfigError: the compression isn't available.
    """
    attempt = Attempt(endpoint, backend.clock)
    attempt.has_auth = auth is not None
    try:
        return await _open_connection(attempt, backend, config, version, auth, tls, keyspace)
    except CQLError:
        raise
    except BaseException as exc:
        if backend.is_cancellation(exc):
            raise
        raise attempt.failure(f"{attempt.asked} raised {described(exc)}") from exc


async def _open_connection(
    attempt: Attempt,
    backend: Backend,
    config: Config,
    version: ProtocolVersion,
    auth: Auth | None,
    tls: ssl.SSLContext | None,
    keyspace: str | None,
) -> Connection:
    with anyio.move_on_after(config.connect_timeout):
        while True:
            authenticator = None
            if auth is not None:
                authenticator = await _authenticator(auth, attempt, backend)
            try:
                core = ClientConnection(
                    version=version,
                    compression=config.compression,
                    authenticator=authenticator,
                    options=_startup_options(config),
                    extensions={EXTENSION: ""},
                    limits=config.limits,
                )
            except LocalProtocolError as exc:
                raise ConfigError(str(exc)) from exc
            try:
                stream = await _open(core, attempt, backend, config, tls, keyspace)
            except VersionRejected as exc:
                if config.protocol_version is not None or exc.next_version is None:
                    raise
                version = exc.next_version
            else:
                connection = Connection(stream, core, attempt.endpoint, backend, config)
                connection.sharding = sharding = Sharding.from_supported(core.supported)
                connection.shard = None if sharding is None else sharding.shard
                return connection
    raise attempt.failure(f"nothing happened within {config.connect_timeout:g} s")


async def _open(
    core: ClientConnection,
    attempt: Attempt,
    backend: Backend,
    config: Config,
    tls: ssl.SSLContext | None,
    keyspace: str | None,
) -> ByteStream:
    """Return a stream after the handshake; on failure or cancellation it is closed."""
    stream = await open_stream(attempt, tls=tls, connector=config.connector)
    try:
        if tls is None and config.connector is None:
            stream = await backend.adopt(stream)
        attempt.stage = "handshake"
        attempt.asked = "the transport"
        await _handshake(stream, core, attempt)
        _pass_over(core, attempt)
        if keyspace is not None:
            attempt.stage = "keyspace"
            await _choose(stream, core, attempt, keyspace)
            _pass_over(core, attempt)
    except BaseException:
        await close_forcefully(stream)
        raise
    return stream


async def _authenticator(auth: Auth, attempt: Attempt, backend: Backend) -> Authenticator:
    try:
        return _Typed(await auth.authenticator(attempt.endpoint), attempt)
    except ConfigError:
        raise
    except BaseException as exc:
        if backend.is_cancellation(exc):
            raise
        # its text may contain credentials; it is in the cause only
        reason = f"the credential provider raised {type(exc).__name__}"
        raise attempt.failure(reason, AuthenticationFailed) from exc


class _Typed:
    """An authenticator that raises AuthenticationFailed for any exception.

    The text of the exception is left out: it may contain credentials.
    """

    __slots__ = ("_attempt", "_authenticator")

    def __init__(self, authenticator: Authenticator, attempt: Attempt) -> None:
        self._authenticator = authenticator
        self._attempt = attempt

    def initial_response(self, mechanism: str) -> bytes | None:
        return self._ask("initial_response", mechanism)

    def evaluate_challenge(self, challenge: bytes | None) -> bytes | None:
        return self._ask("evaluate_challenge", challenge)

    def _ask(self, step: str, argument: object) -> bytes | None:
        try:
            return _token(getattr(self._authenticator, step)(argument), step)
        except BaseException as exc:  # it is synchronous, so this is not a cancellation
            reason = f"the authenticator raised {type(exc).__name__}"
            raise self._attempt.failure(reason, AuthenticationFailed) from exc


def _token(token: Any, step: str) -> bytes | None:
    if token is None or isinstance(token, bytes):  # null is a token (v4 section 4.1.2)
        return token
    if isinstance(token, (bytearray, memoryview)):
        return bytes(token)
    kind, token = type(token).__name__, None
    raise TypeError(f"{step}() returned a {kind}, not bytes")


def _startup_options(config: Config) -> dict[str, str]:
    from cqlproto._version import __version__

    options = {
        "DRIVER_NAME": DRIVER_NAME,
        "DRIVER_VERSION": __version__,
        # a server that limits rates then answers OVERLOADED instead of not reading
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
            hint = "" if event.error is not None or attempt.has_auth else ": pass auth="
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
    """Set the connection's keyspace on v3 and v4; this is the only USE that is sent.

    On v5 each request carries its keyspace. Here a query checks that the keyspace exists, so that a
    wrong name fails as early.
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
        if isinstance(event, ResponseUnreadable):
            raise attempt.failure(str(event.error)) from event.error
        event = await _exchange(stream, core, attempt)  # a push without a registration
    if isinstance(event.message, Error):
        raise database_error(event.message, host=str(attempt.endpoint), query=query)


def _pass_over(core: ClientConnection, attempt: Attempt) -> None:
    """Read the pushes that came with the last answer; nobody listens yet.

    A reply to a request that wasn't sent yet must not be taken for the answer of a later one.
    """
    try:
        while core.next_event() is not None:
            pass
    except RemoteProtocolError as exc:
        raise _broken(exc, attempt) from exc


def _broken(error: RemoteProtocolError, attempt: Attempt) -> ConnectionFailed:
    if error.error is not None:
        return attempt.failure(str(error))
    if "b'\\x15\\x03" in str(error):
        return attempt.failure("the server speaks TLS: pass tls=", TLSFailed)
    return attempt.failure(str(error), NotCQL)


async def _exchange(stream: ByteStream, core: ClientConnection, attempt: Attempt) -> Event:
    """Send what is queued and read until there is an event."""
    left = _LONGEST
    try:
        while True:
            event = core.next_event()
            if event is not None:
                return event
            if left < 0:
                raise attempt.failure(
                    f"the server sent more than {_LONGEST:,} bytes for one message", NotCQL
                )
            data = core.data_to_send()
            if not data:
                data = await _received(stream, attempt)
                if not data:  # a socket's end of data; anyio's streams raise instead
                    raise anyio.EndOfStream
                left -= len(data)
                core.receive_data(data)
                continue
            try:
                await stream.send(data)
            except CQLError as exc:
                raise _foreign(exc, attempt) from _without_frames(exc)
            finally:
                del data  # it may contain a password, and tracebacks can show local variables
    except ConnectionFailed:
        raise
    except RemoteProtocolError as exc:
        raise _broken(exc, attempt) from exc
    except anyio.EndOfStream:
        raise attempt.failure(f"the server closed the connection {_HINT}") from None
    except (anyio.BrokenResourceError, OSError) as exc:
        raise attempt.failure(f"{cause_of(exc)} {_HINT}") from _without_frames(exc)


async def _received(stream: ByteStream, attempt: Attempt) -> bytes:
    try:
        return await stream.receive()
    except CQLError as exc:
        raise _foreign(exc, attempt) from exc


def _foreign(error: CQLError, attempt: Attempt) -> ConnectionFailed:
    """Return the failure for an error of another session, which the transport uses."""
    return attempt.failure(f"the transport raised {described(error)}")


def _without_frames(error: BaseException) -> BaseException:
    """Return a transport's error without its frames, whose variables may hold a password."""
    each: BaseException | None = error
    while each is not None and each.__traceback__ is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
