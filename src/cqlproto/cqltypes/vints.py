"""Integers of variable length: [unsigned vint] and [vint] (v5 section 3).

The number of leading one bits of the first byte is the number of bytes that follow; the other bits
of the first byte are the highest bits of the number. A [vint] is zigzag encoded first, so that
small negative numbers are short. Only the cells of durations and vectors contain them, so the
functions take a cell and a position instead of a :class:`~cqlproto.wire.Reader`. They raise
ValueError, and the caller adds the type.
"""

from __future__ import annotations

__all__ = ["read_unsigned_vint", "write_unsigned_vint", "write_vint"]


def read_unsigned_vint(data: bytes, pos: int) -> tuple[int, int]:
    """Read one [unsigned vint] of up to 64 bits.

    Returns:
        the number, and the position after it.

    Raises:
        ValueError: the data ends within it.
    """
    if pos >= len(data):
        raise ValueError("it ends where a vint is expected")
    first = data[pos]
    if first < 0x80:
        return first, pos + 1
    extra = 8 - (0xFF ^ first).bit_length()
    end = pos + 1 + extra
    if end > len(data):
        raise ValueError("it ends within a vint")
    number = int.from_bytes(data[pos + 1 : end], "big")
    return (first & 0xFF >> extra) << 8 * extra | number, end


def write_unsigned_vint(value: int) -> bytes:
    """Write one [unsigned vint]; ``value`` is 0 to 2**64 - 1."""
    if value < 0x80:
        return value.to_bytes(1, "big")
    extra = min((value.bit_length() - 1) // 7, 8)
    ones = 0xFF00 >> extra & 0xFF
    return (ones << 8 * extra | value).to_bytes(extra + 1, "big")


def write_vint(value: int) -> bytes:
    """Write one [vint]; ``value`` is a signed number of 64 bits."""
    return write_unsigned_vint(value << 1 ^ value >> 63)
