"""The base of both ends of a connection: limits, buffers and fatal errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cqlproto._events import ConnectionEnded
from cqlproto._state import State
from cqlproto.compression import compressor
from cqlproto.enums import FLAG_COMPRESSED, Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.frames import EnvelopeReader, FrameReader, write_frame
from cqlproto.segments import write_segments

if TYPE_CHECKING:
    from cqlproto._events import Event
    from cqlproto.compression import Compressor

__all__ = ["EVENT_STREAM", "VERSIONS", "Connection", "Limits", "named_compressor"]

VERSIONS = tuple(ProtocolVersion)
EVENT_STREAM = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a connection.

    Attributes:
        max_response: the longest response body to accept, in bytes, before and after
            decompression. The server's own frame limit does not bound its responses. A longer
            response fails only its request.
        max_request: the longest frame to send, in bytes. Servers refuse more than 16 MiB unless
            they are configured otherwise.
        max_streams: the maximum number of requests in flight, 1 to 32,767; stream 0 is reserved
            for the handshake.
    """

    max_response: int = 256 * 1024 * 1024
    max_request: int = 16 * 1024 * 1024
    max_streams: int = 32_767


def named_compressor(name: str, version: ProtocolVersion) -> Compressor:
    """Return the compressor that STARTUP names.

    Raises:
        LocalProtocolError: the name is unknown, the version doesn't support it, or its codec is
            not installed.
    """
    if name == "snappy" and not version.has_snappy:
        raise LocalProtocolError(f"compression must be lz4 on v{version:d}, got snappy")
    return compressor(name)


class Connection:
    """Base of both ends: buffers, frames and fatal errors.

    Attributes:
        state: the state of the connection; read-only.
        unsent: about how many bytes are queued for :meth:`data_to_send`, before compression and
            including abandoned requests; read-only.
    """

    __slots__ = (
        "_compressor",
        "_eof",
        "_error",
        "_limits",
        "_max_body",
        "_out",
        "_reader",
        "_responses",
        "_sealed",
        "_segment_compressor",
        "_segmented",
        "_version",
        "state",
        "unsent",
    )

    def __init__(
        self, version: ProtocolVersion, limits: Limits, max_body: int, *, responses: bool
    ) -> None:
        self._version = version
        self._limits = limits
        self._max_body = max_body
        self._responses = responses
        self._reader: FrameReader | EnvelopeReader
        self._reader = FrameReader(max_body=max_body, responses=responses, skips=True)
        self._compressor: Compressor | None = None  # of frames, on v3 and v4
        self._segment_compressor: Compressor | None = None  # on v5
        self._segmented = False
        self._sealed = b""  # frames queued before segments began
        self._error: RemoteProtocolError | None = None
        self._eof = False
        self._out: dict[int, bytes] = {}  # a client's by stream id, to drop abandoned requests
        self.unsent = 0
        self.state = State.NEW

    @property
    def version(self) -> ProtocolVersion:
        """The protocol version in use."""
        return self._version

    @property
    def unread(self) -> int:
        """How many bytes of an incomplete frame or segment have been received."""
        return self._reader.pending

    def receive_data(self, data: bytes) -> None:
        """Buffer bytes from the peer; :meth:`next_event` parses them.

        Raises:
            LocalProtocolError: :meth:`receive_eof` was called before.
        """
        if self._eof:
            raise LocalProtocolError("receive_data() must not be called after receive_eof()")
        self._reader.feed(data)

    def receive_eof(self) -> None:
        """Record that the peer sends nothing more; ConnectionEnded is the last event."""
        self._eof = True

    def next_event(self) -> Event | None:
        """Return the next event, or None until more bytes arrive.

        Raises:
            RemoteProtocolError: the peer broke the protocol in a way that makes the rest of the
                stream unreadable. All events before the error were returned; later calls raise it
                again.
        """
        raise NotImplementedError

    def data_to_send(self) -> bytes:
        """Return all queued bytes for the peer, and remove them from the queue."""
        out = self._out
        if self._segmented and out:
            data = write_segments(out.values(), self._segment_compressor)
        else:
            data = b"".join(out.values())
        if self._sealed:
            data = self._sealed + data
            self._sealed = b""
        out.clear()
        self.unsent = 0
        return data

    def _begin_segments(self, compressor: Compressor | None) -> None:
        """Use segments from here on, in both directions (v5 section 2.3.1)."""
        self._sealed = b"".join(self._out.values())
        self._out.clear()
        self._segmented = True
        self._segment_compressor = compressor
        assert isinstance(self._reader, FrameReader)
        rest = self._reader.take_back()
        self._reader = EnvelopeReader(
            max_body=self._max_body,
            responses=self._responses,
            compressor=compressor,
            skips=True,
        )
        self._reader.feed(rest)

    def _body(self, flags: int, body: bytes) -> bytes:
        """Return the body decompressed; v5 ignores the flag (v5 section 2.4.1.2)."""
        if flags & FLAG_COMPRESSED and not self._version.has_segments:
            if self._compressor is None:
                raise RemoteProtocolError("a compressed frame, but no compression was negotiated")
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
        """Return ConnectionEnded once, when nothing is left to parse."""
        if not self._eof or self.state is State.CLOSED:
            return None
        self.state = State.CLOSED
        return ConnectionEnded(clean=self._reader.pending == 0)

    def _broken(self, error: RemoteProtocolError) -> NoReturn:
        self._error = error
        self.state = State.FAILED
        raise error
