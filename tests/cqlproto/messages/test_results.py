"""RESULT (v4 section 4.2.5): with known metadata, with and without metadata, and malformed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes.model import NATIVE_TYPES
from cqlproto.enums import (
    ROWS_GLOBAL_TABLE,
    ROWS_HAS_MORE_PAGES,
    ROWS_METADATA_CHANGED,
    ROWS_NO_METADATA,
    Opcode,
    ProtocolVersion,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import (
    READY,
    VOID,
    BindMetadata,
    Column,
    Message,
    Prepared,
    Ready,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    Void,
    read_response,
    read_result,
)
from cqlproto.testing import columns, responses

V3, V4, V5 = ProtocolVersion

A = Column("ks", "t", "a", NATIVE_TYPES["int"])
B = Column("ks", "t", "b", NATIVE_TYPES["text"])
ELSEWHERE = Column("ks", "u", "c", NATIVE_TYPES["text"])
KNOWN = ResultMetadata.of([A, B], V4)
ROW = bytes.fromhex("00000004" + "00000001" + "0000000178")
TARGETS: list[tuple[str, str | None, list[str] | None]] = [
    ("KEYSPACE", None, None),
    ("TABLE", "t", None),
    ("TYPE", "t", None),
    ("FUNCTION", "f", ["int"]),
    ("AGGREGATE", "f", []),
]


def body_of(message: Message, version: ProtocolVersion = V4) -> bytes:
    out = bytearray()
    message.write_body(out, version)
    return bytes(out)


def read_rows(body: bytes, known: ResultMetadata | None, version: ProtocolVersion = V4) -> Rows:
    result = read_result(body, 0, version, known)
    assert isinstance(result, Rows)
    return result


def reply(flags: int, count: int, *, between: str = "", row_count: int, content: bytes) -> bytes:
    """Return a Rows result with these fields."""
    return b"".join(
        [
            (2).to_bytes(4),
            flags.to_bytes(4),
            count.to_bytes(4, signed=True),
            bytes.fromhex(between),
            row_count.to_bytes(4, signed=True),
            content,
        ]
    )


@pytest.mark.parametrize("version", ProtocolVersion)
@pytest.mark.parametrize("kind", [Void, Rows, SetKeyspace, Prepared, SchemaChange])
@given(data=st.data())
def test_results_are_read_as_they_were_written(
    kind: type[Any], version: ProtocolVersion, data: st.DataObject
) -> None:
    message = data.draw(responses(version, kind))
    assert read_result(body_of(message, version), 0, version) == message
    assert message != "another thing"


def test_rows_say_what_they_hold() -> None:
    rows = Rows.of(KNOWN, 1, ROW)
    assert rows.content == ROW
    assert rows == Rows(KNOWN, 1, None, b"before" + ROW, 6, None, rows.flags, 2)
    assert rows != Rows.of(KNOWN, 1, ROW, paging_state=b"p")


@pytest.mark.parametrize(("target", "name", "arguments"), TARGETS)
def test_schema_changes_have_what_their_target_has(
    target: str, name: str | None, arguments: list[str] | None
) -> None:
    """v4 section 4.2.5.5"""
    change = SchemaChange("CREATED", target, "ks", name, arguments)
    assert read_result(body_of(change), 0, V4) == change


def test_bytes_after_void_are_passed_over() -> None:
    assert read_result(body_of(VOID) + b"more", 0, V4) is VOID


def test_void_and_ready_are_one_object_each() -> None:
    """v4 sections 4.2.2 and 4.2.5.1"""
    assert read_response(Opcode.RESULT, body_of(VOID), 0, V4) is VOID
    assert read_response(Opcode.READY, b"", 0, V4) is READY
    assert Void() == VOID
    assert Ready() == READY


@pytest.mark.parametrize("flags", [ROWS_NO_METADATA, ROWS_NO_METADATA | ROWS_GLOBAL_TABLE])
def test_rows_without_metadata_are_those_of_the_known(flags: int) -> None:
    """v4 section 4.2.5.2; servers may set GLOBAL_TABLE together with NO_METADATA."""
    body = b"\xff" + reply(flags, 2, row_count=1, content=ROW)
    rows = read_response(Opcode.RESULT, body, 1, V4, KNOWN)
    assert isinstance(rows, Rows)
    assert rows.metadata is KNOWN
    assert rows.body is body
    assert rows.content == ROW
    assert (rows.row_count, rows.column_count, rows.flags) == (1, 2, flags)
    assert rows.paging_state is None
    assert body_of(rows) == body[1:]


def test_rows_without_metadata_may_be_a_page() -> None:
    """v4 section 8"""
    flags = ROWS_NO_METADATA | ROWS_HAS_MORE_PAGES
    body = reply(flags, 2, between="00000001aa", row_count=1, content=ROW)
    rows = read_rows(body, KNOWN)
    assert rows.metadata is KNOWN
    assert rows.paging_state == b"\xaa"
    assert rows.content == ROW
    assert body_of(rows) == body


@pytest.mark.parametrize("known", [None, ResultMetadata.of([A], V4)])
def test_rows_that_nothing_describes_can_be_passed_on(known: ResultMetadata | None) -> None:
    body = reply(ROWS_NO_METADATA, 2, row_count=1, content=ROW)
    rows = read_rows(body, known)
    assert rows.metadata is None
    assert body_of(rows) == body


@pytest.mark.parametrize("columns", [[A, B], [A, ELSEWHERE]])
def test_metadata_that_is_sent_again_is_not_read_again(columns: list[Column]) -> None:
    known = ResultMetadata.of(columns, V4)
    known.cache["decoder"] = list
    sent = Rows.of(ResultMetadata.of(columns, V4), 1, ROW, paging_state=b"p")
    rows = read_rows(body_of(sent), known)
    assert rows.metadata is known
    assert rows == sent


def test_rows_cut_short_after_known_metadata_are_a_protocol_error() -> None:
    body = body_of(Rows.of(KNOWN, 1, ROW))
    for size in range(len(body) - len(ROW) + 1):
        with pytest.raises(RemoteProtocolError):
            read_result(body[:size], 0, V4, KNOWN)


def test_metadata_that_differs_is_read() -> None:
    others = [
        [A],
        [A, B, B],
        [B, A],
        [A, ELSEWHERE],
        [A, Column("ks", "t", "b", NATIVE_TYPES["blob"])],
    ]
    for other in others:
        sent = Rows.of(ResultMetadata.of(other, V4), 0, b"")
        rows = read_rows(body_of(sent), KNOWN)
        assert rows.metadata is not KNOWN
        assert rows.metadata is not None
        assert rows.metadata.columns == tuple(other)
        assert rows.metadata.cache == {}


@given(st.sampled_from(ProtocolVersion), st.data())
def test_known_metadata_changes_nothing_but_identity(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    """It is used for rows without metadata if it has as many columns."""
    sent = data.draw(responses(version, Rows))
    described = data.draw(columns())
    if sent.metadata is not None and data.draw(st.booleans()):
        described = sent.metadata.columns
    known = ResultMetadata.of(described, version)
    read = read_rows(body_of(sent, version), known, version)
    if sent.metadata is None:
        assert read.metadata is (known if len(described) == sent.column_count else None)
        sent.metadata = read.metadata
    assert read == sent


def test_changed_metadata_brings_its_id() -> None:
    """v5 section 4.2.5.2"""
    sent = Rows.of(KNOWN, 1, ROW, metadata_id=b"new", paging_state=b"p")
    rows = read_rows(body_of(sent, V5), KNOWN, V5)
    assert rows.metadata_id == b"new"
    assert rows == sent
    with pytest.raises(LocalProtocolError):
        body_of(sent, V4)
    with pytest.raises(LocalProtocolError):
        body_of(Rows.of(KNOWN, 1, ROW, metadata_id=b"new", skip_metadata=True), V5)


def test_a_server_can_leave_metadata_out() -> None:
    body = body_of(Rows.of(KNOWN, 1, ROW, skip_metadata=True))
    assert len(body) == 16 + len(ROW)
    assert read_rows(body, KNOWN).content == ROW


@pytest.mark.parametrize("columns", [[A, B], [A, ELSEWHERE]])
@pytest.mark.parametrize("flags", [0, ROWS_GLOBAL_TABLE])
def test_the_metadata_says_whether_its_table_is_global(columns: list[Column], flags: int) -> None:
    """The flags of the rows do not count: they may come from a response without metadata."""
    metadata = ResultMetadata.of(columns, V4)
    rows = Rows(metadata, 1, None, ROW, 0, None, flags, 2)
    assert read_rows(body_of(rows), None).metadata == metadata


def test_rows_without_any_metadata_cannot_claim_to_bring_it() -> None:
    with pytest.raises(LocalProtocolError):
        body_of(Rows(None, 0, None, b"", 0, None, 0, 2))


def test_a_repr_shows_no_rows() -> None:
    assert repr(Rows.of(KNOWN, 1, ROW)) == "Rows(row_count=1, column_count=2, flags=0x1, 13 bytes)"


@pytest.mark.parametrize("known", [None, KNOWN])
@pytest.mark.parametrize(
    "body",
    [
        reply(ROWS_NO_METADATA, 2, row_count=-1, content=ROW),
        reply(ROWS_NO_METADATA, 2, row_count=2, content=ROW),
        reply(ROWS_NO_METADATA, 2, row_count=0x7FFFFFFF, content=ROW),
        reply(ROWS_NO_METADATA, -1, row_count=0, content=b""),
        reply(ROWS_NO_METADATA, 0, row_count=0x7FFFFFFF, content=b""),
        reply(ROWS_NO_METADATA, 0, row_count=-1, content=b""),
        reply(0, 0x7FFFFFFF, row_count=0, content=b""),
        reply(ROWS_GLOBAL_TABLE, 0x7FFFFFFF, between="00000000", row_count=0, content=b""),
        # No paging state although there are more pages.
        reply(ROWS_NO_METADATA | 2, 2, between="ffffffff", row_count=1, content=ROW),
        reply(0x10, 2, row_count=1, content=ROW),
        # Changed metadata before v5.
        reply(ROWS_METADATA_CHANGED, 2, between="0000", row_count=1, content=ROW),
    ],
)
def test_malformed_rows_are_a_protocol_error(body: bytes, known: ResultMetadata | None) -> None:
    """v4 section 4.2.5.2"""
    with pytest.raises(RemoteProtocolError):
        read_result(body, 0, V4, known)


def test_changed_metadata_cannot_be_left_out() -> None:
    """v5 section 4.2.5.2"""
    flags = ROWS_METADATA_CHANGED | ROWS_NO_METADATA
    with pytest.raises(RemoteProtocolError):
        read_result(reply(flags, 2, between="0000", row_count=1, content=ROW), 0, V5, KNOWN)


@pytest.mark.parametrize("kind", ["", "00", "00000000", "00000006", "ffffffff"])
@pytest.mark.parametrize("rest", ["", "00" * 20])
def test_a_result_of_no_kind_is_a_protocol_error(kind: str, rest: str) -> None:
    """v4 section 4.2.5"""
    with pytest.raises(RemoteProtocolError):
        read_result(bytes.fromhex(kind + rest), 0, V4, None)


@pytest.mark.parametrize("size", [4, 8, 12, 15])
def test_a_rows_result_has_at_least_16_bytes(size: int) -> None:
    """v4 section 4.2.5.2"""
    body = reply(ROWS_NO_METADATA, 0, row_count=0, content=b"")
    assert read_rows(body, None).row_count == 0
    with pytest.raises(RemoteProtocolError):
        read_result(body[:size], 0, V4, None)


def test_a_table_named_for_no_columns_is_passed_on() -> None:
    """A proxy must relay it, although it has no meaning."""
    body = bytes.fromhex(
        "00000004" + "000169"
        "00000000" + "00000000" + "00000000"
        "00000001" + "00000000" + "00026b73" + "000174"
    )
    assert body_of(read_result(body, 0, V4)) == body


@pytest.mark.parametrize(
    ("bind", "result"),
    [
        # flags, columns, keys, key indices, then the table and columns
        ("00000000" + "00000000" + "00000001" + "0000", "00000004" + "00000000"),
        ("00000000" + "00000000" + "ffffffff", "00000004" + "00000000"),
        ("00000000" + "00000000" + "7fffffff", "00000004" + "00000000"),
        ("00000000" + "ffffffff" + "00000000", "00000004" + "00000000"),
        ("00000004" + "00000000" + "00000000", "00000004" + "00000000"),
        ("00000001" + "ffffffff" + "00000000" + "0000" * 2, "00000004" + "00000000"),
        ("00000001" + "00000003" + "00000000" + "0000" * 2, "00000004" + "00000000"),
        ("00000000" + "00000000" + "00000000", "00000002" + "00000000" + "00000000"),
        ("00000000" + "00000000" + "00000000", "00000000" + "00000001"),
    ],
)
def test_a_malformed_prepared_is_a_protocol_error(bind: str, result: str) -> None:
    """v4 section 4.2.5.4"""
    with pytest.raises(RemoteProtocolError):
        read_result(bytes.fromhex("00000004" + "000169" + bind + result), 0, V4, None)


def test_prepared_carries_the_id_of_the_metadata_on_v5() -> None:
    """v5 section 4.2.5.4"""
    nothing = BindMetadata(())
    with pytest.raises(LocalProtocolError):
        body_of(Prepared(b"i", None, nothing, KNOWN), V5)
    message = Prepared(b"i", b"m", nothing, KNOWN)
    assert read_response(Opcode.RESULT, body_of(message, V5), 0, V5) == message


def test_set_keyspace() -> None:
    """v4 section 4.2.5.3"""
    assert body_of(SetKeyspace("ks")).hex() == "00000003" + "00026b73"


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (SchemaChange("CREATED", "FUNCTION", "ks", "f", ["int"]), V3),
        (SchemaChange("CREATED", "ROLE", "ks", "r"), V4),
        (SchemaChange("CREATED", "KEYSPACE", "ks", "name"), V4),
        (SchemaChange("CREATED", "TABLE", "ks"), V4),
        (SchemaChange("CREATED", "TABLE", "ks", "t", []), V4),
        (SchemaChange("CREATED", "FUNCTION", "ks", "f"), V4),
    ],
)
def test_a_schema_change_that_cannot_be_said(
    change: SchemaChange, version: ProtocolVersion
) -> None:
    """v4 sections 4.2.5.5 and 4.2.6"""
    with pytest.raises(LocalProtocolError):
        body_of(change, version)


def test_a_schema_change_of_something_unknown_is_a_protocol_error() -> None:
    function = SchemaChange("CREATED", "FUNCTION", "ks", "f", ["int"])
    with pytest.raises(RemoteProtocolError, match="FUNCTION"):
        read_result(body_of(function, V4), 0, V3, None)
