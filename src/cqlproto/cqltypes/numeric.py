"""Cells of numbers: integers, floating point, varint, decimal, and booleans (v5 section 5).

Nothing is rounded, except that a ``float`` takes the nearest 32-bit number to a Python float.
"""

from __future__ import annotations

import math
import numbers
import operator
from decimal import Decimal, DecimalException
from struct import Struct
from struct import error as struct_error
from typing import Any

from cqlproto.cqltypes.conversion import (
    Decoder,
    Scalar,
    failed,
    is_numpy_bool,
    malformed,
    refuse,
    to_int,
    wrong_size,
)
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
from cqlproto.cqltypes.values import EMPTY
from cqlproto.exceptions import ValueConversionError

__all__ = ["BOOLEAN", "DECIMAL", "VARINT", "fixed_integer", "floating"]


def _number_decoder(cql_type: str, struct: Struct) -> Decoder:
    unpack, size = struct.unpack, struct.size

    def decode(data: bytes) -> Any:
        try:
            (value,) = unpack(data)
        except struct_error:
            return wrong_size(cql_type, data, str(size))
        return value

    return decode


def fixed_integer(cql_type: str, code: str, width: int | None) -> Scalar:
    struct = Struct(f">{code}")
    pack = struct.pack
    limit = 1 << 8 * struct.size - 1

    def encode(value: Any) -> bytes:
        try:
            if value.__class__ is int:
                return pack(value)
            if value is EMPTY:
                return b""
            return pack(to_int(cql_type, value))
        except struct_error:
            reason = f"out of range: must be {-limit} to {limit - 1}"
            raise ValueConversionError(reason, cql_type=cql_type, value=value) from None

    return Scalar(encode, _number_decoder(cql_type, struct), width, code, int)


def floating(cql_type: str, code: str) -> Scalar:
    struct = Struct(f">{code}")
    pack = struct.pack
    unpack = struct.unpack

    def convert(value: Any) -> float:
        # numbers.Real includes NumPy's scalars, but neither its booleans nor Decimal.
        if isinstance(value, bool) or is_numpy_bool(value):
            refuse(cql_type, value, "a float or an int")
        exact: Any = None  # a number that is not a double
        try:
            if hasattr(type(value), "__index__"):
                exact = operator.index(value)
            elif isinstance(value, numbers.Rational):
                exact = value
            elif not isinstance(value, numbers.Real):
                refuse(cql_type, value, "a float or an int")
            number = float(value if exact is None else exact)
            if exact is None and number != value and not math.isnan(number):
                exact = value  # NumPy's longdouble has more bits
        except TypeError:
            refuse(cql_type, value, "a float or an int")
        if exact is not None and (number != exact or unpack(pack(number))[0] != number):
            reason = f"not exact as a {cql_type}: pass float(x) to round it"
            raise ValueConversionError(reason, cql_type=cql_type, value=value)
        return number

    def encode(value: Any) -> bytes:
        try:
            if value.__class__ is float:
                return pack(value)
            if value is EMPTY:
                return b""
            return pack(convert(value))
        except OverflowError:
            reason = f"too large for a {cql_type}"
            raise ValueConversionError(reason, cql_type=cql_type, value=value) from None
        except ValueConversionError:
            raise
        except Exception as exc:
            raise failed(cql_type, value, exc) from exc

    return Scalar(encode, _number_decoder(cql_type, struct), struct.size, code, float)


def _encode_varint(value: Any) -> bytes:
    return b"" if value is EMPTY else write_varint(to_int("varint", value))


def _decode_varint(data: bytes) -> Any:
    return int.from_bytes(data, signed=True) if data else EMPTY


def _encode_decimal(value: Any) -> bytes:
    if value is EMPTY:
        return b""
    if not isinstance(value, Decimal):
        hint = ", not a float (its digits are inexact: use Decimal(str(x)))"
        what = f"a Decimal or an int{hint if isinstance(value, float) else ''}"
        return _decimal_cell(0, to_int("decimal", value, what), value)
    try:
        if not value.is_finite():
            reason = "must be finite"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        digits, exponent = digits_of(value)
        if digits > MOST_DIGITS:
            reason = f"{digits:,} digits, at most {MOST_DIGITS:,} are sent"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        if not -(1 << 31) <= -exponent < 1 << 31:
            reason = "its scale is out of range: must fit 32 bits"
            raise ValueConversionError(reason, cql_type="decimal", value=value)
        unscaled = to_integer(EXACT.scaleb(value, Decimal(-exponent)))
    except ValueConversionError:
        raise
    except Exception as exc:
        raise failed("decimal", value, exc) from exc
    return _decimal_cell(-exponent, unscaled, value)


def _decimal_cell(scale: int, unscaled: int, value: Any) -> bytes:
    cell = write_varint(unscaled)
    if len(cell) > MOST_BYTES:
        reason = f"{len(cell):,} bytes, at most {MOST_BYTES:,} are sent"
        raise ValueConversionError(reason, cql_type="decimal", value=value)
    return scale.to_bytes(4, "big", signed=True) + cell


def _decode_decimal(data: bytes) -> Any:
    if len(data) < 5:
        return wrong_size("decimal", data, "at least 5")
    if len(data) > MOST_BYTES + 4:
        hint = "select it as a text (CAST) or as a blob"
        malformed("decimal", f"{len(data):,} bytes, at most {MOST_BYTES + 4:,} are read: {hint}")
    unscaled = int.from_bytes(data[4:], signed=True)
    exponent = EXPONENTS[data[:4]]
    try:
        number = Decimal(unscaled) if len(data) < SHORT else to_decimal(unscaled)
        return EXACT.scaleb(number, exponent)
    except (DecimalException, MemoryError) as exc:
        malformed("decimal", f"scale {-exponent} is out of range here: {exc!r}")


def _encode_boolean(value: Any) -> bytes:
    if value is True:
        return b"\x01"
    if value is False:
        return b"\x00"
    if value is EMPTY:
        return b""
    if is_numpy_bool(value):
        return b"\x01" if value else b"\x00"
    refuse("boolean", value, "a bool")


def _decode_boolean(data: bytes) -> Any:
    if data == b"\x01":
        return True
    if data == b"\x00":
        return False
    if len(data) == 1:
        return True  # any byte but 0 is true, as for the server
    return wrong_size("boolean", data, "1")


BOOLEAN = Scalar(_encode_boolean, _decode_boolean, 1)
DECIMAL = Scalar(_encode_decimal, _decode_decimal)
VARINT = Scalar(_encode_varint, _decode_varint)
