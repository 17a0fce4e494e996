"""Targets for the readers of frames and segments, and for compression.

A reader yields the same frames or segments wherever the stream is cut. Inputs of readers begin with
three bytes: an option, and two sizes of the pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.compression import compressor
from cqlproto.enums import Opcode
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.frames import EnvelopeReader, FrameReader, RawFrame, write_frame
from cqlproto.segments import MAX_PAYLOAD, SegmentReader, write_segment, write_segments
from fuzz import vectors
from fuzz.checks import Finding, pieces, require
from fuzz.repair import repair_frames, repair_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cqlproto.segments import Segment

LZ4 = compressor("lz4")
_COMPRESSORS = (LZ4, compressor("snappy"))
_MAX_BODIES = (1 << 28, 200)
_HEAD = 3

# Frames or segments that were read, whether an error ended reading, and the bytes left over.
_Frames = tuple[list[RawFrame], bool, int]
_Segments = tuple[list[tuple[bytes, bool]], bool, int]


def _stays_broken(
    reader: FrameReader | EnvelopeReader | SegmentReader, error: RemoteProtocolError
) -> None:
    """Check that a reader raises the same error again, also after more data."""
    reader.feed(bytes(20))
    try:
        reader.read()
    except RemoteProtocolError as again:
        require(str(again) == str(error), "the second call raises another error", error, again)
    else:
        raise Finding(f"the second call raises no error, the first raised {error}")


def _read_frames(reader: FrameReader | EnvelopeReader, parts: Iterable[bytes]) -> _Frames:
    found: list[RawFrame] = []
    try:
        for part in parts:
            reader.feed(part)
            while (frame := reader.read()) is not None:
                found.append(frame)
    except RemoteProtocolError as exc:
        _stays_broken(reader, exc)
        return found, True, 0
    return found, False, reader.pending


def frames(data: bytes) -> None:
    """FrameReader: cuts don't change the frames, and the frames have the bytes of the input."""
    if len(data) < _HEAD:
        return
    max_body = _MAX_BODIES[data[0] >> 1 & 1]
    responses = bool(data[0] & 1)
    stream = data[_HEAD:]
    whole = _read_frames(FrameReader(max_body=max_body, responses=responses), [stream])
    cut = _read_frames(
        FrameReader(max_body=max_body, responses=responses), pieces(stream, data[1], data[2])
    )
    require(whole == cut, "cutting the stream changes the frames", whole, cut)
    found, failed, left = whole
    written = b"".join([bytes(frame) for frame in found])
    require(stream.startswith(written), "frames are not what came", stream, written)
    require(failed or len(written) + left == len(stream), "bytes are lost", len(written), left)
    require(all(len(frame.body) <= max_body for frame in found), "a body beyond the limit")


def frame_seeds() -> Iterator[bytes]:
    """Each frame, in pieces of various sizes, and several frames in one stream."""
    found = vectors.frames()
    for index, frame in enumerate(found):
        yield bytes((frame.version >> 7, index % 11, index % 7)) + bytes(frame)
    responses = [bytes(frame) for frame in found if frame.version & 0x80][:80]
    for start in range(0, len(responses), 5):
        yield b"\x01\x00\x00" + b"".join(responses[start : start + 5])


def repair_frame_stream(data: bytes) -> bytes:
    """Correct lengths after the three bytes that the target reads itself."""
    return data[:_HEAD] + repair_frames(data[_HEAD:])


def _read_segments(reader: SegmentReader, parts: Iterable[bytes]) -> _Segments:
    found: list[tuple[bytes, bool]] = []
    segment: Segment | None
    try:
        for part in parts:
            reader.feed(part)
            while (segment := reader.read()) is not None:
                found.append((segment.payload, segment.self_contained))
    except RemoteProtocolError as exc:
        _stays_broken(reader, exc)
        return found, True, 0
    return found, False, reader.pending


def segments(data: bytes) -> None:
    """SegmentReader: cuts don't change the segments, and the segments can be written again."""
    if len(data) < _HEAD:
        return
    codec = LZ4 if data[0] & 1 else None
    stream = data[_HEAD:]
    whole = _read_segments(SegmentReader(codec), [stream])
    cut = _read_segments(SegmentReader(codec), pieces(stream, data[1], data[2]))
    require(whole == cut, "cutting the stream changes the segments", whole, cut)
    found, _, left = whole
    require(left <= len(stream), "bytes are made up", left)
    for payload, self_contained in found:
        require(len(payload) <= MAX_PAYLOAD, "a payload beyond the limit", len(payload))
        again = write_segment(payload, self_contained=self_contained, compressor=codec)
        written = _read_segments(SegmentReader(codec), [again])
        require(written == ([(payload, self_contained)], False, 0), "written otherwise", payload)


def envelopes(data: bytes) -> None:
    """EnvelopeReader: cuts don't change the frames, and the frames round-trip through segments."""
    if len(data) < _HEAD:
        return
    codec = LZ4 if data[0] & 1 else None
    responses = bool(data[0] & 2)
    max_body = _MAX_BODIES[data[0] >> 2 & 1]
    stream = data[_HEAD:]

    def reader() -> EnvelopeReader:
        return EnvelopeReader(max_body=max_body, responses=responses, compressor=codec)

    whole = _read_frames(reader(), [stream])
    cut = _read_frames(reader(), pieces(stream, data[1], data[2]))
    require(whole == cut, "cutting the stream changes the frames in segments", whole, cut)
    written = write_segments([bytes(frame) for frame in whole[0]], codec)
    again = _read_frames(reader(), [written])
    require(again == (whole[0], False, 0), "frames travel otherwise", whole[0], again)


def segment_seeds() -> Iterator[bytes]:
    """Each segment, and several frames in segments with and without compression."""
    for index, packed in enumerate(vectors.segments()):
        lz4 = packed.compression == "lz4"
        for responses in (0, 2):
            yield bytes((lz4 | responses, index % 11, index % 7)) + packed.data
    found = [frame for frame in vectors.frames() if frame.version & 0x7F == 5]
    for index, frame in enumerate(found[::5]):
        codec = LZ4 if index & 1 else None
        head = bytes((index & 1 | frame.version >> 7 << 1, index % 11, index % 7))
        plain = bytes(frame)
        yield head + write_segments([plain, plain], codec)
        middle = len(plain) // 2
        yield head + b"".join(
            write_segment(part, self_contained=False, compressor=codec)
            for part in (plain[:middle], plain[middle:])
        )


def repair_segment_stream(data: bytes) -> bytes:
    """Correct lengths and checksums after the three bytes that the target reads itself."""
    if len(data) < _HEAD:
        return data
    return data[:_HEAD] + repair_segments(data[_HEAD:], compressed=bool(data[0] & 1))


_LIMITS = (1 << 28, 1 << 16, 1000, 10)


def compression(data: bytes) -> None:
    """LZ4 and Snappy: bodies above the limit are refused, others can be compressed again."""
    if not data:
        return
    codec = _COMPRESSORS[data[0] & 1]
    limit = _LIMITS[data[0] >> 1 & 3]
    body = data[1:]
    try:
        plain = codec.decompress(body, limit)
    except RemoteProtocolError:
        plain = body
    else:
        require(len(plain) <= limit, "a body beyond the limit", len(plain), limit)
    packed = codec.compress(plain)
    require(codec.decompress(packed, len(plain)) == plain, "packed otherwise", plain)


def compression_seeds() -> Iterator[bytes]:
    """The bodies of compressed frames."""
    for packed in vectors.packed_frames():
        head = bytes((packed.compression == "snappy",))
        yield head + packed.data[9:]
    for number, codec in enumerate(_COMPRESSORS):
        for plain in (
            b"",
            b"a",
            b"abcd" * 300,
            bytes(3000),
            write_frame(4, 0, 1, Opcode.READY, b""),
        ):
            yield bytes((number,)) + codec.compress(plain)
