"""UUIDs and addresses: accepted and refused values, and cells."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any
from uuid import UUID, uuid1

import pytest

from cqlproto.cqltypes import (
    EMPTY,
)
from cqlproto.exceptions import RemoteProtocolError, ValueConversionError
from tests.cqlproto.cqltypes.cells import (
    cases,
    check_cause_is_kept,
    check_malformed,
    check_read_as_written,
    check_refused,
    check_taken_as,
    decode,
    encode,
)


class OddUUID(UUID):
    @property
    def bytes(self) -> bytes:
        raise ZeroDivisionError("odd")


class OddAddress(IPv4Address):
    @property
    def packed(self) -> bytes:
        raise ZeroDivisionError("odd")


# The least and the greatest of each, and what is odd about it.
CELLS: dict[str, list[Any]] = {
    "inet": [IPv4Address("10.1.2.3"), IPv6Address("::1")],
    "timeuuid": [uuid1()],
    "uuid": [UUID(int=0), UUID(int=(1 << 128) - 1)],
}
WRONG: dict[str, list[Any]] = {
    "inet": [1, b"\x7f\x00\x00\x01", "localhost", "1.2.3", IPv6Address("fe80::1%eth0"), None],
    "timeuuid": [UUID(int=0), "c037aeb0-9a2f-4bc7-8a3e-3a1f7d3c5e21", "x", 1, bytes(16), None],
    "uuid": ["x", 1, bytes(16), "", None],
}
ODD: dict[str, list[Any]] = {
    "inet": [OddAddress("10.0.0.1")],
    "timeuuid": [OddUUID(int=1)],
    "uuid": [OddUUID(int=1)],
}
BROKEN: dict[str, list[bytes]] = {
    "inet": [bytes(3), bytes(5), bytes(15), bytes(17)],
    "timeuuid": [bytes(15)],
    "uuid": [bytes(15), bytes(17)],
}


def test_every_type_was_tried() -> None:
    assert CELLS.keys() == WRONG.keys()


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_read_as_it_was_written(name: str) -> None:
    check_read_as_written(name, CELLS[name])


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_what_a_type_does_not_take(name: str, value: object) -> None:
    check_refused(name, value)


@pytest.mark.parametrize(("name", "cell"), cases(BROKEN))
def test_a_malformed_cell_names_its_type(name: str, cell: bytes) -> None:
    check_malformed(name, cell)


@pytest.mark.parametrize("name", ODD)
def test_what_the_methods_of_a_value_raise_is_the_cause(name: str) -> None:
    check_cause_is_kept(name, ODD[name])


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("inet", "::ffff:1.2.3.4", IPv6Address("::ffff:1.2.3.4")),
        ("inet", "127.0.0.1", IPv4Address("127.0.0.1")),
        ("timeuuid", "00000000-0000-1000-0000-000000000000", UUID(int=1 << 76)),
        (
            "uuid",
            "{C037AEB0-9A2F-4BC7-8A3E-3A1F7D3C5E21}",
            UUID(hex="c037aeb09a2f4bc78a3e3a1f7d3c5e21"),
        ),
    ],
)
def test_what_a_type_takes_besides(name: str, value: object, same: object) -> None:
    check_taken_as(name, value, same)


@pytest.mark.parametrize(
    "data", [b"", bytes(4), bytes(5), bytes(12), bytes(16), b"\x80" + bytes(15)]
)
def test_an_address_is_one_of_either_version(data: bytes) -> None:
    if len(data) in (0, 4, 16):
        wanted = {0: EMPTY, 4: IPv4Address(0), 16: data and IPv6Address(data.ljust(16))}[len(data)]
        assert decode("inet", data) == wanted
    else:
        with pytest.raises(RemoteProtocolError, match="4 or 16 expected"):
            decode("inet", data)


def test_a_fresh_timeuuid_is_one() -> None:
    value = uuid1()
    assert decode("timeuuid", encode("timeuuid", value)) == value


@pytest.mark.parametrize("text", ["10.0.0.1/24", "::1/64"])
def test_the_network_of_an_interface_is_refused(text: str) -> None:
    with pytest.raises(ValueConversionError, match=r"the network .* take its \.ip"):
        encode("inet", ip_interface(text))
