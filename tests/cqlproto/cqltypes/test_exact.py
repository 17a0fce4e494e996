"""Decimals of any size, exactly."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import exact
from cqlproto.cqltypes.exact import (
    EXACT,
    EXPONENTS,
    MOST_BYTES,
    MOST_DIGITS,
    SHORT,
    digits_of,
    to_decimal,
    to_integer,
    write_varint,
)

if TYPE_CHECKING:
    import pytest

sizes = st.integers(0, 40_000) | st.sampled_from([8 * SHORT - 1, 8 * SHORT, 8 * SHORT + 1])


@given(sizes, st.integers(-(1 << 70), 1 << 70))
def test_integers_go_there_and_back(bits: int, number: int) -> None:
    value = (number << bits) + number
    made = to_decimal(value)
    assert made.as_tuple().exponent == 0
    assert to_integer(made) == value
    if bits < 10_000:
        assert made == Decimal(value)


@given(st.integers(0, 2000), st.integers(-3000, 100), st.booleans())
def test_digits_and_exponent(size: int, exponent: int, negative: bool) -> None:
    value = Decimal((negative, (3,) * size + (0, 7), exponent))
    assert digits_of(value) == (len(value.as_tuple().digits), exponent)
    for zero in (Decimal(0), Decimal("0E-5000"), Decimal("-0.000")):
        assert digits_of(zero) == (1, zero.as_tuple().exponent)


def test_the_most_digits_are_those_of_the_most_bytes() -> None:
    assert 10 ** (MOST_DIGITS - 1) < 1 << 8 * MOST_BYTES - 1 <= 10**MOST_DIGITS


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_the_exponent_is_the_scale_turned_round(scale: int) -> None:
    cell = scale.to_bytes(4, "big", signed=True)
    assert EXPONENTS[cell] == -scale
    assert EXACT.scaleb(Decimal(5), EXPONENTS[cell]).as_tuple() == (0, (5,), -scale)


def test_exponents_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_CACHED", 8)
    EXPONENTS.clear()
    for scale in range(100):
        assert EXPONENTS[scale.to_bytes(4, "big")] == -scale
        assert len(EXPONENTS) <= 8


@given(st.integers())
def test_as_few_bytes_as_hold_the_sign(value: int) -> None:
    cell = write_varint(value)
    assert int.from_bytes(cell, "big", signed=True) == value
    assert len(cell) == 1 or cell[:1] + bytes((cell[1] & 0x80,)) not in (b"\0\0", b"\xff\x80")
