"""Units of work as applications use them: writes to several tables that belong together."""

from __future__ import annotations

import re

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import OutcomeUnknown, UnitOfWork, UnitRefused
from cqlproto_anyio.testing import Drop, FaultProxy, Rule

pytestmark = pytest.mark.cassandra

CREATE_ACCOUNTS = "CREATE TABLE IF NOT EXISTS accounts (id int PRIMARY KEY, balance bigint)"
CREATE_AUDIT = (
    "CREATE TABLE IF NOT EXISTS audit"
    " (account int, id timeuuid, text text, PRIMARY KEY (account, id))"
)
CREATE_VISITS = "CREATE TABLE IF NOT EXISTS visits (id int PRIMARY KEY, count counter)"
UPDATE = "UPDATE accounts SET balance = :balance WHERE id = :id"
AUDIT = "INSERT INTO audit (account, id, text) VALUES (?, now(), ?)"


@pytest.fixture
async def bank(session: cql.Session) -> cql.Session:
    for statement in (CREATE_ACCOUNTS, CREATE_AUDIT, CREATE_VISITS):
        await session.execute(statement)
    for table in ("accounts", "audit"):
        await session.execute(f"TRUNCATE {table}")
    return session


async def balances(session: cql.Session) -> dict[int, int]:
    rows = await session.execute("SELECT id, balance FROM accounts")
    return {row.id: row.balance for row in rows}


async def test_a_transfer_with_its_audit(bank: cql.Session) -> None:
    async with UnitOfWork(bank) as unit:
        unit.add(UPDATE, {"balance": 5, "id": 1})
        unit.add(UPDATE, {"balance": 15, "id": 2})
        unit.add(AUDIT, (1, "10 to account 2"))
        unit.add(await bank.prepare(AUDIT), (2, "10 from account 1"))
        unit.add("DELETE FROM accounts WHERE id = 3")
        assert len(unit) == 5
        assert await balances(bank) == {}  # nothing is sent before the end
    assert await balances(bank) == {1: 5, 2: 15}
    assert len(await bank.execute("SELECT * FROM audit")) == 2


async def test_an_error_sends_nothing(bank: cql.Session) -> None:
    with pytest.raises(ZeroDivisionError):
        async with UnitOfWork(bank) as unit:
            unit.add(UPDATE, {"balance": 5, "id": 1})
            _ = 1 / 0
    with anyio.move_on_after(0.1):
        async with UnitOfWork(bank) as unit:
            unit.add(UPDATE, {"balance": 5, "id": 1})
            await anyio.sleep(60)
    async with UnitOfWork(bank):
        pass
    assert await balances(bank) == {}


async def test_two_requests_have_units_of_their_own(bank: cql.Session) -> None:
    async def request(id: int, *, fails: bool) -> None:
        async with UnitOfWork(bank) as unit:
            unit.add(UPDATE, {"balance": id, "id": id})
            await anyio.sleep(0.01)
            if fails:
                raise LookupError(id)

    async def failing(id: int) -> None:
        with pytest.raises(LookupError):
            await request(id, fails=True)

    async def passing(id: int) -> None:
        await request(id, fails=False)

    async with anyio.create_task_group() as group:
        for id in range(10):
            group.start_soon(failing if id % 2 else passing, id)
    assert sorted(await balances(bank)) == [0, 2, 4, 6, 8]


async def test_what_a_unit_can_not_hold_is_refused_when_it_is_added(bank: cql.Session) -> None:
    refused = [
        ("SELECT * FROM accounts", None, "SELECT"),
        ("TRUNCATE accounts", None, "TRUNCATE"),
        ("CREATE TABLE x (id int PRIMARY KEY)", None, "CREATE"),
        ("BEGIN BATCH DELETE FROM accounts WHERE id = 1 APPLY BATCH", None, "BATCH"),
        ("DROP TABLE accounts", None, "DROP"),
    ]
    async with UnitOfWork(bank) as unit:
        unit.add(UPDATE, {"balance": 5, "id": 1})
        for query, parameters, what in refused:
            with pytest.raises(UnitRefused, match=what) as info:
                unit.add(query, parameters)
            assert isinstance(info.value, cql.UsageError)
            assert info.value.query == query
            assert info.value.reason
    assert await balances(bank) == {1: 5}


async def test_what_only_the_tables_tell_is_refused_before_anything_is_sent(
    bank: cql.Session,
) -> None:
    with pytest.raises(UnitRefused, match="counter"):
        async with UnitOfWork(bank) as unit:
            unit.add(UPDATE, {"balance": 5, "id": 1})
            unit.add("UPDATE visits SET count = count + 1 WHERE id = 1")
    with pytest.raises(UnitRefused, match="partition"):
        async with UnitOfWork(bank) as unit:
            unit.add("UPDATE accounts SET balance = 5 WHERE id = 1 IF balance = 3")
            unit.add(UPDATE, {"balance": 5, "id": 2})
    with pytest.raises(UnitRefused, match="size"):
        async with UnitOfWork(bank, max_size=1000) as unit:
            unit.add(AUDIT, (1, "x" * 2000))
    with pytest.raises(UnitRefused, match="size"):
        async with UnitOfWork(bank) as unit:
            for _ in range(100):
                unit.add(AUDIT, (1, "x" * 1000))
    assert await balances(bank) == {}
    assert len(await bank.execute("SELECT * FROM audit")) == 0


async def test_a_commit_that_nobody_can_tell(
    bank: cql.Session, shaky: cql.Session, proxy: FaultProxy
) -> None:
    """The batch was sent and its answer is lost: it may have been applied."""
    lost = proxy.add(Rule(Drop(), opcode="BATCH", statement=re.compile("UPDATE accounts")))
    with pytest.raises(OutcomeUnknown) as info:
        async with UnitOfWork(shaky) as unit:
            unit.add(UPDATE, {"balance": 5, "id": 1})
            unit.add(UPDATE, {"balance": 6, "id": 2})
    assert lost.hits >= 1
    assert info.value.maybe_applied
    assert isinstance(info.value.__cause__, cql.RequestTimeout)
    assert await balances(bank) == {1: 5, 2: 6}


async def test_a_unit_is_used_once(bank: cql.Session) -> None:
    unit = UnitOfWork(bank)
    with pytest.raises(cql.UsageError, match="async with"):
        unit.add(UPDATE, {"balance": 5, "id": 1})
    async with unit:
        unit.add(UPDATE, {"balance": 5, "id": 1})
    with pytest.raises(cql.UsageError, match="once"):
        async with unit:
            pass
    with pytest.raises(cql.UsageError, match="ended"):
        unit.add(UPDATE, {"balance": 5, "id": 1})
    with pytest.raises(cql.UsageError, match="max_size"):
        UnitOfWork(bank, max_size=0)
