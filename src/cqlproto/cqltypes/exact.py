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

__all__ = ["EXACT", "EXPONENTS", "SHORT", "to_decimal", "to_integer", "write_varint"]

# Every number is exact in this context: its precision holds any cell, and what would not be exact
# traps.
EXACT = Context(
    prec=MAX_PREC,
    Emax=MAX_EMAX,
    Emin=MIN_EMIN,
    clamp=0,
    traps=[Inexact, InvalidOperation, Overflow, Clamped],
)
_CHUNK_BITS = 1 << 13
_CHUNK_DIGITS = 2500

# Integers of fewer bytes are few digits to the constructor of Decimal.
SHORT = _CHUNK_BITS // 8

# How many exponents are kept.
_KEPT = 256


def write_varint(value: int) -> bytes:
    """Write two's complement in as few bytes as hold the sign."""
    bits = (value if value >= 0 else ~value).bit_length()
    return value.to_bytes(bits // 8 + 1, "big", signed=True)


def to_decimal(value: int) -> Decimal:
    """Return an int as a Decimal, by halves: the constructor's own way takes quadratic time."""
    bits = value.bit_length()
    if bits <= _CHUNK_BITS:
        return Decimal(value)
    shift = bits // 2
    high = value >> shift
    low = value - (high << shift)
    power = EXACT.power(Decimal(2), Decimal(shift))
    return EXACT.fma(to_decimal(high), power, to_decimal(low))


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


class _Exponents(dict[bytes, Decimal]):
    """Exponents by the scale that a cell begins with; a column has few."""

    def __missing__(self, scale: bytes) -> Decimal:
        if len(self) >= _KEPT:
            self.clear()
        made = self[scale] = Decimal(-int.from_bytes(scale, signed=True))
        return made


EXPONENTS = _Exponents()
