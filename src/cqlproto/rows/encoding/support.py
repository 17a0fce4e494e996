"""What compiled packers call for: the cells and lengths that take more than an expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.scalars import SCALARS, failed
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

# Numbers of more characters are left to the encoder, which takes no quadratic time.
_SHORT = 40


def by_position(values: Any) -> tuple[Any, ...]:
    """Return a sequence other than a list as a tuple.

    Raises:
        TypeError: it is none, or a text or bytes, whose elements nobody means to bind one by one.
    """
    if isinstance(values, Sequence) and not isinstance(
        values, str | bytes | bytearray | memoryview
    ):
        return tuple(values)
    hint = ": arrange its values by the bind markers" if isinstance(values, Mapping) else ""
    raise TypeError(
        f"the values must be a sequence such as a tuple, got {type(values).__name__}{hint}"
    )


def about_column(error: Exception, column: Column, value: object) -> ValueConversionError:
    """Return what an encoder raised as an error about the value of a column."""
    if isinstance(error, ValueConversionError):
        return error.of_column(column.name)
    made = failed(str(column.type), value, error).of_column(column.name)
    made.__cause__ = error
    return made


def missing_cell(names: Iterable[str], indexes: Iterable[int]) -> int | None:
    """Return the first index for which there is no cell yet, or None.

    Arguments:
        names: the local variables of a packer; the cells are ``c0``, ``c1``, ..
        indexes: of the columns whose cells are made one after the other.
    """
    return next((index for index in indexes if f"c{index}" not in names), None)


def length_of_absent(value: object) -> int:
    """Return the length that stands for None or UNSET (v4 section 3, [value])."""
    return -1 if value is None else -2


def length_of_null(value: object) -> int:
    """As :func:`length_of_absent`, where the version has no UNSET.

    Raises:
        LocalProtocolError: the value isn't None.
    """
    if value is None:
        return -1
    raise LocalProtocolError("a bound value cannot be unset before v4")


def write_decimal(value: Decimal) -> bytes:
    """Return the cell of a decimal; one that is written without an exponent in a short way.

    Raises:
        ValueConversionError: it is no finite number.
    """
    text = str(value)
    if len(text) <= _SHORT:
        whole, _, decimals = text.partition(".")
        try:
            unscaled = int(whole + decimals)
        except ValueError:  # it has an exponent, or is no number
            return _encode_decimal(value)
        bits = (unscaled if unscaled >= 0 else ~unscaled).bit_length()
        cell = unscaled.to_bytes(bits // 8 + 1, "big", signed=True)
        return _pack_scale(len(decimals)) + cell
    return _encode_decimal(value)
