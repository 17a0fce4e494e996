"""Numbers and booleans: accepted and refused values, and cells."""

from __future__ import annotations

import enum
import struct
import time as clock
from decimal import Context, Decimal, InvalidOperation, Overflow
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    UNSET,
    encoder,
    numeric,
)
from cqlproto.cqltypes.exact import MOST_BYTES, MOST_DIGITS
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.cells import (
    Index,
    Odd,
    cases,
    check_cause_is_kept,
    check_malformed,
    check_read_as_written,
    check_refused,
    check_taken_as,
    decode,
    encode,
    numpy_bool,
)

INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64, "counter": 64}


class OddDecimal(Decimal):
    def is_finite(self) -> bool:
        raise ZeroDivisionError("odd")


class OddFloat(float):
    def __float__(self) -> float:
        raise ZeroDivisionError("odd")


# The least and the greatest of each, and what is odd about it.
CELLS: dict[str, list[Any]] = {
    "bigint": [0, -1, 1],
    "boolean": [True, False],
    "counter": [0, -1, 1],
    "decimal": [Decimal("-1.50"), Decimal("1E+9"), Decimal(1 << 9000)],
    "double": [1.5, float("inf")],
    "float": [1.5, float("-inf")],
    "int": [0, -1, 1],
    "smallint": [0, -1, 1],
    "tinyint": [0, -1, 1],
    "varint": [0, -129, 1 << 9000],
}
WRONG: dict[str, list[Any]] = {
    "bigint": [1.0, "1", Decimal(1), None, True, numpy_bool(True)],
    "boolean": [0, 1, "true", b"\x01", None],
    "counter": [1.5, False],
    "decimal": [1.5, "1.5", True, Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"), None]
    + [Decimal("1E-2147483648"), Decimal("1E+2147483649")],
    "double": ["1.5", Decimal("1.5"), True, 1j, None, 1 << 1024, numpy_bool(True)],
    "float": ["1.5", Decimal("1.5"), False, 1e39, -1e39, 1 << 1024, 1 << 200, None],
    "int": [1.0, "1", Decimal(1), b"\0\0\0\1", None, UNSET, True],
    "smallint": [1.0, True],
    "tinyint": [1.0, True],
    "varint": [1.0, "1", True, None],
}
ODD: dict[str, list[Any]] = {
    "bigint": [Odd()],
    "decimal": [OddDecimal(1), Odd()],
    "double": [OddFloat(1), Odd()],
    "float": [OddFloat(1)],
    "int": [Odd()],
    "varint": [Odd()],
}
BROKEN: dict[str, list[bytes]] = {
    "bigint": [bytes(7), bytes(9)],
    "boolean": [bytes(2)],
    "counter": [bytes(4)],
    "decimal": [bytes(1), bytes(4)],
    "double": [bytes(4), bytes(9)],
    "float": [bytes(8), bytes(3)],
    "int": [bytes(3), bytes(5)],
    "smallint": [bytes(1), bytes(3)],
    "tinyint": [bytes(2)],
}


def test_every_type_was_tried() -> None:
    assert CELLS.keys() == WRONG.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_read_as_it_was_written(name: str) -> None:
    check_read_as_written(name, CELLS[name])


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_what_a_type_does_not_take(name: str, value: object) -> None:
    check_refused(name, value)


@pytest.mark.parametrize(("name", "cell"), cases(BROKEN))
def test_a_malformed_cell_names_its_type(name: str, cell: bytes) -> None:
    check_malformed(name, cell)


@pytest.mark.parametrize("name", ODD)
def test_what_the_methods_of_a_value_raise_is_the_cause(name: str) -> None:
    check_cause_is_kept(name, ODD[name])


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("boolean", numpy_bool(True), True),
        ("boolean", numpy_bool(False), False),
        ("decimal", 7, Decimal(7)),
        ("decimal", Index(-7), Decimal(-7)),
        ("double", 3, 3.0),
        ("double", Index(3), 3.0),
        ("double", Fraction(1, 4), 0.25),
        ("float", 0.1, struct.unpack(">f", struct.pack(">f", 0.1))[0]),
        ("float", 3, 3.0),
    ],
)
def test_what_a_type_takes_besides(name: str, value: object, same: object) -> None:
    check_taken_as(name, value, same)


class Number(enum.IntEnum):
    FIVE = 5


@pytest.mark.parametrize("name", [*INTEGERS, "varint"])
@pytest.mark.parametrize("value", [5, Index(5), Number.FIVE])
def test_integers_take_whatever_is_one(name: str, value: object) -> None:
    assert int.from_bytes(encode(name, value), "big") == 5


@pytest.mark.parametrize(("name", "bits"), INTEGERS.items())
def test_integers_have_a_range(name: str, bits: int) -> None:
    limit = 1 << bits - 1
    for value in (-limit, limit - 1):
        assert decode(name, encode(name, value)) == value
        assert encode(name, Index(value)) == encode(name, value)
    for value in (-limit - 1, limit, 1 << 99):
        with pytest.raises(
            ValueConversionError, match=f"out of range: must be {-limit} to {limit - 1}"
        ):
            encode(name, value)


def test_a_scale_beyond_what_decimals_have_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine of 32 bits, where exponents are smaller than scales."""
    narrow = Context(Emax=425_000_000, Emin=-425_000_000, traps=[Overflow, InvalidOperation])
    monkeypatch.setattr(numeric, "EXACT", narrow)
    assert decode("decimal", b"\0\0\0\1\x05") == Decimal("0.5")
    with pytest.raises(RemoteProtocolError, match="scale -2147483648 is out of range here"):
        decode("decimal", b"\x80\0\0\0\x05")


@given(st.integers())
def test_a_varint_takes_as_few_bytes_as_hold_its_sign(value: int) -> None:
    cell = encode("varint", value)
    assert int.from_bytes(cell, "big", signed=True) == value
    if len(cell) == 1:
        assert -128 <= value <= 127
    else:
        with pytest.raises(OverflowError):
            value.to_bytes(len(cell) - 1, "big", signed=True)
    assert decode("varint", cell) == value
    assert decode("varint", (b"\xff" if value < 0 else b"\x00") + cell) == value


@pytest.mark.parametrize(("name", "code"), [("float", "f"), ("double", "d")])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.0])
def test_special_numbers_keep_their_bits(name: str, code: str, value: float) -> None:
    cell = struct.pack(f">{code}", value)
    assert encode(name, value) == cell
    assert encode(name, decode(name, cell)) == cell


@given(st.integers(-(1 << 40), 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_decimal_is_exact_for_any_scale(unscaled: int, scale: int) -> None:
    cell = scale.to_bytes(4, "big", signed=True) + encode("varint", unscaled)
    value = decode("decimal", cell)
    sign, digits, exponent = value.as_tuple()
    assert (exponent, int("".join(map(str, digits)))) == (-scale, abs(unscaled))
    assert sign == (unscaled < 0)
    assert encode("decimal", value) == cell


def test_a_large_number_is_exact_and_does_not_take_quadratic_time() -> None:
    started = clock.process_time()
    cell = b"\x00\x00\x00\x05" + b"\x7f" * MOST_BYTES
    value = decode("decimal", cell)
    # The constructor of Decimal takes some seconds for this one.
    assert clock.process_time() - started < 1
    unscaled = int.from_bytes(cell[4:], "big")
    assert value.as_tuple().exponent == -5
    assert int(str(value)[-10:].replace(".", "")) == unscaled % 10**9
    started = clock.process_time()
    assert encode("decimal", value) == cell
    negative = value.copy_negate()
    assert decode("decimal", encode("decimal", negative)) == negative
    # So does int() for each of these.
    assert clock.process_time() - started < 2


def test_longer_decimals_are_refused_at_once() -> None:
    """When reading and writing; a varint of any length is fast."""
    started = clock.process_time()
    with pytest.raises(RemoteProtocolError, match="decimal: 16,000,004 bytes, at most 65,540 are"):
        decode("decimal", bytes(4) + b"\x7f" * 16_000_000)
    for value, told in (
        (Decimal("1" * 10_000_000), "10,000,000 digits, at most 157,827 are sent"),
        (Decimal("1" * 10_000_000 + ".5"), "10,000,001 digits"),
        (1 << 100_000_000, "12,500,001 bytes, at most 65,536 are sent"),
    ):
        with pytest.raises(ValueConversionError, match=told) as info:
            encode("decimal", value)
        assert len(str(info.value)) < 250
        assert encode("varint", 1 << 100_000_000)[0] == 1
    assert decode("varint", b"\x7f" * 1_000_000).bit_length() == 7_999_999
    assert clock.process_time() - started < 5
    longest = Decimal("9" * (MOST_DIGITS - 1))
    assert decode("decimal", encode("decimal", longest)) == longest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("double", (1 << 53) + 1),
        ("double", -(1 << 60) - 1),
        ("double", Fraction(1, 3)),
        ("float", (1 << 24) + 1),
        ("float", 123_456_789),
        ("float", Fraction(1, 10)),
    ],
)
def test_whole_numbers_and_fractions_are_floats_only_if_exact(name: str, value: Any) -> None:
    with pytest.raises(ValueConversionError, match=rf"not exact as a {name}: pass float\(x\)"):
        encode(name, value)
    assert encode(name, float(value))
    for exact in (1 << 24, -(1 << 100), Fraction(-3, 4)):
        assert decode(name, encode(name, exact)) == exact


@given(st.integers(1_000, 12_000), st.integers(-(1 << 31), (1 << 31) - 1), st.booleans())
def test_a_long_decimal_comes_back(zeros: int, scale: int, negative: bool) -> None:
    number = 10**zeros + 7
    unscaled = encode("varint", -number if negative else number)
    cell = scale.to_bytes(4, "big", signed=True) + unscaled
    assert encode("decimal", decode("decimal", cell)) == cell


@pytest.mark.parametrize("cell", [b"\x02", b"\xff", b"\x80"])
def test_any_byte_but_zero_is_true(cell: bytes) -> None:
    assert decode("boolean", cell) is True


class NoNumber:
    """Like numpy.timedelta64: __index__ raises TypeError."""

    def __index__(self) -> int:
        raise TypeError("a span of time is no number")


@pytest.mark.parametrize("name", ["double", "float", "int", "decimal", "varint", "timestamp"])
def test_what_refuses_to_be_a_number(name: str) -> None:
    with pytest.raises(ValueConversionError, match="must be .*, got NoNumber"):
        encode(name, NoNumber())


class Longer(float):
    """A number that is not exact as a double."""

    def __float__(self) -> float:
        return float.__add__(self, 0.5)


@pytest.mark.parametrize("name", ["double", "float"])
def test_real_numbers_are_not_rounded(name: str) -> None:
    with pytest.raises(ValueConversionError, match=f"not exact as a {name}"):
        encoder(NATIVE_TYPES[name])(Longer(1.5))
    assert encoder(NATIVE_TYPES[name])(Longer("nan")) == encoder(NATIVE_TYPES[name])(float("nan"))


class Level(enum.IntEnum):
    LOW = 7


def test_a_subclass_of_int_is_its_number() -> None:
    assert encode("int", Level.LOW) == encode("int", 7)
    assert encode("double", Level.LOW) == encode("double", 7.0)


def test_only_varints_have_no_malformed_cells() -> None:
    assert CELLS.keys() - BROKEN.keys() == {"varint"}


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("decimal", 0.1, r"use Decimal\(str\(x\)\)"),
        ("int", UNSET, "a whole bound value"),
        ("int", True, "not a boolean"),
    ],
)
def test_a_common_mistake_gets_a_hint(name: str, value: object, hint: str) -> None:
    with pytest.raises(ValueConversionError, match=hint):
        encode(name, value)
