"""Requests: round trips and refusals (v4 section 4.1, v5 section 4.1)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import BatchKind, Consistency, Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import (
    AuthResponse,
    Batch,
    BatchStatement,
    Execute,
    Message,
    Options,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Startup,
    read_request,
)
from cqlproto.testing import requests
from cqlproto.wire import UNSET

V3, V4, V5 = ProtocolVersion
ONE = Consistency.ONE
SERIAL = Consistency.SERIAL


def body_of(message: Message, version: ProtocolVersion) -> bytes:
    out = bytearray()
    message.write_body(out, version)
    return bytes(out)


KINDS = [Startup, Options, AuthResponse, Register, Query, Prepare, Execute, Batch]


@pytest.mark.parametrize("version", ProtocolVersion)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_requests_are_read_as_they_were_written(
    kind: type[Any], version: ProtocolVersion, data: st.DataObject
) -> None:
    message = data.draw(requests(version, kind))
    assert read_request(message.opcode, body_of(message, version), 0, version) == message


def test_prepare_with_a_keyspace_needs_v5() -> None:
    """v5 section 4.1.5"""
    assert body_of(Prepare("q", "k"), V5).hex() == "0000000171" + "00000001" + "00016b"
    for version in (V3, V4):
        with pytest.raises(LocalProtocolError):
            body_of(Prepare("q", "k"), version)
    with pytest.raises(RemoteProtocolError):
        read_request(Opcode.PREPARE, bytes.fromhex("0000000171" + "00000002"), 0, V5)


def test_execute_needs_the_id_of_the_metadata_on_v5_only() -> None:
    """v5 section 4.1.6"""
    with pytest.raises(LocalProtocolError):
        body_of(Execute(b"i", QueryParameters(ONE)), V5)
    with_id = Execute(b"i", QueryParameters(ONE), b"m")
    without = Execute(b"i", QueryParameters(ONE))
    assert body_of(with_id, V4) == body_of(without, V4)


@pytest.mark.parametrize(
    ("batch", "version"),
    [
        (Batch(BatchKind.LOGGED, [], ONE, keyspace="ks"), V4),
        (Batch(BatchKind.LOGGED, [], ONE, now_in_seconds=1), V4),
        (Batch(BatchKind.LOGGED, [], ONE, serial_consistency=ONE), V4),
        (Batch(BatchKind.LOGGED, [BatchStatement("q", [UNSET])], ONE), V3),
        (Batch(BatchKind.LOGGED, [BatchStatement("q", [None] * 65536)], ONE), V4),
        (Batch(BatchKind.LOGGED, [BatchStatement("q")] * 65536, ONE), V4),
    ],
)
def test_a_batch_that_no_server_accepts_is_refused(batch: Batch, version: ProtocolVersion) -> None:
    """v4 section 4.1.7"""
    with pytest.raises(LocalProtocolError):
        body_of(batch, version)


def test_a_batch_cannot_bind_by_name() -> None:
    """v4 section 4.1.7, CASSANDRA-10246"""
    values: dict[int, bytes] = {0: b"x"}
    batch = Batch(BatchKind.LOGGED, [BatchStatement("q", values)], ONE)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(LocalProtocolError, match="name"):
        body_of(batch, V4)


@pytest.mark.parametrize(
    "body",
    [
        "03" + "0000" + "0001" + "00",  # no kind of batch
        "00" + "0001" + "02" + "0000" + "0000" + "0001" + "00",  # no kind of statement
        "00" + "0000" + "0001" + "40",  # names
        "00" + "0000" + "0001" + "01",  # the four lowest flags mean nothing here
        "00" + "ffff" + "0001" + "00",
    ],
)
def test_a_malformed_batch_is_a_protocol_error(body: str) -> None:
    """v4 section 4.1.7"""
    with pytest.raises(RemoteProtocolError):
        read_request(Opcode.BATCH, bytes.fromhex(body), 0, V4)


def test_a_prepared_and_a_plain_statement_differ_by_type() -> None:
    """v4 section 4.1.7: <kind> 0 is a [long string], 1 a [short bytes]."""
    batch = Batch(BatchKind.UNLOGGED, [BatchStatement("q"), BatchStatement(b"i", [b"v"])], ONE)
    assert body_of(batch, V4).hex() == (
        "01" + "0002" + "00" + "0000000171" + "0000" + "01" + "000169" + "0001" + "0000000176000100"
    )


def test_values_may_be_any_sequence() -> None:
    as_list = Query("q", QueryParameters(ONE, [b"x"], page_size=1))
    as_tuple = Query("q", QueryParameters(ONE, (b"x",), page_size=1))
    assert body_of(as_list, V4) == body_of(as_tuple, V4)
