"""[option]: types on the wire."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    MAX_DEPTH,
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    class_name,
    read_option,
    write_option,
)
from cqlproto.enums import ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.testing import cql_types
from cqlproto.wire import Reader

V3, V4, V5 = ProtocolVersion.V3, ProtocolVersion.V4, ProtocolVersion.V5
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]

NUMBERS = {
    "ascii": 0x01,
    "bigint": 0x02,
    "blob": 0x03,
    "boolean": 0x04,
    "counter": 0x05,
    "decimal": 0x06,
    "double": 0x07,
    "float": 0x08,
    "int": 0x09,
    "timestamp": 0x0B,
    "uuid": 0x0C,
    "text": 0x0D,
    "varint": 0x0E,
    "timeuuid": 0x0F,
    "inet": 0x10,
    "date": 0x11,
    "time": 0x12,
    "smallint": 0x13,
    "tinyint": 0x14,
    "duration": 0x15,
}


def write(cql_type: CQLType, version: ProtocolVersion) -> bytes:
    out = bytearray()
    write_option(out, cql_type, version)
    return bytes(out)


def read(data: bytes) -> CQLType:
    reader = Reader(data)
    cql_type = read_option(reader)
    reader.expect_end("the option")
    return cql_type


def string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(("name", "number"), NUMBERS.items())
def test_scalars_have_numbers(name: str, number: int) -> None:
    data = number.to_bytes(2, "big")
    assert write(NATIVE_TYPES[name], V5) == data
    assert read(data) == NATIVE_TYPES[name]


@pytest.mark.parametrize(
    ("name", "version"),
    [(name, V3) for name in ("date", "time", "smallint", "tinyint", "duration")]
    + [("duration", V4)],
)
def test_what_has_no_number_yet_goes_by_its_class(name: str, version: ProtocolVersion) -> None:
    cql_type = NATIVE_TYPES[name]
    data = b"\x00\x00" + string(class_name(cql_type))
    assert write(cql_type, version) == data
    assert read(data) == cql_type
    assert write(ListType(cql_type), version) == b"\x00\x20" + data


@pytest.mark.parametrize("version", ProtocolVersion)
def test_collections_and_classes(version: ProtocolVersion) -> None:
    vector = VectorType(NATIVE_TYPES["float"], 2)
    user = UserType("shop", "Größe", (("a b", INT), ("", vector)))
    cases: list[tuple[CQLType, bytes]] = [
        (ListType(INT), b"\x00\x20\x00\x09"),
        (MapType(INT, TEXT), b"\x00\x21\x00\x09\x00\x0d"),
        (SetType(INT), b"\x00\x22\x00\x09"),
        (TupleType((INT, TEXT)), b"\x00\x31\x00\x02\x00\x09\x00\x0d"),
        (CustomType("com.example.Odd"), b"\x00\x00" + string("com.example.Odd")),
        (vector, b"\x00\x00" + string(class_name(vector))),
        (
            user,
            b"\x00\x30"
            + string("shop")
            + string("Größe")
            + b"\x00\x02"
            + string("a b")
            + b"\x00\x09"
            + string("")
            + b"\x00\x00"
            + string(class_name(vector)),
        ),
    ]
    for cql_type, data in cases:
        assert write(cql_type, version) == data
        assert read(data) == cql_type


@given(cql_types(), st.sampled_from(ProtocolVersion))
def test_an_option_is_read_as_it_was_written(cql_type: CQLType, version: ProtocolVersion) -> None:
    data = write(cql_type, version)
    assert read(data) == cql_type
    for end in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            read_option(Reader(data[:end]))


PIECES = [*(bytes((0, number)) for number in range(0x32)), b"\x00\x01a"]


@given(st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_any_bytes_are_a_type_or_an_error(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert isinstance(read_option(Reader(data)), CQLType)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x0a",
        b"\x00\x16",
        b"\x00\x32",
        b"\xff\xff",
        b"\x00\x31\xff\xff\x00\x09",
        b"\x00\x30\x00\x00\x00\x00\xff\xff\x00\x00\x00\x09",
        b"\x00\x30\x00\x01\xff\x00\x00\x00\x00",
    ],
)
def test_malformed_options(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_option(Reader(data))


@pytest.mark.parametrize("number", [b"\x00\x20", b"\x00\x21", b"\x00\x22", b"\x00\x31\x00\x01"])
def test_nesting_is_bounded(number: bytes) -> None:
    end = b"\x00\x09"
    if number == b"\x00\x21":
        end += end * MAX_DEPTH
    assert read(number * MAX_DEPTH + end)
    with pytest.raises(RemoteProtocolError, match="nested at most 64 deep"):
        read(number * 20_000 + end)


def test_a_class_counts_from_where_it_is_nested() -> None:
    vector = string("VectorType(VectorType(Int32Type , 1) , 1)")
    inner: CQLType = read(b"\x00\x20" * (MAX_DEPTH - 1) + b"\x00\x00" + vector)
    for _ in range(MAX_DEPTH - 1):
        assert isinstance(inner, ListType)
        inner = inner.element
    assert isinstance(inner, CustomType)


def nested(depth: int) -> CQLType:
    cql_type: CQLType = INT
    for _ in range(depth):
        cql_type = SetType(cql_type)
    return cql_type


@pytest.mark.parametrize(
    "cql_type",
    [nested(MAX_DEPTH + 1), CQLType(), NativeType("no"), TupleType((INT,) * 0x10000)]
    + [CustomType("x" * 0x10000)],
    ids=["deep", "base", "unknown", "wide", "long"],
)
def test_types_that_cannot_be_written(cql_type: CQLType) -> None:
    with pytest.raises(LocalProtocolError):
        write(cql_type, V4)
