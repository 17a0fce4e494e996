"""Bulk execution as users write it. This file is the contract, as test_user_code.py is."""

from __future__ import annotations

import csv
import dataclasses
import io
import typing

import anyio
import pytest

import cqlproto_anyio as cql

if typing.TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = [pytest.mark.cassandra, pytest.mark.uvloop]

ITEMS = (
    "CREATE TABLE IF NOT EXISTS items (shop int, id int, name text, price double,"
    " PRIMARY KEY (shop, id))"
)
INSERT = "INSERT INTO items (shop, id, name, price) VALUES (?, ?, ?, ?)"
NAMED = "INSERT INTO items (shop, id, name, price) VALUES (:shop, :id, :name, :price)"
SELECT = "SELECT name, price FROM items WHERE shop = ? AND id = ?"
COUNT = "SELECT count(*) FROM items WHERE shop = ?"


@dataclasses.dataclass
class Item:
    shop: int
    id: int
    name: str
    price: float | None = None


class Name(typing.NamedTuple):
    name: str
    price: float


class Bar:
    """A progress bar, as rich's and tqdm's are used."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, rows: float = 1) -> None:
        self.done += int(rows)


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        await session.execute(ITEMS)
        await session.execute("TRUNCATE items")
        yield session


async def count(session: cql.Session, shop: int) -> int:
    return int((await session.execute(COUNT, (shop,))).scalar())


async def test_load_a_csv_file(session: cql.Session) -> None:
    file = io.StringIO("".join(f"1,{id},name {id},{id / 4}\n" for id in range(5000)))
    rows = ((int(shop), int(id), name, float(price)) for shop, id, name, price in csv.reader(file))
    bar = Bar()
    done = await session.execute_many(
        INSERT, rows, concurrency=256, max_errors=1000, idempotent=True, progress=bar.advance
    )
    assert (done.count, done.failures) == (5000, ())
    assert bar.done == 5000
    assert await count(session, 1) == 5000


async def test_rows_that_fail_are_told(session: cql.Session) -> None:
    rows: list[tuple[int, object, str, float]] = [(2, id, "x", 1.0) for id in range(100)]
    rows[17] = (2, "seventeen", "x", 1.0)
    rows[60] = (2, None, "x", 1.0)  # a key can't be null: the server refuses it
    done = await session.execute_many(INSERT, rows, max_errors=10)
    assert done.count == 98
    first, second = sorted(done.failures, key=lambda failure: failure.index)
    assert (first.index, first.row) == (17, (2, "seventeen", "x", 1.0))
    assert isinstance(first.error, cql.ValueConversionError)
    assert (second.index, second.row) == (60, (2, None, "x", 1.0))
    assert isinstance(second.error, cql.InvalidQuery)
    assert await count(session, 2) == 98


async def test_too_many_failures_end_the_load(session: cql.Session) -> None:
    rows = [(3, id if id % 2 else None, "x", 1.0) for id in range(1000)]
    with pytest.raises(cql.BulkError) as info:
        await session.execute_many(INSERT, rows, max_errors=5, concurrency=8)
    error = info.value
    assert len(error.failures) > 5
    assert error.count == await count(session, 3)
    assert error.count + len(error.failures) < 100  # no more were started
    assert isinstance(error.__cause__, cql.InvalidQuery)
    # go on after the rows that were read
    rest = rows[error.count + len(error.failures) :]
    done = await session.execute_many(INSERT, rest, max_errors=1000)
    assert error.count + done.count == await count(session, 3) == 500


async def test_objects_mappings_and_prepared_statements(session: cql.Session) -> None:
    done = await session.execute_many(NAMED, [Item(4, id, "x") for id in range(50)])
    assert done.count == 50
    done2 = await session.execute_many(
        NAMED, ({"shop": 4, "id": id, "name": "y", "price": 2} for id in range(50, 99))
    )
    assert done2.count == 49
    prepared = await session.prepare("INSERT INTO items (shop, id, name) VALUES (?, ?, ?)")
    done3 = await session.execute_many(prepared, [[4, 99, "z"]], consistency="one", timeout=5)
    assert done3.count == 1
    partial = await session.execute_many(NAMED, [{"shop": 4, "id": 99, "price": 9.5}], partial=True)
    assert partial.count == 1
    assert (await session.execute(SELECT, (4, 99))).one() == ("z", 9.5)
    assert await count(session, 4) == 100


async def test_load_from_a_queue(session: cql.Session) -> None:
    """An async source: rows are sent as they come."""
    send, receive = anyio.create_memory_object_stream[Item](10)

    async def produce() -> None:
        async with send:
            for id in range(1000):
                await send.send(Item(5, id, "queued"))

    async with anyio.create_task_group() as group, receive:
        group.start_soon(produce)
        done = await session.execute_many(NAMED, receive)
    assert done.count == 1000
    assert await count(session, 5) == 1000


async def test_batches_of_a_partition(session: cql.Session) -> None:
    rows = ((6 + id // 500, id, "batched", 1.0) for id in range(1000))
    done = await session.execute_many(INSERT, rows, batch=30)
    assert done.count == 1000
    assert await count(session, 6) == await count(session, 7) == 500


async def test_many_reads(session: cql.Session) -> None:
    await session.execute_many(INSERT, [(8, id, f"name {id}", id / 2) for id in range(300)])
    keys = [(8, id) for id in range(300)]
    found = [(key, result.one()) async for key, result in session.map(SELECT, keys, concurrency=64)]
    assert found == [((8, id), (f"name {id}", id / 2)) for id in range(300)]
    some = {}
    async for key, result in session.map(SELECT, keys, row=Name, ordered=False):
        some[key] = result.one()
    assert some == {(8, id): Name(f"name {id}", id / 2) for id in range(300)}


async def test_reads_that_fail(session: cql.Session) -> None:
    await session.execute_many(INSERT, [(9, id, "x", 1.0) for id in range(10)])
    keys = [(9, 1), (9, None), (9, 2)]
    seen = []
    with pytest.raises(cql.InvalidQuery):
        async for key, _ in session.map(SELECT, keys):
            seen.append(key)
    assert seen == [(9, 1)]
    outcomes = [each async for _, each in session.map(SELECT, keys, return_errors=True)]
    assert isinstance(outcomes[1], cql.InvalidQuery)
    assert isinstance(outcomes[0], cql.Result)
    assert outcomes[0].one().name == "x"


async def test_leave_a_map_early(session: cql.Session) -> None:
    await session.execute_many(INSERT, [(10, id, "x", 1.0) for id in range(100)])
    async with session.map(SELECT, ((10, id) for id in range(100))) as results:
        async for (_, id), _result in results:
            if id == 10:
                break
    async for (_, id), _result in session.map(SELECT, ((10, id) for id in range(100))):
        if id == 10:
            break
    assert len(await session.execute("SELECT * FROM items WHERE shop = 10")) == 100


async def test_lightweight_transactions_in_bulk(session: cql.Session) -> None:
    claim = "INSERT INTO items (shop, id, name) VALUES (?, ?, ?) IF NOT EXISTS"
    rows = [(11, id % 5, f"claim {id}") for id in range(10)]
    applied = [result.applied async for _, result in session.map(claim, rows, concurrency=4)]
    assert sum(applied) == 5


async def test_wrong_calls_are_refused_before_anything_is_sent(session: cql.Session) -> None:
    bad: typing.Any = session.execute_many
    with pytest.raises(TypeError, match="rows"):
        await bad(INSERT, {"shop": 1})
    with pytest.raises(TypeError, match="rows"):
        await bad(INSERT, "text")
    with pytest.raises(cql.ConfigError, match="concurrency must be"):
        await bad(INSERT, [], concurrency=0)
    with pytest.raises(cql.ConfigError, match="max_errors must be"):
        await bad(INSERT, [], max_errors=-1)
    with pytest.raises(cql.ConfigError, match="batch must be"):
        await bad(INSERT, [], batch=0)
    with pytest.raises(cql.ConfigError, match="progress must be"):
        await bad(INSERT, [], progress=5)
    with pytest.raises(TypeError, match="concurency"):
        await bad(INSERT, [], concurency=5)
    with pytest.raises(cql.InvalidQuery):
        await session.execute_many("INSERT INTO nowhere (a) VALUES (?)", [(1,)])
    with pytest.raises(cql.BulkError) as info:
        await session.execute_many(INSERT, [(1, 2)])
    assert isinstance(info.value.__cause__, cql.ParameterError)
