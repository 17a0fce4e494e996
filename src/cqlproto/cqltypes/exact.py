"""Exact decimals of any size: conversion from and to integers, and cached exponents."""

from __future__ import annotations

from decimal import (
    MAX_EMAX,
    MAX_PREC,
    MIN_EMIN,
    ROUND_DOWN,
    Clamped,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import lru_cache

__all__ = [
    "EXACT",
    "EXPONENTS",
    "MOST_BYTES",
    "MOST_DIGITS",
    "SHORT",
    "digits_of",
    "to_decimal",
    "to_integer",
    "write_varint",
]

# A context in which every number is exact: its precision holds any cell, and inexact results trap.
EXACT = Context(
    prec=MAX_PREC,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    clamp=0,
    traps=[Inexact, InvalidOperation, Overflow, Clamped],
)
_CHUNK_BITS = 1 << 11
_CHUNK_DIGITS = 600

# Below this size in bytes the constructor of Decimal is fast enough.
SHORT = _CHUNK_BITS // 8

# The longest unscaled value of a decimal that is read or written, in bytes and in digits. There is
# no conversion from base 2 to base 10 in linear time: this size takes 50 ms, 16 MB would take 35 s.
MOST_BYTES = 1 << 16
MOST_DIGITS = 157_827

# How many exponents are cached.
_CACHED = 256


def write_varint(value: int) -> bytes:
    """Return the shortest two's complement of an integer, big-endian."""
    bits = (value if value >= 0 else ~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


@lru_cache(maxsize=32)
def _power(shift: int) -> Decimal:
    """Return a power of two; the halves use only a few of them."""
    return EXACT.power(Decimal(2), Decimal(shift))


def to_decimal(value: int) -> Decimal:
    """Return an int as a Decimal, by halves: the constructor takes quadratic time."""
    bits = value.bit_length()
    if bits <= _CHUNK_BITS:
        return Decimal(value)
    shift = _CHUNK_BITS
    while shift * 2 < bits:
        shift *= 2
    high = value >> shift
    low = value - (high << shift)
    return EXACT.fma(to_decimal(high), _power(shift), to_decimal(low))


def to_integer(value: Decimal) -> int:
    """Return a whole Decimal as an int, by halves: ``int`` takes quadratic time."""
    digits = value.adjusted() + 1
    if digits <= _CHUNK_DIGITS:
        return int(value)
    shift = digits // 2
    high = EXACT.scaleb(value, Decimal(-shift)).to_integral_value(ROUND_DOWN, EXACT)
    low = EXACT.fma(high.copy_negate(), EXACT.scaleb(Decimal(1), Decimal(shift)), value)
    whole: int = to_integer(high) * 10**shift + to_integer(low)
    return whole


def digits_of(value: Decimal) -> tuple[int, int]:
    """Return the number of digits of a finite Decimal, and its exponent.

    ``as_tuple`` makes an object for each digit, so it is used for short numbers only.
    """
    text = Decimal.__str__(value)
    if len(text) <= _CHUNK_DIGITS:
        _, digits, exponent = Decimal.as_tuple(value)
        assert isinstance(exponent, int)
        return len(digits), exponent
    number, _, _ = text.partition("E")
    count = len(number.replace(".", "").lstrip("-0"))
    return count, Decimal.adjusted(value) - count + 1


class _Exponents(dict[bytes, Decimal]):
    """A cache of exponents by the scale that a cell begins with; a column has few."""

    def __missing__(self, scale: bytes) -> Decimal:
        if len(self) >= _CACHED:
            self.clear()
        made = self[scale] = Decimal(-int.from_bytes(scale, signed=True))
        return made


EXPONENTS = _Exponents()
