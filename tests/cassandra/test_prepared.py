"""Prepared statements that the server has forgotten, or whose meaning has changed.

A server forgets a statement when a table or type that it uses is changed, and answers UNPREPARED.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from tests.cassandra.concurrently import all_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

fresh = itertools.count()


VERSIONS = [ProtocolVersion.V5, ProtocolVersion.V4]


@pytest.fixture(scope="module", params=VERSIONS, ids=["v5", "v4"])
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[cql.Session]:
    config = cql.Config(protocol_version=request.param)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        yield session


async def test_a_table_that_was_made_again(session: cql.Session) -> None:
    table = f"again_{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    insert = await session.prepare(f"INSERT INTO {table} (id, a) VALUES (?, ?)")
    select = await session.prepare(f"SELECT * FROM {table} WHERE id = ?")
    await session.execute(insert, (1, 2))
    assert (await session.execute(select, (1,), row=dict)).one() == {"id": 1, "a": 2}
    await session.execute(f"DROP TABLE {table}")
    with pytest.raises(cql.InvalidQuery, match="does not exist"):
        await session.execute(select, (1,))
    await session.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, a text, b int)")
    # What the markers take has changed, which the client learns from UNPREPARED.
    with pytest.raises(cql.ValueConversionError):
        await session.execute(insert, (1, 2))
    await session.execute(insert, ("one", "two"))
    await session.batch([(insert, ("three", "four"))])
    with pytest.raises(cql.ValueConversionError):
        await session.execute(select, (1,))
    found = await session.execute(select, ("one",), row=dict)
    assert found.one() == {"id": "one", "a": "two", "b": None}
    page = await session.page(select, ("three",), row=dict)
    assert page.rows == [{"id": "three", "a": "four", "b": None}]


@pytest.mark.uvloop
async def test_tables_change_while_they_are_read(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """A second client prepares anew after each change, so that the server never says UNPREPARED."""
    table = f"changing_{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int, z text)")
    for id in range(4):
        await session.execute(f"INSERT INTO {table} (id, a, z) VALUES ({id}, {id}, 'z{id}')")
    query = f"SELECT * FROM {table} WHERE id = ?"
    ended = anyio.Event()
    reads = 0

    async def read(reader: cql.Session, id: int) -> None:
        nonlocal reads
        prepared = await reader.prepare(query)
        while not ended.is_set():
            row = (await reader.execute(prepared, (id,))).one()
            assert (row.id, row.a, row.z) == (id, id, f"z{id}")
            named = (await reader.execute(query, (id,), row=dict)).one()
            assert (named["a"], named["z"]) == (id, f"z{id}")
            assert named.get("m") in (None, 7)
            reads += 1

    async with (
        cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as other,
        anyio.create_task_group() as group,
    ):
        for id in range(4):
            group.start_soon(read, session, id)
            group.start_soon(read, other, id)
        for number in range(3):
            await anyio.sleep(0.1)
            await session.execute(f"ALTER TABLE {table} ADD m int")
            await session.execute(f"UPDATE {table} SET m = 7 WHERE id = {number}")
            await anyio.sleep(0.1)
            row = (await session.execute(query, (number,))).one()
            assert row._fields == ("id", "a", "m", "z")
            assert row.m == 7
            await session.execute(f"ALTER TABLE {table} DROP m")
        await anyio.sleep(0.1)
        ended.set()
    assert reads > 20


async def test_an_evicted_statement_goes_on(cassandra: Node, keyspace: str) -> None:
    """The client caches two statements; a handle stays valid after its eviction."""
    config = cql.Config(max_prepared=2)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        table = f"evicted_{next(fresh)}"
        await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
        await session.execute(f"INSERT INTO {table} (id, a) VALUES (1, 1)")
        handle = await session.prepare(f"SELECT * FROM {table} WHERE id = ?")
        for number in range(5):
            await session.execute(f"SELECT a AS a{number} FROM {table} WHERE id = ?", (1,))
        await session.execute(f"ALTER TABLE {table} ADD b int")
        for _ in range(3):
            row = (await session.execute(handle, (1,), row=dict)).one()
            assert row == {"id": 1, "a": 1, "b": None}
        both = await all_of(
            [
                lambda: session.execute(handle, (1,), row=tuple),
                lambda: session.execute(handle.query, (1,), row=tuple),
            ]
        )
        assert [result.rows for result in both] == [[(1, 1, None)]] * 2


@pytest.mark.uvloop
async def test_many_statements_forgotten_at_once(session: cql.Session) -> None:
    table = f"many_{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    writes = [f"INSERT INTO {table} (id, a) VALUES (?, ?) /* {n} */" for n in range(10)]
    handles = [await session.prepare(write) for write in writes]
    select = await session.prepare(f"SELECT * FROM {table} WHERE id = ?")
    for column in ("b", "c"):
        await session.execute(f"ALTER TABLE {table} ADD {column} int")
        await all_of(
            [partial(session.execute, handles[n % 10], (n, n)) for n in range(200)]
            + [partial(session.execute, writes[n % 10], (n, n)) for n in range(200, 300)]
        )
        found = await all_of([partial(session.execute, select, (n,)) for n in range(300)])
        assert [(result.one().id, result.one().a) for result in found] == [
            (n, n) for n in range(300)
        ]
        assert found[0].columns[-1] == column


async def test_a_batch_of_forgotten_statements(session: cql.Session) -> None:
    """UNPREPARED names one statement of a batch, so that it takes as many attempts."""
    table = f"batch_{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    writes = [f"INSERT INTO {table} (id, a) VALUES (?, ?) /* {n} */" for n in range(8)]
    await session.batch([(write, (n, 0)) for n, write in enumerate(writes)])
    await session.execute(f"ALTER TABLE {table} ADD b int")
    await session.batch([(write, (n, n)) for n, write in enumerate(writes)])
    rows = await session.execute(f"SELECT id, a FROM {table}", row=tuple)
    assert sorted(rows) == [(n, n) for n in range(8)]


async def test_streams_and_pages_of_a_forgotten_statement(session: cql.Session) -> None:
    table = f"paged_{next(fresh)}"
    await session.execute(f"CREATE TABLE {table} (p int, id int, z int, PRIMARY KEY (p, id))")
    for n in range(30):
        await session.execute(f"INSERT INTO {table} (p, id, z) VALUES (0, {n}, {n})")
    query = f"SELECT * FROM {table} WHERE p = ?"
    page = await session.page(query, (0,), page_size=10)
    rows = []
    async for row in session.stream(query, (0,), page_size=5):
        if row.id == 7:
            await session.execute(f"ALTER TABLE {table} ADD m int")
        rows.append((row.id, row.z))
    assert rows == [(n, n) for n in range(30)]
    await session.execute(f"ALTER TABLE {table} DROP m")
    rest = await session.page(query, (0,), page_size=50, token=page.next_token)
    assert [(row.id, row.z) for row in rest.rows] == [(n, n) for n in range(10, 30)]
    await session.execute(f"ALTER TABLE {table} ADD n int")
    collected = await session.execute(query, (0,), page_size=7)
    assert [(row.id, row.z, row.n) for row in collected] == [(n, n, None) for n in range(30)]
