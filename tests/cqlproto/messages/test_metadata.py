"""Metadata: read, written and recognized (v4 sections 4.2.5.2 and 4.2.5.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import ROWS_GLOBAL_TABLE, Opcode, ProtocolVersion
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages import (
    BindMetadata,
    Column,
    Message,
    Prepared,
    ResultMetadata,
    Rows,
    read_response,
    read_result,
)
from cqlproto.messages.metadata import read_result_metadata
from cqlproto.testing import columns, responses
from cqlproto.wire import Reader

V3, V4, V5 = ProtocolVersion
A = Column("ks", "t", "a", NATIVE_TYPES["int"])
B = Column("ks", "t", "b", NATIVE_TYPES["text"])
KNOWN = ResultMetadata.of([A, B], V4)


def body_of(message: Message, version: ProtocolVersion = V4) -> bytes:
    out = bytearray()
    message.write_body(out, version)
    return bytes(out)


def read_rows(body: bytes, known: ResultMetadata | None, version: ProtocolVersion = V4) -> Rows:
    result = read_result(body, 0, version, known)
    assert isinstance(result, Rows)
    return result


@given(st.sampled_from(ProtocolVersion), columns())
def test_metadata_keeps_the_bytes_that_it_was_read_from(
    version: ProtocolVersion, described: tuple[Column, ...]
) -> None:
    """v4 section 4.2.5.2: a table that all columns share is named once."""
    metadata = ResultMetadata.of(described, version)
    assert metadata.global_table is (len({(c.keyspace, c.table) for c in described}) == 1)
    sent = Rows.of(metadata, 0, b"")
    assert read_rows(body_of(sent, version), None, version).metadata == metadata
    flags = ROWS_GLOBAL_TABLE if metadata.global_table else 0
    assert metadata.matches(flags, len(described), b"x" + metadata.raw + b"y", 1)
    assert not metadata.matches(flags ^ ROWS_GLOBAL_TABLE, len(described), metadata.raw, 0)
    assert not metadata.matches(flags, len(described) + 1, metadata.raw, 0)


def test_the_cache_does_not_count_when_metadata_is_compared() -> None:
    same = ResultMetadata.of([A, B], V4)
    same.cache["x"] = list
    assert same == KNOWN
    assert ResultMetadata.of([A], V4) != KNOWN


def test_key_indices_came_with_v4() -> None:
    """v4 section 4.2.5.4"""
    message = Prepared(b"id", None, BindMetadata((A, B), (1, 0)), KNOWN)
    assert read_response(Opcode.RESULT, body_of(message, V4), 0, V4) == message
    read = read_response(Opcode.RESULT, body_of(message, V3), 0, V3)
    assert read == Prepared(b"id", None, BindMetadata((A, B)), KNOWN)


@pytest.mark.parametrize("version", ProtocolVersion)
@given(data=st.data())
def test_bind_markers_are_read_as_they_were_written(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    bind = data.draw(responses(version, Prepared)).bind
    out = bytearray()
    bind.write(out, version)
    reader = Reader(bytes(out))
    assert BindMetadata.read(reader, version) == bind
    reader.expect_end("the bind markers")


@given(columns(min_size=1), columns(min_size=1))
def test_metadata_that_says_the_same_is_the_same_object(
    described: tuple[Column, ...], others: tuple[Column, ...]
) -> None:
    metadata = ResultMetadata.of(described, V4)
    other = ResultMetadata.of(others, V4)
    for known in (None, other, metadata):
        reader = Reader(b"x" + metadata.raw, 1)
        flags, count = int(metadata.global_table), metadata.column_count
        read = read_result_metadata(reader, flags, count, known)
        assert read == metadata
        assert (read is known) == (known == metadata)
        reader.expect_end("the columns")


@pytest.mark.parametrize(
    "content",
    [
        "00000002" + "00000000" + "00000000",  # a flag that is none
        "00000000" + "00000001" + "00000001" + "0001" + "0000" * 4,  # key 1 of one marker
        "00000000" + "00000001" + "00000000",  # a column that does not follow
    ],
)
def test_malformed_bind_markers_are_a_protocol_error(content: str) -> None:
    with pytest.raises(RemoteProtocolError):
        BindMetadata.read(Reader(bytes.fromhex(content)), V4)
