"""EVENT (v4 section 4.2.6)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import Opcode, ProtocolVersion
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages import (
    Event,
    SchemaChange,
    StatusChange,
    TopologyChange,
    UnknownEvent,
    read_response,
)
from cqlproto.testing import responses

V3, V4, V5 = ProtocolVersion
ADDRESS = (ip_address("10.0.0.1"), 9042)


def body_of(event: Event, version: ProtocolVersion = V4) -> bytes:
    out = bytearray()
    event.write_body(out, version)
    return bytes(out)


def string(text: str) -> bytes:
    return len(text).to_bytes(2) + text.encode()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (StatusChange("UP", ADDRESS), "STATUS_CHANGE"),
        (TopologyChange("UP", ADDRESS), "TOPOLOGY_CHANGE"),
    ],
)
def test_a_node_event(event: StatusChange | TopologyChange, kind: str) -> None:
    body = string(kind) + string("UP") + bytes.fromhex("040a000001" + "00002352")
    assert body_of(Event(event)) == body
    assert read_response(Opcode.EVENT, body, 0, V4) == Event(event)


def test_a_status_is_no_topology() -> None:
    assert StatusChange("UP", ADDRESS) != TopologyChange("UP", ADDRESS)


def test_an_unknown_kind_is_passed_on_raw() -> None:
    body = string("CLIENT_ROUTES_CHANGE") + b"\x01\x02"
    event = Event(UnknownEvent("CLIENT_ROUTES_CHANGE", b"\x01\x02"))
    assert read_response(Opcode.EVENT, body, 0, V4) == event
    assert body_of(event) == body


def test_a_schema_change_of_something_unknown_is_passed_on_raw() -> None:
    data = string("CREATED") + string("ROLE") + b"\x01\x02"
    body = string("SCHEMA_CHANGE") + data
    event = Event(UnknownEvent("SCHEMA_CHANGE", data))
    assert read_response(Opcode.EVENT, body, 0, V4) == event
    assert body_of(event) == body


def test_v3_knows_no_functions() -> None:
    """v4 section 10"""
    change = Event(SchemaChange("CREATED", "FUNCTION", "ks", "f", ["int"]))
    body = body_of(change, V4)
    assert read_response(Opcode.EVENT, body, 0, V4) == change
    data = body[len(string("SCHEMA_CHANGE")) :]
    assert read_response(Opcode.EVENT, body, 0, V3) == Event(UnknownEvent("SCHEMA_CHANGE", data))


@pytest.mark.parametrize("size", [5, 7])
def test_an_address_has_4_or_16_bytes(size: int) -> None:
    body = string("STATUS_CHANGE") + string("UP") + bytes([size]) + bytes(20)
    with pytest.raises(RemoteProtocolError, match="address"):
        read_response(Opcode.EVENT, body, 0, V4)


@pytest.mark.parametrize("version", ProtocolVersion)
@given(data=st.data())
def test_events_are_read_as_they_were_written(
    version: ProtocolVersion, data: st.DataObject
) -> None:
    message = data.draw(responses(version, Event))
    assert read_response(Opcode.EVENT, body_of(message, version), 0, version) == message
