"""The errors that encoders and decoders of all types raise."""

from __future__ import annotations

import pytest

from cqlproto.cqltypes import EMPTY, NATIVE_TYPES, UNSET, ListType
from cqlproto.cqltypes.conversion import (
    failed,
    is_numpy_bool,
    located,
    malformed,
    refuse,
    refuse_null,
    to_int,
    wrong_size,
)
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.cells import Index, Odd, encode, numpy_bool


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("x", "must be an integer"),
        (None, "null is not possible here"),
        (UNSET, "UNSET stands for a whole bound value only"),
    ],
)
def test_a_value_of_a_wrong_class(value: object, reason: str) -> None:
    with pytest.raises(ValueConversionError) as caught:
        refuse("int", value, "an integer")
    assert caught.value.reason.startswith(reason)
    assert (caught.value.cql_type, caught.value.value) == ("int", value)


def test_what_has_an_index_is_an_integer_but_for_booleans() -> None:
    assert to_int("int", 7) == to_int("int", Index(7)) == 7
    for value in (True, numpy_bool(True)):
        with pytest.raises(ValueConversionError, match="must be an integer, not a boolean"):
            to_int("int", value)
    with pytest.raises(ValueConversionError, match="must be nanoseconds, got float 1.5"):
        to_int("time", 1.5, "nanoseconds")
    with pytest.raises(ValueConversionError, match="its own methods raise .*odd") as info:
        to_int("int", Odd())
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert is_numpy_bool(numpy_bool(False))
    assert not is_numpy_bool(False)


def test_a_part_of_a_value_is_located_in_the_whole() -> None:
    whole = ListType(NATIVE_TYPES["int"])
    with pytest.raises(ValueConversionError) as null:
        refuse_null()
    error = located(whole, "element 1", null.value, [1, None])
    assert error.reason == "element 1: null is not possible in a collection"
    assert (error.cql_type, error.value) == ("list<int>", None)
    error = located(whole, "element 2", ZeroDivisionError("odd"), [1])
    assert error.reason.startswith("element 2: it cannot be read, its own methods raise")
    assert error.value == [1]
    assert failed("int", 1, ZeroDivisionError()).cql_type == "int"


def test_malformed_cells() -> None:
    assert wrong_size("int", b"", "4") is EMPTY
    with pytest.raises(
        RemoteProtocolError, match="malformed cell of type int: 3 bytes, 4 expected"
    ):
        wrong_size("int", bytes(3), "4")
    with pytest.raises(RemoteProtocolError, match="malformed cell of type int: odd"):
        malformed("int", "odd")


@pytest.mark.parametrize("name", ["int", "double", "time", "timestamp", "text"])
def test_a_value_that_cannot_be_shown_is_refused_all_the_same(name: str) -> None:
    with pytest.raises(ValueConversionError) as caught:
        encode(name, 10**5000)
    assert str(caught.value).startswith(f"{name}: {caught.value.reason}, got int of 16,610 bits")
