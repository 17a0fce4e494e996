"""Opens the byte stream to a node: TCP, TLS over TCP, or what the user's connector opens."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._checks.callables import described
from cqlproto_anyio.exceptions import (
    ConfigError,
    ConnectionFailed,
    CQLError,
    NoHostAvailable,
    TLSFailed,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from anyio.abc import ByteStream

    from cqlproto_anyio.config import Connector
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["Attempt", "close_forcefully", "open_stream"]


class Attempt:
    """One attempt to connect: its node, the stage it has reached, the time it has taken.

    Arguments:
        endpoint: the node.
        clock: returns seconds.

    Attributes:
        stage: the stage it has reached.
        asked: what is running, to name in the error if that raises.
        has_auth: whether there are credentials.
    """

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.stage = "connect"
        self.asked = "connecting"
        self.has_auth = False
        self._clock = clock
        self._started = clock()

    def failure(
        self, reason: str, kind: type[ConnectionFailed] = ConnectionFailed
    ) -> ConnectionFailed:
        """Return the error for a failure of this attempt."""
        elapsed = self._clock() - self._started
        return kind(reason, host=str(self.endpoint), stage=self.stage, elapsed=elapsed)


async def open_stream(
    attempt: Attempt, *, tls: ssl.SSLContext | None, connector: Connector | None
) -> ByteStream:
    """Open the stream to ``attempt.endpoint``, without a limit of time.

    Raises:
        ConnectionFailed: it can't be resolved or reached.
        TLSFailed: the TLS handshake failed.
    """
    endpoint = attempt.endpoint
    try:
        if connector is not None:
            attempt.asked = "the connector"
            stream = await connector(endpoint)
            if not (hasattr(stream, "receive") and hasattr(stream, "send")):
                kind = type(stream).__name__
                raise attempt.failure(f"the connector returned a {kind}, not a ByteStream")
        else:
            stream = await anyio.connect_tcp(endpoint.address, endpoint.port)
    except socket.gaierror as exc:
        attempt.stage = "resolve"
        raise attempt.failure(f"{endpoint.address!r} can't be resolved: {exc.strerror}") from exc
    except CQLError as exc:
        known = isinstance(exc, (ConfigError, ConnectionFailed))
        if known and not isinstance(exc, NoHostAvailable):
            raise
        # of another session, which the connector uses
        raise attempt.failure(f"the connector raised {described(exc)}") from exc
    except OSError as exc:
        raise attempt.failure(_reason(exc)) from exc
    if tls is None:
        return stream
    attempt.stage = "tls"
    attempt.asked = "the TLS context"
    try:
        return await _wrap(stream, tls, attempt)
    except BaseException:
        await close_forcefully(stream)
        raise


async def close_forcefully(stream: ByteStream) -> None:
    """Close a stream without waiting, and ignore what it raises."""
    with suppress(BaseException):
        await anyio.aclose_forcefully(stream)


async def _wrap(stream: ByteStream, tls: ssl.SSLContext, attempt: Attempt) -> ByteStream:
    import ssl

    from anyio.streams.tls import TLSStream

    endpoint = attempt.endpoint
    try:
        # CQL frames carry their length, so the closing handshake of TLS protects nothing. anyio's
        # waits for a silent peer forever, and isn't possible while a read is pending.
        return await TLSStream.wrap(
            stream,
            server_side=False,
            hostname=endpoint.server_name or endpoint.address,
            ssl_context=tls,
            standard_compatible=False,
        )
    except ssl.SSLCertVerificationError as exc:
        reason = f"the certificate isn't trusted: {exc.verify_message}"
        raise attempt.failure(reason, TLSFailed) from exc
    except ssl.SSLError as exc:
        reason = exc.reason or str(exc)
        if "WRONG_VERSION" in reason:
            reason += " (it doesn't seem to speak TLS)"
        raise attempt.failure(reason, TLSFailed) from exc
    except (anyio.EndOfStream, anyio.BrokenResourceError) as exc:
        reason = "the server closed the connection (does it speak TLS?)"
        raise attempt.failure(reason, TLSFailed) from exc


def _reason(exc: BaseException) -> str:
    """Return the operating system's reason; anyio says "All connection attempts failed"."""
    cause = exc.__cause__
    while isinstance(cause, BaseExceptionGroup) and cause.exceptions:
        cause = cause.exceptions[0]
    error = cause if isinstance(cause, OSError) else exc
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text says "Connect call failed"
    return str(error) or type(error).__name__
