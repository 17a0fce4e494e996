"""Versions, and the two kinds of sessions, as axes of the client's tests."""

from __future__ import annotations

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from tests.support import server


class Listening(cql.Hooks):
    """Hears of requests and does nothing about them."""

    def request_finished(self, record: cql.RequestRecord) -> None:
        repr(record)


@pytest.fixture(params=[ProtocolVersion.V5, ProtocolVersion.V4], ids=["v5", "v4"])
def each_version(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> ProtocolVersion:
    """Sessions ask for this version.

    On asyncio v5 comes over what pushes, v4 is pulled; and somebody listens to sessions that ask
    for v4, which makes them observed ones.
    """
    version: ProtocolVersion = request.param
    monkeypatch.setattr(server, "asked_version", version)
    monkeypatch.setattr(server, "pushes", version is ProtocolVersion.V5)
    monkeypatch.setattr(server, "hooks", Listening() if version is ProtocolVersion.V4 else None)
    return version


@pytest.fixture(params=[None, Listening()], ids=["plain", "observed"])
def each_session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are plain ones, and then those of programs whose hooks hear of requests."""
    monkeypatch.setattr(server, "hooks", request.param)
