"""The stock on a real node: races, faults, and the naive one that reserves more than there is."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import OutOfStock, Stock, StockLevel
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process

if TYPE_CHECKING:
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


@pytest.fixture(scope="module", autouse=True)
def tables(cassandra: Node, keyspace: str) -> None:
    for statement in Stock.schema_cql(keyspace):
        cassandra.cql(statement)
    cassandra.cql(
        f"CREATE TABLE {keyspace}.naive (item text PRIMARY KEY, quantity int, reserved int)"
    )


async def reserve_one(session: cql.Session, keyspace: str, item: str, order: str) -> int:
    """Reserve one piece, as one worker; return how many were reserved."""
    try:
        reserved = await Stock(session, keyspace=keyspace).reserve(item, 1, f"{item}-{order}")
    except OutOfStock:
        return 0
    return reserved.quantity


async def reserve_with_ten(session: cql.Session, keyspace: str, item: str) -> int:
    """Reserve with ten workers: the second process of the race."""
    orders = [f"other-{number}" for number in range(10)]
    calls: list[Any] = [partial(reserve_one, session, keyspace, item, order) for order in orders]
    return sum(await all_of(calls))


async def test_thirty_workers_and_a_second_process(cassandra: Node, keyspace: str) -> None:
    """Exactly ten of ten are reserved, whoever is faster."""
    item = uuid.uuid4().hex
    async with connected(cassandra, keyspace) as session:
        await Stock(session, keyspace=keyspace).add(item, 10)
        calls: list[Any] = [
            partial(reserve_one, session, keyspace, item, f"{number}") for number in range(30)
        ]
        calls.append(partial(in_other_process, reserve_with_ten, cassandra, keyspace, item))
        assert sum(await all_of(calls)) == 10
        assert await Stock(session, keyspace=keyspace).level(item) == StockLevel(item, 10, 10)


async def test_the_naive_stock_reserves_more_than_there_is(cassandra: Node, keyspace: str) -> None:
    item = uuid.uuid4().hex
    async with connected(cassandra, keyspace) as session:
        insert = "INSERT INTO naive (item, quantity, reserved) VALUES (?, 10, 0)"
        await session.execute(insert, (item,))
        for release in ("reserved - ?", "reserved - 1"):  # what cookbooks release with
            with pytest.raises(cql.InvalidQuery):
                await session.prepare(f"UPDATE naive SET reserved = {release} WHERE item = ?")

        async def reserve() -> int:
            select = "SELECT quantity, reserved FROM naive WHERE item = ?"
            row = (await session.execute(select, (item,))).one()
            if row.reserved >= row.quantity:
                return 0
            update = "UPDATE naive SET reserved = ? WHERE item = ?"
            await session.execute(update, (row.reserved + 1, item))
            return 1

        assert sum(await all_of([reserve] * 30)) > 10


async def test_what_calls_cost(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        stock, item = Stock(session, keyspace=keyspace), uuid.uuid4().hex
        costs = []
        for call in (
            stock.add(item, 5),
            stock.reserve(item, 2, f"{item}-1"),
            stock.reserve(item, 1, f"{item}-2"),
            stock.commit(f"{item}-1"),
            stock.release(f"{item}-2"),
        ):
            counting.records.clear()
            await call
            costs.append((counting.lwts, counting.reads))
        assert costs == [(1, 1), (2, 1), (2, 1), (1, 2), (2, 1)]
        assert await stock.level(item) == StockLevel(item, 3, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=2)
@given(
    faults=st.lists(st.lists(st.sampled_from([*FAULTS, None]), max_size=4), min_size=2, max_size=3),
    sold=st.booleans(),
)
def test_no_fault_counts_twice(
    cassandra: Node, keyspace: str, backend: str, faults: list[list[str | None]], sold: bool
) -> None:
    """Workers with bad networks of their own: each order is reserved once, and ends once."""
    item = uuid.uuid4().hex

    async def again(call: Any) -> Any:
        for _ in range(10):
            try:
                return await call()
            except cql.ServerOverloaded:  # it was not executed
                continue
        raise AssertionError("overloaded all the time")

    async def worker(number: int, mine: list[str | None]) -> None:
        async with faulty(cassandra, keyspace, mine) as session:
            stock, operation = Stock(session, keyspace=keyspace), f"{item}-{number}"
            await again(partial(stock.add, item, 3, operation=f"delivery-{number}"))
            assert (await again(partial(stock.reserve, item, 2, operation))).state == "reserved"
            if number == 0:
                return
            await again(partial(stock.commit if sold else stock.release, operation))

    async def run() -> None:
        await all_of([*(partial(worker, *each) for each in enumerate(faults))])
        async with connected(cassandra, keyspace) as session:
            left = 3 * len(faults) - (2 * (len(faults) - 1) if sold else 0)
            level = await Stock(session, keyspace=keyspace).level(item)
            assert level == StockLevel(item, left, 2)

    anyio.run(run, backend=backend)
