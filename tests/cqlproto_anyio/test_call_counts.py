"""How many Python calls a warm execute makes: its cost, independent of the machine."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import cqlproto_anyio as cql
from tests.support.cluster_sessions import SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.replies import echo
from tests.support.server import serving

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


# The choice of a connection, its two functions that send, and the reply; what rows share is spread
# over them. A timestamp is one more call.
MOST_OF_A_ROW = 4.6


async def test_a_row_of_a_bulk_call() -> None:
    """No task, waiter or request is made per row."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            calls[frame.f_code.co_qualname] += 1

    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        prepared = await session.prepare("INSERT INTO t (k, v) VALUES (?, ?)")
        rows = [(number, 1) for number in range(20 * EXECUTIONS)]
        await session.execute_many(prepared, rows)
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            done = await session.execute_many(prepared, rows)
        finally:
            sys.setprofile(before)
    assert done.count == len(rows)
    assert calls["Request.__init__"] <= 256 + 1  # its slots
    assert calls["Slot.answer"] == calls["Selector.choose"] == len(rows)
    assert calls.total() / len(rows) <= MOST_OF_A_ROW, dict(calls)
