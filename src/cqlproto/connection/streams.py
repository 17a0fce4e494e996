"""Requests of a client: each is sent on a stream id of its own.

A stream id is free again when its response has arrived, never before: an abandoned request keeps
its id as an *orphan*, so a late response cannot be taken for that of another request (v4 section
2.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from cqlproto._state import EXPECTATIONS, ORPHAN, Expectation, State
from cqlproto.connection.base import Connection, Limits
from cqlproto.enums import FLAG_TRACING, Opcode
from cqlproto.exceptions import LocalProtocolError, MessageTooLarge
from cqlproto.frames import HEADER_SIZE
from cqlproto.messages import write_request_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages import Request

__all__ = ["FrameBinder", "RequestConnection"]

MAX_STREAMS = 0x7FFF

# Looked up once: an attribute of an enum costs more than the comparison.
_READY = State.READY
_EXECUTE = Opcode.EXECUTE.value


class FrameBinder(Protocol):
    """Packs the frames of :meth:`ClientConnection.send_bound`, as a ``cqlproto.rows.Binder``."""

    @property
    def expectation(self) -> Expectation: ...

    def frame(self, stream_id: int, values: Sequence[Any], /) -> bytes: ...


class RequestConnection(Connection):
    """A connection that sends requests; :class:`ClientConnection` adds what it receives.

    Arguments:
        version: the protocol version.
        limits: sizes and counts.

    Raises:
        LocalProtocolError: ``limits.max_streams`` is out of range.
    """

    __slots__ = ("_free", "_next_id", "_orphans", "_pending")

    def __init__(self, version: ProtocolVersion, limits: Limits) -> None:
        if not 1 <= limits.max_streams <= MAX_STREAMS:
            raise LocalProtocolError(
                f"max_streams must be 1 to {MAX_STREAMS}, got {limits.max_streams}"
            )
        super().__init__(version, limits, limits.max_response, responses=True)
        self._pending: dict[int, Expectation] = {}
        self._free: list[int] = []
        self._next_id = 1
        self._orphans = 0

    @property
    def in_flight(self) -> int:
        """How many stream ids are taken, orphans included."""
        return len(self._pending)

    @property
    def orphans(self) -> int:
        """How many stream ids belong to abandoned requests."""
        return self._orphans

    @property
    def available(self) -> int:
        """How many more requests can be sent now."""
        return self._limits.max_streams - len(self._pending)

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
            metadata: for Execute, the result metadata of PREPARED. Rows with the same metadata
                reuse it, and rows without metadata are read by it.
            trace: whether to request a trace (v4 section 2.2).
            payload: a custom payload, for servers that use one.

        Returns:
            the stream id.

        Raises:
            LocalProtocolError: the handshake isn't complete, no stream id is free, or the message
                can't be written in this version or is too long. Nothing was queued.
        """
        opcode = Opcode(message.opcode)
        expectation = EXPECTATIONS.get(opcode)
        if expectation is None:
            raise LocalProtocolError(f"message must be a request, got {opcode.name}")
        if opcode in (Opcode.STARTUP, Opcode.AUTH_RESPONSE):
            raise LocalProtocolError(f"message must not belong to the handshake, got {opcode.name}")
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
        """Queue an execution of a prepared statement; this is the hot path.

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
        """Abandon a request: its response will be discarded.

        A request that is still queued is dropped, and its id is free at once. Otherwise the id is
        orphaned: it stays taken until the response arrives, which is then discarded. An id that is
        not in flight is ignored, since the response may just have arrived.

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
