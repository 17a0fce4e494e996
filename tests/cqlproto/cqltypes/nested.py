"""Types with parts, hand-made cells, and values that raise when they are read."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    SetType,
    TupleType,
    UserType,
    encoder,
    parse_type,
)
from cqlproto.exceptions import ValueConversionError

INT, TEXT, DOUBLE = NATIVE_TYPES["int"], NATIVE_TYPES["text"], NATIVE_TYPES["double"]
ADDRESS = UserType("shop", "address", (("street", TEXT), ("zip", INT), ("tags", SetType(TEXT))))
PAIR = TupleType((INT, TEXT))


def cell(*parts: bytes | None) -> bytes:
    """Return parts as [bytes]."""
    lengths = [struct.pack(">i", -1 if part is None else len(part)) for part in parts]
    return b"".join(length + (part or b"") for length, part in zip(lengths, parts, strict=True))


def counted(*parts: bytes | None) -> bytes:
    return struct.pack(">i", len(parts)) + cell(*parts)


def ints(*values: int) -> list[bytes]:
    return [struct.pack(">i", value) for value in values]


def names(text: str) -> CQLType:
    return parse_type(text, "shop", {"address": ADDRESS})


class Broken(dict[str, int]):
    """Raises when it is read."""

    def items(self) -> Any:
        yield "street", 1
        raise ZeroDivisionError("broken")

    def __iter__(self) -> Any:
        raise ZeroDivisionError("broken")


class BrokenIterable:
    def __iter__(self) -> Any:
        raise ZeroDivisionError("broken")


def raising() -> Any:
    yield 1
    raise ZeroDivisionError("broken")


def check_located(cql_type: str, value: object, reason: str) -> None:
    """Check that binding the value raises an error with the place in the value."""
    parsed = names(cql_type)
    with pytest.raises(ValueConversionError) as caught:
        encoder(parsed)(value)
    assert caught.value.reason.startswith(reason)
    assert caught.value.cql_type == str(parsed)


def check_raised(text: str, value: object, where: str) -> None:
    """Check that the value's ZeroDivisionError is the cause of an error with the place."""
    with pytest.raises(ValueConversionError, match=f"{where}it cannot be read, .*broken") as info:
        encoder(names(text))(value)
    assert info.value.cql_type == text
    assert info.value.reason.startswith(where)
    cause: BaseException | None = info.value
    while isinstance(cause, ValueConversionError):
        cause = cause.__cause__
    assert isinstance(cause, ZeroDivisionError)
