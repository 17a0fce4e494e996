"""Sagas on a real node: two processes, crashes at every moment, faults, and a naive saga."""

from __future__ import annotations

import itertools
import random
import uuid
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    OutcomeUnknown,
    OutOfStock,
    Saga,
    SagaBusy,
    SagaContext,
    SagaFailed,
    Sagas,
    SagaStatus,
    Step,
    Stock,
    StockLevel,
)
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import (
    FAULTS,
    Counting,
    connected,
    faulty,
    in_other_process,
    killed_process,
)
from tests.support.histories import oversold

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra


class Checkout:
    """Reserve goods, take the money, sell the goods; every third card is declined.

    ``moment`` is called before and after the effect of each step, of which one is in memory.
    """

    def __init__(
        self, session: Any, keyspace: str, moment: Callable[[], None] | None = None
    ) -> None:
        self.session = session
        self.stock = Stock(session, keyspace=keyspace)
        self.moment = moment or (lambda: None)
        self.charged: set[str] = set()
        steps = [
            Step("reserve", self.reserve, undo=self.release),
            Step("charge", self.charge, undo=self.refund),
            Step("confirm", self.confirm),
        ]
        self.sagas = Sagas(
            session, keyspace=keyspace, sagas=[Saga("checkout", steps)], ttl=1, undo_delay=0.01
        )

    async def reserve(self, context: SagaContext) -> str:
        await self.stock.reserve(context.data["item"], 1, context.operation)
        return context.operation

    async def release(self, context: SagaContext) -> None:
        await self.stock.release(context.operation)

    async def charge(self, context: SagaContext) -> None:
        self.moment()
        self.charged.add(context.operation)
        self.moment()
        if context.data.get("declined"):
            raise ValueError("declined")

    async def refund(self, context: SagaContext) -> None:
        self.moment()
        self.charged.discard(context.operation)
        self.moment()

    async def confirm(self, context: SagaContext) -> None:
        await self.stock.commit(context.results["reserve"])


@pytest.fixture(scope="module", autouse=True)
def tables(cassandra: Node, keyspace: str) -> None:
    for statement in (*Stock.schema_cql(keyspace), *Sagas.schema_cql(keyspace)):
        cassandra.cql(statement)
    cassandra.cql(f"CREATE TABLE {keyspace}.payments (operation text PRIMARY KEY)")


async def order_all(session: cql.Session, keyspace: str, item: str) -> list[str]:
    """Run the same 12 orders with two workers; return the outcome of each."""
    outcomes: dict[str, str] = {}

    async def order(checkout: Checkout, id: str) -> None:
        while True:
            try:
                await checkout.sagas.run("checkout", id, {"item": item})
                outcome = "sold"
            except SagaFailed as failed:
                assert failed.error.startswith("OutOfStock")
                outcome = "refused"
            except SagaBusy as busy:
                assert busy.retry_after <= 2
                await anyio.sleep(0.01)
                continue
            assert outcomes.setdefault(id, outcome) == outcome
            return

    ids = [f"{item}-{number}" for number in range(12)]
    workers = [Checkout(session, keyspace) for _ in range(2)]
    await all_of([*(partial(order, worker, id) for worker in workers for id in ids)])
    return [outcomes[id] for id in ids]


async def test_two_processes_run_the_same_sagas(cassandra: Node, keyspace: str) -> None:
    """Each order is run once, and all are told the same; five of five are sold."""
    item = uuid.uuid4().hex
    async with connected(cassandra, keyspace) as session:
        stock = Stock(session, keyspace=keyspace)
        await stock.add(item, 5)
        mine, theirs = await all_of(
            [
                partial(order_all, session, keyspace, item),
                partial(in_other_process, order_all, cassandra, keyspace, item),
            ]
        )
        assert mine == theirs
        assert mine.count("sold") == 5
        assert await stock.level(item) == StockLevel(item, 0, 0)


class Crash(BaseException):
    """The process has died."""


class Dying:
    """The session of a process that dies at a moment: at a request, or in a step.

    Arguments:
        session: the session beneath.
        at: how many moments it lives.
        executed: whether the request at which it dies is executed.
    """

    def __init__(self, session: cql.Session, at: int, executed: bool) -> None:
        self._session = session
        self._left = at
        self._executed = executed

    def moment(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash

    async def _ask(self, verb: Any, *arguments: Any, **options: Any) -> Any:
        if self._left == 0 and self._executed:
            await verb(*arguments, **options)
        self.moment()
        return await verb(*arguments, **options)

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        return await self._ask(self._session.execute, *arguments, **options)

    async def batch(self, *arguments: Any, **options: Any) -> Any:
        return await self._ask(self._session.batch, *arguments, **options)


async def test_a_crash_at_every_moment(cassandra: Node, keyspace: str) -> None:
    """After recovery no order is half done, and what is reserved was there."""
    points = [*itertools.product(range(26), (False, True), (False, True))]
    async with connected(cassandra, keyspace) as session:
        stock, run = Stock(session, keyspace=keyspace), uuid.uuid4().hex
        recovering = Checkout(session, keyspace)
        ended = 0

        async def crash(at: int, executed: bool, declined: bool) -> None:
            nonlocal ended
            item = f"{run}-{at}-{executed}-{declined}"
            await stock.add(item, 1)
            dying = Dying(session, at, executed)
            checkout = Checkout(dying, keyspace, dying.moment)
            checkout.charged = recovering.charged  # the payments are another service's
            try:
                await checkout.sagas.run("checkout", item, {"item": item, "declined": declined})
            except Crash:
                return
            except SagaFailed:
                assert declined
            ended += 1

        await all_of([*(partial(crash, *each) for each in points)])
        assert 0 < ended < 40
        await anyio.sleep(2.1)  # the leases end
        await recovering.sagas.resume()
        for at, executed, declined in points:
            item = f"{run}-{at}-{executed}-{declined}"
            found = await recovering.sagas.get("checkout", item)
            sold = found is not None and not declined
            end = SagaStatus.COMPLETED if sold else SagaStatus.COMPENSATED
            assert found is None or found.status is end
            assert await stock.level(item) == StockLevel(item, 0 if sold else 1, 0)
            assert (f"checkout/{item}/charge" in recovering.charged) == sold
        assert await recovering.sagas.resume() == []


class Shop(Checkout):
    """A checkout whose payments are in a table, which two processes share."""

    async def charge(self, context: SagaContext) -> None:
        insert = "INSERT INTO payments (operation) VALUES (?)"
        await self.session.execute(insert, (context.operation,))
        await anyio.sleep(0.02)
        if context.data["declined"]:
            raise ValueError("declined")

    async def refund(self, context: SagaContext) -> None:
        delete = "DELETE FROM payments WHERE operation = ?"
        await self.session.execute(delete, (context.operation,))

    async def order_naively(self, item: str, order: str) -> None:
        """Undo in an ``except`` clause what was done, as cookbooks show."""
        await self.stock.reserve(item, 1, order)
        try:
            await anyio.sleep(0.02)  # the payment
            await self.stock.commit(order)
        except Exception:
            await self.stock.release(order)


async def take_orders(session: cql.Session, keyspace: str, item: str, turn: int) -> None:
    """Take orders with six workers, and naively with four, until the process is killed."""
    shop = Shop(session, keyspace)

    async def worker(number: int) -> None:
        for count in itertools.count():
            order = f"{item}-{turn}-{number}-{count}"
            if number < 4:
                await shop.order_naively(f"naive {item}", order)
                continue
            with suppress(SagaFailed):
                data = {"item": item, "declined": count % 3 == 2}
                await shop.sagas.run("checkout", order, data)

    await all_of([*(partial(worker, number) for number in range(10))])


async def test_a_process_that_is_killed(cassandra: Node, keyspace: str) -> None:
    """Killed at a random point, twice: this process ends its orders; naive ones stay half done."""
    item, naive = uuid.uuid4().hex, "naive "
    levels: list[tuple[int, int]] = []
    async with connected(cassandra, keyspace) as session:
        shop = Shop(session, keyspace)

        async def look() -> int:
            level = await shop.stock.level(item)
            levels.append((level.quantity, level.reserved))
            return level.quantity

        async def statuses() -> dict[str, str | None]:
            rows = await session.execute(f"SELECT id, status FROM {keyspace}.sagas")
            return {row.id: row.status for row in rows if row.id.startswith(item)}

        await shop.stock.add(item, 1000)
        await shop.stock.add(naive + item, 1000)
        for turn in range(2):
            async with killed_process(take_orders, cassandra, keyspace, item, turn):
                before = await look()
                with anyio.fail_after(30):
                    while await look() == before:
                        pass
                with anyio.move_on_after(random.uniform(0, 0.3)):
                    while await look():
                        pass
        assert {"running", "compensating"} & {*(await statuses()).values()}
        resumed = 0
        with anyio.fail_after(10):
            while {"running", "compensating"} & {*(await statuses()).values()}:
                await look()
                resumed += len(await shop.sagas.resume())
        await look()
        assert resumed > 0
        assert oversold(levels) == []
        sold = {id for id, status in (await statuses()).items() if status == "completed"}
        assert {*(await statuses()).values()} <= {"completed", "compensated", None}
        assert await shop.stock.level(item) == StockLevel(item, 1000 - len(sold), 0)
        payments = (await session.execute("SELECT operation FROM payments")).scalars()
        mine = {each for each in payments if each.startswith(f"checkout/{item}")}
        assert mine == {f"checkout/{id}/charge" for id in sold}
        assert (await shop.stock.level(naive + item)).reserved > 0


async def test_the_naive_saga_leaves_half_an_order(cassandra: Node, keyspace: str) -> None:
    """Compensations in an ``except`` clause: a crash or a cancellation skips them, for ever."""
    item = uuid.uuid4().hex
    async with connected(cassandra, keyspace) as session:
        stock = Stock(session, keyspace=keyspace)
        await stock.add(item, 1)

        with anyio.CancelScope() as scope:
            await stock.reserve(item, 1, item)
            try:
                scope.cancel()
                await anyio.sleep(60)  # the payment
                await stock.commit(item)
            except Exception:
                await stock.release(item)
        assert await stock.level(item) == StockLevel(item, 1, 1)


async def test_what_a_saga_costs(cassandra: Node, keyspace: str) -> None:
    counting = Counting()

    async def step(context: SagaContext) -> None: ...

    async with connected(cassandra, keyspace, hooks=counting) as session:
        saga, id = Saga("plain", [Step(name, step) for name in "abc"]), uuid.uuid4().hex
        sagas = Sagas(session, keyspace=keyspace, sagas=[saga])
        await sagas.run("plain", id)
        assert (counting.lwts, counting.reads, len(counting.records)) == (6, 3, 11)
        counting.records.clear()
        await sagas.run("plain", id)
        assert (counting.lwts, counting.reads) == (0, 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(
    faults=st.lists(st.sampled_from([*FAULTS, None]), max_size=8),
    declined=st.booleans(),
)
def test_no_fault_leaves_half_an_order(
    cassandra: Node, keyspace: str, backend: str, faults: list[str | None], declined: bool
) -> None:
    item = uuid.uuid4().hex

    async def run() -> None:
        async with connected(cassandra, keyspace) as session:
            await Stock(session, keyspace=keyspace).add(item, 1)
            charged: set[str] = set()
            async with faulty(cassandra, keyspace, faults) as shaky:
                checkout = Checkout(shaky, keyspace)
                checkout.charged = charged
                data = {"item": item, "declined": declined}
                try:
                    await checkout.sagas.run("checkout", item, data)
                except SagaFailed as failed:
                    assert not isinstance(failed.cause, (OutOfStock, OutcomeUnknown))
                except cql.CQLError:
                    pass  # the log could not be written, or the lease was lost
            recovering = Checkout(session, keyspace)
            recovering.charged = charged
            found = None
            for _ in range(30):
                await recovering.sagas.resume()
                found = await recovering.sagas.get("checkout", item)
                if found is None or found.status not in ("running", "compensating"):
                    break
                await anyio.sleep(0.2)
            level = await recovering.stock.level(item)
            assert level.reserved == 0
            sold = found is not None and found.status is SagaStatus.COMPLETED
            assert (level.quantity == 0, bool(charged)) == (sold, sold)
            assert found is None or sold or found.status is SagaStatus.COMPENSATED

    anyio.run(run, backend=backend)
