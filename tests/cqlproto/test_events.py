"""Events: repr and attributes."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import UUID

import pytest

import cqlproto
from cqlproto import (
    ConnectionEnded,
    Event,
    HandshakeCompleted,
    HandshakeFailed,
    ProtocolVersion,
    PushReceived,
    RemoteProtocolError,
    RequestReceived,
    RequestUnreadable,
    ResponseReceived,
    ResponseUnreadable,
)
from cqlproto._events import UnsupportedVersionReceived
from cqlproto.messages import READY, VOID, Error, Options, StatusChange

ERROR = Error(0x0100, "no")
UP = StatusChange("UP", (IPv4Address("10.0.0.1"), 9042))
SHOWN: list[tuple[Event, str]] = [
    (
        HandshakeCompleted(ProtocolVersion.V4, {}, "lz4"),
        "HandshakeCompleted(version=<ProtocolVersion.V4: 4>, supported={}, compression='lz4')",
    ),
    (
        ResponseReceived(1, VOID),
        "ResponseReceived(stream_id=1, message=Void(), tracing_id=None, warnings=(), payload=None)",
    ),
    (
        ResponseUnreadable(1, RemoteProtocolError("odd")),
        "ResponseUnreadable(stream_id=1, error=RemoteProtocolError('odd'))",
    ),
    (
        RequestUnreadable(1, RemoteProtocolError("odd")),
        "RequestUnreadable(stream_id=1, error=RemoteProtocolError('odd'))",
    ),
    (PushReceived(UP), f"PushReceived(event={UP!r})"),
    (
        RequestReceived(2, Options()),
        "RequestReceived(stream_id=2, message=Options(), tracing=False, payload=None)",
    ),
    (UnsupportedVersionReceived(3, 66), "UnsupportedVersionReceived(stream_id=3, version=66)"),
    (ConnectionEnded(True), "ConnectionEnded(clean=True)"),
]


@pytest.mark.parametrize(("event", "text"), SHOWN, ids=lambda value: type(value).__name__)
def test_events_show_what_they_say(event: Event, text: str) -> None:
    assert repr(event) == text


def test_a_failure_shows_its_reason_and_what_came_with_it() -> None:
    plain = HandshakeFailed("refused")
    assert (plain.reason, plain.error, tuple(plain.supported_versions)) == ("refused", None, ())
    assert plain.authentication is False
    failed = HandshakeFailed("no", error=ERROR, supported_versions=(3, 4), authentication=True)
    assert (failed.error, failed.supported_versions) == (ERROR, (3, 4))
    assert failed.authentication is True
    assert repr(failed).startswith(f"HandshakeFailed(reason='no', error={ERROR!r},")


def test_what_comes_with_a_message_is_kept() -> None:
    trace = UUID(int=1)
    told = ResponseReceived(1, READY, (trace, ["slow"], {"a": b"b"}))
    assert (told.tracing_id, told.warnings, told.payload) == (trace, ["slow"], {"a": b"b"})
    asked = RequestReceived(1, Options(), tracing=True, payload={})
    assert (asked.tracing, asked.payload) == (True, {})


@pytest.mark.parametrize("event", [event for event, _ in SHOWN], ids=lambda e: type(e).__name__)
def test_events_are_slim_and_public(event: Event) -> None:
    assert not hasattr(event, "__dict__")
    assert type(event).__name__ in cqlproto.__all__
