"""The parameters of QUERY and EXECUTE: written, packed, refused (v4 section 4.1.4)."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import QUERY_VALUES, Consistency, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import (
    QueryParameters,
    pack_parameters_around,
    read_parameters,
    write_parameters,
)
from cqlproto.messages.requests import pack_behind_timestamp
from cqlproto.testing import query_parameters
from cqlproto.wire import UNSET, Reader, write_short, write_value

V3, V4, V5 = ProtocolVersion
ONE = Consistency.ONE
SERIAL = Consistency.SERIAL


def written(params: QueryParameters, version: ProtocolVersion) -> bytes:
    out = bytearray()
    write_parameters(out, params, version)
    return bytes(out)


@pytest.mark.parametrize("version", ProtocolVersion)
@given(data=st.data())
def test_parameters_are_read_as_they_were_written(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    params = data.draw(query_parameters(version))
    reader = Reader(written(params, version))
    assert read_parameters(reader, version) == params
    reader.expect_end("the parameters")


EVERYTHING = QueryParameters(
    *(ONE, [b"x", None], ["a", "b"], True, 5, b"page", SERIAL, 1),
)


@pytest.mark.parametrize("version", ProtocolVersion)
def test_every_option_at_once(version: ProtocolVersion) -> None:
    params = copy.copy(EVERYTHING)
    if version is V5:
        params.keyspace, params.now_in_seconds = "ks", 7
    assert read_parameters(Reader(written(params, version)), version) == params
    params.values = [UNSET, b""]
    if version is V3:
        with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
            written(params, version)
    else:
        assert read_parameters(Reader(written(params, version)), version) == params


class Long(bytes):
    """Bytes that claim more than an [int] can count."""

    def __len__(self) -> int:
        return 1 << 31


def test_a_value_that_is_too_long_is_a_local_error() -> None:
    with pytest.raises(LocalProtocolError, match="an .int. must fit 32 bits, got 2147483648"):
        written(QueryParameters(ONE, [Long()]), V4)


@given(st.sampled_from(ProtocolVersion), st.data())
def test_parameters_packed_apart_surround_the_values(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    """v4 section 4.1.4"""
    params = data.draw(query_parameters(version))
    params.names = None
    params.values = values = params.values or []
    before, after = pack_parameters_around(params, version)
    packed = bytearray(before)
    write_short(packed, len(values))
    for value in values:
        write_value(packed, value)
    assert bytes(packed) + after == written(params, version)


def test_parameters_packed_apart_announce_values_that_they_do_not_have() -> None:
    assert pack_parameters_around(QueryParameters(ONE), V4) == (bytes([0, 1, QUERY_VALUES]), b"")
    assert pack_parameters_around(QueryParameters(ONE), V5) == (
        bytes([0, 1, 0, 0, 0, QUERY_VALUES]),
        b"",
    )


@pytest.mark.parametrize("version", ProtocolVersion)
@given(data=st.data())
def test_a_timestamp_stands_right_before_what_is_said_to_be_behind_it(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    params = data.draw(query_parameters(version))
    params.names = None
    params.timestamp = data.draw(st.integers(-(2**63), 2**63 - 1))
    _, after = pack_parameters_around(params, version)
    behind = pack_behind_timestamp(params)
    assert after.endswith(params.timestamp.to_bytes(8, "big", signed=True) + behind)
    assert bool(behind) == (params.keyspace is not None or params.now_in_seconds is not None)


def test_names_cannot_be_packed_apart() -> None:
    with pytest.raises(LocalProtocolError, match="position"):
        pack_parameters_around(QueryParameters(ONE, [b"x"], ["a"]), V4)


REFUSED = {
    "UNSET on v3": (QueryParameters(ONE, [UNSET]), V3),
    "a named UNSET on v3": (QueryParameters(ONE, [UNSET], ["a"]), V3),
    "a keyspace before v5": (QueryParameters(ONE, keyspace="ks"), V4),
    "now_in_seconds before v5": (QueryParameters(ONE, now_in_seconds=0), V4),
    "too many values": (QueryParameters(ONE, [None] * 65536), V4),
    "too many named values": (QueryParameters(ONE, [None] * 65536, ["a"] * 65536), V4),
    "fewer names than values": (QueryParameters(ONE, [b"x", b"y"], ["a"]), V4),
    "more names than values": (QueryParameters(ONE, [b"x"], ["a", "b"]), V4),
    "names without values": (QueryParameters(ONE, None, ["a"]), V4),
    "a serial consistency that is none": (QueryParameters(ONE, serial_consistency=ONE), V4),
    "a page size of 0": (QueryParameters(ONE, page_size=0), V4),
    "a negative page size": (QueryParameters(ONE, page_size=-1), V4),
    "a page size above an int": (QueryParameters(ONE, page_size=2**31), V4),
    "a timestamp above a long": (QueryParameters(ONE, timestamp=2**63), V4),
}


@pytest.mark.parametrize(("params", "version"), REFUSED.values(), ids=REFUSED)
def test_parameters_that_no_server_accepts_are_refused(
    params: QueryParameters, version: ProtocolVersion
) -> None:
    """v4 section 4.1.4"""
    with pytest.raises(LocalProtocolError):
        written(params, version)


@pytest.mark.parametrize(
    "params",
    [
        QueryParameters(ONE, keyspace="ks"),
        QueryParameters(ONE, now_in_seconds=0),
        QueryParameters(ONE, serial_consistency=ONE),
        QueryParameters(ONE, page_size=0),
    ],
)
def test_options_packed_apart_are_refused_too(params: QueryParameters) -> None:
    with pytest.raises(LocalProtocolError):
        pack_parameters_around(params, V4)


def test_as_many_values_as_a_short_counts_are_accepted() -> None:
    params = QueryParameters(ONE, [None] * 65535)
    assert read_parameters(Reader(written(params, V4)), V4) == params


def test_no_values_are_not_the_same_as_zero_values() -> None:
    assert written(QueryParameters(ONE), V4).hex() == "000100"
    assert written(QueryParameters(ONE, []), V4).hex() == "000101" + "0000"


@pytest.mark.parametrize(
    ("body", "version"),
    [
        ("0001" + "80" + "0000", V4),  # a keyspace before v5
        ("0001" + "80", V3),
        ("0001" + "00000200", V5),  # no flag
        ("0001" + "80000000", V5),
        ("000b" + "00", V4),  # no consistency
        ("0001" + "10" + "00ff", V4),  # no serial consistency
        ("0001" + "01" + "0001" + "fffffffe", V3),  # UNSET
        ("0001" + "01" + "0001" + "fffffffd", V4),  # no [value]
        ("0001" + "01" + "ffff", V4),
        ("0001" + "41" + "ffff", V4),
    ],
)
def test_malformed_parameters_are_a_protocol_error(body: str, version: ProtocolVersion) -> None:
    with pytest.raises(RemoteProtocolError):
        read_parameters(Reader(bytes.fromhex(body)), version)


def test_what_a_server_may_refuse_is_read() -> None:
    """The server decides about a page size of -1 and a serial consistency that is not serial."""
    body = bytes.fromhex("0001" + "14" + "ffffffff" + "0004")
    params = read_parameters(Reader(body), V4)
    assert (params.page_size, params.serial_consistency) == (-1, Consistency.QUORUM)


def test_names_are_ignored_where_there_are_no_values() -> None:
    """v4 section 4.1.4: the flag 0x40 is ignored without 0x01."""
    assert read_parameters(Reader(bytes.fromhex("0001" + "40")), V4) == QueryParameters(ONE)
