"""The two ends of a connection, without the connection.

Bytes go in by ``receive_data``, come out as events by ``next_event``; messages go in by ``send`` or
``reply`` and come out as bytes by ``data_to_send``. What may happen when stands in ``_state``; how
bytes are cut stands in ``frames``; what they mean, in ``messages``. This file is the glue.

The client's end runs the handshake by itself and hands out stream ids. An id is free again when its
reply has come, never before: a request that nobody waits for any more keeps its id as an *orphan*,
so that a late reply cannot be taken for another's (v4 section 2.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from cqlproto._events import (
    ConnectionEnded,
    Event,
    HandshakeCompleted,
    HandshakeFailed,
    PushReceived,
    RequestReceived,
    ResponseReceived,
    UnsupportedVersionReceived,
)
from cqlproto._state import EXPECTATIONS, HANDSHAKE, ORPHAN, Action, Expectation, State
from cqlproto.compression import Compressor, compressor
from cqlproto.enums import (
    FLAG_COMPRESSED,
    FLAG_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    RESPONSE_BIT,
    ErrorCode,
    Opcode,
    ProtocolVersion,
)
from cqlproto.exceptions import LocalProtocolError, MessageTooLarge, RemoteProtocolError
from cqlproto.frames import HEADER_SIZE, FrameReader, write_frame
from cqlproto.messages import (
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
    write_prefix,
    write_request_prefix,
)
from cqlproto.messages.errors import Error
from cqlproto.messages.events import Event as EventMessage
from cqlproto.messages.requests import AuthResponse, Options, Startup
from cqlproto.messages.responses import (
    READY,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    Ready,
    Supported,
)
from cqlproto.messages.results import read_result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from cqlproto.messages import Request, Response
    from cqlproto.messages.events import ServerEvent

__all__ = [
    "Authenticator",
    "ClientConnection",
    "FrameBinder",
    "Limits",
    "PlainAuthenticator",
    "ServerConnection",
    "handshake_reply",
]

V4 = ProtocolVersion.V4
SPOKEN = (ProtocolVersion.V4,)
_RESULT = Opcode.RESULT.value
_EVENT_STREAM = -1
MAX_STREAMS = 0x7FFF


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection accepts and sends.

    Attributes:
        max_response: the longest body to accept, in bytes, before and after decompression.
            Responses are not bounded by the server's own frame limit.
        max_request: the longest frame to send, in bytes; a server refuses more than 16 MiB unless
            it is configured otherwise.
        max_streams: how many requests may be in flight, at most 32,767: stream 0 is kept for the
            handshake.
    """

    max_response: int = 256 * 1024 * 1024
    max_request: int = 16 * 1024 * 1024
    max_streams: int = 32_767


class Authenticator(Protocol):
    """The client's side of a SASL exchange (v4 section 4.1.2); one per connection."""

    def initial_response(self, mechanism: str) -> bytes:
        """Return the first token, given the class name in AUTHENTICATE."""
        ...

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        """Return the answer to the token in AUTH_CHALLENGE."""
        ...


class PlainAuthenticator:
    """SASL PLAIN: a name and a password, as Cassandra's PasswordAuthenticator wants them."""

    __slots__ = ("_password", "_username")

    def __init__(self, username: str, password: str) -> None:
        self._username = username
        self._password = password

    def __repr__(self) -> str:
        return f"PlainAuthenticator({self._username!r}, ...)"

    def initial_response(self, mechanism: str) -> bytes:
        """Return the token of RFC 4616, whatever the mechanism is called."""
        return f"\0{self._username}\0{self._password}".encode()

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        """PLAIN has no challenge; answer with the same token, as other drivers do."""
        return self.initial_response("")


class FrameBinder(Protocol):
    """What :meth:`ClientConnection.send_bound` needs; :class:`cqlproto.rows.Binder` is one."""

    @property
    def expectation(self) -> Expectation: ...

    def frame(self, stream_id: int, values: Sequence[Any], /) -> bytes: ...


class _Connection:
    """What both ends share: buffers, frames and the error that ends everything."""

    __slots__ = (
        "_compressor",
        "_eof",
        "_error",
        "_limits",
        "_max_body",
        "_out",
        "_reader",
        "_unsent",
        "_version",
        "state",
    )

    def __init__(
        self, version: ProtocolVersion, limits: Limits, max_body: int, *, responses: bool
    ) -> None:
        self._version = version
        self._limits = limits
        self._max_body = max_body
        self._reader = FrameReader(max_body=max_body, responses=responses)
        self._compressor: Compressor | None = None
        self._error: RemoteProtocolError | None = None
        self._eof = False
        self._out: dict[int, bytes] = {}  # the client's by stream id, to drop abandoned requests
        self._unsent = 0
        self.state = State.NEW

    @property
    def version(self) -> ProtocolVersion:
        """The protocol version in use."""
        return self._version

    @property
    def unsent(self) -> int:
        """About how many bytes wait for :meth:`data_to_send`: before compression, and those of
        requests that were abandoned included."""
        return self._unsent

    def receive_data(self, data: bytes) -> None:
        """Keep bytes that came from the peer; :meth:`next_event` parses them.

        Raises:
            LocalProtocolError: the end was reported before.
        """
        if self._eof:
            raise LocalProtocolError("data after receive_eof()")
        self._reader.feed(data)

    def receive_eof(self) -> None:
        """The peer will send nothing more; ConnectionEnded follows what came before."""
        self._eof = True

    def next_event(self) -> Event | None:
        """Return the next event, or None until more bytes come.

        Raises:
            RemoteProtocolError: the peer broke the protocol. What came before was delivered; asked
                again, it is raised again.
        """
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """Return all bytes that are to go to the peer now, at most once."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out.values())
        out.clear()
        self._unsent = 0
        return data

    def _body(self, flags: int, body: bytes) -> bytes:
        """Return the body decompressed."""
        if flags & FLAG_COMPRESSED:
            if self._compressor is None:
                raise RemoteProtocolError("a compressed frame, and no compression was agreed on")
            return self._compressor.decompress(body, self._max_body)
        return body

    def _pack(self, version: int, flags: int, stream: int, opcode: int, body: bytes) -> bytes:
        """Return the frame, compressed if that makes it shorter."""
        if self._compressor is not None and body and opcode != Opcode.STARTUP:
            shorter = self._compressor.compress(body)
            if len(shorter) < len(body):
                return write_frame(version, flags | FLAG_COMPRESSED, stream, opcode, shorter)
        return write_frame(version, flags, stream, opcode, body)

    def _end(self) -> ConnectionEnded | None:
        """Return the event of the end, once, when nothing is left to parse."""
        if not self._eof or self.state is State.CLOSED:
            return None
        self.state = State.CLOSED
        return ConnectionEnded(clean=self._reader.pending == 0)

    def _broken(self, error: RemoteProtocolError) -> NoReturn:
        self._error = error
        self.state = State.FAILED
        raise error


class ClientConnection(_Connection):
    """The client's end.

    Arguments:
        version: the protocol version to ask for.
        compression: ``"lz4"``, ``"snappy"`` or None. A server that lacks it fails the handshake.
        authenticator: answers AUTHENTICATE; one that asks, with none here, fails the handshake.
        options: more options for STARTUP, such as DRIVER_NAME.
        limits: sizes and counts.

    Raises:
        LocalProtocolError: the version isn't spoken, the compression's package isn't installed, or
            there can't be so many streams.
    """

    __slots__ = (
        "_authenticator",
        "_compression",
        "_free",
        "_next_id",
        "_options",
        "_orphans",
        "_pending",
        "_supported",
        "_version_byte",
    )

    def __init__(
        self,
        *,
        version: ProtocolVersion = V4,
        compression: str | None = None,
        authenticator: Authenticator | None = None,
        options: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        if version not in SPOKEN:
            raise LocalProtocolError(f"protocol version {version} is not spoken, v4 is")
        limits = limits or Limits()
        if not 1 <= limits.max_streams <= MAX_STREAMS:
            raise LocalProtocolError(f"{limits.max_streams} streams, 1 to {MAX_STREAMS} can be")
        super().__init__(version, limits, limits.max_response, responses=True)
        self._compression = compressor(compression) if compression else None
        self._authenticator = authenticator
        self._options = dict(options or {})
        self._pending: dict[int, Expectation] = {}
        self._free: list[int] = []
        self._next_id = 1
        self._orphans = 0
        self._supported: Mapping[str, Sequence[str]] = {}
        self._version_byte = version | RESPONSE_BIT

    # -- sending

    @property
    def in_flight(self) -> int:
        """How many stream ids are taken, orphans included."""
        return len(self._pending)

    @property
    def orphans(self) -> int:
        """How many stream ids wait for a reply that nobody wants any more."""
        return self._orphans

    @property
    def available(self) -> int:
        """How many more requests can be sent now."""
        return self._limits.max_streams - len(self._pending)

    def initiate(self) -> None:
        """Begin the handshake; its end is HandshakeCompleted or HandshakeFailed.

        Raises:
            LocalProtocolError: it was begun before.
        """
        if self.state is not State.NEW:
            raise LocalProtocolError("initiate() was called before")
        self._send_handshake(Options(), State.OPTIONS_SENT)

    def send(
        self,
        message: Request,
        *,
        metadata: Any = None,
        trace: bool = False,
        payload: Mapping[str, bytes | None] | None = None,
    ) -> int:
        """Queue a request.

        Arguments:
            message: the request.
            metadata: for Execute, what PREPARED said of the rows to come: rows that carry the same
                need not be parsed for it, and rows that carry none are read by it.
            trace: ask the server for a trace (v4 section 2.2).
            payload: a custom payload, for servers that have a use for it.

        Returns:
            the stream id.

        Raises:
            LocalProtocolError: the handshake isn't complete, no stream id is free, or the message
                can't be written in this version or is too long. Nothing was queued.
        """
        opcode = Opcode(message.opcode)
        expectation = EXPECTATIONS.get(opcode)
        if expectation is None:
            raise LocalProtocolError(f"{opcode.name} is no request")
        if opcode in (Opcode.STARTUP, Opcode.AUTH_RESPONSE):
            raise LocalProtocolError(f"{opcode.name} belongs to the handshake")
        body = bytearray()
        flags = 0
        if trace:
            flags |= FLAG_TRACING
        flags |= write_request_prefix(body, self._version, payload)
        message.write_body(body, self._version)
        stream_id = self._allocate()
        try:
            size = len(body) + HEADER_SIZE
            if size > self._limits.max_request:
                raise MessageTooLarge(size, self._limits.max_request)
            frame = self._pack(self._version, flags, stream_id, opcode, bytes(body))
        except BaseException:
            self._free.append(stream_id)
            raise
        self._out[stream_id] = frame
        self._unsent += size
        if metadata is not None:
            expectation = Expectation(opcode, metadata)
        self._pending[stream_id] = expectation
        return stream_id

    def send_bound(self, binder: FrameBinder, values: Sequence[Any]) -> int:
        """Queue the execution of a prepared statement: the hot path.

        Arguments:
            binder: packs the frame.
            values: one value per bind marker.

        Returns:
            the stream id.

        Raises:
            LocalProtocolError: as :meth:`send`, or the number of values is wrong.
            ValueConversionError: a value doesn't fit its column.
        """
        if self._free and self.state is State.READY:
            stream_id = self._free.pop()
        else:
            stream_id = self._allocate()
        try:
            frame = binder.frame(stream_id, values)
            size = len(frame)
            if size > self._limits.max_request:
                raise MessageTooLarge(size, self._limits.max_request)
            if self._compressor is not None:
                frame = self._pack(self._version, 0, stream_id, Opcode.EXECUTE, frame[HEADER_SIZE:])
        except BaseException:
            self._free.append(stream_id)
            raise
        self._out[stream_id] = frame
        self._unsent += size
        self._pending[stream_id] = binder.expectation
        return stream_id

    def abandon(self, stream_id: int) -> bool:
        """Nobody waits for this reply any more.

        A request that is still queued is dropped and its id is free at once. Otherwise the id is
        orphaned: taken until the reply comes, which is then discarded. An id that isn't in flight
        is ignored, for the reply may have come just now.

        Returns:
            whether the request may have reached the server.
        """
        expectation = self._pending.get(stream_id)
        if expectation is None or expectation is ORPHAN:
            return True
        if self._out.pop(stream_id, None) is not None:
            del self._pending[stream_id]
            self._free.append(stream_id)
            if not self._out:
                self._unsent = 0
            return False
        self._pending[stream_id] = ORPHAN
        self._orphans += 1
        return True

    def _allocate(self) -> int:
        if self.state is not State.READY:
            raise LocalProtocolError(f"the connection is not ready: {self.state.value}")
        if self._free:
            return self._free.pop()
        stream_id = self._next_id
        if stream_id > self._limits.max_streams:
            raise LocalProtocolError(f"all {self._limits.max_streams} stream ids are in use")
        self._next_id = stream_id + 1
        return stream_id

    # -- receiving

    def next_event(self) -> Event | None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            while True:
                parts = self._reader.take()
                if parts is None:
                    return self._end()
                version, flags, stream_id, opcode, body = parts
                expectation = self._pending.get(stream_id)
                if expectation is None or version != self._version_byte or stream_id <= 0:
                    event = self._unusual(version, flags, stream_id, opcode, body)
                    if event is not None:
                        return event
                    continue
                if expectation is ORPHAN:
                    self._orphans -= 1
                    del self._pending[stream_id]
                    self._free.append(stream_id)
                    continue
                if flags or opcode != _RESULT:
                    return self._response(expectation, flags, stream_id, opcode, body)
                # the hot path: a plain RESULT
                message = read_result(body, 0, self._version, expectation.metadata)
                if type(message) not in expectation.results:
                    raise _misplaced(message, expectation)
                del self._pending[stream_id]
                self._free.append(stream_id)
                return ResponseReceived(stream_id, message)
        except RemoteProtocolError as exc:
            self._broken(exc)

    def _response(
        self, expectation: Expectation, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> ResponseReceived:
        if opcode not in expectation.replies:
            raise RemoteProtocolError(
                f"opcode 0x{opcode:02x} answers {expectation.opcode.name} on stream {stream_id}"
            )
        prefix = None
        position = 0
        if flags:
            body = self._body(flags, body)
            if flags & (FLAG_TRACING | FLAG_PAYLOAD | FLAG_WARNING):
                prefix = read_prefix(body, flags, self._version)
                position = prefix[3]
        message: Response
        if opcode == _RESULT:
            message = read_result(body, position, self._version, expectation.metadata)
            if type(message) not in expectation.results:
                raise _misplaced(message, expectation)
        else:
            message = read_response(opcode, body, position, self._version)
        del self._pending[stream_id]
        self._free.append(stream_id)
        if prefix is None:
            return ResponseReceived(stream_id, message)
        return ResponseReceived(stream_id, message, prefix[0], prefix[1], prefix[2])

    def _unusual(
        self, version: int, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> Event | None:
        """Everything but a reply to a request of the caller's."""
        if self.state not in (State.READY, State.CLOSED):
            return self._handshake(version, flags, stream_id, opcode, body)
        if version != self._version_byte and opcode != Opcode.ERROR:
            raise RemoteProtocolError(
                f"a frame of version 0x{version:02x} on a connection of v{self._version}"
            )
        body = self._body(flags, body)
        _, warnings, _, position = read_prefix(body, flags, self._version)
        if opcode == Opcode.ERROR:
            self._raise_remote(read_response(opcode, body, position, self._version))
        if stream_id == _EVENT_STREAM and opcode == Opcode.EVENT:
            message = read_response(opcode, body, position, self._version)
            assert isinstance(message, EventMessage)
            return PushReceived(message.event)
        raise RemoteProtocolError(
            f"opcode 0x{opcode:02x} on stream {stream_id}, where nothing was asked"
        )

    def _raise_remote(self, message: object) -> NoReturn:
        """The server complains about the connection, not about one request."""
        assert isinstance(message, Error)
        raise RemoteProtocolError(
            f"the server ended the connection: {message.message} (0x{message.code:04x})",
            error=message,
        )

    # -- the handshake

    def _handshake(
        self, version: int, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> Event | None:
        """Take one step of the HANDSHAKE table."""
        body = self._body(flags, body)
        spoken = self._version
        # A server may refuse a version in a version of its own choice: codes and texts of errors
        # stand at the same place in all of them.
        if version != self._version_byte and opcode != Opcode.ERROR:
            raise RemoteProtocolError(
                f"a reply of version 0x{version:02x} in a handshake of v{spoken}"
            )
        _, _, _, position = read_prefix(body, flags, spoken)
        known = opcode in Opcode._value2member_map_
        step = HANDSHAKE.get((self.state, Opcode(opcode))) if known else None
        if step is None or stream_id not in (0, *self._pending):
            raise RemoteProtocolError(
                f"opcode 0x{opcode:02x} on stream {stream_id} while the handshake is"
                f" at {self.state.value!r}"
            )
        action, state = step
        message = read_response(opcode, body, position, spoken)
        self._pending.clear()
        if action is Action.SEND_STARTUP:
            assert isinstance(message, Supported)
            return self._send_startup(message.options)
        if action is Action.FAIL:
            assert isinstance(message, Error)
            return self._failed(message)
        if action is Action.COMPLETE:
            self.state = state
            name = self._compression.name if self._compression else None
            return HandshakeCompleted(spoken, self._supported, name)
        if self._authenticator is None:
            self.state = State.FAILED
            mechanism = getattr(message, "authenticator", "")
            return HandshakeFailed(
                f"the server asks for authentication ({mechanism})", authentication=True
            )
        if isinstance(message, Authenticate):
            token = self._authenticator.initial_response(message.authenticator)
        else:
            assert isinstance(message, AuthChallenge)
            token = self._authenticator.evaluate_challenge(message.token)
        self._send_handshake(AuthResponse(token), state)
        return None

    def _send_startup(self, supported: Mapping[str, Sequence[str]]) -> HandshakeFailed | None:
        self._supported = supported
        options = {"CQL_VERSION": "3.0.0", **self._options}
        if self._compression is not None:
            name = self._compression.name
            offered = supported.get("COMPRESSION", ())
            if name not in offered:
                self.state = State.FAILED
                return HandshakeFailed(
                    f"the server doesn't offer {name} compression, but"
                    f" {', '.join(offered) or 'none'}"
                )
            options["COMPRESSION"] = name
        self._send_handshake(Startup(options), State.STARTUP_SENT)
        # READY itself comes compressed (v4 section 5)
        self._compressor = self._compression
        return None

    def _send_handshake(self, message: Options | Startup | AuthResponse, state: State) -> None:
        body = bytearray()
        message.write_body(body, self._version)
        opcode = Opcode(message.opcode)
        self._out[0] = self._pack(self._version, 0, 0, opcode, bytes(body))
        self._pending[0] = EXPECTATIONS[opcode]
        self.state = state

    def _failed(self, error: Error) -> HandshakeFailed:
        self.state = State.FAILED
        return HandshakeFailed(
            error.message,
            error=error,
            supported_versions=(
                _versions_in(error.message) if error.code == ErrorCode.PROTOCOL_ERROR else ()
            ),
            authentication=error.code == ErrorCode.BAD_CREDENTIALS,
        )


def _misplaced(message: object, expectation: Expectation) -> RemoteProtocolError:
    return RemoteProtocolError(f"{type(message).__name__} answers {expectation.opcode.name}")


def _versions_in(text: str) -> tuple[int, ...]:
    """Read "supported versions are (3/v3, 4/v4, 5/v5, 6/v6-beta)", betas left out."""
    found = re.findall(r"(\d{1,3})/v\d{1,3}(-beta)?", text)
    return tuple(sorted(int(number) for number, beta in found if not beta))


class ServerConnection(_Connection):
    """The server's end. It never answers by itself, so that proxies and faults can be made of it.

    Arguments:
        limits: sizes; ``max_request`` bounds the frames that are received here.
        versions: the versions that are accepted.
    """

    __slots__ = ("_agreed", "_requests", "_serial", "_versions")

    def __init__(
        self, *, limits: Limits | None = None, versions: Sequence[ProtocolVersion] = SPOKEN
    ) -> None:
        limits = limits or Limits()
        super().__init__(V4, limits, limits.max_request - HEADER_SIZE, responses=False)
        self._requests: dict[int, Opcode] = {}
        self._versions = {int(version): version for version in versions}
        self._agreed: str | None = None
        self._serial = 0
        self.state = State.READY

    @property
    def versions(self) -> Sequence[ProtocolVersion]:
        """The versions that are accepted."""
        return tuple(self._versions.values())

    def next_event(self) -> Event | None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            parts = self._reader.take()
            if parts is None:
                return self._end()
            return self._request(*parts)
        except RemoteProtocolError as exc:
            self._broken(exc)

    def _request(self, version: int, flags: int, stream_id: int, opcode: int, body: bytes) -> Event:
        if stream_id < 0:
            raise RemoteProtocolError(f"a request on stream {stream_id}")
        if stream_id in self._requests:
            raise RemoteProtocolError(f"a request on stream {stream_id}, which is taken")
        if version not in self._versions:
            self._requests[stream_id] = Opcode.OPTIONS
            return UnsupportedVersionReceived(stream_id, version)
        self._version = self._versions[version]
        body = self._body(flags, body)
        payload, position = read_request_prefix(body, flags, self._version)
        message = read_request(opcode, body, position, self._version)
        if isinstance(message, Startup):
            self._agreed = message.options.get("COMPRESSION")
            if self._agreed is not None and self._agreed not in ("lz4", "snappy"):
                raise RemoteProtocolError(f"unknown compression {self._agreed!r}")
        self._requests[stream_id] = Opcode(message.opcode)
        return RequestReceived(
            stream_id, message, tracing=bool(flags & FLAG_TRACING), payload=payload
        )

    def reply(
        self,
        stream_id: int,
        message: Response,
        *,
        warnings: Sequence[str] = (),
        tracing_id: UUID | None = None,
        payload: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Queue the answer to a request.

        Raises:
            LocalProtocolError: nothing was asked on this stream, or the message can't answer it.
        """
        asked = self._requests.get(stream_id)
        if asked is None:
            raise LocalProtocolError(f"nothing was asked on stream {stream_id}")
        expectation = EXPECTATIONS[asked]
        legal = message.opcode in expectation.replies
        if message.opcode == Opcode.RESULT:
            legal = type(message) in expectation.results
        if not legal:
            raise LocalProtocolError(f"{message!r} can't answer {asked.name}")
        if isinstance(message, (Ready, Authenticate)) and self._agreed is not None:
            self._compressor = compressor(self._agreed)
        body = bytearray()
        flags = write_prefix(body, self._version, tracing_id, warnings, payload)
        message.write_body(body, self._version)
        self._append(stream_id, flags, message.opcode, bytes(body))
        del self._requests[stream_id]

    def push(self, event: ServerEvent) -> None:
        """Queue an event for a client that registered for it."""
        body = bytearray()
        EventMessage(event).write_body(body, self._version)
        self._append(_EVENT_STREAM, 0, Opcode.EVENT, bytes(body))

    def _append(self, stream_id: int, flags: int, opcode: int, body: bytes) -> None:
        frame = self._pack(self._version | RESPONSE_BIT, flags, stream_id, opcode, body)
        self._out[self._serial] = frame  # in order: several may wait for one stream
        self._serial += 1
        self._unsent += len(frame)


def handshake_reply(
    request: Request,
    *,
    supported: Mapping[str, Sequence[str]],
    verify: Callable[[bytes], bool] | None = None,
) -> Response | None:
    """Return what an ordinary server answers to a request of the handshake, or None to others.

    Arguments:
        request: the request.
        supported: what SUPPORTED shall list.
        verify: checks the token of an AUTH_RESPONSE; None for a server that lets everyone in.
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
