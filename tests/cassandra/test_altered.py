"""Another client alters tables, types and keyspaces: statements recover by themselves, with and
without schema events."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = [
    pytest.mark.cassandra,
    # changes of the schema take long, and the event loops have no part in this
    pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True, scope="module"),
]

fresh = itertools.count()
REPLICATION = "{'class': 'SimpleStrategy', 'replication_factor': 1}"


class Pair(NamedTuple):
    """The session under test, the other client, and the config of the former."""

    session: cql.Session
    other: cql.Session
    keyspace: str
    config: cql.Config


@pytest.fixture(
    scope="module",
    params=[(ProtocolVersion.V5, False), (ProtocolVersion.V4, True)],
    ids=["v5-untold", "v4-told"],
)
async def pair(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[Pair]:
    version, discovery = request.param
    config = cql.Config(protocol_version=version, discovery=discovery)
    where: dict[str, Any] = {"port": cassandra.port, "keyspace": keyspace}
    async with (
        cql.connect(cassandra.host, config=config, **where) as session,
        cql.connect(cassandra.host, **where) as other,
    ):
        yield Pair(session, other, keyspace, config)


async def test_a_table_with_other_types(pair: Pair) -> None:
    session, other = pair[:2]
    table = f"types{next(fresh)}"
    await other.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, a int)")
    insert = await session.prepare(f"INSERT INTO {table} (id, a) VALUES (?, ?)")
    named = await session.prepare(f"INSERT INTO {table} (id, a) VALUES (:id, :a)")
    select = await session.prepare(f"SELECT * FROM {table} WHERE id = ?", row=dict)
    await session.execute(insert, (1, 2))
    await session.execute(named, {"a": 3, "id": 2})
    assert (await session.execute(select, (1,))).one() == {"id": 1, "a": 2}
    await other.execute(f"DROP TABLE {table}")
    for _ in range(2):
        with pytest.raises(cql.InvalidQuery, match="does not exist"):
            await session.execute(select, (1,))
    await other.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, a text, b int)")
    await session.execute(insert, ("one", "two"))
    await session.execute(named, {"a": "b", "id": "two"})
    await session.batch([(insert, ("three", "c")), (named, {"a": "d", "id": "four"})])
    assert (await session.page(select, ("two",))).rows == [{"id": "two", "a": "b", "b": None}]
    found = [row async for row in session.stream(select, ("four",))]
    assert found == [{"id": "four", "a": "d", "b": None}]
    with pytest.raises(cql.ValueConversionError, match=r"column 'id' \(text\)"):
        await session.execute(insert, (1, 2))
    await session.execute(insert, ("five", "e"))


async def test_columns_that_go_and_come(pair: Pair) -> None:
    session, other = pair[:2]
    table = f"columns{next(fresh)}"
    await other.execute(f"CREATE TABLE {table} (id int, c int, a int, PRIMARY KEY (id, c))")
    insert = await session.prepare(f"INSERT INTO {table} (id, c, a) VALUES (?, ?, ?)")
    select = await session.prepare(f"SELECT * FROM {table} WHERE id = ?", row=dict)
    for change, works, columns in [
        ("ADD m text", True, ["id", "c", "a", "m"]),
        ("RENAME c TO d", False, ["id", "d", "a", "m"]),
        ("RENAME d TO c", True, ["id", "c", "a", "m"]),
        ("DROP a", False, ["id", "c", "m"]),
        ("ADD a int", True, ["id", "c", "a", "m"]),
    ]:
        await session.execute(select, (1,))
        await other.execute(f"ALTER TABLE {table} {change}")
        for _ in range(2):
            if works:
                await session.execute(insert, (1, 2, 3))
                await session.batch([(insert, (1, 2, 3))])
            else:
                with pytest.raises(cql.InvalidQuery, match="Undefined column name"):
                    await session.execute(insert, (1, 2, 3))
        assert list((await session.execute(select, (1,))).one()) == columns


async def test_a_type_that_grows(pair: Pair) -> None:
    session, other, keyspace, _ = pair
    number = next(fresh)
    table, kind = f"users{number}", f"{keyspace}.address{number}"
    await other.execute(f"CREATE TYPE {kind} (street text)")
    await other.execute(
        f"CREATE TABLE {table} (id int PRIMARY KEY, a frozen<{kind}>, l list<frozen<{kind}>>,"
        f" n {kind})"
    )
    insert = await session.prepare(f"INSERT INTO {table} (id, a, l, n) VALUES (?, ?, ?, ?)")
    select = await session.prepare(f"SELECT a, l, n FROM {table} WHERE id = ?", row=tuple)
    old = {"street": "x"}
    await session.execute(insert, (1, old, [old], old))
    await session.execute(select, (1,))
    await other.execute(f"ALTER TYPE {kind} ADD zip int")
    new = {"street": "x", "zip": 1}
    await session.execute(insert, (2, new, [new], new))
    await session.batch([(insert, (3, new, [new], new))])
    for id in (2, 3):
        [(a, many, n)] = (await session.execute(select, (id,))).rows
        assert a._asdict() == many[0]._asdict() == n._asdict() == new
    [(a, many, n)] = (await session.execute(select, (1,))).rows
    assert a._asdict() == many[0]._asdict() == n._asdict() == {"street": "x", "zip": None}
    await other.execute(f"ALTER TYPE {kind} RENAME street TO road")
    named = {"road": "y", "zip": 2}
    await session.execute(insert, (4, named, [named], named))
    [(a, many, n)] = (await session.execute(select, (4,))).rows
    assert tuple(a) == tuple(many[0]) == tuple(n) == ("y", 2)


async def test_a_keyspace_that_was_made_again(pair: Pair, cassandra: Node) -> None:
    _, other, keyspace, config = pair
    name = f"{keyspace}_{next(fresh)}"
    await other.execute(f"CREATE KEYSPACE {name} WITH replication = {REPLICATION}")
    await other.execute(f"CREATE TABLE {name}.t (id int PRIMARY KEY, a int)")
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=name, config=config
    ) as session:
        insert = await session.prepare("INSERT INTO t (id, a) VALUES (?, ?)")
        select = await session.prepare("SELECT a FROM t WHERE id = ?")
        await session.execute(insert, (1, 2))
        assert (await session.execute(select, (1,))).scalar() == 2
        await other.execute(f"DROP KEYSPACE {name}")
        with pytest.raises(cql.InvalidQuery, match="(?i)keyspace .* does not exist"):
            await session.execute(select, (1,))
        await other.execute(f"CREATE KEYSPACE {name} WITH replication = {REPLICATION}")
        await other.execute(f"CREATE TABLE {name}.t (id text PRIMARY KEY, a text)")
        await session.execute(insert, ("a", "b"))
        await session.batch(
            [(insert, ("c", "d")), ("INSERT INTO t (id, a) VALUES (?, ?)", ("e", "f"))]
        )
        assert (await session.execute(select, ("c",))).scalar() == "d"
    await other.execute(f"DROP KEYSPACE {name}")


@pytest.mark.parametrize("change", ["ADD w int", "DROP v"])
async def test_a_stream_is_in_the_middle(pair: Pair, change: str) -> None:
    session, other = pair[:2]
    table = f"paged{next(fresh)}"
    await other.execute(f"CREATE TABLE {table} (id int, c int, v int, PRIMARY KEY (id, c))")
    for number in range(9):
        await session.execute(f"INSERT INTO {table} (id, c, v) VALUES (1, ?, ?)", (number, number))
    rows: list[int] = []
    async for row in session.stream(f"SELECT * FROM {table} WHERE id = ?", (1,), page_size=3):
        if len(rows) == 1:
            await other.execute(f"ALTER TABLE {table} {change}")
        rows.append(row.c)
    assert rows == list(range(9))
