"""A real node is killed, paused and restarted under a session: errors are typed and in time,
replies go to their requests, and the session recovers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from tests.support.server import idle, state, until

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

INSERT = "INSERT INTO faults.pairs (k, v) VALUES (?, ?)"
SELECT = "SELECT k, v FROM faults.pairs WHERE k = ?"


@pytest.fixture(scope="module")
def node(spare_cassandra: Node) -> Node:
    node = spare_cassandra
    node.cql(
        "CREATE KEYSPACE faults WITH replication"
        " = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE faults.pairs (k int PRIMARY KEY, v text)",
    )
    return node


def value(number: int) -> str:
    return f"the value of {number}"


class Load:
    """Writes and reads distinct values until it is stopped; keeps every error."""

    def __init__(self, session: cql.Session, timeout: float) -> None:
        self.session = session
        self.timeout = timeout
        self.stopped = False
        self.done = 0
        self.errors: list[Exception] = []
        self.longest = 0.0
        self.read_wrong: list[tuple[int, object]] = []

    async def worker(self, first: int, step: int) -> None:
        number = first
        while not self.stopped:
            number += step
            started = time.monotonic()
            try:
                await self.session.execute(INSERT, (number, value(number)), timeout=self.timeout)
                self.longest = max(self.longest, time.monotonic() - started)
                started = time.monotonic()
                rows = await self.session.execute(SELECT, (number,), timeout=self.timeout)
                row = rows.one()
                if tuple(row) != (number, value(number)):
                    self.read_wrong.append((number, row))
            except Exception as exc:
                self.errors.append(exc)
                await anyio.sleep(0.02)
            else:
                self.done += 1
            self.longest = max(self.longest, time.monotonic() - started)


async def test_killed_under_load_and_started_again(node: Node) -> None:
    config = cql.Config(connect_timeout=2)
    async with cql.connect(node.host, port=node.port, config=config) as session:
        before = await session.prepare(SELECT)
        load = Load(session, timeout=5.0)
        async with anyio.create_task_group() as group:
            for first in range(50):
                group.start_soon(load.worker, 1000 + first, 50)
            await until(lambda: load.done >= 500)
            await anyio.to_thread.run_sync(node.kill)
            await until(lambda: len(load.errors) >= 100)
            died = len(load.errors)
            await anyio.to_thread.run_sync(node.up)
            done = load.done
            await until(lambda: load.done >= done + 500)
            load.stopped = True
        assert load.read_wrong == []
        assert load.longest < 5.0 + 3.0
        # what was in flight was lost; what came after found nobody
        lost = [error for error in load.errors if type(error) is cql.ConnectionLost]
        assert lost
        assert any(error.maybe_applied for error in lost)
        assert died >= 100
        for error in load.errors:
            assert isinstance(error, (cql.ConnectionFailed, cql.Unavailable, cql.ServerError)), (
                error
            )
            assert error.host == node.address
        for error in load.errors:
            if isinstance(error, cql.ConnectionFailed) and error.stage != "request":
                assert error.maybe_applied is False
        # prepared before the node was killed, good after it
        await session.execute(INSERT, (1, value(1)))
        assert (await session.execute(before, (1,))).one().v == value(1)
        await idle(session)


async def test_paused_and_resumed(node: Node) -> None:
    async with cql.connect(node.host, port=node.port) as session:
        numbers = range(100_000, 100_100)
        for number in numbers:
            await session.execute(INSERT, (number, value(number)))
        await session.prepare(SELECT)
        errors: list[Exception] = []
        took: list[float] = []

        async def too_late(number: int) -> None:
            started = time.monotonic()
            try:
                await session.execute(SELECT, (number,), timeout=0.3)
            except Exception as exc:
                errors.append(exc)
            took.append(time.monotonic() - started)

        node.pause()
        try:
            async with anyio.create_task_group() as group:
                for number in numbers:
                    group.start_soon(too_late, number)
            orphans = state(session).orphans
            with pytest.raises(cql.RequestTimeout) as info:
                await session.execute(INSERT, (99, value(99)), timeout=0.2)
            assert info.value.maybe_applied is True
        finally:
            node.resume()
        assert [type(error) for error in errors] == [cql.RequestTimeout] * 100
        assert max(took) < 3
        assert orphans == 100
        # late replies come now, between those to what is asked now
        found: dict[int, str] = {}

        async def ask(number: int) -> None:
            row = (await session.execute(SELECT, (number,), timeout=30)).one()
            assert row.k == number
            found[number] = row.v

        async with anyio.create_task_group() as group:
            for number in [*numbers, *numbers]:
                group.start_soon(ask, number)
        assert found == {number: value(number) for number in numbers}
        await idle(session)
        assert (await session.execute(SELECT, (99,))).one().v == value(99)


async def test_a_paused_node_does_not_hold_up_closing_or_connecting(node: Node) -> None:
    config = cql.Config(connect_timeout=0.5, close_timeout=0.5)
    session = None
    try:
        async with cql.connect(node.host, port=node.port, config=config) as session:
            node.pause()
            with pytest.raises(cql.RequestTimeout):
                await session.execute(SELECT, (1,), timeout=0.2)
            started = time.monotonic()
        assert time.monotonic() - started < 2
        with pytest.raises(cql.ConnectionFailed) as info:
            async with cql.connect(node.host, port=node.port, config=config):
                pass
        assert time.monotonic() - started < 4
        assert info.value.stage == "handshake"
    finally:
        node.resume()
    async with cql.connect(node.host, port=node.port) as session:
        assert (await session.execute("SELECT key FROM system.local")).one().key == "local"
