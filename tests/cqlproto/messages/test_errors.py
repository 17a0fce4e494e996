"""ERROR by code and version (v4 section 9, v5 section 8)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import Consistency, ErrorCode, Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages import Error, read_response
from cqlproto.testing import responses

V3, V4, V5 = ProtocolVersion

WITHOUT_FIELDS = [
    ErrorCode.SERVER_ERROR,
    ErrorCode.PROTOCOL_ERROR,
    ErrorCode.BAD_CREDENTIALS,
    ErrorCode.OVERLOADED,
    ErrorCode.IS_BOOTSTRAPPING,
    ErrorCode.TRUNCATE_ERROR,
    ErrorCode.CDC_WRITE_FAILURE,
    ErrorCode.SYNTAX_ERROR,
    ErrorCode.UNAUTHORIZED,
    ErrorCode.INVALID,
    ErrorCode.CONFIG_ERROR,
]
ANSWERS: dict[str, object] = {"consistency": Consistency.ALL, "received": 1, "required": 3}


def body_of(error: Error, version: ProtocolVersion = V4) -> bytes:
    out = bytearray()
    error.write_body(out, version)
    return bytes(out)


def read(body: bytes, version: ProtocolVersion = V4) -> Error:
    error = read_response(Opcode.ERROR, body, 0, version)
    assert isinstance(error, Error)
    return error


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_says_whether_it_has_fields(code: ErrorCode) -> None:
    """Every code either stands alone or refuses to be written without its fields."""
    if code in WITHOUT_FIELDS:
        assert body_of(Error(code, "no")) == int(code).to_bytes(4) + b"\0\x02no"
    else:
        with pytest.raises(LocalProtocolError, match="needs the field"):
            body_of(Error(code, "no"))


def test_an_unknown_code_keeps_what_follows() -> None:
    body = bytes.fromhex("7fffffff" + "00026e6f" + "cafe")
    error = read(body)
    assert error == Error(0x7FFFFFFF, "no", {}, b"\xca\xfe")
    assert body_of(error) == body


def test_bytes_after_the_last_field_are_kept() -> None:
    body = body_of(Error(ErrorCode.UNPREPARED, "", {"statement_id": b"i"})) + b"later"
    error = read(body)
    assert error.fields == {"statement_id": b"i"}
    assert error.extra == b"later"
    assert body_of(error) == body


def test_an_unknown_consistency_stays_a_number() -> None:
    fields = {"consistency": 0x1234, "required": 2, "alive": 1}
    error = read(body_of(Error(ErrorCode.UNAVAILABLE, "", fields)))
    assert error.fields == fields
    assert not isinstance(error.fields["consistency"], Consistency)


def test_a_known_consistency_is_a_member() -> None:
    fields = {"consistency": 1, "required": 2, "alive": 1}
    error = read(body_of(Error(ErrorCode.UNAVAILABLE, "", fields)))
    assert error.fields["consistency"] is Consistency.ONE


@pytest.mark.parametrize("code", [ErrorCode.READ_FAILURE, ErrorCode.WRITE_FAILURE])
def test_failures_are_counted_on_v4_and_explained_on_v5(code: ErrorCode) -> None:
    """v4 section 9, v5 section 8"""
    last = {"data_present": True} if code == ErrorCode.READ_FAILURE else {"write_type": "SIMPLE"}
    reasons = {ip_address("10.0.0.1"): 1, ip_address("::1"): 0}
    fields = {**ANSWERS, **last, "failures": 2}
    explained = {**fields, "reasons": reasons}
    assert read(body_of(Error(code, "", fields), V4), V4).fields == fields
    assert read(body_of(Error(code, "", explained), V5), V5).fields == explained
    assert read(body_of(Error(code, "", explained), V4), V4).fields == fields
    with pytest.raises(LocalProtocolError, match="reasons"):
        body_of(Error(code, "", fields), V5)


@pytest.mark.parametrize(
    "code", [ErrorCode.READ_FAILURE, ErrorCode.WRITE_FAILURE, ErrorCode.FUNCTION_FAILURE]
)
def test_v3_does_not_know_failures(code: ErrorCode) -> None:
    """v4 section 10: v3 does not define the fields of these errors, so the bytes are kept."""
    body = int(code).to_bytes(4) + b"\0\0" + b"what"
    assert read(body, V3) == Error(code, "", {}, b"what")


def test_contentions_are_counted_by_v5_for_cas_only() -> None:
    """v5 section 8"""
    fields = {**ANSWERS, "write_type": "CAS", "contentions": 5}
    error = Error(ErrorCode.WRITE_TIMEOUT, "", fields)
    body = body_of(error, V5)
    assert read(body, V5) == error
    assert "contentions" not in read(body_of(error, V4), V4).fields
    assert "contentions" not in read(body[:-2], V5).fields
    with pytest.raises(LocalProtocolError, match="contentions"):
        body_of(Error(ErrorCode.WRITE_TIMEOUT, "", {**ANSWERS, "write_type": "CAS"}), V5)


def test_any_byte_but_zero_is_true() -> None:
    """v4 section 9, <data_present>"""
    error = Error(ErrorCode.READ_TIMEOUT, "", {**ANSWERS, "data_present": True})
    assert read(body_of(error)[:-1] + b"\x02") == error


@pytest.mark.parametrize("count", ["7fffffff", "ffffffff", "00000001"])
def test_reasons_that_cannot_follow_are_a_protocol_error(count: str) -> None:
    body = bytes.fromhex("00001300" + "0000" + "0005" + "00000001" + "00000003" + count + "0400")
    with pytest.raises(RemoteProtocolError):
        read(body, V5)


@pytest.mark.parametrize("version", ProtocolVersion)
@given(data=st.data())
def test_errors_are_read_as_they_were_written(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    message = data.draw(responses(version, Error))
    assert read_response(Opcode.ERROR, body_of(message, version), 0, version) == message
