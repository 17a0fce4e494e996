"""The client's tests run on virtual time; protocol versions and kinds of sessions are axes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio._eventloop import _asyncio
from cqlproto_anyio._eventloop._asyncio_waiter import FutureRequest, FutureWaiter
from cqlproto_anyio.policies.timestamps import Timestamps
from tests.conftest import uses_futures
from tests.support import server, virtual_clock

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder on virtual time, unless they are marked otherwise."""
    for item in items:
        parameters = getattr(item, "callspec", None) and item.callspec.params  # type: ignore[attr-defined]  # getattr checks it
        if not parameters or _HERE not in item.path.parents:
            continue
        if item.get_closest_marker("real_clock") is None:
            usual = parameters.get("anyio_backend")
            if usual is not None:
                parameters["anyio_backend"] = virtual_clock.virtual(usual)


@pytest.fixture(autouse=True)
def _virtual_wall_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the wall clock, from which write timestamps are made, follow the virtual one."""
    if request.node.get_closest_marker("real_clock") is not None:
        return
    make = Timestamps.__init__

    def make_virtual(self: Timestamps, time_ns: Any, *rest: Any) -> None:
        make(self, virtual_clock.time_ns if time_ns is time.time_ns else time_ns, *rest)

    monkeypatch.setattr(Timestamps, "__init__", make_virtual)


class Listening(cql.Hooks):
    """Overrides the hook for requests and does nothing."""

    def request_finished(self, record: cql.RequestRecord) -> None:
        repr(record)


@pytest.fixture(params=[ProtocolVersion.V5, ProtocolVersion.V4], ids=["v5", "v4"])
def each_version(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> ProtocolVersion:
    """Make sessions ask for this version.

    On asyncio v5 uses sockets that push and v4 streams that are pulled. Sessions that ask for v4
    have a hook for requests, so these sessions are instrumented.
    """
    version: ProtocolVersion = request.param
    monkeypatch.setattr(server, "asked_version", version)
    monkeypatch.setattr(server, "pushes", version is ProtocolVersion.V5)
    monkeypatch.setattr(server, "hooks", Listening() if version is ProtocolVersion.V4 else None)
    return version


@pytest.fixture(params=[None, Listening()], ids=["plain", "observed"])
def each_session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with plain sessions, and then with instrumented ones."""
    monkeypatch.setattr(server, "hooks", request.param)


@pytest.fixture(autouse=True)
def _wait_in_futures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make tasks wait in futures on the event loop FUTURES."""
    if "anyio_backend" in request.fixturenames and uses_futures(
        request.getfixturevalue("anyio_backend")
    ):
        monkeypatch.setattr(_asyncio, "_WAITER", FutureWaiter)
        monkeypatch.setattr(_asyncio, "_REQUEST", FutureRequest)
