"""Segments: the checksummed outer framing of version 5 (v5 section 2).

    uncompressed   length 17 | self-contained 1 | 0 .. 6          CRC24   payload   CRC32
    LZ4            compressed 17 | plain 17 | self-contained 1 | 0 .. 5   CRC24   payload   CRC32

Lengths are in bits, the lowest first, and numbers little-endian, unlike everything inside. A
payload holds whole envelopes (it is *self-contained*) or a part of one that is too long for one
segment.

The specification marks a payload that is stored plain under LZ4 by a compressed length of 0.
Servers and drivers use a *plain* length of 0, and the other one for what is stored; so does this.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING
from zlib import crc32

from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cqlproto.compression import Compressor

__all__ = ["MAX_PAYLOAD", "Segment", "SegmentReader", "crc24", "write_segment", "write_segments"]

MAX_PAYLOAD = (1 << 17) - 1

_LENGTH_MASK = MAX_PAYLOAD
_CRC24_INITIAL = 0x875060
_CRC24_POLYNOMIAL = 0x1974F0B
# The CRC32 of a payload is that of these bytes and the payload.
_CRC32_INITIAL = crc32(b"\xfa\x2d\x55\xca")
_CRC32 = Struct("<I")
_PLAIN_LENGTH = Struct(">i")


def _crc24_step(crc: int) -> int:
    for _ in range(8):
        crc <<= 1
        if crc & 0x1000000:
            crc ^= _CRC24_POLYNOMIAL
    return crc


_CRC24_TABLE = [_crc24_step(byte << 16) for byte in range(256)]


def crc24(data: bytes) -> int:
    """Return the checksum of a segment's header (v5 section 2).

    Arguments:
        data: the header without its checksum, 3 or 5 bytes.
    """
    crc = _CRC24_INITIAL
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _CRC24_TABLE[crc >> 16 ^ byte]
    return crc


class Segment:
    """A segment whose checksums were right.

    Attributes:
        payload: decompressed.
        self_contained: whether it holds whole envelopes.
    """

    __slots__ = ("payload", "self_contained")

    def __init__(self, payload: bytes, self_contained: bool) -> None:
        self.payload = payload
        self.self_contained = self_contained

    def __repr__(self) -> str:
        kind = "self-contained" if self.self_contained else "part"
        return f"Segment(<{len(self.payload)} bytes, {kind}>)"


def write_segment(
    payload: bytes, *, self_contained: bool, compressor: Compressor | None = None
) -> bytes:
    """Return a segment.

    Arguments:
        payload: whole envelopes, or a part of one; at most
            :data:`~cqlproto.segments.MAX_PAYLOAD` bytes.
        self_contained: whether they are whole.
        compressor: LZ4, if the connection agreed on it. What it would make longer is stored plain.

    Raises:
        LocalProtocolError: the payload is too long.
    """
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise LocalProtocolError(f"a payload of {size} bytes, at most {MAX_PAYLOAD} fit a segment")
    if compressor is None:
        head = (size | self_contained << 17).to_bytes(3, "little")
    else:
        plain_size = size
        shorter = compressor.compress(payload)[4:]  # the length in front of it stands in the header
        if len(shorter) < size:
            payload = shorter
        else:
            plain_size = 0
        bits = len(payload) | plain_size << 17 | self_contained << 34
        head = bits.to_bytes(5, "little")
    checksum = _CRC32.pack(crc32(payload, _CRC32_INITIAL))
    return b"".join((head, crc24(head).to_bytes(3, "little"), payload, checksum))


def write_segments(envelopes: Iterable[bytes], compressor: Compressor | None = None) -> bytes:
    """Return segments for whole envelopes: short ones share a segment, long ones are split."""
    out: list[bytes] = []
    waiting: list[bytes] = []
    size = 0

    def flush() -> None:
        nonlocal size
        if waiting:
            payload = b"".join(waiting)
            out.append(write_segment(payload, self_contained=True, compressor=compressor))
            waiting.clear()
            size = 0

    for envelope in envelopes:
        if size + len(envelope) > MAX_PAYLOAD:
            flush()
        if len(envelope) <= MAX_PAYLOAD:
            waiting.append(envelope)
            size += len(envelope)
            continue
        for start in range(0, len(envelope), MAX_PAYLOAD):
            part = envelope[start : start + MAX_PAYLOAD]
            out.append(write_segment(part, self_contained=False, compressor=compressor))
    flush()
    return b"".join(out)


class SegmentReader:
    """Cuts the bytes from a peer into segments.

    Arguments:
        compressor: LZ4, if the connection agreed on it.
    """

    __slots__ = ("_compressor", "_data", "_head")

    def __init__(self, compressor: Compressor | None = None) -> None:
        self._compressor = compressor
        self._head = 3 if compressor is None else 5
        self._data = bytearray()

    @property
    def pending(self) -> int:
        """How many bytes are kept that no segment has been made of; one segment's at most, once
        :meth:`read` has returned None."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Keep ``data``, the next bytes of the stream."""
        self._data += data

    def read(self) -> Segment | None:
        """Return the next segment, or None until more bytes come.

        Raises:
            RemoteProtocolError: a checksum is wrong, or the payload is malformed. Asked again, it
                is raised again.
        """
        data = self._data
        head_size = self._head
        start = head_size + 3
        if len(data) < start:
            return None
        head = bytes(data[:head_size])
        expected = int.from_bytes(data[head_size:start], "little")
        if crc24(head) != expected:
            raise RemoteProtocolError(
                f"the checksum of a segment's header is {crc24(head):06x}, not {expected:06x}"
            )
        bits = int.from_bytes(head, "little")
        stop = start + (bits & _LENGTH_MASK)
        if len(data) < stop + 4:
            return None
        payload = bytes(memoryview(data)[start:stop])
        (expected,) = _CRC32.unpack_from(data, stop)
        if crc32(payload, _CRC32_INITIAL) != expected:
            raise RemoteProtocolError(
                f"the checksum of a segment's payload is {crc32(payload, _CRC32_INITIAL):08x},"
                f" not {expected:08x}"
            )
        if self._compressor is None:
            self_contained = bits >> 17 & 1
        else:
            self_contained = bits >> 34 & 1
            plain_size = bits >> 17 & _LENGTH_MASK
            if plain_size:
                block = _PLAIN_LENGTH.pack(plain_size) + payload
                payload = self._compressor.decompress(block, MAX_PAYLOAD)
        del data[: stop + 4]
        return Segment(payload, bool(self_contained))
