"""Orders as sagas: thirty buyers for a stock of ten; a charge that fails gives the goods back."""

from __future__ import annotations

import anyio

from cqlproto_anyio.patterns import OutOfStock, Saga, SagaContext, SagaFailed, Sagas, Step, Stock
from cqlproto_anyio.patterns.rsylla import Session


async def main(contact: str, keyspace: str) -> None:
    session = await Session.connect([contact])
    await session.use_keyspace(keyspace, False)
    stock = Stock(session.session, keyspace=keyspace)
    await stock.create_schema()
    await stock.add("lamp", 10)
    declined: set[str] = set()

    async def reserve(order: SagaContext) -> None:
        await stock.reserve("lamp", 1, order.id)

    async def release(order: SagaContext) -> None:
        await stock.release(order.id)

    async def charge(order: SagaContext) -> str:
        if order.id in declined:
            raise ValueError("the card was declined")
        return f"receipt of {order.id}"

    async def refund(order: SagaContext) -> None:
        """Nothing was charged in this program when charge() has failed."""

    async def confirm(order: SagaContext) -> None:
        await stock.commit(order.id)

    steps = [Step("reserve", reserve, undo=release), Step("charge", charge, undo=refund)]
    checkout = Saga("checkout", [*steps, Step("confirm", confirm)])
    sagas = Sagas(session.session, keyspace=keyspace, sagas=[checkout])
    await sagas.create_schema()

    declined.add("order-0")
    try:
        await sagas.run("checkout", "order-0")
    except SagaFailed as error:
        assert (error.step, error.compensated) == ("charge", ("charge", "reserve"))
    else:
        raise AssertionError("an order without a payment has gone through")
    level = await stock.level("lamp")
    assert (level.quantity, level.reserved) == (10, 0)

    sold = 0

    async def buy(number: int) -> None:
        nonlocal sold
        try:
            await sagas.run("checkout", f"order-{number}")
        except SagaFailed as error:
            assert isinstance(error.cause, OutOfStock)
        else:
            sold += 1

    async with anyio.create_task_group() as group:
        for number in range(1, 31):
            group.start_soon(buy, number)
    level = await stock.level("lamp")
    assert (sold, level.quantity, level.reserved) == (10, 0, 0)
    await session.aclose()
