"""The responses of the handshake: round trips (v4 sections 4.2.2 to 4.2.8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.enums import Opcode, ProtocolVersion
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.messages import (
    READY,
    AuthChallenge,
    Authenticate,
    AuthSuccess,
    Ready,
    Supported,
    read_response,
)
from cqlproto.testing import responses

KINDS = [Ready, Authenticate, Supported, AuthChallenge, AuthSuccess]


@pytest.mark.parametrize("version", ProtocolVersion)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_responses_are_read_as_they_were_written(
    kind: type[Any], version: ProtocolVersion, data: st.DataObject
) -> None:
    message = data.draw(responses(version, kind))
    body = bytearray()
    message.write_body(body, version)
    assert read_response(message.opcode, bytes(body), 0, version) == message
    for size in range(len(body)):
        with pytest.raises(RemoteProtocolError):
            read_response(message.opcode, bytes(body[:size]), 0, version)


def test_there_is_one_ready() -> None:
    assert read_response(Opcode.READY, b"", 0, ProtocolVersion.V4) is READY
