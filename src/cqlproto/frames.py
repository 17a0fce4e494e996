"""Frames: the 9-byte header and the cutting of a byte stream into frames (v4 section 2).

    0         8        16        24        32         40
    +---------+---------+---------+---------+---------+
    | version |  flags  |      stream       | opcode  |
    +---------+---------+---------+---------+---------+
    |                length                 |  body ...
    +---------+---------+---------+---------+

:class:`FrameReader` keeps what has come (``_buffer`` says how) and gives whole frames. A length is
checked before anything is done about it. A frame that is too long is an error, or is *skipped*: it
is announced as soon as its header has come, its body is dropped as it comes, and at the end of that
the frame is given without its body. So its stream id stays taken for as long as it is on its way.

Version 5 calls all of this an *envelope*, and what carries envelopes a frame. Here a frame is what
it was, and the outer thing a segment; :class:`EnvelopeReader` takes frames out of segments.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from cqlproto._buffer import ReadBuffer
from cqlproto.enums import RESPONSE_BIT
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.segments import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.compression import Compressor

__all__ = ["HEADER_SIZE", "SKIPPED", "EnvelopeReader", "FrameReader", "RawFrame", "write_frame"]

HEADER = Struct(">BBhBi")
HEADER_SIZE = HEADER.size
_unpack = HEADER.unpack_from

# Beside the version of a frame that is announced to be skipped. Its body then is the header's
# length, an [int].
SKIPPED = 0x100
# In place of the direction while a body is skipped: no byte has it, so that none is parsed.
_NOWHERE = 1


class RawFrame:
    """A frame whose body has not been looked at.

    Attributes:
        version: the version byte, with the bit that marks a response.
        flags: the flag bits.
        stream: the stream id, -1 for events.
        opcode: the kind of message.
        body: the body as it came, compressed if the flags say so.
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

    __hash__ = None  # type: ignore[assignment]  # compared by content, so not a key

    def __bytes__(self) -> bytes:
        return write_frame(self.version, self.flags, self.stream, self.opcode, self.body)


def write_frame(version: int, flags: int, stream: int, opcode: int, body: bytes) -> bytes:
    """Return a whole frame.

    Raises:
        LocalProtocolError: the stream id or the length does not fit the header.
    """
    if not -0x8000 <= stream <= 0x7FFF or len(body) > 0x7FFFFFFF:
        raise LocalProtocolError(f"a frame of stream {stream} with {len(body)} bytes")
    return HEADER.pack(version, flags, stream, opcode, len(body)) + body


class FrameReader(ReadBuffer):
    """Cuts the bytes from a peer into frames.

    Arguments:
        max_body: the longest body to accept, in bytes.
        responses: whether the peer is a server; decides the highest bit of the version byte.
        skips: whether :meth:`take` skips frames that are longer.
    """

    __slots__ = ("_direction", "_dropped", "_left", "_max_body", "_skipped", "_skips")

    def __init__(self, *, max_body: int, responses: bool, skips: bool = False) -> None:
        super().__init__()
        self._max_body = max_body
        self._direction = RESPONSE_BIT if responses else 0
        self._skips = skips
        self._skipped = (0, 0, 0, 0, b"")  # the frame that is being skipped
        self._left = 0  # so many bytes of it are still to come
        self._dropped = 0  # so many have come

    @property
    def pending(self) -> int:
        """How many bytes have come that no frame has been made of, the dropped ones included."""
        return super().pending + self._dropped

    def read(self) -> RawFrame | None:
        """Return the next frame, or None until more bytes come.

        Raises:
            RemoteProtocolError: the bytes are no frame, or one longer than ``max_body``.
        """
        parts = self.take()
        return None if parts is None else RawFrame(*parts)

    def take(self) -> tuple[int, int, int, int, bytes] | None:
        """As :meth:`read`, as (version, flags, stream, opcode, body): cheaper by an object.

        A frame that is skipped comes twice: first with ``SKIPPED`` in its version, and without its
        body when all of that has come.
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
        """Go on where the next bytes are no frame that is wanted."""
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
        """Drop what has come of a body; return the frame without it, once that was all."""
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
        f"a frame body of {length} bytes is announced, at most {limit} are accepted"
    )


class EnvelopeReader:
    """Cuts the bytes from a peer into segments, and those into frames (v5 section 2).

    A segment that says it is self-contained holds whole frames; the others hold parts of one frame
    that is too long for one segment.

    Arguments:
        max_body: the longest body of a frame to accept, in bytes.
        responses: whether the peer is a server; decides the highest bit of the version byte.
        compressor: LZ4, if the connection agreed on it.
        skips: whether :meth:`take` skips frames that are longer.
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

    #: Keeps its argument, the next bytes of the stream.
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
        # of long envelopes
        self._frames = FrameReader(max_body=max_body, responses=responses, skips=skips)
        self._long = False  # whether there is a part of one
        self._skips = skips
        self._announced = False  # whether the next envelope was, and is to be skipped now
        self._payload = b""  # self-contained, with envelopes left from _at to _end
        self._at = 0
        self._end = 0
        self._error: RemoteProtocolError | None = None

    @property
    def pending(self) -> int:
        """How many bytes have come that no frame has been made of, the dropped ones included."""
        return self._segments.pending + self._frames.pending + self._end - self._at

    def read(self) -> RawFrame | None:
        """Return the next frame, or None until more bytes come.

        Raises:
            RemoteProtocolError: the bytes are no segment, what it holds is no frame or one longer
                than ``max_body``, or frames end where segments don't. Asked again, it is raised
                again.
        """
        parts = self.take()
        return None if parts is None else RawFrame(*parts)

    def take(self) -> tuple[int, int, int, int, bytes] | None:
        """As :meth:`FrameReader.take`."""
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
        """Announce, then skip an envelope in a self-contained segment; or say what is wrong."""
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
        self._frames.take()  # raises, if the header is wrong
        raise RemoteProtocolError("a self-contained segment ends within an envelope")

    def _drop(self) -> tuple[int, int, int, int, bytes] | None:
        """Drop what has come of a long envelope that was announced just now."""
        self._announced = False
        parts = self._frames.take()
        self._long = self._frames.pending > 0
        return self._alone(parts)

    def _take_part(
        self, payload: bytes, self_contained: bool
    ) -> tuple[int, int, int, int, bytes] | None:
        """Return the long envelope that ends with this payload, or None where it goes on."""
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
