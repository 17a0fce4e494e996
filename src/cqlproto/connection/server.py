"""The server's end of a connection: it reads requests and never replies by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cqlproto._events import RequestReceived, RequestUnreadable, UnsupportedVersionReceived
from cqlproto._state import EXPECTATIONS, OPENS_SEGMENTS, State
from cqlproto.connection.base import EVENT_STREAM, VERSIONS, Connection, Limits, named_compressor
from cqlproto.enums import FLAG_TRACING, RESPONSE_BIT, ErrorCode, Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.frames import HEADER_SIZE, SKIPPED
from cqlproto.messages import read_request, read_request_prefix, write_prefix
from cqlproto.messages.errors import Error
from cqlproto.messages.events import Event as EventMessage
from cqlproto.messages.requests import AuthResponse, Options, Startup
from cqlproto.messages.responses import READY, Authenticate, AuthSuccess, Supported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from cqlproto._events import Event
    from cqlproto.messages import Request, Response
    from cqlproto.messages.events import ServerEvent

__all__ = ["ServerConnection", "handshake_reply"]


class _Pending(NamedTuple):
    """A request without a reply yet.

    Attributes:
        opcode: the opcode of the request.
        version: the version of the request and of its reply.
        compression: the compression that a STARTUP requests, or None.
    """

    opcode: Opcode
    version: ProtocolVersion
    compression: str | None = None


class ServerConnection(Connection):
    """The server's end of a connection. It never replies by itself, so proxies can be built on it.

    A reply has the version of its request. Once READY or AUTHENTICATE has answered STARTUP, the
    version of that STARTUP is the connection's: requests of another version are refused, and v5
    uses segments. Between a STARTUP of v5 and its reply nothing is parsed, since the reply decides
    whether segments follow.

    Arguments:
        limits: sizes; ``max_request`` limits the received frames.
        versions: the accepted versions.
    """

    __slots__ = ("_awaited", "_requests", "_serial", "_skipping", "_started", "_versions")

    def __init__(
        self, *, limits: Limits | None = None, versions: Sequence[ProtocolVersion] = VERSIONS
    ) -> None:
        limits = limits or Limits()
        super().__init__(max(versions), limits, limits.max_request - HEADER_SIZE, responses=False)
        self._requests: dict[int, _Pending] = {}
        self._versions = {int(version): version for version in versions}
        self._awaited: int | None = None  # the stream id of a STARTUP of v5 without a reply
        self._started = False
        self._skipping = False  # whether the next frame is the rest of one that is too long
        self._serial = 0
        self.state = State.READY

    @property
    def versions(self) -> Sequence[ProtocolVersion]:
        """The accepted versions."""
        return tuple(self._versions.values())

    def next_event(self) -> Event | None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            while True:
                parts = self._reader.take() if self._awaited is None else None
                if parts is None:
                    return self._end()
                if self._skipping:
                    self._skipping = False
                    continue
                return self._request(*parts)
        except RemoteProtocolError as exc:
            self._broken(exc)

    def _request(self, version: int, flags: int, stream_id: int, opcode: int, body: bytes) -> Event:
        if version & SKIPPED:
            version ^= SKIPPED
            self._skipping = True
        if stream_id < 0:
            raise RemoteProtocolError(
                f"the stream id of a request must be at least 0, got {stream_id}"
            )
        if stream_id in self._requests:
            raise RemoteProtocolError(
                f"a request on stream {stream_id}, where another one is pending"
            )
        if self._started and version != self._version:
            raise RemoteProtocolError(
                f"a request must have version v{self._version:d}, got version 0x{version:02x}"
            )
        if self._skipping and not self._started:  # these bytes may not be CQL
            raise self._too_long(body)
        if version not in self._versions:
            self._requests[stream_id] = _Pending(Opcode.OPTIONS, self._version)
            return UnsupportedVersionReceived(stream_id, version)
        self._version = self._versions[version]
        try:
            if self._skipping:
                raise self._too_long(body)
            body = self._body(flags, body)
            payload, position = read_request_prefix(body, flags, self._version)
            message = read_request(opcode, body, position, self._version)
        except RemoteProtocolError as exc:
            if not self._started:
                raise
            self._requests[stream_id] = _Pending(Opcode.OPTIONS, self._version)
            return RequestUnreadable(stream_id, exc.with_traceback(None))
        compression = None
        if isinstance(message, Startup) and not self._started:
            compression = self._compression_in(message)
            if self._version.has_segments:
                self._awaited = stream_id
        self._requests[stream_id] = _Pending(Opcode(message.opcode), self._version, compression)
        return RequestReceived(
            stream_id, message, tracing=bool(flags & FLAG_TRACING), payload=payload
        )

    def _too_long(self, length: bytes) -> RemoteProtocolError:
        size = int.from_bytes(length, "big")
        return RemoteProtocolError(
            f"a request must be at most {self._max_body:,} bytes, got {size:,}"
        )

    def _compression_in(self, startup: Startup) -> str | None:
        """Return the compression that STARTUP requests."""
        name = startup.options.get("COMPRESSION")
        if name is None:
            return None
        name = name.lower()  # servers ignore case
        if name not in ("lz4", "snappy"):
            raise RemoteProtocolError(f"compression must be lz4 or snappy, got {name!r}")
        if name == "snappy" and not self._version.has_snappy:
            raise RemoteProtocolError(f"compression must be lz4 on v{self._version:d}, got snappy")
        return name

    def reply(
        self,
        stream_id: int,
        message: Response,
        *,
        warnings: Sequence[str] = (),
        tracing_id: UUID | None = None,
        payload: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Queue the reply to a request.

        Raises:
            LocalProtocolError: no request is pending on this stream, the message can't answer it
                or be written in this version, or the codec of the compression is not installed.
                Nothing was queued; another reply is possible.
        """
        asked = self._requests.get(stream_id)
        if asked is None:
            raise LocalProtocolError(f"no request is pending on stream {stream_id}")
        expectation = EXPECTATIONS[asked.opcode]
        legal = message.opcode in expectation.replies
        if message.opcode == Opcode.RESULT:
            legal = type(message) in expectation.results
        if not legal:
            raise LocalProtocolError(f"{message!r} must not answer {asked.opcode.name}")
        version = asked.version
        body = bytearray()
        flags = write_prefix(body, version, tracing_id, warnings, payload)
        message.write_body(body, version)
        starts = asked.opcode is Opcode.STARTUP and message.opcode in OPENS_SEGMENTS
        starts = starts and not self._started
        codec = None
        if starts and asked.compression is not None:
            codec = named_compressor(asked.compression, version)
            if not version.has_segments:
                self._compressor = codec  # READY itself is compressed (v4 section 5)
        self._append(version, stream_id, flags, message.opcode, bytes(body))
        del self._requests[stream_id]
        if stream_id == self._awaited:
            self._awaited = None
        if starts:
            self._started = True
            self._version = version
            if version.has_segments:
                self._begin_segments(codec)

    def push(self, event: ServerEvent) -> None:
        """Queue an event for a client that registered for it."""
        body = bytearray()
        EventMessage(event).write_body(body, self._version)
        self._append(self._version, EVENT_STREAM, 0, Opcode.EVENT, bytes(body))

    def _append(
        self, version: ProtocolVersion, stream_id: int, flags: int, opcode: int, body: bytes
    ) -> None:
        frame = self._pack(version | RESPONSE_BIT, flags, stream_id, opcode, body)
        self._out[self._serial] = frame  # a serial number: one stream may have several frames
        self._serial += 1
        self.unsent += len(frame)


def handshake_reply(
    request: Request,
    *,
    supported: Mapping[str, Sequence[str]],
    verify: Callable[[bytes], bool] | None = None,
) -> Response | None:
    """Return an ordinary server's reply to a request of the handshake, or None for other requests.

    Arguments:
        request: the request.
        supported: the options of SUPPORTED.
        verify: checks the token of an AUTH_RESPONSE; None for a server without authentication.
    """
    if isinstance(request, Options):
        return Supported({name: list(values) for name, values in supported.items()})
    if isinstance(request, Startup):
        if verify is None:
            return READY
        return Authenticate("org.apache.cassandra.auth.PasswordAuthenticator")
    if isinstance(request, AuthResponse):
        if verify is not None and verify(request.token or b""):
            return AuthSuccess(None)
        return Error(ErrorCode.BAD_CREDENTIALS, "Provided username or password are incorrect")
    return None
