"""Axes of the proxy's tests: how clients reach the proxy, and the protocol version."""

from __future__ import annotations

from typing import Any

import pytest

from cqlproto import ProtocolVersion

V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5


@pytest.fixture(params=["tcp", "memory"])
def way(request: pytest.FixtureRequest) -> str:
    """How clients reach the proxy, and how the proxy reaches the server."""
    found: str = request.param
    return found


@pytest.fixture(params=[(V5, None), (V5, "lz4"), (V4, "lz4"), (V4, None)], ids=str)
def spoken(request: pytest.FixtureRequest) -> dict[str, Any]:
    version, compression = request.param
    return {"protocol_version": version, "compression": compression}
