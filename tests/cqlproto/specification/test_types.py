"""Cells of every type, byte by byte (section 6 of v3 and v4, 5 of v5), and of user-defined types.

A cell is the same in every version. The versions have numbers for different types, so each type is
written and read as a column's type in that version before it encodes a cell.
"""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

import pytest

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    CQLType,
    Date,
    Duration,
    ListType,
    MapType,
    SetType,
    Time,
    TupleType,
    UserType,
    decoder,
    encoder,
    parse_type,
    read_option,
    user_value_class,
    write_option,
)
from cqlproto.enums import ProtocolVersion
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from cqlproto.wire import Reader, read_bytes, write_bytes
from tests.cqlproto.specification.notation import bytes_, int_, long

versions = pytest.mark.parametrize("version", ProtocolVersion)
TIMEUUID = UUID("d2177dd0-eaa2-11de-a572-001b779c76e3")
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]


def through(cql_type: CQLType, version: ProtocolVersion) -> CQLType:
    """Return the type as it is read from the metadata of a column."""
    out = bytearray()
    write_option(out, cql_type, version)
    return read_option(Reader(bytes(out)))


Cells = list[tuple[Any, bytes]]
CASES: list[tuple[str, Cells, pytest.MarkDecorator]] = [
    ("ascii", [("az", b"az"), ("\x7f", b"\x7f")], pytest.mark.spec("v3 v4 6.1", "v5 5.1")),
    (
        "bigint",
        [(1, long(1)), (-(1 << 63), long(-(1 << 63)))],
        pytest.mark.spec("v3 v4 6.2", "v5 5.2"),
    ),
    ("blob", [(b"", b""), (b"\xff\0", b"\xff\0")], pytest.mark.spec("v3 v4 6.3", "v5 5.3")),
    ("boolean", [(True, b"\1"), (False, b"\0")], pytest.mark.spec("v3 v4 6.4", "v5 5.4")),
    (
        "date",
        [
            (date(1970, 1, 1), b"\x80\0\0\0"),
            (date(1970, 1, 2), b"\x80\0\0\1"),
            (Date(-(1 << 31)), bytes(4)),
            (Date((1 << 31) - 1), b"\xff" * 4),
        ],
        pytest.mark.spec("v4 6.5", "v5 5.5"),
    ),
    (
        "decimal",
        [(Decimal("1.28"), int_(2) + b"\0\x80"), (Decimal("-1E+3"), int_(-3) + b"\xff")],
        pytest.mark.spec("v3 6.5", "v4 6.6", "v5 5.6"),
    ),
    (
        "double",
        [(1.5, struct.pack(">d", 1.5)), (float("-inf"), b"\xff\xf0" + bytes(6))],
        pytest.mark.spec("v3 6.6", "v4 6.7", "v5 5.7"),
    ),
    (
        "duration",
        [
            (Duration(1, 2, 3), bytes((2, 4, 6))),
            (Duration(-1, 0, -256_000), bytes((1, 0, 0b11000111, 0xCF, 0xFF))),
        ],
        pytest.mark.spec("v5 5.8"),
    ),
    (
        "float",
        [(1.5, struct.pack(">f", 1.5)), (-0.0, b"\x80\0\0\0")],
        pytest.mark.spec("v3 6.7", "v4 6.8", "v5 5.9"),
    ),
    (
        "inet",
        [(IPv4Address("10.1.2.3"), bytes((10, 1, 2, 3))), (IPv6Address("::1"), bytes(15) + b"\1")],
        pytest.mark.spec("v3 6.8", "v4 6.9", "v5 5.10"),
    ),
    ("int", [(1, int_(1)), (-2, int_(-2))], pytest.mark.spec("v3 6.9", "v4 6.10", "v5 5.11")),
    ("smallint", [(-2, b"\xff\xfe")], pytest.mark.spec("v4 6.14", "v5 5.15")),
    (
        "text",
        [("Größe", "Größe".encode()), ("", b"")],
        pytest.mark.spec("v3 6.13", "v4 6.15", "v5 5.16"),
    ),
    (
        "time",
        [(time(0), long(0)), (time(23, 59, 59, 999_999), long(86_399_999_999_000))],
        pytest.mark.spec("v4 6.16", "v5 5.17"),
    ),
    (
        "timestamp",
        [
            (datetime(1970, 1, 1, tzinfo=UTC), long(0)),
            (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), long(-1000)),
        ],
        pytest.mark.spec("v3 6.14", "v4 6.17", "v5 5.18"),
    ),
    (
        "timeuuid",
        [(TIMEUUID, TIMEUUID.bytes)],
        pytest.mark.spec("v3 6.18", "v4 6.18", "v5 5.19"),
    ),
    ("tinyint", [(-2, b"\xfe"), (127, b"\x7f")], pytest.mark.spec("v4 6.19", "v5 5.20")),
    (
        "uuid",
        [(UUID(int=0), bytes(16)), (UUID(int=(1 << 128) - 1), b"\xff" * 16)],
        pytest.mark.spec("v3 6.15", "v4 6.21", "v5 5.22"),
    ),
    (
        "varint",
        [
            *((0, b"\0"), (1, b"\1"), (127, b"\x7f"), (128, b"\0\x80"), (129, b"\0\x81")),
            *((-1, b"\xff"), (-128, b"\x80"), (-129, b"\xff\x7f")),
        ],
        pytest.mark.spec("v3 6.17", "v4 6.23", "v5 5.24"),
    ),
    (
        "list<int>",
        [([], int_(0)), ([1, 2], int_(2) + bytes_(int_(1)) + bytes_(int_(2)))],
        pytest.mark.spec("v3 6.10", "v4 6.11", "v5 5.12"),
    ),
    (
        "map<int, text>",
        [({}, int_(0)), ({1: "a"}, int_(1) + bytes_(int_(1)) + bytes_(b"a"))],
        pytest.mark.spec("v3 6.11", "v4 6.12", "v5 5.13"),
    ),
    (
        "set<text>",
        [(set(), int_(0)), ({"a", "b"}, int_(2) + bytes_(b"a") + bytes_(b"b"))],
        pytest.mark.spec("v3 6.12", "v4 6.13", "v5 5.14"),
    ),
    (
        "tuple<int, text>",
        [((1, "a"), bytes_(int_(1)) + bytes_(b"a")), ((None, ""), bytes_(None) + bytes_(b""))],
        pytest.mark.spec("v3 6.19", "v4 6.20", "v5 5.21"),
    ),
]


@versions
@pytest.mark.parametrize(
    ("text", "cells"), [pytest.param(text, cells, marks=mark) for text, cells, mark in CASES]
)
def test_cells(text: str, cells: Cells, version: ProtocolVersion) -> None:
    cql_type = through(parse_type(text), version)
    for value, cell in cells:
        assert encoder(cql_type)(value).hex() == cell.hex()
        again = decoder(cql_type)(cell)
        assert again == value
        assert type(again) is type(value)


@pytest.mark.spec("v3 6.16", "v4 6.22", "v5 5.23")
def test_varchar_is_another_name_of_text() -> None:
    assert parse_type("varchar") == TEXT
    assert parse_type("list<varchar>") == ListType(TEXT)


@pytest.mark.spec("v3 v4 6.1", "v5 5.1")
def test_ascii_has_seven_bits() -> None:
    with pytest.raises(RemoteProtocolError):
        decoder(NATIVE_TYPES["ascii"])(b"\x80")
    with pytest.raises(ValueConversionError):
        encoder(NATIVE_TYPES["ascii"])("é")


@pytest.mark.spec("v3 v4 6.4", "v5 5.4")
@pytest.mark.parametrize("byte", range(256))
def test_any_byte_but_zero_is_true(byte: int) -> None:
    assert decoder(NATIVE_TYPES["boolean"])(bytes((byte,))) is (byte != 0)


@pytest.mark.spec("v4 6.16", "v5 5.17")
@pytest.mark.parametrize("number", [-1, 86_400_000_000_000])
def test_a_time_is_within_a_day(number: int) -> None:
    """Other times that a server sends are kept unchanged."""
    assert decoder(NATIVE_TYPES["time"])(long(number)) == Time(number)
    with pytest.raises(ValueConversionError):
        encoder(NATIVE_TYPES["time"])(number)


@pytest.mark.spec("v3 6.18", "v4 6.18", "v5 5.19")
def test_a_timeuuid_is_of_version_1() -> None:
    with pytest.raises(ValueConversionError):
        encoder(NATIVE_TYPES["timeuuid"])(UUID(int=0))


@pytest.mark.spec("v5 5.8")
def test_the_parts_of_a_duration_have_one_sign() -> None:
    for cell in (bytes((1, 2, 0)), bytes((2, 0, 1))):
        with pytest.raises(RemoteProtocolError):
            decoder(NATIVE_TYPES["duration"])(cell)


@pytest.mark.spec("v3 v4 6", "v5 5")
@pytest.mark.parametrize("name", sorted(set(NATIVE_TYPES) - {"ascii", "blob", "text"}))
def test_no_bytes_are_empty_which_is_not_null(name: str) -> None:
    cql_type = NATIVE_TYPES[name]
    assert decoder(cql_type)(b"") is EMPTY
    assert encoder(cql_type)(EMPTY) == b""
    out = bytearray()
    for cell in (b"", None):
        write_bytes(out, cell)
    assert bytes(out) == int_(0) + int_(-1)
    reader = Reader(bytes(out))
    assert [read_bytes(reader), read_bytes(reader)] == [b"", None]


UDT = UserType("k", "u", (("a", INT), ("b", TEXT), ("c", SetType(INT))))


@pytest.mark.spec("v3 v4 7", "v5 6")
@versions
def test_a_user_defined_type(version: ProtocolVersion) -> None:
    cql_type = through(UDT, version)
    make = user_value_class(UDT)
    cell = bytes_(int_(1)) + bytes_(None) + bytes_(int_(1) + bytes_(int_(2)))
    value = make((1, None, frozenset({2})))
    assert encoder(cql_type)(value) == cell
    assert decoder(cql_type)(cell) == value
    # It may have less values than the type has fields.
    assert decoder(cql_type)(bytes_(int_(1))) == make((1, None, None))
    assert decoder(cql_type)(bytes_(int_(1)) + bytes_(b"x")) == make((1, "x", None))
    nested = through(MapType(INT, TupleType((UDT, INT))), version)
    inner = bytes_(cell) + bytes_(int_(3))
    assert decoder(nested)(int_(1) + bytes_(int_(9)) + bytes_(inner)) == {9: (value, 3)}


@pytest.mark.spec("v3 v4 6", "v5 5")
def test_every_type_of_the_text_is_here() -> None:
    written = {text.split("<")[0] for text, _, _ in CASES} | {"counter"}
    assert written == set(NATIVE_TYPES) | {"list", "map", "set", "tuple"}
