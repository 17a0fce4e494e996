"""A stock as applications use it: reservations of a shop's goods, each by its operation's id."""

from __future__ import annotations

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    OperationConflict,
    OutOfStock,
    RecordNotFound,
    Reservation,
    Stock,
    StockLevel,
)

pytestmark = pytest.mark.cassandra


@pytest.fixture
async def stock(session: cql.Session, keyspace: str) -> Stock:
    stock = Stock(session, keyspace=keyspace)
    await stock.create_schema()
    return stock


async def test_goods_arrive_are_reserved_sold_and_given_back(stock: Stock) -> None:
    assert await stock.level("tea") == StockLevel("tea", 0, 0)
    assert await stock.add("tea", 5) == StockLevel("tea", 5, 0)
    assert await stock.reserve("tea", 3, "order-1") == Reservation("order-1", "tea", 3, "reserved")
    level = await stock.level("tea")
    assert (level.quantity, level.reserved, level.available) == (5, 3, 2)
    with pytest.raises(OutOfStock) as info:
        await stock.reserve("tea", 3, "order-2")
    assert (info.value.item, info.value.wanted, info.value.available) == ("tea", 3, 2)
    assert "tea" in str(info.value)

    sold = await stock.commit("order-1")
    assert sold.state == "committed"
    assert await stock.level("tea") == StockLevel("tea", 2, 0)
    await stock.reserve("tea", 2, "order-3")
    given_back = await stock.release("order-3")
    assert given_back == Reservation("order-3", "tea", 2, "released")
    assert await stock.level("tea") == StockLevel("tea", 2, 0)
    with pytest.raises(OutOfStock) as info:
        await stock.reserve("no such thing", 1, "order-4")
    assert info.value.available == 0


async def test_every_call_may_be_repeated(stock: Stock) -> None:
    for _ in range(2):
        assert await stock.add("cup", 5, operation="delivery-1") == StockLevel("cup", 5, 0)
    for _ in range(2):
        assert (await stock.reserve("cup", 2, "order-10")).state == "reserved"
    for _ in range(2):
        assert (await stock.commit("order-10")).state == "committed"
    assert (await stock.reserve("cup", 2, "order-10")).state == "committed"
    await stock.reserve("cup", 1, "order-11")
    for _ in range(2):
        released = await stock.release("order-11")
        assert released is not None
        assert released.state == "released"
    assert await stock.level("cup") == StockLevel("cup", 3, 0)


async def test_operations_that_contradict_each_other(stock: Stock) -> None:
    await stock.add("pot", 5)
    await stock.reserve("pot", 2, "order-20")
    with pytest.raises(OperationConflict) as info:
        await stock.reserve("pot", 3, "order-20")
    assert info.value.operation == "order-20"
    assert "2" in info.value.actual
    assert "3" in info.value.expected
    await stock.commit("order-20")
    with pytest.raises(OperationConflict, match="committed"):
        await stock.release("order-20")
    await stock.reserve("pot", 1, "order-21")
    await stock.release("order-21")
    with pytest.raises(OperationConflict, match="released"):
        await stock.commit("order-21")
    with pytest.raises(OperationConflict, match="released"):
        await stock.reserve("pot", 1, "order-21")
    with pytest.raises(RecordNotFound) as missing:
        await stock.commit("order-22")
    assert missing.value.key == ("order-22",)
    assert await stock.level("pot") == StockLevel("pot", 3, 0)


async def test_a_cancellation_that_overtakes_its_order(stock: Stock) -> None:
    """A release that comes first makes the late reservation fail: nothing stays reserved."""
    await stock.add("lid", 1)
    assert await stock.release("order-30") is None
    with pytest.raises(OperationConflict, match="released"):
        await stock.reserve("lid", 1, "order-30")
    assert await stock.level("lid") == StockLevel("lid", 1, 0)


async def test_the_last_ten_of_an_item(stock: Stock) -> None:
    await stock.add("lamp", 10)
    got: list[str] = []

    async def customer(number: int) -> None:
        try:
            got.append((await stock.reserve("lamp", 1, f"lamp-{number}")).operation)
        except OutOfStock as error:
            assert error.available == 0

    async with anyio.create_task_group() as group:
        for number in range(25):
            group.start_soon(customer, number)
    assert len(got) == 10
    assert await stock.level("lamp") == StockLevel("lamp", 10, 10)


async def test_mistakes_are_told_before_anything_is_sent(stock: Stock) -> None:
    for bad in (0, -1, 1.5, True, 2**63):
        with pytest.raises(cql.UsageError, match="quantity"):
            await stock.add("tea", bad)  # type: ignore[arg-type]
        with pytest.raises(cql.UsageError, match="quantity"):
            await stock.reserve("tea", bad, "order-40")  # type: ignore[arg-type]
    with pytest.raises(cql.UsageError, match="item"):
        await stock.reserve("", 1, "order-40")
    with pytest.raises(cql.UsageError, match="operation"):
        await stock.reserve("tea", 1, "")
    assert Stock.schema_cql("shop", table="goods")
