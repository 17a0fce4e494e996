"""Rows of int columns, decoded for a row target: for the tests of row targets."""

from __future__ import annotations

from typing import Any

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import Row, decode_rows, decoder

__all__ = ["columns", "decoded", "one"]

_INT = NATIVE_TYPES["int"]


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column("k", "t", name, _INT) for name in names)


def decoded(target: Any, *names: str, first: int = 1) -> list[Any]:
    """Return two rows of these columns with the numbers from ``first`` on."""
    numbers = range(first, first + 2 * len(names))
    content = b"".join(b"\0\0\0\4" + number.to_bytes(4, "big") for number in numbers)
    rows = Rows.of(ResultMetadata(columns(*names), b"", True), 2, content)
    made = decoder(columns(*names), target)(rows)
    assert decode_rows(rows, target) == made
    return made


def one(*names: str) -> Any:
    """Return a Row with these columns."""
    return decoded(Row, *names)[0]
