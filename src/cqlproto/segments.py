"""Segments: the checksummed outer framing of version 5 (v5 section 2).

    uncompressed   length 17 | self-contained 1 | 0 .. 6          CRC24   payload   CRC32
    LZ4            compressed 17 | plain 17 | self-contained 1 | 0 .. 5   CRC24   payload   CRC32

The widths of header fields are in bits, lowest bits first. Numbers are little-endian, unlike those
in the payload. A payload holds whole envelopes (it is *self-contained*), or a part of one that is
too long for a segment.

If LZ4 does not shorten a payload, it is stored uncompressed. The specification marks this by a
compressed length of 0. Servers and drivers instead set the *plain* length to 0 and use the
compressed length as the payload's; so does this module.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NoReturn
from zlib import crc32

from cqlproto._buffer import ReadBuffer
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cqlproto.compression import Compressor

__all__ = ["MAX_PAYLOAD", "Segment", "SegmentReader", "crc24", "write_segment", "write_segments"]

MAX_PAYLOAD = (1 << 17) - 1

_CRC24_INITIAL = 0x875060
_CRC24_POLYNOMIAL = 0x1974F0B
# The CRC32 of a payload is that of these bytes and the payload.
_CRC32_INITIAL = crc32(b"\xfa\x2d\x55\xca")
_pack_crc32 = Struct("<I").pack
# The CRC32 of any bytes followed by their own CRC32.
_CRC32_RESIDUE = 0x2144DF1C
# A header byte by byte, and its checksum.
_unpack3 = Struct("<BBBHB").unpack_from
_unpack5 = Struct("<BBBBBHB").unpack_from


def _crc24_step(crc: int) -> int:
    for _ in range(8):
        crc <<= 1
        if crc & 0x1000000:
            crc ^= _CRC24_POLYNOMIAL
    return crc


def _crc24_tables() -> list[list[int]]:
    """Return the share of each header byte in the checksum, by the number of bytes after it.

    The checksum is linear: it is the XOR of the shares of all bytes and of the initial value.
    """
    last = [_crc24_step(byte << 16) for byte in range(256)]
    tables = [last]
    for _ in range(4):
        tables.append([crc << 8 & 0xFFFFFF ^ last[crc >> 16] for crc in tables[-1]])
    return tables


_T0, _T1, _T2, _T3, _T4 = _crc24_tables()  # by the number of bytes after the byte


def _initial(size: int) -> int:
    crc = _CRC24_INITIAL
    for _ in range(size):
        crc = crc << 8 & 0xFFFFFF ^ _T0[crc >> 16]
    return crc


# The share of the last byte of a header of 3 or 5 bytes, combined with that of the initial value.
_LAST3 = [_initial(3) ^ crc for crc in _T0]
_LAST5 = [_initial(5) ^ crc for crc in _T0]


def crc24(header: int, size: int) -> int:
    """Return the checksum of a segment's header (v5 section 2).

    Arguments:
        header: the header without its checksum, read as a little-endian number.
        size: its length in bytes, 3 or 5.
    """
    if size == 3:
        return _T2[header & 255] ^ _T1[header >> 8 & 255] ^ _LAST3[header >> 16]
    return (
        _T4[header & 255]
        ^ _T3[header >> 8 & 255]
        ^ _T2[header >> 16 & 255]
        ^ _T1[header >> 24 & 255]
        ^ _LAST5[header >> 32]
    )


# Caches of headers: header and checksum by the header as a number, for writing; and the fields by
# header and checksum, for reading. Each has at most this many entries.
_CACHED = 1024
_starts: dict[int, bytes] = {}
_read: dict[bytes, tuple[int, bool]] = {}

# Shorter payloads are copied: a memoryview costs more than a copy of this many bytes.
_VIEWED = 4096


def _view(data: bytes, start: int, stop: int) -> memoryview:
    return memoryview(data)[start:stop]


class Segment:
    """A segment whose checksums are correct.

    Attributes:
        payload: the payload, decompressed.
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
        self_contained: whether the payload holds whole envelopes.
        compressor: LZ4, if the handshake agreed on it. A payload that it does not shorten is
            stored uncompressed.

    Raises:
        LocalProtocolError: the payload is too long.
    """
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise LocalProtocolError(f"a payload must be at most {MAX_PAYLOAD} bytes, got {size}")
    if compressor is None:
        return _write_plain(payload, size | self_contained << 17)
    plain_size = size
    shorter = compressor.compress_block(payload)
    if len(shorter) < size:
        payload = shorter
    else:
        plain_size = 0
    head = len(payload) | plain_size << 17 | self_contained << 34
    start = (head | crc24(head, 5) << 40).to_bytes(8, "little")
    return b"".join((start, payload, _pack_crc32(crc32(payload, _CRC32_INITIAL))))


def _write_plain(payload: bytes, head: int) -> bytes:
    """Return an uncompressed segment with this header."""
    start = _starts.get(head)
    if start is None:
        start = (head | crc24(head, 3) << 24).to_bytes(6, "little")
        if len(_starts) < _CACHED:
            _starts[head] = start
    return b"".join((start, payload, _pack_crc32(crc32(payload, _CRC32_INITIAL))))


def write_segments(envelopes: Collection[bytes], compressor: Compressor | None = None) -> bytes:
    """Return segments for whole envelopes: short envelopes share a segment, long ones are split."""
    together = b"".join(envelopes)
    size = len(together)
    if 0 < size <= MAX_PAYLOAD:
        if compressor is None:
            return _write_plain(together, size | 1 << 17)
        return write_segment(together, self_contained=True, compressor=compressor)
    out: list[bytes] = []
    waiting: list[bytes] = []
    size = 0  # of the waiting envelopes

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
    """Splits the bytes from a peer into segments.

    Arguments:
        compressor: LZ4, if the handshake agreed on it.
    """

    __slots__ = ("_compressor",)

    def __init__(self, compressor: Compressor | None = None) -> None:
        super().__init__()
        self._compressor = compressor

    def read(self) -> Segment | None:
        """Return the next segment, or None until more bytes come.

        Raises:
            RemoteProtocolError: a checksum is wrong, or the payload is malformed. Later calls
                raise it again.
        """
        parts = self.take()
        return None if parts is None else Segment(*parts)

    def take(self) -> tuple[bytes, bool] | None:
        """Return (payload, self-contained), or None; :meth:`read` without the object."""
        found = self._locate() if self._compressor is None else self._locate_compressed()
        if found is None:
            return None
        data, start, stop, self_contained = found
        return data[start:stop], self_contained

    def locator(self) -> Callable[[], tuple[bytes, int, int, bool] | None]:
        """Return a function like :meth:`read` that returns (data, start, stop, self-contained).

        The payload is ``data[start:stop]``; the caller can parse it without a copy.
        """
        return self._locate if self._compressor is None else self._locate_compressed

    def _locate(self) -> tuple[bytes, int, int, bool] | None:
        while True:
            data = self._data
            pos = self._pos
            start = pos + 6
            size = len(data)
            if start <= size:
                head = data[pos:start]
                size_and_kind = _read.get(head)
                if size_and_kind is None:
                    size_and_kind = self._read_header(head)
                stop = start + size_and_kind[0]
                end = stop + 4
                if end <= size:
                    checked = data[start:end] if end - start < _VIEWED else _view(data, start, end)
                    if crc32(checked, _CRC32_INITIAL) != _CRC32_RESIDUE:
                        self._refuse_payload(data[start:end])
                    self._pos = end
                    return data, start, stop, size_and_kind[1]
                needed = end - pos
            elif pos < size:
                needed = 6
            elif not self._partial:
                self._data = b""
                self._pos = 0
                return None
            else:
                needed = self._needed
            if not self._refill(needed):
                return None

    def _locate_compressed(self) -> tuple[bytes, int, int, bool] | None:
        assert self._compressor is not None
        while True:
            data = self._data
            pos = self._pos
            start = pos + 8
            size = len(data)
            if start <= size:
                b0, b1, b2, b3, b4, low, high = _unpack5(data, pos)
                if _T4[b0] ^ _T3[b1] ^ _T2[b2] ^ _T1[b3] ^ _LAST5[b4] != low | high << 16:
                    self._refuse_header(data[pos:start])
                stop = start + (b0 | b1 << 8 | (b2 & 1) << 16)
                end = stop + 4
                if end <= size:
                    checked = data[start:end] if end - start < _VIEWED else _view(data, start, end)
                    if crc32(checked, _CRC32_INITIAL) != _CRC32_RESIDUE:
                        self._refuse_payload(data[start:end])
                    plain_size = b2 >> 1 | b3 << 7 | (b4 & 3) << 15
                    if plain_size:
                        data = self._compressor.decompress_block(checked[:-4], plain_size)
                        start, stop = 0, plain_size
                    self._pos = end
                    return data, start, stop, b4 & 4 == 4
                needed = end - pos
            elif pos < size:
                needed = 8
            else:
                needed = self._needed
            if not self._refill(needed):
                return None

    def _read_header(self, head: bytes) -> tuple[int, bool]:
        """Return the payload's length and whether it is self-contained; without compression."""
        b0, b1, b2, low, high = _unpack3(head)
        if _T2[b0] ^ _T1[b1] ^ _LAST3[b2] != low | high << 16:
            self._refuse_header(head)
        size_and_kind = b0 | b1 << 8 | (b2 & 1) << 16, b2 & 2 == 2
        if len(_read) < _CACHED:
            _read[head] = size_and_kind
        return size_and_kind

    def _refuse_header(self, data: bytes) -> NoReturn:
        expected = int.from_bytes(data[-3:], "little")
        found = crc24(int.from_bytes(data[:-3], "little"), len(data) - 3)
        self._refuse("header", expected, found, 6)

    def _refuse_payload(self, data: bytes) -> NoReturn:
        expected = int.from_bytes(data[-4:], "little")
        self._refuse("payload", expected, crc32(data[:-4], _CRC32_INITIAL), 8)

    def _refuse(self, part: str, expected: int, found: int, digits: int) -> NoReturn:
        raise RemoteProtocolError(
            f"the checksum of a segment's {part} must be {found:0{digits}x}, got"
            f" {expected:0{digits}x}"
        )
