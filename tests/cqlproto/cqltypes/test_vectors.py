"""Vectors: accepted and refused values, and cells."""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    LosslessSet,
    SetType,
    VectorType,
    decoder,
    encoder,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.nested import (
    DOUBLE,
    INT,
    TEXT,
    BrokenIterable,
    check_located,
    check_raised,
    names,
    raising,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_vectors_of_fixed_width_have_no_lengths() -> None:
    floats = VectorType(NATIVE_TYPES["float"], 3)
    data = struct.pack(">3f", 1.0, -2.5, 3.0)
    assert encoder(floats)([1.0, -2.5, 3.0]) == encoder(floats)((1, -2.5, 3)) == data
    assert encoder(floats)(array("f", [1.0, -2.5, 3.0])) == data
    assert decoder(floats)(data) == [1.0, -2.5, 3.0]
    nested = VectorType(VectorType(INT, 2), 2)
    assert encoder(nested)([[1, 2], [3, 4]]) == struct.pack(">4i", 1, 2, 3, 4)
    assert decoder(nested)(struct.pack(">4i", 1, 2, 3, 4)) == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["smallint", "tinyint", "date", "time", "text", "varint", "inet"])
def test_vectors_of_other_types_have_lengths_as_vints(name: str) -> None:
    text = VectorType(TEXT, 2)
    data = b"\x01a" + b"\x80\xc8" + b"x" * 200
    assert encoder(text)(["a", "x" * 200]) == data
    assert decoder(text)(data) == ["a", "x" * 200]
    # The server knows no fixed width of these, though some have one.
    assert decoder(VectorType(NATIVE_TYPES[name], 1))(b"\x00") in ([EMPTY], [""])


@pytest.mark.parametrize(
    "value", [[1.0], [1.0, 2.0, 3.0], [], {1.0, 2.0}, LosslessSet([0.0, -0.0])]
)
def test_vectors_take_sequences_of_their_dimension(value: object) -> None:
    with pytest.raises(ValueConversionError, match="the type has 2|which has an order"):
        encoder(VectorType(DOUBLE, 2))(value)


@pytest.mark.parametrize(
    ("cql_type", "value", "reason"),
    [
        ("vector<int, 2>", [1, 1 << 31], "element 1: out of range"),
        ("vector<int, 2>", [1, EMPTY], "element 1: an empty value is not possible"),
        ("vector<int, 2>", [None, 1], "element 0: null is not possible"),
        ("vector<int, 2>", [1, True], "element 1: must be an integer, not a boolean"),
        ("vector<text, 2>", ["a", 1], "element 1: must be a str"),
    ],
)
def test_an_error_says_where(cql_type: str, value: object, reason: str) -> None:
    check_located(cql_type, value, reason)


@pytest.mark.parametrize(
    ("text", "make", "where"),
    [
        ("vector<int, 2>", raising, ""),
        ("vector<int, 2>", BrokenIterable, ""),
    ],
)
def test_what_a_value_raises_as_it_is_read_is_located(
    text: str, make: Callable[[], Any], where: str
) -> None:
    check_raised(text, make(), where)


HUGE = b"\x7f\xff\xff\xff"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("vector<int, 2>", bytes(7)),
        ("vector<int, 2>", bytes(9)),
        ("vector<text, 2>", b"\x01a"),
        ("vector<text, 2>", b"\x01a\x02b"),
        ("vector<text, 2>", b"\x01a\x01bc"),
        ("vector<text, 2>", b"\x00\xff" + b"\xff" * 8),
        ("vector<text, 2>", b"\x00\xc0"),
        ("vector<text, 2147483647>", bytes(9)),
    ],
)
def test_malformed_cells_are_errors(name: str, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed cell of type "):
        decoder(names(name))(data)


@pytest.mark.parametrize("dimension", [0, -1, 1 << 31])
def test_the_dimension_of_a_vector_is_bounded(dimension: int) -> None:
    told = f"the dimension of a vector must be 1 to 2147483647, got {dimension}"
    for make in (encoder, decoder):
        with pytest.raises(LocalProtocolError, match=told):
            make(VectorType(INT, dimension))


def test_no_bytes_are_an_empty_vector() -> None:
    for text in ("vector<int, 2>", "vector<text, 2>", "vector<float, 2>"):
        assert encoder(names(text))(EMPTY) == b""
        assert decoder(names(text))(b"") is EMPTY


def test_vectors_within_a_set_are_tuples() -> None:
    for element, value in ((INT, (1, 2)), (TEXT, ("a", "b"))):
        cql_type = SetType(VectorType(element, 2))
        assert decoder(cql_type)(encoder(cql_type)({value})) == {value}
