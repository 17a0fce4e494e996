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
from typing import TYPE_CHECKING, NoReturn
from zlib import crc32

from cqlproto._buffer import ReadBuffer
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection

    from cqlproto.compression import Compressor

__all__ = ["MAX_PAYLOAD", "Segment", "SegmentReader", "crc24", "write_segment", "write_segments"]

MAX_PAYLOAD = (1 << 17) - 1

_LENGTH_MASK = MAX_PAYLOAD
_CRC24_INITIAL = 0x875060
_CRC24_POLYNOMIAL = 0x1974F0B
# The CRC32 of a payload is that of these bytes and the payload.
_CRC32_INITIAL = crc32(b"\xfa\x2d\x55\xca")
_pack_crc32 = Struct("<I").pack
_unpack_crc32 = Struct("<I").unpack_from
_PLAIN_LENGTH = Struct(">i")


def _crc24_step(crc: int) -> int:
    for _ in range(8):
        crc <<= 1
        if crc & 0x1000000:
            crc ^= _CRC24_POLYNOMIAL
    return crc


def _crc24_tables() -> list[list[int]]:
    """Return what each byte of a header adds to its checksum, by how many bytes follow it.

    The checksum is linear: that of a header is the sum (by XOR) of what its bytes add and of what
    the initial value does.
    """
    last = [_crc24_step(byte << 16) for byte in range(256)]
    tables = [last]
    for _ in range(4):
        tables.append([crc << 8 & 0xFFFFFF ^ last[crc >> 16] for crc in tables[-1]])
    return tables


_T0, _T1, _T2, _T3, _T4 = _crc24_tables()


def _initial(size: int) -> int:
    crc = _CRC24_INITIAL
    for _ in range(size):
        crc = crc << 8 & 0xFFFFFF ^ _T0[crc >> 16]
    return crc


_INITIAL3, _INITIAL5 = _initial(3), _initial(5)


def crc24(header: int, size: int) -> int:
    """Return the checksum of a segment's header (v5 section 2).

    Arguments:
        header: the header without its checksum, read as a little-endian number.
        size: its length in bytes, 3 or 5.
    """
    if size == 3:
        return _INITIAL3 ^ _T2[header & 255] ^ _T1[header >> 8 & 255] ^ _T0[header >> 16]
    return (
        _INITIAL5
        ^ _T4[header & 255]
        ^ _T3[header >> 8 & 255]
        ^ _T2[header >> 16 & 255]
        ^ _T1[header >> 24 & 255]
        ^ _T0[header >> 32]
    )


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
        head = size | self_contained << 17
        start = (head | crc24(head, 3) << 24).to_bytes(6, "little")
    else:
        plain_size = size
        shorter = compressor.compress(payload)[4:]  # the length in front of it stands in the header
        if len(shorter) < size:
            payload = shorter
        else:
            plain_size = 0
        head = len(payload) | plain_size << 17 | self_contained << 34
        start = (head | crc24(head, 5) << 40).to_bytes(8, "little")
    return b"".join((start, payload, _pack_crc32(crc32(payload, _CRC32_INITIAL))))


def write_segments(envelopes: Collection[bytes], compressor: Compressor | None = None) -> bytes:
    """Return segments for whole envelopes: short ones share a segment, long ones are split."""
    together = b"".join(envelopes)
    if 0 < len(together) <= MAX_PAYLOAD:
        return write_segment(together, self_contained=True, compressor=compressor)
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


class SegmentReader(ReadBuffer):
    """Cuts the bytes from a peer into segments.

    Arguments:
        compressor: LZ4, if the connection agreed on it.
    """

    __slots__ = ("_compressor", "_head")

    def __init__(self, compressor: Compressor | None = None) -> None:
        super().__init__()
        self._compressor = compressor
        self._head = 3 if compressor is None else 5

    def read(self) -> Segment | None:
        """Return the next segment, or None until more bytes come.

        Raises:
            RemoteProtocolError: a checksum is wrong, or the payload is malformed. Asked again, it
                is raised again.
        """
        parts = self.take()
        return None if parts is None else Segment(*parts)

    def take(self) -> tuple[bytes, bool] | None:
        """As :meth:`read`, as (payload, self-contained): cheaper by an object."""
        size = self._head
        while True:
            data = self._data
            pos = self._pos
            start = pos + size + 3
            if len(data) >= start:
                bits = int.from_bytes(data[pos:start], "little")
                if size == 3:
                    head, expected = bits & 0xFFFFFF, bits >> 24
                    # crc24(head, 3), without a call
                    found = _INITIAL3 ^ _T2[bits & 255] ^ _T1[bits >> 8 & 255] ^ _T0[head >> 16]
                else:
                    head, expected = bits & 0xFFFFFFFFFF, bits >> 40
                    found = crc24(head, 5)
                if found != expected:
                    self._refuse("header", expected, found, 6)
                stop = start + (head & _LENGTH_MASK)
                if len(data) >= stop + 4:
                    payload = data[start:stop]
                    (expected,) = _unpack_crc32(data, stop)
                    found = crc32(payload, _CRC32_INITIAL)
                    if found != expected:
                        self._refuse("payload", expected, found, 8)
                    if self._compressor is None:
                        self._pos = stop + 4
                        return payload, head >> 17 & 1 == 1
                    plain_size = head >> 17 & _LENGTH_MASK
                    if plain_size:
                        block = _PLAIN_LENGTH.pack(plain_size) + payload
                        payload = self._compressor.decompress(block, MAX_PAYLOAD)
                    self._pos = stop + 4
                    return payload, head >> 34 & 1 == 1
                needed = stop + 4 - pos
            elif len(data) > pos:
                needed = size + 3
            else:
                needed = self._needed
            if not self._refill(needed):
                return None

    def _refuse(self, part: str, expected: int, found: int, digits: int) -> NoReturn:
        raise RemoteProtocolError(
            f"the checksum of a segment's {part} is {found:0{digits}x}, not {expected:0{digits}x}"
        )
