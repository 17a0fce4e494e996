"""Bytes that came from a peer and have not been used yet.

What is kept grows with the bytes that came, never with a length that a header announces, and every
byte is copied a bounded number of times however the stream is cut: the usual read, which ends with
a whole frame or segment, is parsed where it lies.
"""

from __future__ import annotations

__all__ = ["ReadBuffer"]


class ReadBuffer:
    """What :class:`~cqlproto.FrameReader` and :class:`~cqlproto.SegmentReader` are made on.

    They parse ``_data`` from ``_pos`` on, and ask :meth:`_refill` when it holds too little.
    """

    __slots__ = ("_data", "_needed", "_partial", "_pos")

    def __init__(self) -> None:
        self._data = b""  # parsed from _pos on
        self._pos = 0
        self._partial = bytearray()  # what comes after _data and is not yet a whole item
        self._needed = 1  # so many bytes must be in _partial before parsing makes sense

    @property
    def pending(self) -> int:
        """How many bytes are kept that nothing has been made of."""
        return len(self._data) - self._pos + len(self._partial)

    def feed(self, data: bytes) -> None:
        """Keep ``data``, the next bytes of the stream."""
        if self._pos == len(self._data) and not self._partial:
            self._data = data
            self._pos = 0
        else:
            self._partial += data

    def take_back(self) -> bytes:
        """Return all bytes that nothing has been made of, and forget them."""
        rest = self._data[self._pos :] + self._partial
        self._data = b""
        self._pos = 0
        self._partial.clear()
        self._needed = 1
        return rest

    def _refill(self, needed: int) -> bool:
        """Put what is left of the data before the partial bytes; True if ``needed`` are there."""
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
