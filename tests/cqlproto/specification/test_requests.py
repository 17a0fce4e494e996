"""Requests, byte by byte, in every version (section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cqlproto import ClientConnection, RequestReceived, ResponseReceived
from cqlproto.enums import BatchKind, Consistency, ErrorCode, ProtocolVersion
from cqlproto.messages import (
    READY,
    VOID,
    AuthResponse,
    Batch,
    BatchStatement,
    Error,
    Execute,
    Options,
    Prepare,
    Query,
    QueryParameters,
    Register,
    Startup,
    Supported,
    read_request,
)
from cqlproto.testing import linked_pair
from cqlproto.wire import UNSET
from tests.cqlproto.specification.notation import (
    byte,
    bytes_,
    int_,
    long,
    long_string,
    short,
    short_bytes,
    string,
    string_list,
    string_map,
)

if TYPE_CHECKING:
    from cqlproto.messages import Request, Response

V3, V4, V5 = ProtocolVersion
versions = pytest.mark.parametrize("version", ProtocolVersion)
ONE = QueryParameters(Consistency.ONE)


def check(message: Request, opcode: int, body: bytes, version: ProtocolVersion) -> None:
    out = bytearray()
    message.write_body(out, version)
    assert out.hex() == body.hex()
    assert message.opcode == opcode
    assert read_request(opcode, body, 0, version) == message


def flags(value: int, version: ProtocolVersion) -> bytes:
    """An [int] on v5, a [byte] before."""
    return int_(value) if version is V5 else byte(value)


def check_answer(request: Request, answer: Response, version: ProtocolVersion) -> None:
    """Check that both ends accept the answer."""
    pair = linked_pair(ClientConnection(version=version))
    pair.client.send(request)
    [asked] = pair.to_server()
    assert isinstance(asked, RequestReceived)
    assert asked.message == request
    pair.server.reply(asked.stream_id, answer)
    [told] = pair.to_client()
    assert isinstance(told, ResponseReceived)
    assert told.message == answer


@pytest.mark.spec("v3 v4 v5 4.1")
@versions
@pytest.mark.parametrize(
    "request_",
    [
        Options(),
        Query("q", ONE),
        Prepare("q"),
        Execute(b"id", ONE, b"m"),
        Batch(BatchKind.LOGGED, [], Consistency.ONE),
        Register(["STATUS_CHANGE"]),
    ],
    ids=lambda request: type(request).__name__,
)
def test_all_requests_can_get_an_error(request_: Request, version: ProtocolVersion) -> None:
    if isinstance(request_, Execute) and version is not V5:
        request_ = Execute(b"id", ONE)
    check_answer(request_, Error(ErrorCode.SERVER_ERROR, "oh"), version)


@pytest.mark.spec("v3 v4 v5 4.1.1")
@versions
def test_startup(version: ProtocolVersion) -> None:
    options = {"CQL_VERSION": "3.0.0", "COMPRESSION": "lz4"}
    check(Startup(options), 0x01, string_map(options), version)
    check(Startup({}), 0x01, short(0), version)


@pytest.mark.spec("v3 v4 v5 4.1.2")
@versions
@pytest.mark.parametrize("token", [None, b"", b"\0user\0password"])
def test_auth_response(token: bytes | None, version: ProtocolVersion) -> None:
    check(AuthResponse(token), 0x0F, bytes_(token), version)


@pytest.mark.spec("v3 v4 v5 4.1.3")
@versions
def test_options(version: ProtocolVersion) -> None:
    check(Options(), 0x05, b"", version)
    check_answer(Options(), Supported({"CQL_VERSION": ["3.0.0"]}), version)


# By name: the parameters, their flag, and what they add behind the values.
PARAMETERS: dict[str, tuple[QueryParameters, int, bytes]] = {
    "none": (QueryParameters(Consistency.ONE), 0, b""),
    "no values": (QueryParameters(Consistency.ONE, []), 0x01, short(0)),
    "values": (
        QueryParameters(Consistency.ONE, [b"x", None]),
        0x01,
        short(2) + bytes_(b"x") + bytes_(None),
    ),
    "names": (
        QueryParameters(Consistency.ONE, [b"x", None], ["a", "b"]),
        0x41,
        short(2) + string("a") + bytes_(b"x") + string("b") + bytes_(None),
    ),
    "skip metadata": (QueryParameters(Consistency.ONE, skip_metadata=True), 0x02, b""),
    "page size": (QueryParameters(Consistency.ONE, page_size=5000), 0x04, int_(5000)),
    "paging state": (QueryParameters(Consistency.ONE, paging_state=b"p"), 0x08, bytes_(b"p")),
    "serial": (
        QueryParameters(Consistency.ONE, serial_consistency=Consistency.LOCAL_SERIAL),
        0x10,
        short(9),
    ),
    "timestamp": (QueryParameters(Consistency.ONE, timestamp=1 << 40), 0x20, long(1 << 40)),
    "all": (
        QueryParameters(
            *(Consistency.ONE, [b"x"], None, True, 1, b"p", Consistency.SERIAL, 2),
        ),
        0x3F,
        short(1) + bytes_(b"x") + int_(1) + bytes_(b"p") + short(8) + long(2),
    ),
}
V4_PARAMETERS: dict[str, tuple[QueryParameters, int, bytes]] = {
    "unset": (QueryParameters(Consistency.ONE, [UNSET]), 0x01, short(1) + int_(-2)),
}
V5_PARAMETERS: dict[str, tuple[QueryParameters, int, bytes]] = {
    "keyspace": (QueryParameters(Consistency.ONE, keyspace="ks"), 0x80, string("ks")),
    "now": (QueryParameters(Consistency.ONE, now_in_seconds=7), 0x100, int_(7)),
    "all of v5": (
        QueryParameters(Consistency.ONE, timestamp=2, keyspace="ks", now_in_seconds=7),
        0x1A0,
        long(2) + string("ks") + int_(7),
    ),
}
CASES = [
    pytest.param(version, *case, id=f"v{version:d} {name}")
    for version, cases in (
        (V3, PARAMETERS),
        (V4, PARAMETERS | V4_PARAMETERS),
        (V5, PARAMETERS | V4_PARAMETERS | V5_PARAMETERS),
    )
    for name, case in cases.items()
]


@pytest.mark.spec("v3 v4 v5 4.1.4")
@pytest.mark.parametrize(("version", "parameters", "mask", "rest"), CASES)
def test_query(
    version: ProtocolVersion, parameters: QueryParameters, mask: int, rest: bytes
) -> None:
    text = "SELECT 'Größe'"
    body = long_string(text) + short(1) + flags(mask, version) + rest
    check(Query(text, parameters), 0x07, body, version)


@pytest.mark.spec("v3 v4 v5 4.1.5")
@versions
def test_prepare(version: ProtocolVersion) -> None:
    text = "SELECT ?"
    body = long_string(text)
    if version is V5:
        check(Prepare(text, "ks"), 0x09, body + int_(0x01) + string("ks"), version)
        body += int_(0)
    check(Prepare(text), 0x09, body, version)


@pytest.mark.spec("v3 v4 v5 4.1.6")
@pytest.mark.parametrize(("version", "parameters", "mask", "rest"), CASES)
def test_execute(
    version: ProtocolVersion, parameters: QueryParameters, mask: int, rest: bytes
) -> None:
    metadata_id = b"meta" if version is V5 else None
    body = short_bytes(b"id")
    if metadata_id is not None:
        body += short_bytes(metadata_id)
    body += short(1) + flags(mask, version) + rest
    check(Execute(b"id", parameters, metadata_id), 0x0A, body, version)


@pytest.mark.spec("v3 v4 v5 4.1.7")
@versions
@pytest.mark.parametrize("kind", BatchKind)
def test_batch(kind: BatchKind, version: ProtocolVersion) -> None:
    statements = [
        BatchStatement("INSERT", [b"x", None]),
        BatchStatement(b"id", []),
    ]
    body = byte({"LOGGED": 0, "UNLOGGED": 1, "COUNTER": 2}[kind.name]) + short(2)
    body += byte(0) + long_string("INSERT") + short(2) + bytes_(b"x") + bytes_(None)
    body += byte(1) + short_bytes(b"id") + short(0)
    body += short(4)
    serial = Consistency.SERIAL
    cases = [
        (Batch(kind, statements, Consistency.QUORUM), 0, b""),
        (Batch(kind, statements, Consistency.QUORUM, serial), 0x10, short(8)),
        (Batch(kind, statements, Consistency.QUORUM, None, 3), 0x20, long(3)),
    ]
    if version is V5:
        batch = Batch(kind, statements, Consistency.QUORUM, serial, 3, "ks", 4)
        cases.append((batch, 0x1B0, short(8) + long(3) + string("ks") + int_(4)))
    for batch, mask, rest in cases:
        check(batch, 0x0D, body + flags(mask, version) + rest, version)
    check_answer(cases[0][0], VOID, version)


@pytest.mark.spec("v3 v4 v5 4.1.8")
@versions
def test_register(version: ProtocolVersion) -> None:
    kinds = ["TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE"]
    check(Register(kinds), 0x0B, string_list(kinds), version)
    check_answer(Register(kinds), READY, version)
