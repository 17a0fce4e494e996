"""Exact decimals of any size: from and to whole numbers, and the exponents of their scales."""

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

# Every number is exact in this context: its precision holds any cell, and what would not be exact
# traps.
EXACT = Context(
    prec=MAX_PREC,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    clamp=0,
    traps=[Inexact, InvalidOperation, Overflow, Clamped],
)
_CHUNK_BITS = 1 << 11
_CHUNK_DIGITS = 600

# Integers of fewer bytes are few digits to the constructor of Decimal.
SHORT = _CHUNK_BITS // 8

# The longest unscaled value of a decimal that is read or written, in bytes and as digits. From base
# 2 to base 10 there is no way in linear time: this one takes some 30 ms, one of 16 MB takes 10 s.
MOST_BYTES = 1 << 16
MOST_DIGITS = 157_827

# How many exponents are kept.
_KEPT = 256


def write_varint(value: int) -> bytes:
    """Write two's complement in as few bytes as hold the sign."""
    bits = (value if value >= 0 else ~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


@lru_cache(maxsize=32)
def _power(shift: int) -> Decimal:
    """Return a power of two; those that halves are made with are few."""
    return EXACT.power(Decimal(2), Decimal(shift))


def to_decimal(value: int) -> Decimal:
    """Return an int as a Decimal, by halves: the constructor's own way takes quadratic time."""
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
    """Return how many digits a finite Decimal has, and its exponent.

    ``as_tuple`` makes an object of each digit, which is left to numbers of few.
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
    """Exponents by the scale that a cell begins with; a column has few."""

    def __missing__(self, scale: bytes) -> Decimal:
        if len(self) >= _KEPT:
            self.clear()
        made = self[scale] = Decimal(-int.from_bytes(scale, signed=True))
        return made


EXPONENTS = _Exponents()
