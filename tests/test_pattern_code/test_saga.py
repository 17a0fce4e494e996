"""Sagas as applications use them: the checkout of a web shop, its payments and its worker."""

from __future__ import annotations

import datetime
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    CompensationFailed,
    OperationConflict,
    OutOfStock,
    Saga,
    SagaBusy,
    SagaContext,
    SagaFailed,
    Sagas,
    SagaStatus,
    Step,
    Stock,
)

pytestmark = pytest.mark.cassandra


class CardDeclined(Exception):
    pass


class Payments:
    """A payment service that takes an idempotency key, as Stripe's does."""

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}
        self.declined: set[str] = set()
        self.down = False
        self.calls: list[str] = []

    async def charge(self, card: str, amount: int, key: str) -> str:
        self.calls.append(key)
        if self.down:
            raise ConnectionError("payments are down")
        if card in self.declined:
            raise CardDeclined(card)
        self.charged.setdefault(key, amount)
        return f"receipt-{key}"

    async def refund(self, key: str) -> None:
        if self.down:
            raise ConnectionError("payments are down")
        self.charged.pop(key, None)


class Shop:
    """The checkout: reserve the goods, charge the card, confirm the order."""

    def __init__(self, session: cql.Session, keyspace: str) -> None:
        self.stock = Stock(session, keyspace=keyspace)
        self.payments = Payments()
        self.checkout = Saga(
            "checkout",
            [
                Step("reserve", self.reserve, undo=self.release),
                Step("charge", self.charge, undo=self.refund),
                Step("confirm", self.confirm),
            ],
        )
        self.sagas = Sagas(
            session, keyspace=keyspace, sagas=[self.checkout], undo_attempts=2, undo_delay=0.01
        )
        self.confirmed: list[str] = []
        self.refuse_confirmation = False

    async def reserve(self, context: SagaContext) -> dict[str, Any]:
        data = context.data
        reserved = await self.stock.reserve(data["item"], data["quantity"], context.operation)
        return {"operation": reserved.operation}

    async def release(self, context: SagaContext) -> None:
        await self.stock.release(context.operation)

    async def charge(self, context: SagaContext) -> str:
        return await self.payments.charge(
            context.data["card"], context.data["price"], context.operation
        )

    async def refund(self, context: SagaContext) -> None:
        await self.payments.refund(context.operation)

    async def confirm(self, context: SagaContext) -> None:
        if self.refuse_confirmation:
            raise RuntimeError("the warehouse refuses")
        assert context.results["charge"].startswith("receipt-")
        await self.stock.commit(context.results["reserve"]["operation"])
        self.confirmed.append(context.id)


@pytest.fixture
async def shop(session: cql.Session, keyspace: str) -> Shop:
    shop = Shop(session, keyspace)
    await shop.stock.create_schema()
    await shop.sagas.create_schema()
    return shop


def cart(item: str, quantity: int = 1, card: str = "visa") -> dict[str, Any]:
    return {"item": item, "quantity": quantity, "card": card, "price": 10 * quantity}


async def test_an_order_goes_through(shop: Shop) -> None:
    await shop.stock.add("tea", 5)
    done = await shop.sagas.run("checkout", "order-1", cart("tea", 2))
    assert (done.saga, done.id, done.status) == ("checkout", "order-1", SagaStatus.COMPLETED)
    assert (done.data, done.error, done.compensated) == (cart("tea", 2), None, ())
    assert list(done.results) == ["reserve", "charge", "confirm"]
    assert done.results["charge"].startswith("receipt-")
    assert done.results["confirm"] is None
    assert datetime.datetime.now(datetime.UTC) - done.updated_at < datetime.timedelta(minutes=1)
    level = await shop.stock.level("tea")
    assert (level.item, level.quantity, level.reserved, level.available) == ("tea", 3, 0, 3)

    # The customer presses the button again: the same outcome, and nothing happens twice.
    again = await shop.sagas.run("checkout", "order-1", cart("tea", 2))
    assert again == done
    assert (len(shop.payments.calls), shop.confirmed) == (1, ["order-1"])
    assert await shop.sagas.get("checkout", "order-1") == done
    assert await shop.sagas.get("checkout", "order-0") is None
    with pytest.raises(OperationConflict) as info:
        await shop.sagas.run("checkout", "order-1", cart("tea", 3))
    assert "order-1" in info.value.operation


async def test_a_declined_card(shop: Shop) -> None:
    """What was done is undone, in reverse; the customer is told why, now and later."""
    await shop.stock.add("cup", 5)
    shop.payments.declined.add("stolen")
    with pytest.raises(SagaFailed) as info:
        await shop.sagas.run("checkout", "order-2", cart("cup", card="stolen"))
    error = info.value
    assert (error.saga, error.id, error.step) == ("checkout", "order-2", "charge")
    assert isinstance(error.cause, CardDeclined)
    assert error.__cause__ is error.cause
    assert error.error == "CardDeclined: stolen"
    # It isn't known of a failed action that it did nothing: it is undone as well.
    assert error.compensated == ("charge", "reserve")
    assert (await shop.stock.level("cup")).available == 5
    assert shop.payments.charged == {}

    with pytest.raises(SagaFailed) as later:
        await shop.sagas.run("checkout", "order-2", cart("cup", card="stolen"))
    assert (later.value.step, later.value.error) == ("charge", "CardDeclined: stolen")
    assert later.value.compensated == ("charge", "reserve")
    assert later.value.cause is None
    assert len(shop.payments.calls) == 1
    record = await shop.sagas.get("checkout", "order-2")
    assert record is not None
    assert (record.status, record.step) == (SagaStatus.COMPENSATED, "charge")


async def test_a_shop_that_sold_out(shop: Shop) -> None:
    """Thirty customers, ten lamps: ten orders."""
    await shop.stock.add("lamp", 10)
    sold: list[str] = []
    refused: list[OutOfStock] = []

    async def customer(number: int) -> None:
        try:
            done = await shop.sagas.run("checkout", f"lamp-{number}", cart("lamp"))
            sold.append(done.id)
        except SagaFailed as failed:
            assert isinstance(failed.cause, OutOfStock)
            refused.append(failed.cause)

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(customer, number)
    assert (len(sold), len(refused)) == (10, 20)
    assert {(error.item, error.wanted, error.available) for error in refused} == {("lamp", 1, 0)}
    level = await shop.stock.level("lamp")
    assert (level.quantity, level.reserved) == (0, 0)


async def test_a_worker_that_died(session: cql.Session, keyspace: str, shop: Shop) -> None:
    """The saga's lease runs out, and the worker that resumes it goes on with the step."""
    await shop.stock.add("book", 1)
    operations: list[str] = []
    entered = anyio.Event()

    async def charge(context: SagaContext) -> str:
        operations.append(context.operation)
        entered.set()
        if len(operations) == 1:
            await anyio.sleep(60)
        return "receipt-late"

    steps = [
        Step("reserve", shop.reserve, undo=shop.release),
        Step("charge", charge, undo=shop.refund),
        Step("confirm", shop.confirm),
    ]

    def worker() -> Sagas:
        return Sagas(
            session, keyspace=keyspace, table="dying", sagas=[Saga("checkout", steps)], ttl=2
        )

    await worker().create_schema()
    async with anyio.create_task_group() as group:
        group.start_soon(worker().run, "checkout", "order-3", cart("book"))
        await entered.wait()
        with pytest.raises(SagaBusy) as info:
            await worker().run("checkout", "order-3", cart("book"))
        assert (info.value.saga, info.value.id) == ("checkout", "order-3")
        assert info.value.holder
        assert 0 < info.value.retry_after <= 4
        assert await worker().resume() == []
        group.cancel_scope.cancel()

    resumed = []
    with anyio.fail_after(20):
        for _ in range(100):
            resumed += await worker().resume()
            if resumed:
                break
            await anyio.sleep(0.2)
    assert [(each.id, each.status) for each in resumed] == [("order-3", SagaStatus.COMPLETED)]
    assert len(operations) == 2
    assert operations[0] == operations[1]
    assert await worker().resume() == []


async def test_a_refund_that_needs_a_person(shop: Shop) -> None:
    await shop.stock.add("pot", 1)
    shop.refuse_confirmation = True
    original = shop.payments.charge

    async def charge_and_go_down(card: str, amount: int, key: str) -> str:
        receipt = await original(card, amount, key)
        shop.payments.down = True
        return receipt

    shop.payments.charge = charge_and_go_down  # type: ignore[method-assign]
    with pytest.raises(CompensationFailed) as info:
        await shop.sagas.run("checkout", "order-4", cart("pot"))
    error = info.value
    assert isinstance(error, SagaFailed)
    assert (error.step, error.undo, error.compensated) == ("confirm", "charge", ())
    waiting = [saga async for saga in shop.sagas.attention()]
    assert [(saga.id, saga.status) for saga in waiting] == [("order-4", SagaStatus.NEEDS_ATTENTION)]
    assert await shop.sagas.resume() == []

    shop.payments.down = False
    settled = await shop.sagas.retry("checkout", "order-4")
    assert settled.status is SagaStatus.COMPENSATED
    assert settled.compensated == ("charge", "reserve")
    assert [saga async for saga in shop.sagas.attention()] == []
    assert (await shop.stock.level("pot")).available == 1
    assert shop.payments.charged == {}


async def test_a_step_that_is_tried_again(session: cql.Session, keyspace: str) -> None:
    tries: list[str] = []

    async def flaky(context: SagaContext) -> int:
        tries.append(context.operation)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return len(tries)

    saga = Saga("import", [Step("fetch", flaky, attempts=3)])
    sagas = Sagas(session, keyspace=keyspace, table="flaky", sagas=[saga])
    await sagas.create_schema()
    done = await sagas.run("import", "monday")
    assert (done.results, done.data) == ({"fetch": 3}, None)
    assert len(set(tries)) == 1


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, keyspace: str, shop: Shop
) -> None:
    async def step(context: SagaContext) -> None: ...

    with pytest.raises(cql.UsageError, match="chekout"):
        await shop.sagas.run("chekout", "order-9", {})
    with pytest.raises(cql.UsageError, match="id"):
        await shop.sagas.run("checkout", "", {})
    with pytest.raises(cql.UsageError, match="set"):
        await shop.sagas.run("checkout", "order-9", {"items": {1, 2}})
    with pytest.raises(cql.UsageError, match="steps"):
        Saga("empty", [])
    with pytest.raises(cql.UsageError, match="a"):
        Saga("twice", [Step("a", step), Step("a", step)])
    with pytest.raises(cql.UsageError, match="attempts"):
        Step("a", step, attempts=0)
    with pytest.raises(cql.UsageError, match="async"):
        Step("a", lambda context: context)  # type: ignore[arg-type, return-value]
    with pytest.raises(cql.UsageError, match="once"):
        once = Saga("once", [Step("a", step)])
        Sagas(session, keyspace=keyspace, sagas=[once, once])
    with pytest.raises(cql.UsageError, match="ttl"):
        Sagas(session, keyspace=keyspace, sagas=[shop.checkout], ttl=0)
    assert Sagas.schema_cql("shop", table="orders")
