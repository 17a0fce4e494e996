"""Corrects lengths and checksums after a mutation.

A parser stops at the first wrong length or checksum, and mutation does not find a CRC32 by chance.
So most mutated streams are repaired: lengths are set to the number of bytes that follow, and
checksums are computed again.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

__all__ = ["repair_frames", "repair_segments"]

_LENGTH = Struct(">i")
_HEAD = 9
_LENGTH_BITS = (1 << 17) - 1
_CRC32_INITIAL = crc32(b"\xfa\x2d\x55\xca")


def _crc24_step(crc: int) -> int:
    for _ in range(8):
        crc <<= 1
        if crc & 0x1000000:
            crc ^= 0x1974F0B
    return crc


_CRC24_TABLE = [_crc24_step(byte << 16) for byte in range(256)]


def _crc24(data: bytes) -> bytes:
    """Return the checksum of a segment's header (v5 section 2)."""
    crc = 0x875060
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _CRC24_TABLE[crc >> 16 ^ byte]
    return crc.to_bytes(3, "little")


def repair_frames(data: bytes) -> bytes:
    """Return ``data`` with the last frame's length set so that the frame ends with the data."""
    position = 0
    size = len(data)
    while position + _HEAD <= size:
        (length,) = _LENGTH.unpack_from(data, position + 5)
        stop = position + _HEAD + length
        if length < 0 or stop > size:
            fitting = _LENGTH.pack(size - position - _HEAD)
            return data[: position + 5] + fitting + data[position + _HEAD :]
        position = stop
    return data


def repair_segments(data: bytes, *, compressed: bool) -> bytes:
    """Return ``data`` with correct checksums and a last segment that ends with the data.

    Lengths of frames in self-contained, uncompressed payloads are corrected as well.

    Arguments:
        data: segments, beginning with the header of one.
        compressed: whether the segments have the 5-byte headers of compressed segments.
    """
    head_size = 5 if compressed else 3
    out = bytearray()
    position = 0
    while position + head_size + 7 <= len(data):
        bits = int.from_bytes(data[position : position + head_size], "little")
        start = position + head_size + 3
        length = min(bits & _LENGTH_BITS, len(data) - start - 4)
        bits = bits & ~_LENGTH_BITS | length
        payload = data[start : start + length]
        plain = not bits >> 17 & _LENGTH_BITS if compressed else True
        whole = bits >> (34 if compressed else 17) & 1
        if plain and whole:
            payload = repair_frames(payload)
        head = bits.to_bytes(head_size, "little")
        out += head + _crc24(head) + payload
        out += crc32(payload, _CRC32_INITIAL).to_bytes(4, "little")
        position = start + length + 4
    return bytes(out) + data[position:]
