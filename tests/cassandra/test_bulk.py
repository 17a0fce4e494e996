"""Bulk execution on a real node, through a proxy that breaks things in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.testing import Answer, Cut, Drop, FaultProxy, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cassandra.conftest import Node

PARTITIONS = 20


@pytest.fixture(scope="module")
def tables(cassandra: Node, keyspace: str) -> str:
    cassandra.cql(
        f"CREATE TABLE {keyspace}.items (part int, id int, text text, PRIMARY KEY (part, id))",
        f"CREATE TABLE {keyspace}.counts (id int PRIMARY KEY, n counter)",
        f"CREATE TABLE {keyspace}.latest (id int PRIMARY KEY, v int)",
    )
    return keyspace


def rows(count: int, at: dict[int, Any] | None = None) -> Iterator[tuple[int, int, str]]:
    """Rows that follow each other by partition; call a function before some of them."""
    for number in range(count):
        if at is not None and number in at:
            at[number]()
        yield number * PARTITIONS // count, number, f"row {number}"


async def ids(session: cql.Session, table: str) -> set[int]:
    found: set[int] = set()
    async for id in session.stream(f"SELECT id FROM {table}", row=int):
        found.add(id)
    return found


@pytest.mark.parametrize(("batch", "count"), [(1, 20_000), (30, 6_000)])
async def test_every_row_is_there_although_connections_break(
    cassandra: Node, tables: str, batch: int, count: int
) -> None:
    table = f"{tables}.items"
    insert = f"INSERT INTO {table} (part, id, text) VALUES (?, ?, ?)"
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        config = cql.Config(reconnection=cql.ConstantReconnection(0.05))
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:
            await session.execute(f"TRUNCATE {table}")
            places = (count // 7, count // 2, count * 3 // 4)
            cuts = {place: lambda: proxy.cut_all(reset=True) for place in places}
            told: list[int] = []
            done = await session.execute_many(
                insert,
                rows(count, cuts),
                idempotent=True,
                batch=batch,
                progress=told.append,
            )
            assert done == cql.BulkResult(count, ())
            assert sum(told) == count
            assert sum(host.lost for host in session.statistics().hosts) >= 3
            assert await ids(session, table) == set(range(count))


async def test_what_may_have_been_applied_is_never_sent_twice(cassandra: Node, tables: str) -> None:
    """Counters tell: each is 1, or 0 if its row has failed, or either if that isn't known."""
    table = f"{tables}.counts"
    update = f"UPDATE {table} SET n = n + 1 WHERE id = ?"
    count = 2_000
    async with FaultProxy(cassandra.host, cassandra.port, seed=5) as proxy:
        config = cql.Config(reconnection=cql.ConstantReconnection(0.05))
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:
            await session.execute(f"TRUNCATE {table}")
            for fault in (Answer("UNPREPARED"), Answer("OVERLOADED")):
                proxy.add(Rule(fault, statement=update, opcode="EXECUTE", probability=0.01))
            breaking: list[Any] = [Cut(), Drop(connection=True)]
            for fault in breaking:
                proxy.add(Rule(fault, statement=update, opcode="EXECUTE", skip=300, times=2))
            done = await session.execute_many(
                update, ((number,) for number in range(count)), max_errors=count, concurrency=64
            )
            failed = {failure.index: failure.error for failure in done.failures}
            assert done.count + len(failed) == count
            assert 0 < len(failed) < count / 4
            found = {row.id: row.n async for row in session.stream(f"SELECT id, n FROM {table}")}
            for number in range(count):
                applied = found.get(number, 0)
                if number not in failed:
                    assert applied == 1
                else:
                    error: Any = failed[number]
                    assert applied <= 1
                    assert applied == 0 or error.maybe_applied


async def test_the_later_of_two_rows_with_a_key_wins(cassandra: Node, tables: str) -> None:
    table = f"{tables}.latest"
    insert = f"INSERT INTO {table} (id, v) VALUES (?, ?)"
    async with (
        FaultProxy(cassandra.host, cassandra.port, seed=6) as proxy,
        cql.connect(proxy.host, port=proxy.port) as session,
    ):
        for fault in (Answer("UNPREPARED"), Answer("OVERLOADED")):
            proxy.add(Rule(fault, statement=insert, opcode="EXECUTE", probability=0.02))
        retry = cql.DefaultRetry(max_attempts=20, overload_delay=0.01)
        given = [(number % 10, number) for number in range(3_000)]
        done = await session.execute_many(insert, given, idempotent=True, retry=retry)
        assert done.count == 3_000
        assert len(proxy.log) > 20
        found = await session.execute(f"SELECT id, v FROM {table}")
        assert {row.id: row.v for row in found} == {id: 2_990 + id for id in range(10)}


async def test_reads_go_on_although_connections_break(cassandra: Node, tables: str) -> None:
    table = f"{tables}.items"
    insert = f"INSERT INTO {table} (part, id, text) VALUES (?, ?, ?)"
    select = f"SELECT text FROM {table} WHERE part = ? AND id = ?"
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        config = cql.Config(reconnection=cql.ConstantReconnection(0.05))
        async with cql.connect(proxy.host, port=proxy.port, config=config) as session:
            await session.execute_many(insert, rows(2_000), idempotent=True)
            cuts = {count: lambda: proxy.cut_all(reset=True) for count in (500, 1_500)}
            keys = (row[:2] for row in rows(2_000, cuts))
            found = [(key[1], result.scalar()) async for key, result in session.map(select, keys)]
            assert found == [(number, f"row {number}") for number in range(2_000)]
