"""Creating the tables of recipes on a real node: from many tasks, two processes, beside others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from cqlproto_anyio.exceptions import InvalidQuery, ServerError
from cqlproto_anyio.patterns import EventStore, Locks, SchemaMismatch, Versioned
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import connected, in_other_process

if TYPE_CHECKING:
    import cqlproto_anyio as cql
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


async def create_with_ten(session: cql.Session, keyspace: str, table: str) -> str:
    """Create the tables with ten tasks, and use them."""
    locks = [Locks(session, keyspace=keyspace, table=table) for _ in range(10)]
    await all_of([each.create_schema for each in locks])
    assert await locks[0].holder("a") is None
    return "created"


async def test_fifty_tasks_and_a_second_process(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> None:
    table = f"locks_{str(anyio_backend)[:4]}"
    async with connected(cassandra, keyspace) as session:
        locks = [Locks(session, keyspace=keyspace, table=table) for _ in range(50)]
        other = partial(in_other_process, create_with_ten, cassandra, keyspace, table)
        calls: list[Any] = [*(each.create_schema for each in locks), other]
        assert (await all_of(calls))[-1] == "created"
        tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
        names = (await session.execute(tables, (keyspace,))).scalars()
        assert table in names


async def test_a_table_can_be_used_when_create_schema_returns(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> None:
    """Programs start one after the other; the naive ones look whether the table has columns."""
    refused: list[Exception] = []
    columns = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ?"
    columns += " AND table_name = ?"

    async def start(session: cql.Session, table: str, delay: float) -> None:
        await anyio.sleep(delay)
        locks = Locks(session, keyspace=keyspace, table=table)
        await locks.create_schema()
        assert await locks.holder("a") is None

    async def naive(session: cql.Session, table: str) -> None:
        while not (await session.execute(columns, (keyspace, table))).rows:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        try:
            await session.execute(f"SELECT fence FROM {table} WHERE name = ?", ("a",))
        except (InvalidQuery, ServerError) as error:
            refused.append(error)

    async with connected(cassandra, keyspace) as one, connected(cassandra, keyspace) as two:
        for number in range(4):
            table = f"used{number}_{str(anyio_backend)[:4]}"
            calls: list[Any] = [partial(start, one, table, each * 0.004) for each in range(8)]
            calls += [partial(start, two, table, each * 0.004) for each in range(8)]
            await all_of([*calls, partial(naive, one, table), partial(naive, two, table)])
    assert refused


async def test_columns_can_be_used_when_create_schema_returns(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> None:
    async with connected(cassandra, keyspace) as one, connected(cassandra, keyspace) as two:
        for number in range(2):
            table = f"rows{number}_{str(anyio_backend)[:4]}"
            await one.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, value int)")

            async def start(session: cql.Session, id: int, table: str = table) -> None:
                await anyio.sleep(id * 0.004)
                rows = Versioned(session, keyspace=keyspace, table=table, key=["id"])
                await rows.create_schema()
                await rows.insert({"id": id, "value": 1})

            calls: list[Any] = [partial(start, (one, two)[id % 2], id) for id in range(16)]
            await all_of(calls)
            counted = await one.execute(f"SELECT COUNT(*) FROM {table}")
            assert counted.scalar() == 16


async def test_what_create_schema_executes(cassandra: Node, keyspace: str) -> None:
    """The statements of schema_cql make tables that create_schema accepts, also altered ones."""
    async with connected(cassandra, keyspace) as session:
        for recipe in (Locks, EventStore):
            for statement in recipe.schema_cql(keyspace, table="managed"):
                await session.execute(statement)
            await session.execute("ALTER TABLE managed ADD note text")
            await recipe(session, keyspace=keyspace, table="managed").create_schema()
            await session.execute("DROP TABLE managed")
        await session.execute("DROP TABLE managed_snapshots")
        await session.execute("DROP TABLE managed_positions")


SHAPES = [
    ("name text PRIMARY KEY, fence bigint, holder uuid", "owner", "text", None),
    ("name text PRIMARY KEY, fence int, holder uuid, owner text", "fence", "bigint", "int"),
    (
        "name text, fence bigint, holder uuid, owner text, PRIMARY KEY (name, fence)",
        "fence",
        "bigint",
        "bigint clustering 0 asc",
    ),
]


@pytest.mark.parametrize("anyio_backend", ["trio"])  # the comparison is the same on asyncio
async def test_a_table_of_another_shape(cassandra: Node, keyspace: str) -> None:
    async with connected(cassandra, keyspace) as session:
        for number, (columns, column, expected, actual) in enumerate(SHAPES):
            await session.execute(f"CREATE TABLE strange{number} ({columns})")
            with pytest.raises(SchemaMismatch) as info:
                await Locks(session, keyspace=keyspace, table=f"strange{number}").create_schema()
            error = info.value
            assert error.table == f'"{keyspace}"."strange{number}"'
            assert (error.column, error.expected, error.actual) == (column, expected, actual)
