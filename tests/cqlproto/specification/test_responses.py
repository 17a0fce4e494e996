"""Responses, byte by byte, in every version (section 4.2, and error codes)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from cqlproto import ClientConnection, PushReceived
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
)
from cqlproto.enums import ErrorCode, ProtocolVersion
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    BindMetadata,
    Column,
    Error,
    Event,
    Prepared,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    StatusChange,
    Supported,
    TopologyChange,
    read_response,
)
from cqlproto.testing import linked_pair
from tests.cqlproto.specification.notation import (
    byte,
    bytes_,
    int_,
    short,
    short_bytes,
    string,
    string_list,
)
from tests.cqlproto.specification.sections import ERROR_CODES

if TYPE_CHECKING:
    from cqlproto.cqltypes import CQLType
    from cqlproto.messages import Response, ServerEvent
    from cqlproto.wire import IPAddress

V3, V4, V5 = ProtocolVersion
versions = pytest.mark.parametrize("version", ProtocolVersion)
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]


def check(message: Response, opcode: int, body: bytes, version: ProtocolVersion) -> None:
    out = bytearray()
    message.write_body(out, version)
    assert out.hex() == body.hex()
    assert message.opcode == opcode
    assert read_response(opcode, body, 0, version) == message


@pytest.mark.spec("v3 v4 v5 4.2")
@versions
@pytest.mark.parametrize(
    ("opcode", "body", "message"),
    [
        (0x02, b"", READY),
        (0x03, string("A"), Authenticate("A")),
        (0x06, short(0), Supported({})),
        (0x08, int_(1), VOID),
        (0x08, int_(3) + string("ks"), SetKeyspace("ks")),
        (0x0E, bytes_(b"t"), AuthChallenge(b"t")),
        (0x10, bytes_(None), AuthSuccess(None)),
    ],
)
def test_what_later_servers_add_at_the_end_is_discarded(
    opcode: int, body: bytes, message: Response, version: ProtocolVersion
) -> None:
    assert read_response(opcode, body + b"\0more", 0, version) == message


@pytest.mark.spec("v3 v4 v5 4.2.1")
@versions
def test_error(version: ProtocolVersion) -> None:
    error = Error(ErrorCode.INVALID, "Größe")
    check(error, 0x00, int_(0x2200) + string("Größe"), version)
    # Whatever comes with a code that nobody knows is kept.
    check(Error(0x7FFF, "?", extra=b"more"), 0x00, int_(0x7FFF) + string("?") + b"more", version)


@pytest.mark.spec("v3 v4 v5 4.2.2")
@versions
def test_ready(version: ProtocolVersion) -> None:
    check(READY, 0x02, b"", version)


@pytest.mark.spec("v3 v4 v5 4.2.3")
@versions
def test_authenticate(version: ProtocolVersion) -> None:
    name = "org.apache.cassandra.auth.PasswordAuthenticator"
    check(Authenticate(name), 0x03, string(name), version)


@pytest.mark.spec("v3 v4 v5 4.2.4")
@versions
def test_supported(version: ProtocolVersion) -> None:
    options = {"PROTOCOL_VERSIONS": ["3/v3", "5/v5-beta"], "COMPRESSION": []}
    body = short(2) + string("PROTOCOL_VERSIONS") + string_list(["3/v3", "5/v5-beta"])
    body += string("COMPRESSION") + short(0)
    check(Supported(options), 0x06, body, version)


@pytest.mark.spec("v3 v4 v5 4.2.5")
@versions
def test_a_result_begins_with_its_kind(version: ProtocolVersion) -> None:
    rows = Rows.of(ResultMetadata.of([Column("k", "t", "c", INT)], version), 0, b"")
    empty = BindMetadata(()), ResultMetadata((), b"", False)
    prepared = Prepared(b"id", b"" if version is V5 else None, *empty)
    change = SchemaChange("CREATED", "KEYSPACE", "ks")
    for kind, message in enumerate((VOID, rows, SetKeyspace("ks"), prepared, change), 1):
        out = bytearray()
        message.write_body(out, version)
        assert out.startswith(int_(kind))
        assert read_response(0x08, bytes(out), 0, version) == message


@pytest.mark.spec("v3 v4 v5 4.2.5.1")
@versions
def test_void(version: ProtocolVersion) -> None:
    check(VOID, 0x08, int_(0x0001), version)


SHARED = [Column("k", "t", "a", INT), Column("k", "t", "b", TEXT)]
OTHERS = [Column("k", "t", "a", INT), Column("k", "u", "b", TEXT)]
SHARED_SPEC = string("k") + string("t") + string("a") + short(9) + string("b") + short(0x0D)
OTHERS_SPEC = string("k") + string("t") + string("a") + short(9)
OTHERS_SPEC += string("k") + string("u") + string("b") + short(0x0D)
CELLS = bytes_(b"\0\0\0\1") + bytes_(b"x") + bytes_(None) + bytes_(b"")


@pytest.mark.spec("v3 v4 v5 4.2.5.2")
@versions
@pytest.mark.parametrize(
    ("columns", "flags", "spec"), [(SHARED, 0x01, SHARED_SPEC), (OTHERS, 0, OTHERS_SPEC)]
)
def test_rows(columns: list[Column], flags: int, spec: bytes, version: ProtocolVersion) -> None:
    metadata = ResultMetadata.of(columns, version)
    head, rows = int_(0x0002), int_(2) + CELLS
    body = head + int_(flags) + int_(2) + spec + rows
    check(Rows.of(metadata, 2, CELLS), 0x08, body, version)
    body = head + int_(flags | 0x02) + int_(2) + bytes_(b"page") + spec + rows
    check(Rows.of(metadata, 2, CELLS, paging_state=b"page"), 0x08, body, version)
    skipped = Rows(None, 2, None, rows, 4, None, 0x04, 2)
    check(skipped, 0x08, head + int_(0x04) + int_(2) + rows, version)
    skipped = Rows(None, 2, b"page", rows, 4, None, 0x06, 2)
    check(skipped, 0x08, head + int_(0x06) + int_(2) + bytes_(b"page") + rows, version)
    if version is V5:
        changed = Rows.of(metadata, 2, CELLS, paging_state=b"page", metadata_id=b"new")
        body = head + int_(flags | 0x0A) + int_(2) + bytes_(b"page") + short_bytes(b"new")
        check(changed, 0x08, body + spec + rows, version)


_V3_OPTIONS = {
    **{"ascii": 0x01, "bigint": 0x02, "blob": 0x03, "boolean": 0x04, "counter": 0x05},
    **{"decimal": 0x06, "double": 0x07, "float": 0x08, "int": 0x09, "timestamp": 0x0B},
    **{"uuid": 0x0C, "text": 0x0D, "varint": 0x0E, "timeuuid": 0x0F, "inet": 0x10},
}
_V4_OPTIONS = {**_V3_OPTIONS, "date": 0x11, "time": 0x12, "smallint": 0x13, "tinyint": 0x14}
OPTIONS: dict[int, dict[str, int]] = {
    3: _V3_OPTIONS,
    4: _V4_OPTIONS,
    5: {**_V4_OPTIONS, "duration": 0x15},
}
UDT = UserType("k", "Größe", (("x", INT), ("y", TEXT)))
WITH_PARTS: list[tuple[CQLType, bytes]] = [
    (CustomType("com.example.Odd"), short(0) + string("com.example.Odd")),
    (ListType(INT), short(0x20) + short(9)),
    (MapType(INT, TEXT), short(0x21) + short(9) + short(0x0D)),
    (SetType(SetType(INT)), short(0x22) + short(0x22) + short(9)),
    (
        UDT,
        short(0x30)
        + string("k")
        + string("Größe")
        + short(2)
        + string("x")
        + short(9)
        + string("y")
        + short(0x0D),
    ),
    (TupleType((INT, TEXT)), short(0x31) + short(2) + short(9) + short(0x0D)),
]


@pytest.mark.spec("v3 v4 v5 4.2.5.2")
@versions
def test_the_types_of_columns(version: ProtocolVersion) -> None:
    cases = [(NATIVE_TYPES[name], short(number)) for name, number in OPTIONS[version].items()]
    for cql_type, option in [*cases, *WITH_PARTS]:
        metadata = ResultMetadata.of([Column("k", "t", "c", cql_type)], version)
        body = int_(2) + int_(1) + int_(1) + string("k") + string("t") + string("c") + option
        check(Rows.of(metadata, 0, b""), 0x08, body + int_(0), version)


@pytest.mark.spec("v3 v4 v5 4.2.5.3")
@versions
def test_set_keyspace(version: ProtocolVersion) -> None:
    check(SetKeyspace("Größe"), 0x08, int_(0x0003) + string("Größe"), version)


@pytest.mark.spec("v3 v4 v5 4.2.5.4")
@versions
def test_prepared(version: ProtocolVersion) -> None:
    """v4 added the partition key's indexes, v5 the id of the result metadata."""
    metadata_id = b"meta" if version is V5 else None
    indices = () if version is V3 else (1, 0)
    head = int_(0x0004) + short_bytes(b"id")
    if metadata_id is not None:
        head += short_bytes(metadata_id)
    keys = b"" if version is V3 else int_(2) + short(1) + short(0)
    no_keys = b"" if version is V3 else int_(0)
    nothing = ResultMetadata((), b"", False)
    bind = BindMetadata(tuple(SHARED), indices)
    body = head + int_(1) + int_(2) + keys + SHARED_SPEC + int_(4) + int_(0)
    check(Prepared(b"id", metadata_id, bind, nothing), 0x08, body, version)
    bind = BindMetadata(tuple(OTHERS))
    body = head + int_(0) + int_(2) + no_keys + OTHERS_SPEC + int_(1) + int_(2) + SHARED_SPEC
    result = ResultMetadata.of(SHARED, version)
    check(Prepared(b"id", metadata_id, bind, result), 0x08, body, version)


CHANGES: list[tuple[SchemaChange, bytes, ProtocolVersion]] = [
    (SchemaChange("CREATED", "KEYSPACE", "k"), string("k"), V3),
    (SchemaChange("UPDATED", "TABLE", "k", "t"), string("k") + string("t"), V3),
    (SchemaChange("DROPPED", "TYPE", "k", "t"), string("k") + string("t"), V3),
    (
        SchemaChange("CREATED", "FUNCTION", "k", "f", ["int", "text"]),
        string("k") + string("f") + string_list(["int", "text"]),
        V4,
    ),
    (
        SchemaChange("CREATED", "AGGREGATE", "k", "f", []),
        string("k") + string("f") + string_list([]),
        V4,
    ),
]


@pytest.mark.spec("v3 v4 v5 4.2.5.5")
@versions
@pytest.mark.parametrize(("change", "options", "since"), CHANGES)
def test_schema_change(
    change: SchemaChange, options: bytes, since: ProtocolVersion, version: ProtocolVersion
) -> None:
    if version >= since:
        body = int_(0x0005) + string(change.change) + string(change.target) + options
        check(change, 0x08, body, version)


ADDRESSES: list[tuple[tuple[IPAddress, int], bytes]] = [
    ((IPv4Address("10.1.2.3"), 9042), byte(4) + bytes((10, 1, 2, 3)) + int_(9042)),
    ((IPv6Address("::1"), 9042), byte(16) + bytes(15) + b"\1" + int_(9042)),
]


@pytest.mark.spec("v3 v4 v5 4.2.6")
@versions
def test_events(version: ProtocolVersion) -> None:
    cases: list[tuple[ServerEvent, bytes]] = []
    for address, inet in ADDRESSES:
        for change in ("NEW_NODE", "REMOVED_NODE"):
            body = string("TOPOLOGY_CHANGE") + string(change) + inet
            cases.append((TopologyChange(change, address), body))
        for change in ("UP", "DOWN"):
            body = string("STATUS_CHANGE") + string(change) + inet
            cases.append((StatusChange(change, address), body))
    for schema_change, options, since in CHANGES:
        if version >= since:
            body = string("SCHEMA_CHANGE") + string(schema_change.change)
            cases.append((schema_change, body + string(schema_change.target) + options))
    for event, body in cases:
        check(Event(event), 0x0C, body, version)
    pair = linked_pair(ClientConnection(version=version))
    for event, _ in cases:
        pair.server.push(event)
    told = [each.event for each in pair.to_client() if isinstance(each, PushReceived)]
    assert told == [event for event, _ in cases]


@pytest.mark.spec("v3 v4 v5 4.2.7")
@versions
@pytest.mark.parametrize("token", [None, b"", b"token"])
def test_auth_challenge(token: bytes | None, version: ProtocolVersion) -> None:
    check(AuthChallenge(token), 0x0E, bytes_(token), version)


@pytest.mark.spec("v3 v4 v5 4.2.8")
@versions
@pytest.mark.parametrize("token", [None, b"", b"token"])
def test_auth_success(token: bytes | None, version: ProtocolVersion) -> None:
    check(AuthSuccess(token), 0x10, bytes_(token), version)


QUORUM: dict[str, Any] = {"consistency": 4, "received": 1, "required": 2}
ANSWERS = short(4) + int_(1) + int_(2)
FIELDS: dict[int, tuple[dict[str, Any], bytes]] = {
    0x1000: (
        {"consistency": 4, "required": 2, "alive": 1},
        short(4) + int_(2) + int_(1),
    ),
    0x1100: (QUORUM | {"write_type": "SIMPLE"}, ANSWERS + string("SIMPLE")),
    0x1200: (QUORUM | {"data_present": True}, ANSWERS + byte(1)),
    0x1300: (QUORUM | {"failures": 3, "data_present": False}, ANSWERS + int_(3) + byte(0)),
    0x1400: (
        {"keyspace": "k", "function": "f", "argument_types": ["int"]},
        string("k") + string("f") + string_list(["int"]),
    ),
    0x1500: (
        QUORUM | {"failures": 3, "write_type": "BATCH"},
        ANSWERS + int_(3) + string("BATCH"),
    ),
    0x1700: (QUORUM, ANSWERS),
    0x2400: ({"keyspace": "k", "table": ""}, string("k") + string("")),
    0x2500: ({"statement_id": b"id"}, short_bytes(b"id")),
}
REASONS: dict[str, Any] = {
    "failures": 2,
    "reasons": {IPv4Address("10.1.2.3"): 1, IPv6Address("::1"): 0x1234},
}
REASON_MAP = int_(2) + byte(4) + bytes((10, 1, 2, 3)) + short(1)
REASON_MAP += byte(16) + bytes(15) + b"\1" + short(0x1234)
V5_FIELDS: dict[int, tuple[dict[str, Any], bytes]] = {
    **FIELDS,
    0x1300: (QUORUM | REASONS | {"data_present": True}, ANSWERS + REASON_MAP + byte(1)),
    0x1500: (QUORUM | REASONS | {"write_type": "CDC"}, ANSWERS + REASON_MAP + string("CDC")),
}
ERRORS = [
    pytest.param(
        version,
        code,
        *(V5_FIELDS if version == 5 else FIELDS).get(code, ({}, b"")),
        id=f"v{version}-{code:04x}",
    )
    for version, codes in ERROR_CODES.items()
    for code in codes
]


@pytest.mark.spec("v3 v4 9", "v5 8")
@pytest.mark.parametrize(("version", "code", "fields", "rest"), ERRORS)
def test_error_codes(version: int, code: int, fields: dict[str, Any], rest: bytes) -> None:
    body = int_(code) + string("text") + rest
    check(Error(code, "text", fields), 0x00, body, ProtocolVersion(version))


@pytest.mark.spec("v5 8")
def test_contentions_follow_a_write_timeout_of_type_cas() -> None:
    fields = QUORUM | {"write_type": "CAS", "contentions": 5}
    body = int_(0x1100) + string("text") + ANSWERS + string("CAS") + short(5)
    check(Error(0x1100, "text", fields), 0x00, body, V5)
    before = QUORUM | {"write_type": "CAS"}
    for version in (V3, V4):
        check(Error(0x1100, "text", before), 0x00, body[:-2], version)
