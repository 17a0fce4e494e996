"""The notations of section 3, byte by byte, read and written; v5 adds vints."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from cqlproto import wire
from cqlproto.cqltypes import NATIVE_TYPES, ListType, read_option, write_option
from cqlproto.cqltypes.vints import (
    read_unsigned_vint,
    write_unsigned_vint,
    write_vint,
)
from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import Query, QueryParameters, read_request
from cqlproto.wire import UNSET, Reader
from tests.cqlproto.specification.notation import long_string, short

if TYPE_CHECKING:
    from collections.abc import Callable

V3, V4, V5 = ProtocolVersion
ADDRESS = "0a010203"

# The notation, a value, and its bytes.
CASES: list[tuple[str, Any, str]] = [
    ("int", 0x01020304, "01020304"),
    ("int", -1, "ffffffff"),
    ("long", 0x0102030405060708, "0102030405060708"),
    ("byte", 255, "ff"),
    ("short", 0xFFFE, "fffe"),
    ("string", "é", "0002 c3a9"),
    ("long_string", "é", "00000002 c3a9"),
    ("uuid", UUID(bytes=bytes(range(16))), "000102030405060708090a0b0c0d0e0f"),
    ("string_list", ["a", ""], "0002 0001 61 0000"),
    ("bytes", b"", "00000000"),
    ("bytes", b"\xca", "00000001 ca"),
    ("bytes", None, "ffffffff"),
    ("value", b"", "00000000"),
    ("value", None, "ffffffff"),
    ("value", UNSET, "fffffffe"),
    ("short_bytes", b"\xca", "0001 ca"),
    ("inet", (IPv4Address("10.1.2.3"), 9042), f"04 {ADDRESS} 00002352"),
    ("inet", (IPv6Address("::1"), 9042), f"10 {'00' * 15}01 00002352"),
    ("inetaddr", IPv4Address("10.1.2.3"), f"04 {ADDRESS}"),
    ("string_map", {"a": "b"}, "0001 0001 61 0001 62"),
    ("string_multimap", {"a": ["b", "c"]}, "0001 0001 61 0002 0001 62 0001 63"),
    ("bytes_map", {"a": b"\1", "b": None}, "0002 0001 61 00000001 01 0001 62 ffffffff"),
]


@pytest.mark.spec("v3 v4 v5 3")
@pytest.mark.parametrize(("notation", "value", "content"), CASES)
def test_a_notation(notation: str, value: object, content: str) -> None:
    write: Callable[[bytearray, object], None] = getattr(wire, f"write_{notation}")
    read: Callable[[Reader], object] = getattr(wire, f"read_{notation}")
    data = bytes.fromhex(content)
    out = bytearray()
    write(out, value)
    assert bytes(out) == data
    reader = Reader(data + b"more")
    assert read(reader) == value
    assert reader.pos == len(data)


@pytest.mark.spec("v3 v4 v5 3")
def test_bytes_are_null_for_any_negative_length_values_for_one() -> None:
    assert wire.read_bytes(Reader(b"\xff\xff\xff\xf0")) is None
    with pytest.raises(RemoteProtocolError):
        wire.read_value(Reader(b"\xff\xff\xff\xfd"))


@pytest.mark.spec("v3 v4 v5 3")
@pytest.mark.parametrize("version", ProtocolVersion)
def test_a_value_can_be_unset_since_v4(version: ProtocolVersion) -> None:
    query = Query("q", QueryParameters(Consistency.ONE, [UNSET]))
    flags = b"\0\0\0\1" if version is V5 else b"\1"
    body = long_string("q") + short(1) + flags + short(1) + b"\xff\xff\xff\xfe"
    out = bytearray()
    if version is V3:
        with pytest.raises(LocalProtocolError):
            query.write_body(out, version)
        with pytest.raises(RemoteProtocolError):
            read_request(0x07, body, 0, version)
    else:
        query.write_body(out, version)
        assert bytes(out) == body
        assert read_request(0x07, body, 0, version) == query


@pytest.mark.spec("v3 v4 v5 3")
def test_an_option_is_a_number_and_what_it_needs() -> None:
    out = bytearray()
    write_option(out, ListType(NATIVE_TYPES["int"]), V4)
    assert bytes(out) == short(0x20) + short(0x09)
    assert read_option(Reader(bytes(out))) == ListType(NATIVE_TYPES["int"])


@pytest.mark.spec("v3 v4 v5 3")
def test_consistencies() -> None:
    names = [
        *("ANY", "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM"),
        *("SERIAL", "LOCAL_SERIAL", "LOCAL_ONE"),
    ]
    assert [(level.name, level.value) for level in Consistency] == [
        (name, number) for number, name in enumerate(names)
    ]


UNSIGNED = [
    (0, "00"),
    (127, "7f"),
    (128, "8080"),
    (256_000, "c3e800"),
    ((1 << 56) - 1, "fe" + "ff" * 7),
    (1 << 56, "ff" + "01" + "00" * 7),
    ((1 << 64) - 1, "ff" * 9),
]
ZIGZAG = [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4), (-3, 5), (3, 6), (-(1 << 63), (1 << 64) - 1)]


@pytest.mark.spec("v5 3")
@pytest.mark.parametrize(("number", "content"), UNSIGNED)
def test_an_unsigned_vint_says_its_length_in_leading_ones(number: int, content: str) -> None:
    assert write_unsigned_vint(number).hex() == content
    assert read_unsigned_vint(bytes.fromhex(content), 0) == (number, len(content) // 2)


@pytest.mark.spec("v5 3")
@pytest.mark.parametrize(("number", "zigzag"), ZIGZAG)
def test_a_vint_is_zigzag_encoded(number: int, zigzag: int) -> None:
    data = write_unsigned_vint(zigzag)
    assert write_vint(number) == data
    zigzag, end = read_unsigned_vint(data, 0)
    assert (zigzag >> 1 ^ -(zigzag & 1), end) == (number, len(data))
