"""Checks of scalar types, for the values and cells in each family's test module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cqlproto.cqltypes import EMPTY, NATIVE_TYPES, decoder, encoder
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def encode(name: str, value: object) -> bytes:
    return encoder(NATIVE_TYPES[name])(value)


def decode(name: str, cell: bytes) -> Any:
    return decoder(NATIVE_TYPES[name])(cell)


def cases(table: Mapping[str, Iterable[object]]) -> list[Any]:
    """Return the parameters ``name`` and ``value`` for each value of a table by type."""
    return [
        pytest.param(name, value, id=f"{name}-{repr(value).partition(' at 0x')[0]:.30}")
        for name, values in table.items()
        for value in values
    ]


def check_read_as_written(name: str, values: Iterable[object]) -> None:
    for value in values:
        again = decode(name, encode(name, value))
        assert again == value
        assert type(again) is type(value)
    assert encode(name, EMPTY) == b""
    if name not in ("ascii", "blob", "text"):
        assert decode(name, b"") is EMPTY


def check_refused(name: str, value: object) -> None:
    with pytest.raises(ValueConversionError) as caught:
        encode(name, value)
    assert caught.value.cql_type == name
    assert caught.value.value is value
    assert caught.value.reason
    assert isinstance(caught.value, ValueError)


def check_malformed(name: str, cell: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=f"malformed cell of type {name}: "):
        decode(name, cell)


def check_cause_is_kept(name: str, values: Iterable[object]) -> None:
    """Check that the ZeroDivisionError of a value's methods is the cause of the error."""
    for value in values:
        with pytest.raises(ValueConversionError, match=f"{name}: .*methods raise .*odd") as info:
            encode(name, value)
        assert info.value.value is value
        assert info.value.cql_type == name
        assert isinstance(info.value.__cause__, ZeroDivisionError)


def check_taken_as(name: str, value: object, same: object) -> None:
    again = decode(name, encode(name, value))
    assert again == same
    assert type(again) is type(same)


class Index:
    """An integer that is not an int, like the integers of NumPy."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def numpy_bool(value: bool) -> object:
    """Return an object that looks like a boolean of NumPy."""
    cls = type("bool_", (), {"__module__": "numpy", "__bool__": lambda _: value, "__index__": int})
    return cls()


class Odd:
    """An object whose methods raise."""

    def __index__(self) -> int:
        raise ZeroDivisionError("odd")
