"""The client's end of a connection: it runs the handshake and turns what it receives into events.

Sending requests is in ``streams``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cqlproto._events import (
    HandshakeCompleted,
    HandshakeFailed,
    PushReceived,
    ResponseReceived,
    ResponseUnreadable,
)
from cqlproto._state import EXPECTATIONS, OPENS_SEGMENTS, ORPHAN, Expectation, State
from cqlproto.compression import TooLong
from cqlproto.connection.base import EVENT_STREAM, VERSIONS, Limits, named_compressor
from cqlproto.connection.handshake import ClientHandshake
from cqlproto.connection.streams import RequestConnection
from cqlproto.enums import (
    FLAG_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    RESPONSE_BIT,
    Opcode,
    ProtocolVersion,
)
from cqlproto.exceptions import (
    LocalProtocolError,
    RemoteProtocolError,
    ResponseTooLarge,
)
from cqlproto.frames import SKIPPED
from cqlproto.messages import read_prefix, read_response
from cqlproto.messages.errors import Error
from cqlproto.messages.events import Event as EventMessage
from cqlproto.messages.results import VOID, VOID_BODY, read_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqlproto._events import Event
    from cqlproto.connection.sasl import Authenticator
    from cqlproto.messages import Response
    from cqlproto.messages.requests import AuthResponse, Options, Startup
    from cqlproto.messages.results import Result

__all__ = ["ClientConnection"]

# Looked up once: an attribute of an enum costs more than the comparison.
_READY = State.READY
_RESULT = Opcode.RESULT.value


class ClientConnection(RequestConnection):
    """The client's end of a connection.

    Arguments:
        version: the protocol version to request. If the server does not support it, the handshake
            fails, and :attr:`HandshakeFailed.next_version` is the version to try next, on a new
            connection.
        compression: ``"lz4"``, ``"snappy"`` (not on v5) or None. If the server does not support it,
            the handshake fails.
        authenticator: answers AUTHENTICATE. Without one, the handshake fails if the server requests
            authentication.
        options: more options for STARTUP, such as DRIVER_NAME.
        extensions: options for STARTUP that are sent only if the server's SUPPORTED lists them.
        limits: sizes and counts.

    Raises:
        LocalProtocolError: the version is not supported, it does not support the compression, the
            compression's package is not installed, or ``limits.max_streams`` is out of range.
    """

    __slots__ = ("_handshake", "_version_byte")

    def __init__(
        self,
        *,
        version: ProtocolVersion = ProtocolVersion.V5,
        compression: str | None = None,
        authenticator: Authenticator | None = None,
        options: Mapping[str, str] | None = None,
        extensions: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        if version not in VERSIONS:
            raise LocalProtocolError(f"version must be v3 to v5, got {version}")
        version = ProtocolVersion(version)
        super().__init__(version, limits or Limits())
        self._handshake = ClientHandshake(
            version,
            named_compressor(compression, version) if compression else None,
            authenticator,
            dict(options or {}),
            dict(extensions or {}),
        )
        self._version_byte = version | RESPONSE_BIT

    @property
    def supported(self) -> Mapping[str, Sequence[str]]:
        """The options of SUPPORTED (v4 section 4.2.4); empty until it has arrived."""
        return self._handshake.supported

    def initiate(self) -> None:
        """Begin the handshake, which ends with HandshakeCompleted or HandshakeFailed.

        Raises:
            LocalProtocolError: the handshake was begun before.
        """
        if self.state is not State.NEW:
            raise LocalProtocolError("initiate() must be called once: it was called before")
        self._send_handshake(self._handshake.begin())

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
                del self._pending[stream_id]
                self._free.append(stream_id)
                try:
                    if flags or opcode != _RESULT:
                        return self._response(expectation, flags, stream_id, opcode, body)
                    # the hot path: a RESULT without flags
                    message: Result
                    if body == VOID_BODY:
                        message = VOID
                    else:
                        message = read_result(body, 0, self._version, expectation.metadata)
                    if type(message) not in expectation.results:
                        raise _misplaced(message, expectation)
                except RemoteProtocolError as exc:
                    # the frame was whole, so the next one is readable
                    return ResponseUnreadable(stream_id, exc.with_traceback(None))
                return ResponseReceived(stream_id, message)
        except RemoteProtocolError as exc:
            self._broken(exc)

    def _response(
        self, expectation: Expectation, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> ResponseReceived:
        if opcode not in expectation.replies:
            raise RemoteProtocolError(
                f"opcode 0x{opcode:02x} must not answer {expectation.opcode.name}"
                f" (stream {stream_id})"
            )
        prefix = None
        position = 0
        if flags:
            try:
                body = self._body(flags, body)
            except TooLong as exc:
                raise ResponseTooLarge(exc.size, self._max_body) from None
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
        if prefix is None:
            return ResponseReceived(stream_id, message)
        return ResponseReceived(stream_id, message, prefix[:3])

    def _unusual(
        self, version: int, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> Event | None:
        """Handle a frame that is not a response to a request of the caller."""
        if version & SKIPPED:
            return self._announced(version ^ SKIPPED, stream_id, opcode, body)
        if self.state is not _READY:
            return self._handshake_reply(version, flags, stream_id, opcode, body)
        if version != self._version_byte and opcode != Opcode.ERROR:
            raise RemoteProtocolError(
                f"a response must have version v{self._version}, got version 0x{version:02x}"
            )
        body = self._body(flags, body)
        _, warnings, _, position = read_prefix(body, flags, self._version)
        if opcode == Opcode.ERROR:
            self._raise_remote(read_response(opcode, body, position, self._version))
        if stream_id == EVENT_STREAM and opcode == Opcode.EVENT:
            message = read_response(opcode, body, position, self._version)
            assert isinstance(message, EventMessage)
            return PushReceived(message.event)
        raise RemoteProtocolError(
            f"opcode 0x{opcode:02x} on stream {stream_id}, where no request is in flight"
        )

    def _announced(
        self, version: int, stream_id: int, opcode: int, length: bytes
    ) -> ResponseUnreadable | None:
        """Report a response that is too long and will be skipped."""
        size = int.from_bytes(length, "big")
        expectation = self._pending.get(stream_id)
        if (
            expectation is None
            or self.state is not _READY
            or version != self._version_byte
            or (expectation is not ORPHAN and opcode not in expectation.replies)
        ):  # these bytes may not be a header
            raise RemoteProtocolError(
                f"a frame body must be at most {self._max_body} bytes, the header announces {size}"
                f" on stream {stream_id}"
            )
        if expectation is ORPHAN:
            return None
        self._pending[stream_id] = ORPHAN
        self._orphans += 1
        return ResponseUnreadable(stream_id, ResponseTooLarge(size, self._max_body))

    def _raise_remote(self, message: object) -> NoReturn:
        """Raise the error of an ERROR that concerns the connection, not one request."""
        assert isinstance(message, Error)
        raise RemoteProtocolError(
            f"the server ended the connection: {message.message} (0x{message.code:04x})",
            error=message,
        )

    # -- the handshake

    def _handshake_reply(
        self, version: int, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> Event | None:
        """Pass a reply to the handshake, and queue its next message."""
        body = self._body(flags, body)
        # A server may send these two in another version than the requested one; their layout is the
        # same in all versions.
        if version != self._version_byte and opcode not in (Opcode.ERROR, Opcode.SUPPORTED):
            raise RemoteProtocolError(
                f"a reply of the handshake must have version v{self._version}, got version"
                f" 0x{version:02x}"
            )
        if stream_id != 0 or not self._handshake.expects(opcode):
            raise RemoteProtocolError(
                f"opcode 0x{opcode:02x} on stream {stream_id} must not follow: the handshake is"
                f" at {self.state.value!r}"
            )
        _, _, _, position = read_prefix(body, flags, self._version)
        message = read_response(opcode, body, position, self._version)
        self._pending.clear()
        begun = self.state is State.STARTUP_SENT and opcode in OPENS_SEGMENTS
        if begun and self._version.has_segments:
            self._begin_segments(self._handshake.compression)
        try:
            outcome = self._handshake.step(message)
        finally:
            self.state = self._handshake.state
        if isinstance(outcome, HandshakeCompleted | HandshakeFailed):
            return outcome
        self._send_handshake(outcome)
        return None

    def _send_handshake(self, message: Options | Startup | AuthResponse) -> None:
        body = bytearray()
        message.write_body(body, self._version)
        opcode = Opcode(message.opcode)
        self._out[0] = self._pack(self._version, 0, 0, opcode, bytes(body))
        self._pending[0] = EXPECTATIONS[opcode]
        self.state = self._handshake.state
        if opcode is Opcode.STARTUP and not self._version.has_segments:
            # READY itself is compressed (v4 section 5)
            self._compressor = self._handshake.compression


def _misplaced(message: object, expectation: Expectation) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"{type(message).__name__} must not answer {expectation.opcode.name}"
    )
