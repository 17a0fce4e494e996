"""How many Python calls a warm execute makes: its cost, independent of the machine."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import cqlproto_anyio as cql
from tests.support.cluster_sessions import SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster

if TYPE_CHECKING:
    from types import FrameType

PACKAGE = cql.__file__.rpartition("/")[0]
EXECUTIONS = 200
# On a transport that is not a socket, one request at a time; a resumed coroutine counts as a call.
MOST = {"asyncio": 38.5, "trio": 32.5}


async def test_a_warm_execute(anyio_backend_name: str) -> None:
    """The number of calls doesn't grow."""
    cluster = FakeCluster(1)
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_qualname] += 1

    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        prepared = await session.prepare(SELECT)
        for _ in range(50):
            await session.execute(prepared, (1,))
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            for _ in range(EXECUTIONS):
                await session.execute(prepared, (1,))
        finally:
            sys.setprofile(before)
    assert calls["Session.execute"] == 2 * EXECUTIONS  # started and resumed: no other task waits
    assert calls["Request.__init__"] == EXECUTIONS
    assert calls.total() / EXECUTIONS <= MOST[anyio_backend_name], dict(calls)
