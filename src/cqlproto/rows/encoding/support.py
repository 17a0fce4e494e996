"""Functions that compiled packers call, for cells and lengths that need more than an expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.conversion import failed
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.exceptions import LocalProtocolError, ValueConversionError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from cqlproto.messages.results import Column

__all__ = [
    "about_column",
    "by_position",
    "length_of_absent",
    "length_of_null",
    "missing_cell",
    "write_decimal",
]

_pack_scale = Struct(">i").pack
_encode_decimal = SCALARS["decimal"].encode

# Longer numbers, in characters, are left to the encoder, which avoids quadratic time.
_SHORT = 40


def by_position(values: Any) -> tuple[Any, ...]:
    """Return a sequence as a tuple.

    Raises:
        TypeError: the values are not a sequence, or are a str or bytes, which is surely a mistake.
    """
    if isinstance(values, Sequence) and not isinstance(
        values, str | bytes | bytearray | memoryview
    ):
        return tuple(values)
    hint = ": arrange its values by the bind markers" if isinstance(values, Mapping) else ""
    raise TypeError(f"values must be a sequence such as a tuple, got {type(values).__name__}{hint}")


def about_column(error: Exception, column: Column, value: object) -> ValueConversionError:
    """Return the exception of an encoder as a ValueConversionError with the column's name."""
    if isinstance(error, ValueConversionError):
        return error.of_column(column.name)
    made = failed(str(column.type), value, error).of_column(column.name)
    made.__cause__ = error
    return made


def missing_cell(names: Iterable[str], indexes: Iterable[int]) -> int | None:
    """Return the first index without a cell, or None.

    Arguments:
        names: the names of a packer's local variables; the cells are ``c0``, ``c1``, ...
        indexes: the indexes of the columns whose cells are made one after the other.
    """
    return next((index for index in indexes if f"c{index}" not in names), None)


def length_of_absent(value: object) -> int:
    """Return the length that is written for None or UNSET (v4 section 3, [value])."""
    return -1 if value is None else -2


def length_of_null(value: object) -> int:
    """Return the length that is written for None, in a version without UNSET.

    Raises:
        LocalProtocolError: the value is UNSET.
    """
    if value is None:
        return -1
    raise LocalProtocolError("UNSET needs v4")


def write_decimal(value: Decimal) -> bytes:
    """Return the cell of a decimal; faster than the encoder for one without an exponent.

    Raises:
        ValueConversionError: the decimal is not finite.
    """
    text = str(value)
    if len(text) <= _SHORT:
        whole, _, decimals = text.partition(".")
        try:
            unscaled = int(whole + decimals)
        except ValueError:  # it has an exponent, or is not finite
            return _encode_decimal(value)
        bits = (unscaled if unscaled >= 0 else ~unscaled).bit_length()
        cell = unscaled.to_bytes(bits // 8 + 1, "big", signed=True)
        return _pack_scale(len(decimals)) + cell
    return _encode_decimal(value)
