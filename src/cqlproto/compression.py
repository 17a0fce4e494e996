"""The compression of frame bodies (v4 section 5) and segments (v5 section 2.2): LZ4 and Snappy.

A compressed body begins with the length of the decompressed bytes; for a segment, its header gives
it. The peer chooses that number, so it is checked before anything is allocated: against the
caller's limit, and against the best compression ratio of the format. A small frame cannot make the
receiver allocate a large buffer.

The codecs are optional dependencies, imported when a compressor is made.
"""

from __future__ import annotations

import importlib
from struct import Struct
from typing import Any, NoReturn, Protocol

from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.wire import MAX_INT

__all__ = ["Compressor", "compressor"]

_LENGTH = Struct(">I")

# The best ratios of the formats: in LZ4 one byte of a run length stands for 255 bytes, in Snappy
# three bytes copy 64.
_LZ4_RATIO = 255
_SNAPPY_RATIO = 22


class TooLong(RemoteProtocolError):
    """The decompressed body would exceed the limit.

    Attributes:
        size: its length, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a decompressed body must be at most {limit} bytes, got {size}")
        self.size = size


class Compressor(Protocol):
    """Compresses frame bodies, or the payloads of segments."""

    @property
    def name(self) -> str:
        """The name in the STARTUP option COMPRESSION."""
        ...

    def compress(self, data: bytes) -> bytes:
        """Compress a frame body.

        Raises:
            LocalProtocolError: the data is too long for the format.
        """
        ...

    def decompress(self, data: bytes, limit: int) -> bytes:
        """Decompress a frame body.

        Arguments:
            data: the compressed bytes.
            limit: the maximum length of the result, in bytes.

        Raises:
            RemoteProtocolError: the data is malformed, or the result would be longer.
        """
        ...

    def compress_block(self, data: bytes) -> bytes:
        """Compress the payload of a segment, whose header has the decompressed length.

        Raises:
            LocalProtocolError: the data is too long for the format.
        """
        ...

    def decompress_block(self, data: bytes | memoryview, length: int) -> bytes:
        """Decompress the payload of a segment.

        Arguments:
            data: the compressed bytes.
            length: the length of the result, in bytes.

        Raises:
            RemoteProtocolError: the result has another length, or the data is malformed.
        """
        ...


def _refuse_length(length: int, limit: int) -> NoReturn:
    raise TooLong(length, limit)


def _refuse_ratio(length: int, most: int) -> NoReturn:
    raise RemoteProtocolError(
        f"a compressed body announces {length} bytes, its data can hold at most {most}"
    )


# The package that implements each compression.
_PACKAGES = {"lz4": "lz4", "snappy": "cramjam"}


def _import(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as exc:
        raise LocalProtocolError(
            f"compression with {extra} needs a codec: pip install {_PACKAGES[extra]}"
        ) from exc


class _LZ4:
    """A block of LZ4 after the decompressed length, an [int].

    An empty body is compressed to five bytes, the last of them an empty block.
    """

    name = "lz4"

    def __init__(self) -> None:
        block = _import("lz4.block", "lz4")
        self._compress = block.compress
        self._decompress = block.decompress
        self._error: type[Exception] = block.LZ4BlockError

    def compress(self, data: bytes) -> bytes:
        block = self.compress_block(data)
        return _LENGTH.pack(len(data)) + block

    def decompress(self, data: bytes, limit: int) -> bytes:
        if len(data) < 4:
            raise RemoteProtocolError(f"an LZ4 body must be at least 4 bytes, got {len(data)}")
        length: int = _LENGTH.unpack_from(data)[0]
        if length > limit or length > MAX_INT:
            _refuse_length(length, min(limit, MAX_INT))
        return self.decompress_block(memoryview(data)[4:], length)

    def compress_block(self, data: bytes) -> bytes:
        try:
            block: bytes = self._compress(data, store_size=False)
        except (self._error, OverflowError) as exc:
            raise LocalProtocolError(f"LZ4 cannot compress {len(data)} bytes at once") from exc
        return block

    def decompress_block(self, data: bytes | memoryview, length: int) -> bytes:
        if length > len(data) * _LZ4_RATIO:
            _refuse_ratio(length, len(data) * _LZ4_RATIO)
        try:
            plain: bytes = self._decompress(data, length)
        except self._error as exc:
            raise RemoteProtocolError(f"malformed LZ4: {exc}") from exc
        if len(plain) != length:
            raise RemoteProtocolError(
                f"an LZ4 block must decompress to {length} bytes, got {len(plain)}"
            )
        return plain


class _Snappy:
    """Raw Snappy, which begins with the decompressed length as a varint of at most 32 bits."""

    name = "snappy"

    def __init__(self) -> None:
        cramjam = _import("cramjam", "snappy")
        self._compress = cramjam.snappy.compress_raw
        self._decompress = cramjam.snappy.decompress_raw
        self._errors: tuple[type[Exception], type[Exception]] = (
            cramjam.CompressionError,
            cramjam.DecompressionError,
        )

    def compress(self, data: bytes) -> bytes:
        try:
            return bytes(self._compress(data))
        except self._errors as exc:
            raise LocalProtocolError(f"Snappy cannot compress {len(data)} bytes at once") from exc

    def decompress(self, data: bytes, limit: int) -> bytes:
        length = _read_snappy_length(data)
        if length > limit:
            _refuse_length(length, limit)
        if length > len(data) * _SNAPPY_RATIO:
            _refuse_ratio(length, len(data) * _SNAPPY_RATIO)
        try:
            return bytes(self._decompress(data))  # the codec checks the length
        except self._errors as exc:
            raise RemoteProtocolError(f"malformed Snappy: {exc}") from exc

    def compress_block(self, data: bytes) -> bytes:
        return self.compress(data)  # the format includes the length

    def decompress_block(self, data: bytes | memoryview, length: int) -> bytes:
        plain = self.decompress(bytes(data), length)
        if len(plain) != length:
            raise RemoteProtocolError(
                f"a Snappy block must decompress to {length} bytes, got {len(plain)}"
            )
        return plain


def _read_snappy_length(data: bytes) -> int:
    """Read the decompressed length: seven bits a byte, lowest first; the high bit means more."""
    length = 0
    for index, byte in enumerate(data[:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length
    raise RemoteProtocolError("malformed Snappy: its length does not end")


_COMPRESSORS: dict[str, type[_LZ4 | _Snappy]] = {"lz4": _LZ4, "snappy": _Snappy}


def compressor(name: str) -> Compressor:
    """Return the compressor with this name.

    Arguments:
        name: ``lz4`` or ``snappy``, as in the STARTUP option COMPRESSION.

    Raises:
        LocalProtocolError: the name is unknown, or its codec is not installed.
    """
    if name not in _COMPRESSORS:
        raise LocalProtocolError(f"compression must be one of {sorted(_COMPRESSORS)}, got {name!r}")
    return _COMPRESSORS[name]()
