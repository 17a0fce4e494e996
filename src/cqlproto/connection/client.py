"""The client's end: it runs the handshake by itself and hands out stream ids.

An id is free again when its reply has come, never before: a request that nobody waits for any more
keeps its id as an *orphan*, so that a late reply cannot be taken for another's (v4 section 2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from cqlproto._events import (
    HandshakeCompleted,
    HandshakeFailed,
    PushReceived,
    ResponseReceived,
    ResponseUnreadable,
)
from cqlproto._state import EXPECTATIONS, OPENS_SEGMENTS, ORPHAN, Expectation, State
from cqlproto.compression import TooLong
from cqlproto.connection.base import EVENT_STREAM, SPOKEN, Connection, Limits, named_compressor
from cqlproto.connection.handshake import ClientHandshake
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
    MessageTooLarge,
    RemoteProtocolError,
    ResponseTooLarge,
)
from cqlproto.frames import HEADER_SIZE, SKIPPED
from cqlproto.messages import read_prefix, read_response, write_request_prefix
from cqlproto.messages.errors import Error
from cqlproto.messages.events import Event as EventMessage
from cqlproto.messages.results import VOID, VOID_BODY, read_result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqlproto._events import Event
    from cqlproto.connection.sasl import Authenticator
    from cqlproto.messages import Request, Response
    from cqlproto.messages.requests import AuthResponse, Options, Startup
    from cqlproto.messages.results import Result

__all__ = ["ClientConnection", "FrameBinder"]

MAX_STREAMS = 0x7FFF

# Looked up once: a member of an enum costs more than what it is compared with.
_READY = State.READY
_EXECUTE = Opcode.EXECUTE.value
_RESULT = Opcode.RESULT.value


class FrameBinder(Protocol):
    """What :meth:`ClientConnection.send_bound` needs; :class:`cqlproto.rows.Binder` is one."""

    @property
    def expectation(self) -> Expectation: ...

    def frame(self, stream_id: int, values: Sequence[Any], /) -> bytes: ...


class ClientConnection(Connection):
    """The client's end.

    Arguments:
        version: the protocol version to ask for. A server that doesn't speak it fails the
            handshake, and :attr:`HandshakeFailed.next_version` says which one to try next, on a new
            connection.
        compression: ``"lz4"``, ``"snappy"`` (not on v5) or None. A server that lacks it fails the
            handshake.
        authenticator: answers AUTHENTICATE; one that asks, with none here, fails the handshake.
        options: more options for STARTUP, such as DRIVER_NAME.
        extensions: options for STARTUP that only a server gets whose SUPPORTED names them.
        limits: sizes and counts.

    Raises:
        LocalProtocolError: the version isn't spoken, it doesn't know the compression, the
            compression's package isn't installed, or there can't be so many streams.
    """

    __slots__ = (
        "_free",
        "_handshake",
        "_next_id",
        "_orphans",
        "_pending",
        "_version_byte",
    )

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
        if version not in SPOKEN:
            raise LocalProtocolError(f"protocol version {version} is not spoken, v3 to v5 are")
        version = ProtocolVersion(version)
        limits = limits or Limits()
        if not 1 <= limits.max_streams <= MAX_STREAMS:
            raise LocalProtocolError(f"{limits.max_streams} streams, 1 to {MAX_STREAMS} can be")
        super().__init__(version, limits, limits.max_response, responses=True)
        self._handshake = ClientHandshake(
            version,
            named_compressor(compression, version) if compression else None,
            authenticator,
            dict(options or {}),
            dict(extensions or {}),
        )
        self._pending: dict[int, Expectation] = {}
        self._free: list[int] = []
        self._next_id = 1
        self._orphans = 0
        self._version_byte = version | RESPONSE_BIT

    # -- sending

    @property
    def supported(self) -> Mapping[str, Sequence[str]]:
        """The options of SUPPORTED (v4 section 4.2.4); empty until it has come."""
        return self._handshake.supported

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
        self._send_handshake(self._handshake.begin())

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
        self.unsent += size
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
        ready = self._free and self.state is _READY
        stream_id = self._free.pop() if ready else self._allocate()
        try:
            frame = binder.frame(stream_id, values)
            size = len(frame)
            if size > self._limits.max_request:
                raise MessageTooLarge(size, self._limits.max_request)
            if self._compressor is not None:
                frame = self._pack(self._version, 0, stream_id, _EXECUTE, frame[HEADER_SIZE:])
        except BaseException:
            self._free.append(stream_id)
            raise
        self._out[stream_id] = frame
        self.unsent += size
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
                self.unsent = 0
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
                del self._pending[stream_id]
                self._free.append(stream_id)
                try:
                    if flags or opcode != _RESULT:
                        return self._response(expectation, flags, stream_id, opcode, body)
                    # the hot path: a plain RESULT
                    message: Result
                    if body == VOID_BODY:
                        message = VOID
                    else:
                        message = read_result(body, 0, self._version, expectation.metadata)
                    if type(message) not in expectation.results:
                        raise _misplaced(message, expectation)
                except RemoteProtocolError as exc:
                    # the frame was whole, so the next one can be read
                    return ResponseUnreadable(stream_id, exc.with_traceback(None))
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
        """Everything but a reply to a request of the caller's."""
        if version & SKIPPED:
            return self._announced(version ^ SKIPPED, stream_id, opcode, body)
        if self.state is not _READY:
            return self._handshake_reply(version, flags, stream_id, opcode, body)
        if version != self._version_byte and opcode != Opcode.ERROR:
            raise RemoteProtocolError(
                f"a frame of version 0x{version:02x} on a connection of v{self._version}"
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
            f"opcode 0x{opcode:02x} on stream {stream_id}, where nothing was asked"
        )

    def _announced(
        self, version: int, stream_id: int, opcode: int, length: bytes
    ) -> ResponseUnreadable | None:
        """A frame is too long and will be skipped; its request is answered by that."""
        size = int.from_bytes(length, "big")
        expectation = self._pending.get(stream_id)
        if (
            expectation is None
            or self.state is not _READY
            or version != self._version_byte
            or (expectation is not ORPHAN and opcode not in expectation.replies)
        ):  # it may be no header at all
            raise RemoteProtocolError(
                f"a frame body of {size} bytes is announced on stream {stream_id}, at most"
                f" {self._max_body} are accepted"
            )
        if expectation is ORPHAN:
            return None
        self._pending[stream_id] = ORPHAN
        self._orphans += 1
        return ResponseUnreadable(stream_id, ResponseTooLarge(size, self._max_body))

    def _raise_remote(self, message: object) -> NoReturn:
        """The server complains about the connection, not about one request."""
        assert isinstance(message, Error)
        raise RemoteProtocolError(
            f"the server ended the connection: {message.message} (0x{message.code:04x})",
            error=message,
        )

    # -- the handshake

    def _handshake_reply(
        self, version: int, flags: int, stream_id: int, opcode: int, body: bytes
    ) -> Event | None:
        """Hand a reply to the handshake, and send what it answers."""
        body = self._body(flags, body)
        # A server may refuse a version in a version of its own choice, or say in it what it offers:
        # these two messages are the same in all of them.
        if version != self._version_byte and opcode not in (Opcode.ERROR, Opcode.SUPPORTED):
            raise RemoteProtocolError(
                f"a reply of version 0x{version:02x} in a handshake of v{self._version}"
            )
        if stream_id != 0 or not self._handshake.expects(opcode):
            raise RemoteProtocolError(
                f"opcode 0x{opcode:02x} on stream {stream_id} while the handshake is"
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
            # READY itself comes compressed (v4 section 5)
            self._compressor = self._handshake.compression


def _misplaced(message: object, expectation: Expectation) -> RemoteProtocolError:
    return RemoteProtocolError(f"{type(message).__name__} answers {expectation.opcode.name}")
