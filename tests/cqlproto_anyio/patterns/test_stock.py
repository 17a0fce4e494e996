"""The stock: its arithmetic, operations that are repeated, and outcomes that are not known."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.patterns import (
    InvalidInput,
    OperationConflict,
    OutOfStock,
    RecordNotFound,
    Reservation,
    Stock,
    StockLevel,
)
from tests.cassandra.concurrently import all_of
from tests.cqlproto_anyio.patterns.stocktable import StockTable
from tests.support.virtual_clock import run_virtual


def stock(table: StockTable) -> Stock:
    return Stock(table.executor, keyspace="shop")


async def test_what_calls_cost() -> None:
    table = StockTable()
    goods = stock(table)
    costs = []

    async def cost(call: Any) -> None:
        table.executor.asked.clear()
        await call
        costs.append((table.executor.lwts, len(table.executor.asked) - table.executor.lwts))

    await cost(goods.add("tea", 5, operation="delivery"))
    await cost(goods.reserve("tea", 2, "order-1"))
    await cost(goods.reserve("tea", 1, "order-2"))
    await cost(goods.commit("order-1"))
    await cost(goods.release("order-2"))
    await cost(goods.level("tea"))
    assert costs == [(1, 1), (2, 1), (2, 1), (1, 2), (2, 1), (0, 1)]
    assert await goods.level("tea") == StockLevel("tea", 3, 0)


async def test_the_arithmetic() -> None:
    table = StockTable()
    goods = stock(table)
    assert await goods.add("tea", 5) == StockLevel("tea", 5, 0)
    assert table.executor.asked[-1].values["ttl"] == 86_400  # nobody can ask for it again
    assert await goods.reserve("tea", 2, "a") == Reservation("a", "tea", 2, "reserved")
    assert await goods.reserve("tea", 3, "b") == Reservation("b", "tea", 3, "reserved")
    with pytest.raises(OutOfStock) as info:
        await goods.reserve("tea", 1, "c")
    assert (info.value.item, info.value.wanted, info.value.available) == ("tea", 1, 0)
    assert str(info.value) == "1 of 'tea' are wanted, 0 are available"
    assert await goods.commit("a") == Reservation("a", "tea", 2, "committed")
    assert await goods.level("tea") == StockLevel("tea", 3, 3)
    assert await goods.release("b") == Reservation("b", "tea", 3, "released")
    assert await goods.add("tea", 1) == StockLevel("tea", 4, 0)
    assert (await goods.reserve("tea", 4, "c")).quantity == 4  # it was refused, not remembered


async def test_what_is_repeated_takes_effect_once() -> None:
    table = StockTable()
    for _ in range(2):
        assert await stock(table).add("tea", 5, operation="delivery") == StockLevel("tea", 5, 0)
        assert await stock(table).add("cup", 1, operation="delivery") == StockLevel("cup", 1, 0)
    for _ in range(2):
        assert (await stock(table).reserve("tea", 2, "a")).state == "reserved"
    for _ in range(2):
        assert (await stock(table).commit("a")).state == "committed"
    assert (await stock(table).reserve("tea", 2, "a")).state == "committed"
    await stock(table).reserve("tea", 3, "b")
    for _ in range(2):
        assert await stock(table).release("b") == Reservation("b", "tea", 3, "released")
    assert await stock(table).level("tea") == StockLevel("tea", 3, 0)


async def test_contradictions() -> None:
    goods = stock(StockTable())
    await goods.add("tea", 9, operation="delivery")
    await goods.reserve("tea", 2, "a")
    told = []
    calls: list[Any] = [
        lambda: goods.add("tea", 8, operation="delivery"),
        lambda: goods.reserve("tea", 9, "delivery"),
        lambda: goods.reserve("tea", 3, "a"),
        lambda: goods.reserve("cup", 2, "a"),
    ]
    for call in calls:
        with pytest.raises(OperationConflict) as info:
            await call()
        told.append(str(info.value))
    assert told == [
        "operation 'delivery' is 9 added, expected 8 added: use a new id",
        "operation 'delivery' is 9 added, expected 9 reserved: use a new id",
        "operation 'a' is 2 reserved, expected 3 reserved: use a new id",
        "operation 'a' is for 'tea', expected 2 of 'cup' reserved: use a new id",
    ]
    await goods.commit("a")
    with pytest.raises(OperationConflict, match="'a' is 2 committed, expected released"):
        await goods.release("a")
    await goods.reserve("tea", 2, "b")
    await goods.release("b")
    with pytest.raises(OperationConflict, match="'b' is 2 released, expected committed"):
        await goods.commit("b")
    with pytest.raises(OperationConflict, match="'b' is 2 released, expected 2 reserved"):
        await goods.reserve("tea", 2, "b")
    assert await goods.level("tea") == StockLevel("tea", 7, 0)


async def test_operations_that_have_reserved_nothing() -> None:
    table = StockTable()
    goods = stock(table)
    await goods.add("tea", 5)
    with pytest.raises(RecordNotFound) as info:
        await goods.commit("a")
    assert info.value.key == ("a",)
    for _ in range(2):
        assert await goods.release("a") is None
    with pytest.raises(OperationConflict, match="released before it was reserved"):
        await goods.reserve("tea", 1, "a")
    with pytest.raises(OperationConflict, match="is released, expected committed"):
        await goods.commit("a")
    # the program that reserves has died between its two writes
    table.items["b"] = "tea"
    with pytest.raises(RecordNotFound):
        await goods.commit("b")
    for _ in range(2):
        assert await goods.release("b") is None
    with pytest.raises(OperationConflict, match="'b' is 0 released"):
        await goods.reserve("tea", 1, "b")
    assert await goods.level("tea") == StockLevel("tea", 5, 0)


async def test_a_replica_that_lags_refuses_nothing() -> None:
    table = StockTable()
    goods = stock(table)
    await goods.add("tea", 5, operation="delivery")
    await goods.reserve("tea", 1, "a")
    table.stale = 9
    assert (await goods.reserve("tea", 4, "b")).state == "reserved"
    table.stale = 9
    assert (await goods.commit("a")).state == "committed"
    table.stale = 9
    assert (await goods.add("tea", 5, operation="delivery")).quantity == 4
    table.stale = 0
    assert await goods.level("tea") == StockLevel("tea", 4, 4)


async def test_thirty_workers_on_ten() -> None:
    table = StockTable()
    await stock(table).add("tea", 10)
    refused = []

    async def work(goods: Stock, number: int) -> int:
        try:
            return (await goods.reserve("tea", 1, f"order-{number}")).quantity
        except OutOfStock as error:
            refused.append(error.available)
            return 0

    shared = stock(table)
    calls: list[Any] = [
        lambda number=number: work(shared if number % 2 else stock(table), number)
        for number in range(30)
    ]
    assert sum(await all_of(calls)) == 10
    assert refused == [0] * 20
    assert await shared.level("tea") == StockLevel("tea", 10, 10)


async def test_cancellation_keeps_the_invariant() -> None:
    table = StockTable()
    await stock(table).add("tea", 10)
    for steps in range(8):
        with anyio.CancelScope() as scope:

            async def reserve(scope: anyio.CancelScope = scope, steps: int = steps) -> None:
                count = 0
                answer = table.answer

                def counted(request: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count == steps:
                        scope.cancel()
                    return answer(request)

                table.executor.answer = counted
                await stock(table).reserve("tea", 1, f"order-{steps}")

            await reserve()
        table.executor.answer = table.answer
        await stock(table).release(f"order-{steps}")
        assert await stock(table).level("tea") == StockLevel("tea", 10, 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(
    faults=st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=12),
    calls=st.lists(
        st.tuples(
            st.sampled_from(["add", "reserve", "commit", "release"]),
            st.integers(1, 4),
            st.integers(1, 3),
        ),
        max_size=12,
    ),
)
def test_any_calls_and_faults(
    backend: str, faults: list[str | None], calls: list[tuple[str, int, int]]
) -> None:
    """Whatever is called and gets lost: what was told is so, and each operation counts once."""
    table = StockTable(*faults)

    async def call(kind: str, order: int, quantity: int) -> None:
        goods, operation = stock(table), f"order-{order}"
        if kind == "add":
            await goods.add("tea", quantity, operation=f"delivery-{order}")
        elif kind == "reserve":
            await goods.reserve("tea", quantity, operation)
        else:
            await (goods.commit if kind == "commit" else goods.release)(operation)

    async def run() -> None:
        for each in calls:
            with contextlib.suppress(OperationConflict, OutOfStock, RecordNotFound):
                await call(*each)
            table.deliver()
        level = await stock(table).level("tea")
        states: dict[Any, int] = {}
        for (_, operation), row in table.rows.items():
            if operation:
                states[row["state"]] = states.get(row["state"], 0) + row["amount"]
        assert level.quantity == states.get("added", 0) - states.get("committed", 0)
        assert level.reserved == states.get("reserved", 0)

    run_virtual(run, backend)


WRONG: list[dict[str, Any]] = [
    *({"quantity": bad} for bad in (0, -1, 1.5, True, "1", 2**63)),
    *({"item": bad} for bad in ("", 7, "x" * 2000)),
    *({"operation": bad} for bad in ("", 7)),
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    table = StockTable()
    values: dict[str, Any] = {"item": "tea", "quantity": 1, "operation": "a", **wrong}
    for call in (stock(table).reserve, stock(table).add):
        with pytest.raises(InvalidInput) as info:
            await call(**values)
        assert info.value.name == next(iter(wrong))
    if "operation" in wrong:
        for end in (stock(table).commit, stock(table).release):
            with pytest.raises(InvalidInput):
                await end(values["operation"])
    assert table.executor.asked == []


async def test_a_sum_beyond_a_bigint() -> None:
    goods = stock(StockTable())
    await goods.add("tea", 2**63 - 2)
    with pytest.raises(InvalidInput, match="quantity must be at most 1, got 2"):
        await goods.add("tea", 2)
    assert (await goods.add("tea", 1)).quantity == 2**63 - 1


def test_the_tables() -> None:
    first, second = Stock.schema_cql("shop")
    assert first == (
        'CREATE TABLE IF NOT EXISTS "shop"."stock" ("item" text, "operation" text,'
        ' "quantity" bigint, "reserved" bigint, "version" bigint, "amount" bigint, "state" text,'
        ' "writer" uuid, PRIMARY KEY (("item"), "operation"))'
    )
    assert second == (
        'CREATE TABLE IF NOT EXISTS "shop"."stock_operations" ("operation" text, "item" text,'
        ' "writer" uuid, PRIMARY KEY (("operation")))'
    )
    wrong: list[dict[str, Any]] = [{"keyspace": ""}, {"table": "a b"}, {"table": "t" * 40}]
    for options in wrong:
        with pytest.raises(InvalidInput):
            Stock(StockTable().executor, **{"keyspace": "shop", **options})
