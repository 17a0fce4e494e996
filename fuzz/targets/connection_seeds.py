"""Seeds of the connection targets, and the repair of mutated streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.compression import compressor
from cqlproto.enums import RESPONSE_BIT, Opcode, ProtocolVersion
from cqlproto.frames import write_frame
from cqlproto.messages import Startup
from cqlproto.segments import write_segments
from fuzz import vectors
from fuzz.repair import repair_frames, repair_segments
from fuzz.targets.connections import HEAD, ORPHAN, kind, opening

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqlproto.compression import Compressor
# By opcode of a response: the stream ids on which a busy client waits for it.
_STREAMS = {
    Opcode.ERROR: 1,
    Opcode.READY: 5,
    Opcode.SUPPORTED: 6,
    Opcode.EVENT: -1,
}


def _codec(name: str | None) -> Compressor | None:
    return compressor(name) if name else None


def _conveyed(
    frames: Sequence[tuple[int, int, int, int, bytes]], version: ProtocolVersion, name: str | None
) -> bytes:
    """Return frames as bytes on an open connection: in segments on v5."""
    codec = _codec(name)
    if version.has_segments:
        return write_segments([write_frame(*parts) for parts in frames], codec)
    out = b""
    for byte, flags, stream, opcode, body in frames:
        if codec is not None and body:
            out += write_frame(byte, flags | 1, stream, opcode, codec.compress(body))
        else:
            out += write_frame(byte, flags, stream, opcode, body)
    return out


def _stream_of(opcode: int, body: bytes) -> int:
    """Return the stream id on which a busy client waits for this response."""
    if opcode == Opcode.RESULT:
        return {1: 4, 2: 2, 4: 3}.get(int.from_bytes(body[:4], "big"), 1)
    return _STREAMS.get(Opcode(opcode), 1)


def client_seeds() -> Iterator[bytes]:
    """Each response of the vectors on a stream id that waits for it; then all of them together."""
    for number in range(9):
        version, name = kind(number)
        byte = version | RESPONSE_BIT
        replies = [
            (
                byte,
                frame.flags & 0x0E,
                _stream_of(frame.opcode, frame.body),
                frame.opcode,
                frame.body,
            )
            for frame in vectors.frames()
            if frame.version == byte and len(frame.body) < 200
        ]
        for index, reply in enumerate(replies):
            yield bytes((number, index % 40, index % 3)) + _conveyed([reply], version, name)
        by_stream = {reply[2]: reply for reply in replies}
        by_stream[ORPHAN] = (byte, 0, ORPHAN, Opcode.RESULT, b"\0\0\0\x01")
        yield bytes((number, 0, 0)) + _conveyed(list(by_stream.values()), version, name)


def handshake_seeds() -> Iterator[bytes]:
    """Successful handshakes, with and without credentials, and a refused one."""
    for number in range(18):
        version, name = kind(number)
        byte = version | RESPONSE_BIT
        supported, ready = opening(version)
        head = bytes((number, 0, 0))
        yield head + supported + ready
        yield (
            head
            + supported
            + ready
            + _conveyed(
                [
                    (
                        byte,
                        0,
                        -1,
                        Opcode.EVENT,
                        b"\0\x0dSTATUS_CHANGE\0\x02UP\x04\x7f\0\0\x01\0\0\x23\x52",
                    )
                ],
                version,
                name,
            )
        )
        asks = write_frame(byte, 0, 0, Opcode.AUTHENTICATE, b"\0\x05Plain")
        answers = [
            (byte, 0, 0, Opcode.AUTH_CHALLENGE, b"\xff\xff\xff\xff"),
            (byte, 0, 0, Opcode.AUTH_SUCCESS, b"\0\0\0\x02ok"),
        ]
        yield head + supported + asks + _conveyed(answers, version, name)
        text = b"supported versions are (3/v3, 4/v4, 5/v5, 6/v6-beta)"
        refusal = b"\0\0\0\x0a" + len(text).to_bytes(2, "big") + text
        yield head + write_frame(0x84, 0, 0, Opcode.ERROR, refusal)


def server_seeds() -> Iterator[bytes]:
    """Each request of the vectors after STARTUP, under every compression."""
    for asked in (b"snappy", b"LZ4", b"zstd"):
        wanted = b"\0\x01\0\x0bCOMPRESSION" + len(asked).to_bytes(2, "big") + asked
        yield b"\x02\0\0" + write_frame(ProtocolVersion.V5, 0, 0, Opcode.STARTUP, wanted)
    for number in range(9):
        version, name = kind(number)
        options = {"CQL_VERSION": "3.0.0"} | ({"COMPRESSION": name} if name else {})
        body = bytearray()
        Startup(options).write_body(body, version)
        begin = write_frame(version, 0, 0, Opcode.OPTIONS, b"")
        begin += write_frame(version, 0, 1, Opcode.STARTUP, bytes(body))
        requests = [
            (version, frame.flags & 0x06, 2 + index % 3, frame.opcode, frame.body)
            for index, frame in enumerate(vectors.frames())
            if frame.version == version and len(frame.body) < 200
        ]
        for index, request in enumerate(requests):
            # The kind: all versions, and no credentials, so that the connection opens at once.
            head = bytes((2 + 3 * (4 | index & 11), index % 40, index % 3))
            yield head + begin + _conveyed([request], version, name)
        yield (
            bytes((2, 0, 0))
            + begin
            + _conveyed([(version, 0, 0, Opcode.AUTH_RESPONSE, b"\0\0\0\x02ok")], version, name)
        )


def repair_replies(data: bytes) -> bytes:
    """Correct lengths, and checksums if the busy client of this kind expects segments."""
    if len(data) < HEAD:
        return data
    version, compression = kind(data[0])
    if version.has_segments:
        fixed = repair_segments(data[HEAD:], compressed=compression is not None)
    else:
        fixed = repair_frames(data[HEAD:])
    return data[:HEAD] + fixed


def repair_handshake(data: bytes) -> bytes:
    """Correct lengths, and checksums after the frame that starts v5's segments."""
    compression = kind(data[0])[1] if data else None
    return _repair_from(data, (Opcode.READY, Opcode.AUTHENTICATE), compression is not None)


def repair_requests(data: bytes) -> bytes:
    """As :func:`repair_handshake`, for requests: segments start after STARTUP."""
    return _repair_from(data, (Opcode.STARTUP,), b"COMPRESSION" in data)


def _repair_from(data: bytes, opens: Sequence[int], compressed: bool) -> bytes:
    """Repair frames up to the first whose opcode is in ``opens``, and segments after it."""
    position = HEAD
    while position + 9 <= len(data):
        version, opcode = data[position] & 0x7F, data[position + 4]
        stop = position + 9 + int.from_bytes(data[position + 5 : position + 9], "big")
        if stop > len(data):
            break
        position = stop
        if version == 5 and opcode in opens:
            return data[:position] + repair_segments(data[position:], compressed=compressed)
    return data[:HEAD] + repair_frames(data[HEAD:])


WORDS = (
    *[bytes((version | bit,)) for version in ProtocolVersion for bit in (0, RESPONSE_BIT)],
    *[bytes((opcode,)) for opcode in Opcode],
    *[b"\0" + bytes((stream,)) for stream in range(9)],
    b"\xff\xff",
    b"COMPRESSION",
    b"\0\x03lz4",
    b"\0\x06snappy",
    b"PROTOCOL_VERSIONS",
    b"supported versions are (4/v4)",
    *[kind.to_bytes(4, "big") for kind in range(1, 6)],
)
