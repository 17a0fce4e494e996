"""All messages: equality, the table of readers, the prefix."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto.messages
from cqlproto.enums import (
    FLAG_COMPRESSED,
    FLAG_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    Consistency,
    Opcode,
    ProtocolVersion,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import (
    AuthChallenge,
    AuthResponse,
    AuthSuccess,
    Error,
    Event,
    Message,
    Options,
    Query,
    QueryParameters,
    Ready,
    SetKeyspace,
    Void,
    read_prefix,
    read_request,
    read_request_prefix,
    read_response,
    write_prefix,
    write_request_prefix,
)
from cqlproto.testing import requests, responses

V3, V4, V5 = ProtocolVersion
REQUESTS = {
    Opcode.STARTUP,
    Opcode.OPTIONS,
    Opcode.QUERY,
    Opcode.PREPARE,
    Opcode.EXECUTE,
    Opcode.BATCH,
    Opcode.REGISTER,
    Opcode.AUTH_RESPONSE,
}
TEXTS = st.text(max_size=8)
PAYLOADS = st.dictionaries(TEXTS, st.none() | st.binary(max_size=8), max_size=3)
BYTES = "000102030405060708090a0b0c0d0e0f"


def body_of(message: Message, version: ProtocolVersion) -> bytes:
    out = bytearray()
    message.write_body(out, version)
    return bytes(out)


@given(st.sampled_from(ProtocolVersion), st.data(), st.binary(max_size=3))
def test_requests_stand_behind_their_prefix(
    version: ProtocolVersion, data: st.DataObject, prefix: bytes
) -> None:
    message = data.draw(requests(version))
    body = prefix + body_of(message, version)
    assert read_request(message.opcode, body, len(prefix), version) == message
    with pytest.raises(RemoteProtocolError, match="left after"):
        read_request(message.opcode, body + b"x", len(prefix), version)


@pytest.mark.parametrize("kind", [Void, Ready, SetKeyspace, Error, Event])
@given(version=st.sampled_from(ProtocolVersion), data=st.data(), prefix=st.binary(max_size=3))
def test_responses_stand_behind_their_prefix(
    kind: type[Any], version: ProtocolVersion, data: st.DataObject, prefix: bytes
) -> None:
    message = data.draw(responses(version, kind))
    body = prefix + body_of(message, version)
    assert read_response(message.opcode, body, len(prefix), version) == message


@given(st.sampled_from(ProtocolVersion), st.data())
def test_messages_differ_if_their_bodies_do(version: ProtocolVersion, data: st.DataObject) -> None:
    one = data.draw(requests(version))
    other = data.draw(requests(version))
    same = one.opcode == other.opcode and body_of(one, version) == body_of(other, version)
    assert (one == other) is same
    assert (one != other) is not same


def test_a_message_is_not_hashable() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Options())


def test_a_message_equals_nothing_else() -> None:
    assert AuthChallenge(b"x") != AuthSuccess(b"x")
    assert Options() != "Options()"


@pytest.mark.parametrize("kind", [AuthResponse, AuthChallenge, AuthSuccess])
def test_a_repr_shows_no_token(
    kind: type[AuthResponse] | type[AuthChallenge] | type[AuthSuccess],
) -> None:
    assert repr(kind(b"\0user\0secret")) == f"{kind.__name__}(token=...)"


def test_a_repr_is_of_bounded_length() -> None:
    assert len(repr(Query("x" * 10_000, QueryParameters(Consistency.ONE)))) < 1000


@pytest.mark.parametrize("opcode", Opcode)
def test_an_opcode_belongs_to_one_direction(opcode: Opcode) -> None:
    """v4 section 2.4"""
    if opcode in REQUESTS:
        with pytest.raises(
            RemoteProtocolError, match=f"must be that of a response, got {opcode.name}"
        ):
            read_response(opcode, b"", 0, V4)
    else:
        with pytest.raises(
            RemoteProtocolError, match=f"must be that of a request, got {opcode.name}"
        ):
            read_request(opcode, b"", 0, V4)


@given(st.integers(-1, 300).filter(lambda opcode: opcode not in set(Opcode)))
def test_an_unknown_opcode_is_an_error(opcode: int) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown opcode"):
        read_request(opcode, b"", 0, V4)
    with pytest.raises(RemoteProtocolError, match="unknown opcode"):
        read_response(opcode, b"", 0, V4)


@given(
    st.none() | st.uuids(),
    st.lists(TEXTS, max_size=3),
    st.none() | PAYLOADS,
    st.binary(max_size=5),
    st.sampled_from([V4, V5]),
)
def test_the_prefix_of_a_response_round_trips(
    tracing_id: UUID | None,
    warnings: list[str],
    payload: dict[str, bytes | None] | None,
    rest: bytes,
    version: ProtocolVersion,
) -> None:
    """v4 section 2.2"""
    out = bytearray()
    flags = write_prefix(out, version, tracing_id, warnings, payload)
    assert bool(flags & FLAG_TRACING) == (tracing_id is not None)
    assert bool(flags & FLAG_WARNING) == bool(warnings)
    assert bool(flags & FLAG_PAYLOAD) == (payload is not None)
    end = len(out)
    read = read_prefix(bytes(out) + rest, flags | FLAG_COMPRESSED, version)
    assert (read[0], list(read[1]), read[2], read[3]) == (tracing_id, warnings, payload, end)
    for size in range(end):
        with pytest.raises(RemoteProtocolError):
            read_prefix(bytes(out)[:size], flags, version)


@given(st.none() | PAYLOADS, st.binary(max_size=5))
def test_the_prefix_of_a_request_round_trips(
    payload: dict[str, bytes | None] | None, rest: bytes
) -> None:
    """A request with the tracing flag has no id (v4 section 2.2)."""
    out = bytearray()
    flags = write_request_prefix(out, V4, payload)
    assert flags == (0 if payload is None else FLAG_PAYLOAD)
    read = read_request_prefix(bytes(out) + rest, flags | FLAG_TRACING, V4)
    assert read == (payload, len(out))


def test_v3_knows_no_prefix_but_the_tracing_id() -> None:
    """v3 section 2.2"""
    body = bytes.fromhex(BYTES)
    assert read_prefix(body, FLAG_TRACING, V3) == (UUID(BYTES), (), None, 16)
    for flag in (FLAG_WARNING, FLAG_PAYLOAD):
        with pytest.raises(RemoteProtocolError):
            read_prefix(b"\0\0", flag, V3)
    with pytest.raises(RemoteProtocolError):
        read_request_prefix(b"\0\0", FLAG_PAYLOAD, V3)
    with pytest.raises(LocalProtocolError):
        write_prefix(bytearray(), V3, warnings=["slow"])
    with pytest.raises(LocalProtocolError):
        write_prefix(bytearray(), V3, payload={})
    with pytest.raises(LocalProtocolError):
        write_request_prefix(bytearray(), V3, {})


def test_what_the_package_exports_exists() -> None:
    names = cqlproto.messages.__all__
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert hasattr(cqlproto.messages, name)
