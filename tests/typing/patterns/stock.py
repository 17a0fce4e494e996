"""The types of the stock. Checked by mypy, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_type

from cqlproto_anyio.patterns import OperationConflict, OutOfStock, Reservation, Stock, StockLevel

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def stocking(executor: cql.Executor) -> None:
    stock = Stock(executor, keyspace="shop", table="goods")
    assert_type(await stock.create_schema(), None)
    assert_type(Stock.schema_cql("shop"), tuple[str, ...])
    level = await stock.add("tea", 5, operation="delivery-1")
    assert_type(level, StockLevel)
    assert_type((level.item, level.quantity, level.reserved), tuple[str, int, int])
    assert_type(level.available, int)
    assert_type(await stock.level("tea"), StockLevel)
    reserved = await stock.reserve("tea", 2, "order-1")
    assert_type(reserved, Reservation)
    assert_type((reserved.operation, reserved.item, reserved.quantity), tuple[str, str, int])
    assert_type(reserved.state, Literal["reserved", "committed", "released"])
    assert_type(await stock.reserve("tea", 2, operation="order-1"), Reservation)
    assert_type(await stock.release("order-1"), Reservation | None)
    assert_type(await stock.commit("order-1"), Reservation)


async def mistakes(stock: Stock) -> None:
    await stock.reserve("tea", 2)  # type: ignore[call-arg]
    await stock.reserve("tea", 2.5, "order-1")  # type: ignore[arg-type]
    await stock.add("tea")  # type: ignore[call-arg]


def failing(error: OutOfStock, conflict: OperationConflict) -> None:
    assert_type((error.item, error.wanted, error.available), tuple[str, int, int])
    facts = (conflict.operation, conflict.expected, conflict.actual)
    assert_type(facts, tuple[str, str, str])
