"""Versions as an axis of the client's tests."""

from __future__ import annotations

import pytest

from cqlproto import ProtocolVersion
from tests.cqlproto_anyio import server


@pytest.fixture(params=[ProtocolVersion.V5, ProtocolVersion.V4], ids=["v5", "v4"])
def each_version(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> ProtocolVersion:
    """Sessions ask for this version; on asyncio v5 comes over what pushes, v4 is pulled."""
    version: ProtocolVersion = request.param
    monkeypatch.setattr(server, "asked_version", version)
    monkeypatch.setattr(server, "pushes", version is ProtocolVersion.V5)
    return version
