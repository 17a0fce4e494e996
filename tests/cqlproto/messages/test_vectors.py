"""Every vector read and written, truncated at every byte, and corrupted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import FLAG_PAYLOAD, FLAG_TRACING, FLAG_WARNING, ProtocolVersion
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages import (
    Message,
    Request,
    Response,
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
    write_prefix,
    write_request_prefix,
)
from tests.cqlproto.messages.vectors import Vector, load

VECTORS = load()

all_vectors = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def read(vector: Vector, body: bytes) -> Request | Response:
    if vector.is_request:
        _, pos = read_request_prefix(body, vector.flags, vector.version)
        return read_request(vector.opcode, body, pos, vector.version)
    *_, pos = read_prefix(body, vector.flags, vector.version)
    return read_response(vector.opcode, body, pos, vector.version)


def test_the_vectors_cover_both_versions() -> None:
    assert {vector.version for vector in VECTORS} == {ProtocolVersion.V4, ProtocolVersion.V5}
    assert len(VECTORS) > 400


@all_vectors
def test_a_vector_is_read(vector: Vector) -> None:
    message = read(vector, vector.body)
    assert message == vector.message
    assert message.opcode == vector.opcode


@all_vectors
def test_a_vectors_prefix_is_read(vector: Vector) -> None:
    """v4 section 2.2, v5 section 2.4.1.2: tracing id, warnings, custom payload, in this order."""
    if vector.is_request:
        payload, _ = read_request_prefix(vector.body, vector.flags, vector.version)
    else:
        tracing_id, warnings, payload, _ = read_prefix(vector.body, vector.flags, vector.version)
        assert tracing_id == vector.tracing_id
        assert list(warnings) == vector.warnings
    assert payload == vector.payload


@all_vectors
def test_a_vector_is_written(vector: Vector) -> None:
    out = bytearray()
    flags = vector.flags & (FLAG_PAYLOAD | FLAG_TRACING | FLAG_WARNING)
    if vector.is_request:
        flags &= ~FLAG_TRACING
        written = write_request_prefix(out, vector.version, vector.payload)
    else:
        written = write_prefix(
            out, vector.version, vector.tracing_id, vector.warnings, vector.payload
        )
    assert written == flags
    vector.message.write_body(out, vector.version)
    assert out.hex() == vector.body.hex()


@all_vectors
def test_a_vector_that_was_read_is_written_as_it_came(vector: Vector) -> None:
    message = read(vector, vector.body)
    out = bytearray()
    message.write_body(out, vector.version)
    assert vector.body.endswith(out)


@all_vectors
def test_a_vector_cut_short_is_a_message_or_a_protocol_error(vector: Vector) -> None:
    for size in range(len(vector.body)):
        try:
            message = read(vector, vector.body[:size])
        except RemoteProtocolError:
            continue
        assert isinstance(message, Message)


@all_vectors
def test_bytes_after_a_response_are_passed_over(vector: Vector) -> None:
    """v4 section 4.2: clients ignore fields that later servers add; ERROR and Rows keep them."""
    if vector.is_request:
        with pytest.raises(RemoteProtocolError):
            read(vector, vector.body + b"\0")
        return
    message = read(vector, vector.body + b"\0")
    if type(message).__name__ in ("Error", "Rows"):
        assert type(message) is type(vector.message)
    else:
        assert message == vector.message


@given(
    st.sampled_from(VECTORS),
    st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_vector_is_a_message_or_a_protocol_error(
    vector: Vector, damage: list[tuple[int, int]]
) -> None:
    body = bytearray(vector.body or b"\0")
    for index, byte in damage:
        body[index % len(body)] = byte
    try:
        message = read(vector, bytes(body))
    except RemoteProtocolError:
        return
    assert isinstance(message, Message)


@given(
    st.integers(0, 255),
    st.binary(max_size=60),
    st.integers(0, 255),
    st.sampled_from(ProtocolVersion),
    st.booleans(),
)
def test_random_bytes_are_a_message_or_a_protocol_error(
    opcode: int, body: bytes, flags: int, version: ProtocolVersion, is_request: bool
) -> None:
    try:
        message: Message
        if is_request:
            _, pos = read_request_prefix(body, flags, version)
            message = read_request(opcode % 17, body, pos, version)
        else:
            *_, pos = read_prefix(body, flags, version)
            message = read_response(opcode % 17, body, pos, version)
    except RemoteProtocolError:
        return
    assert isinstance(message, Message)
