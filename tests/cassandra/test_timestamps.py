"""Client timestamps on a real node: plain and conditional writes to the same row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._execution import context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node


@pytest.fixture
async def session(cassandra: Node, keyspace: str) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        await session.execute("CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY, v int)")
        await session.execute("TRUNCATE t")
        yield session


async def test_plain_and_conditional_writes_take_effect_in_their_order(
    session: cql.Session,
) -> None:
    """A node's own timestamps are whole milliseconds: an insert may not come before the deletion
    that it follows."""
    insert = "INSERT INTO t (k, v) VALUES (?, ?) IF NOT EXISTS"

    async def come_and_go(key: int) -> None:
        for number in range(15):
            assert (await session.execute(insert, (key, number))).applied
            assert (await session.execute("SELECT v FROM t WHERE k = ?", (key,))).one().v == number
            await session.execute("DELETE FROM t WHERE k = ?", (key,))
            batch: list[Any] = ["DELETE FROM t WHERE k = 99", ("DELETE FROM t WHERE k = ?", (key,))]
            await session.batch(batch)

    async with anyio.create_task_group() as group:
        for key in range(4):
            group.start_soon(come_and_go, key)


async def test_writes_carry_increasing_timestamps_unless_one_is_given(
    session: cql.Session,
) -> None:
    insert = "INSERT INTO t (k, v) VALUES (?, ?)"
    written: list[int] = []
    ways: list[dict[str, Any]] = [{}, {"idempotent": True}, {"trace": True}]
    for options in ways:
        await session.execute(insert, (1000, 1), **options)
        row = (await session.execute("SELECT writetime(v) AS at FROM t WHERE k = 1000")).one()
        written.append(row.at)
    assert written == sorted(set(written))
    assert any(at % 1000 for at in written)  # a node's own would be whole milliseconds
    await session.execute(insert, (1001, 1), timestamp=5)
    row = (await session.execute("SELECT writetime(v) AS at FROM t WHERE k = 1001")).one()
    assert row.at == 5
    await session.execute("UPDATE t USING TIMESTAMP 7 SET v = 2 WHERE k = 1001")
    row = (await session.execute("SELECT v, writetime(v) AS at FROM t WHERE k = 1001")).one()
    assert tuple(row) == (2, 7)


class Clock:
    """The machine's clock, and what a test adds to it, in seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> int:
        return time.time_ns() + int(self.ahead * 1e9)


async def test_a_clock_that_was_ahead_for_one_write_loses_nothing_silently(
    cassandra: Node, keyspace: str
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "time_ns", clock)
        async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
            await session.execute("CREATE TABLE IF NOT EXISTS t (k int PRIMARY KEY, v int)")
            insert = "INSERT INTO t (k, v) VALUES (?, ?)"
            absent = f"{insert} IF NOT EXISTS"
            read = "SELECT v, writetime(v) AS at FROM t WHERE k = ?"
            # a little: the condition comes after what was written
            for key in range(2000, 2005):
                clock.ahead = 0.06
                await session.execute("DELETE FROM t WHERE k = ?", (key,))
                clock.ahead = 0.0
                assert (await session.execute(absent, (key, 1))).applied
                assert (await session.execute(read, (key,))).one().v == 1
            # much: it is refused, and what is written elsewhere has a time of the present
            clock.ahead = 3600.0
            await session.execute("DELETE FROM t WHERE k = ?", (2010,))
            clock.ahead = 0.0
            with pytest.raises(cql.ClockDrifted):
                await session.execute(absent, (2010, 1))
            await session.execute(insert, (2011, 1))
            await session.batch([(insert, (2012, 1))])
            for key in (2011, 2012):
                at = (await session.execute(read, (key,))).one().at
                assert abs(at / 1e6 - time.time()) < 60
