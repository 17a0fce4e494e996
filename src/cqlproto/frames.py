"""Frames: the 9-byte header, and the readers that split a byte stream into frames (v4 section 2).

    0         8        16        24        32         40
    +---------+---------+---------+---------+---------+
    | version |  flags  |      stream       | opcode  |
    +---------+---------+---------+---------+---------+
    |                length                 |  body ...
    +---------+---------+---------+---------+

:class:`FrameReader` buffers received bytes (see ``_buffer``) and returns whole frames. It checks a
length before it acts on it. A frame that is too long is an error, or is *skipped*: the reader
announces it when its header arrives, discards its body, and returns the frame without a body once
all of it has arrived. So its stream id stays taken while it is being received.

Version 5 renames the frame to *envelope* and calls the outer framing, which carries envelopes, a
frame. Here a frame is the same in all versions, and the outer framing is a *segment*;
:class:`EnvelopeReader` reads frames from segments.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from cqlproto._buffer import ReadBuffer
from cqlproto.enums import RESPONSE_BIT
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.segments import SegmentReader
from cqlproto.wire import MAX_INT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.compression import Compressor

__all__ = ["HEADER_SIZE", "SKIPPED", "EnvelopeReader", "FrameReader", "RawFrame", "write_frame"]

HEADER = Struct(">BBhBi")
HEADER_SIZE = HEADER.size
_unpack = HEADER.unpack_from

# Added to the version of a frame that is announced as skipped. Its body then is the length field
# of its header, an [int].
SKIPPED = 0x100
# Replaces the direction while a body is skipped: no version byte matches, so nothing is parsed.
_NOWHERE = 1


class RawFrame:
    """A frame whose body has not been parsed.

    Attributes:
        version: the version byte, with the bit that marks a response.
        flags: the flag bits.
        stream: the stream id, -1 for events.
        opcode: the kind of message.
        body: the body as received, compressed if the flags say so.
    """

    __slots__ = ("body", "flags", "opcode", "stream", "version")

    def __init__(self, version: int, flags: int, stream: int, opcode: int, body: bytes) -> None:
        self.version = version
        self.flags = flags
        self.stream = stream
        self.opcode = opcode
        self.body = body

    def __repr__(self) -> str:
        return (
            f"RawFrame(version=0x{self.version:02x}, flags=0x{self.flags:02x},"
            f" stream={self.stream}, opcode=0x{self.opcode:02x}, body=<{len(self.body)} bytes>)"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawFrame) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # it is compared by content and can be changed

    def __bytes__(self) -> bytes:
        return write_frame(self.version, self.flags, self.stream, self.opcode, self.body)


def write_frame(version: int, flags: int, stream: int, opcode: int, body: bytes) -> bytes:
    """Return a whole frame.

    Raises:
        LocalProtocolError: the stream id or the length does not fit the header.
    """
    if not -0x8000 <= stream <= 0x7FFF or len(body) > MAX_INT:
        raise LocalProtocolError(
            f"a frame must have a stream id of 16 bits and at most {MAX_INT} bytes, got stream"
            f" {stream} and {len(body)} bytes"
        )
    return HEADER.pack(version, flags, stream, opcode, len(body)) + body


class FrameReader(ReadBuffer):
    """Splits the bytes from a peer into frames.

    Arguments:
        max_body: the longest body to accept, in bytes.
        responses: whether the peer is a server, which sets the highest bit of the version byte.
        skips: whether :meth:`take` skips longer frames instead of raising.
    """

    __slots__ = ("_direction", "_dropped", "_left", "_max_body", "_skipped", "_skips")

    def __init__(self, *, max_body: int, responses: bool, skips: bool = False) -> None:
        super().__init__()
        self._max_body = max_body
        self._direction = RESPONSE_BIT if responses else 0
        self._skips = skips
        self._skipped = (0, 0, 0, 0, b"")  # the frame that is being skipped
        self._left = 0  # how many of its bytes have not arrived
        self._dropped = 0  # how many have

    @property
    def pending(self) -> int:
        """How many received bytes belong to an incomplete frame, discarded ones included."""
        return super().pending + self._dropped

    def read(self) -> RawFrame | None:
        """Return the next frame, or None until more bytes come.

        Raises:
            RemoteProtocolError: the bytes are not a frame, or it is longer than ``max_body``.
        """
        parts = self.take()
        return None if parts is None else RawFrame(*parts)

    def take(self) -> tuple[int, int, int, int, bytes] | None:
        """Return (version, flags, stream, opcode, body), or None; :meth:`read` without the object.

        A skipped frame is returned twice: with ``SKIPPED`` in its version when its header arrives,
        and without a body once all of it has arrived.
        """
        while True:
            data = self._data
            pos = self._pos
            size = len(data)
            start = pos + 9
            if start <= size:
                version, flags, stream, opcode, length = _unpack(data, pos)
                stop = start + length
                if version & 0x80 != self._direction or not 0 <= length <= self._max_body:
                    return self._take_unusual()
                if stop <= size:
                    self._pos = stop
                    return version, flags, stream, opcode, data[start:stop]
                needed = 9 + length
            elif size > pos:
                if data[pos] & 0x80 != self._direction:
                    return self._take_unusual()
                needed = 9
            elif not self._partial:
                self._data = b""
                self._pos = 0
                return None
            else:
                needed = self._needed
            if not self._refill(needed):
                return None

    def _take_unusual(self) -> tuple[int, int, int, int, bytes] | None:
        """Handle bytes that are not a frame of this direction and size."""
        if self._direction == _NOWHERE:
            return self._skip()
        data = self._data[self._pos : self._pos + 80]
        if data[0] & 0x80 != self._direction:
            kind = "response" if self._direction else "request"
            raise RemoteProtocolError(f"not a CQL {kind}: the peer sent {data[:40]!r}")
        version, flags, stream, opcode, length = _unpack(data)
        if length < 0 or not self._skips:
            raise _too_long(length, self._max_body)
        self._pos += HEADER_SIZE
        self._skipped = version, flags, stream, opcode, b""
        self._left = length
        self._dropped = HEADER_SIZE
        self._direction = _NOWHERE
        return version | SKIPPED, flags, stream, opcode, data[5:9]

    def _skip(self) -> tuple[int, int, int, int, bytes] | None:
        """Discard received bytes of a body; return the frame without it once it is complete."""
        left = self._left
        here = min(left, len(self._data) - self._pos)
        self._pos += here
        more = min(left - here, len(self._partial))
        del self._partial[:more]
        self._left = left - here - more
        self._dropped += here + more
        if self._left:
            self._data = b""
            self._pos = 0
            return None
        self._dropped = 0
        self._direction = self._skipped[0] & RESPONSE_BIT
        return self._skipped


def _too_long(length: int, limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"a frame body must be 0 to {limit} bytes, the header announces {length}"
    )


class EnvelopeReader:
    """Splits the bytes from a peer into segments, and their payloads into frames (v5 section 2).

    A self-contained segment holds whole frames; any other holds a part of one frame that is too
    long for a segment.

    Arguments:
        max_body: the longest body of a frame to accept, in bytes.
        responses: whether the peer is a server; decides the highest bit of the version byte.
        compressor: LZ4, if the handshake agreed on it.
        skips: whether :meth:`take` skips longer frames instead of raising.
    """

    __slots__ = (
        "_announced",
        "_at",
        "_direction",
        "_end",
        "_error",
        "_frames",
        "_locate",
        "_long",
        "_max_body",
        "_payload",
        "_segments",
        "_skips",
        "feed",
    )

    #: Buffers its argument, the next bytes of the stream.
    feed: Callable[[bytes], None]

    def __init__(
        self,
        *,
        max_body: int,
        responses: bool,
        compressor: Compressor | None = None,
        skips: bool = False,
    ) -> None:
        self._max_body = max_body
        self._direction = RESPONSE_BIT if responses else 0
        self._segments = SegmentReader(compressor)
        self._locate = self._segments.locator()
        self.feed = self._segments.feed
        # reads long envelopes from their parts
        self._frames = FrameReader(max_body=max_body, responses=responses, skips=skips)
        self._long = False  # whether a part of a long envelope has arrived
        self._skips = skips
        self._announced = False  # whether the next envelope was announced and is to be skipped
        self._payload = b""  # of a self-contained segment; envelopes are left from _at to _end
        self._at = 0
        self._end = 0
        self._error: RemoteProtocolError | None = None

    @property
    def pending(self) -> int:
        """How many received bytes belong to an incomplete frame, discarded ones included."""
        return self._segments.pending + self._frames.pending + self._end - self._at

    def read(self) -> RawFrame | None:
        """Return the next frame, or None until more bytes come.

        Raises:
            RemoteProtocolError: the bytes are not a segment, its payload is not a frame or one
                longer than ``max_body``, or frames do not end with their segments. Later calls
                raise it again.
        """
        parts = self.take()
        return None if parts is None else RawFrame(*parts)

    def take(self) -> tuple[int, int, int, int, bytes] | None:
        """See :meth:`FrameReader.take`."""
        data = self._payload
        at = self._at
        end = self._end
        try:
            while True:
                if at < end:
                    if end - at >= 9:
                        version, flags, stream, opcode, length = _unpack(data, at)
                        start = at + 9
                        stop = start + length
                        if (
                            stop <= end
                            and 0 <= length <= self._max_body
                            and version & 0x80 == self._direction
                        ):
                            if stop == end:
                                self._payload = b""
                                self._at = self._end = 0
                            else:
                                self._payload = data
                                self._at = stop
                                self._end = end
                            return version, flags, stream, opcode, data[start:stop]
                    return self._skip(data, at, end)
                if self._error is not None:
                    raise self._error.with_traceback(None)
                if self._announced:
                    parts = self._drop()
                    if parts is not None:
                        return parts
                segment = self._locate()
                if segment is None:
                    return None
                data, at, end, self_contained = segment
                if self._long or not self_contained:
                    parts = self._take_part(data[at:end], self_contained)
                    if parts is not None:
                        return parts
                    at = end
        except RemoteProtocolError as exc:
            self._payload = b""
            self._at = self._end = 0
            self._error = exc
            raise

    def _skip(self, data: bytes, at: int, end: int) -> tuple[int, int, int, int, bytes]:
        """Announce, then skip an envelope in a self-contained segment; raise if it is malformed."""
        if self._skips and end - at >= HEADER_SIZE:
            version, flags, stream, opcode, length = _unpack(data, at)
            stop = at + HEADER_SIZE + length
            whole = version & 0x80 == self._direction and stop <= end
            if whole and length > self._max_body:
                self._payload, self._at, self._end = data, at, end
                self._announced = not self._announced
                if self._announced:
                    return version | SKIPPED, flags, stream, opcode, data[at + 5 : at + 9]
                self._at = stop
                return version, flags, stream, opcode, b""
        self._frames = FrameReader(max_body=self._max_body, responses=bool(self._direction))
        self._frames.feed(data[at:end])
        self._frames.take()  # raises if the header is malformed
        raise RemoteProtocolError("a self-contained segment ends within an envelope")

    def _drop(self) -> tuple[int, int, int, int, bytes] | None:
        """Discard what has arrived of a long envelope that was just announced."""
        self._announced = False
        parts = self._frames.take()
        self._long = self._frames.pending > 0
        return self._alone(parts)

    def _take_part(
        self, payload: bytes, self_contained: bool
    ) -> tuple[int, int, int, int, bytes] | None:
        """Return the long envelope that ends with this payload, or None if it continues."""
        if self_contained:
            raise RemoteProtocolError("a self-contained segment within a long envelope")
        self._frames.feed(payload)
        parts = self._frames.take()
        self._long = self._frames.pending > 0
        if parts is not None and parts[0] & SKIPPED:
            self._announced = True
            return parts
        return self._alone(parts)

    def _alone(
        self, parts: tuple[int, int, int, int, bytes] | None
    ) -> tuple[int, int, int, int, bytes] | None:
        if parts is not None and self._long:
            raise RemoteProtocolError("more than one envelope in segments of a long one")
        return parts
