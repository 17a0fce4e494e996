"""Received bytes that have not been parsed yet.

The buffer grows with the bytes that were received, never with a length that a header announces.
Every byte is copied a bounded number of times however the stream is split. The usual read, which
ends with a whole frame or segment, is parsed in place.
"""

from __future__ import annotations

__all__ = ["ReadBuffer"]


class ReadBuffer:
    """Base of :class:`~cqlproto.FrameReader` and :class:`~cqlproto.SegmentReader`.

    They parse ``_data`` from ``_pos``, and call :meth:`_refill` when it holds too few bytes.
    """

    __slots__ = ("_data", "_needed", "_partial", "_pos")

    def __init__(self) -> None:
        self._data = b""  # parsed from _pos on
        self._pos = 0
        self._partial = bytearray()  # the bytes after _data, not yet a whole item
        self._needed = 1  # bytes that _partial must hold before parsing can go on

    @property
    def pending(self) -> int:
        """How many bytes are buffered and not parsed yet."""
        return len(self._data) - self._pos + len(self._partial)

    def feed(self, data: bytes) -> None:
        """Buffer ``data``, the next bytes of the stream."""
        if self._pos == len(self._data) and not self._partial:
            self._data = data
            self._pos = 0
        else:
            self._partial += data

    def take_back(self) -> bytes:
        """Remove and return all bytes that have not been parsed."""
        rest = self._data[self._pos :] + self._partial
        self._data = b""
        self._pos = 0
        self._partial.clear()
        self._needed = 1
        return rest

    def _refill(self, needed: int) -> bool:
        """Join the rest of ``_data`` and the partial bytes; True if there are ``needed`` bytes."""
        partial = self._partial
        if self._pos < len(self._data):
            partial[:0] = memoryview(self._data)[self._pos :]
        self._data = b""
        self._pos = 0
        if len(partial) < needed:
            self._needed = needed
            return False
        self._needed = 1
        self._data = bytes(partial)
        partial.clear()
        return True
