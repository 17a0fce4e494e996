"""Optimistic locking on a real node: races with a second process, faults, and the naive version."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import LockStatus, OutcomeUnknown, Resolution, UnitOfWork, Versioned
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import FAULTS, Counting, connected, faulty, in_other_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

_ids = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    cassandra.cql(
        f"CREATE TABLE {keyspace}.accounts (id int PRIMARY KEY, balance bigint, a int, b int)"
    )
    for statement in Versioned.schema_cql(keyspace, table="accounts"):
        cassandra.cql(statement)


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


def accounts(session: cql.Session, keyspace: str, **options: Any) -> Versioned:
    arguments: dict[str, Any] = {"max_retries": 20, "retry_delay": 0.01, **options}
    return Versioned(session, keyspace=keyspace, table="accounts", key=["id"], **arguments)


def plus_one(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"balance": values["balance"] + 1}


async def increment(session: cql.Session, keyspace: str, id: int, tasks: int) -> list[int]:
    """Add one in each of some tasks; return the versions that they have made."""
    rows = accounts(session, keyspace)

    async def one() -> int:
        while True:
            outcome = await rows.update(id, plus_one)
            if outcome.ok:
                assert outcome.version is not None
                return outcome.version
            assert outcome.status is LockStatus.RETRY_EXHAUSTED

    works: list[Any] = [one] * tasks
    return list(await all_of(works))


async def test_fifty_increments_of_two_processes_are_fifty(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    id = next(_ids)
    rows = accounts(session, keyspace)
    await rows.insert({"id": id, "balance": 0})
    other = partial(in_other_process, increment, cassandra, keyspace, id, 25)
    here, there = await all_of([partial(increment, session, keyspace, id, 25), other])
    row = await rows.read(id)
    assert (row.values["balance"], row.version) == (50, 51)
    assert sorted([*here, *there]) == list(range(2, 52))  # each version was made once


async def test_the_naive_update_loses_what_others_have_written(session: cql.Session) -> None:
    """It writes what it has computed of what it read; or sends that again for a new version."""
    id = next(_ids)
    select = "SELECT balance, version FROM accounts WHERE id = ?"
    await session.execute("INSERT INTO accounts (id, balance, version) VALUES (?, 100, 1)", (id,))

    async def deposit(both: anyio.Event, waiting: list[bool], *, conditional: bool) -> None:
        row = (await session.execute(select, (id,))).one()
        balance = row.balance + 10
        waiting.append(True)
        if len(waiting) == 2:  # both have read before one of them writes
            both.set()
        await both.wait()
        if not conditional:
            await session.execute("UPDATE accounts SET balance = ? WHERE id = ?", (balance, id))
            return
        update = "UPDATE accounts SET balance = ?, version = ? WHERE id = ? IF version = ?"
        version = row.version
        while not (await session.execute(update, (balance, version + 1, id, version))).applied:
            version = (await session.execute(select, (id,))).one().version

    for conditional in (True, False):
        await all_of([partial(deposit, anyio.Event(), [], conditional=conditional)] * 2)
        expected = 110 if conditional else 120
        assert (await session.execute(select, (id,))).one().balance == expected  # not 120 and 140


async def test_disjoint_fields_of_two_writers_both_survive(
    session: cql.Session, keyspace: str
) -> None:
    for _ in range(3):
        id = next(_ids)
        rows = [accounts(session, keyspace) for _ in range(2)]
        await rows[0].insert({"id": id, "a": 0, "b": 0, "balance": 0})
        base = await rows[0].read(id)
        changes: list[Any] = [{"a": 1, "balance": 5}, {"b": 1, "balance": 7}]
        outcomes = await all_of(
            [
                partial(
                    each.update,
                    id,
                    change,
                    expected=base,
                    resolution=Resolution.MERGE,
                    merge={"balance": "numeric_add"},
                )
                for each, change in zip(rows, changes, strict=True)
            ]
        )
        assert all(each.ok for each in outcomes)
        row = await rows[0].read(id)
        assert (row.values["a"], row.values["b"], row.values["balance"]) == (1, 1, 12)
        assert row.version == 3


async def test_a_deleted_row_stays_deleted(session: cql.Session, keyspace: str) -> None:
    """Updates race with a deletion; what comes after it finds no row."""
    id = next(_ids)
    rows = accounts(session, keyspace)
    await rows.insert({"id": id, "balance": 0})

    async def work() -> LockStatus:
        while True:
            outcome = await rows.update(id, plus_one)
            if not outcome.ok:
                return outcome.status

    async def delete() -> None:
        await anyio.sleep(0.1)
        await session.execute("DELETE FROM accounts WHERE id = ? IF EXISTS", (id,))

    found = await all_of([work, work, delete])
    assert found[:2] == [LockStatus.RECORD_NOT_FOUND] * 2
    select = "SELECT * FROM accounts WHERE id = ?"
    assert (await session.execute(select, (id,), consistency="SERIAL")).rows == []
    # the naive update makes a ghost of it
    await session.execute("UPDATE accounts SET balance = 1 WHERE id = ?", (id,))
    assert len(await session.execute(select, (id,))) == 1


async def test_metrics_reconcile_after_a_thousand_racing_operations(
    cassandra: Node, keyspace: str
) -> None:
    """The counts are those of the outcomes, of the table, and of the statements that were sent."""
    counting = Counting()
    ids = [next(_ids) for _ in range(20)]
    outcomes = []
    async with connected(cassandra, keyspace, hooks=counting) as session:
        both = [accounts(session, keyspace, max_retries=3, history=5) for _ in range(2)]
        for id in ids:
            await both[0].insert({"id": id, "balance": 0})
        counting.records.clear()

        async def work(rows: Versioned, numbers: range) -> None:
            for number in numbers:
                outcome = await rows.update(ids[number % len(ids)], plus_one)
                outcomes.append(outcome)

        await all_of([partial(work, both[at // 20], range(at, 1000, 40)) for at in range(40)])
        balances = [(await both[0].read(id)).values["balance"] for id in ids]
    done = sum(each.ok for each in outcomes)
    metrics = [rows.metrics() for rows in both]
    assert sum(each.total_operations for each in metrics) == len(outcomes) == 1000
    assert sum(each.successful_operations for each in metrics) == sum(balances) == done
    assert sum(each.version_conflicts for each in metrics) == counting.lwts - done > 0
    assert sum(each.retries_performed for each in metrics) == sum(e.retries for e in outcomes)
    assert all(len(rows.conflicts(1000)) <= 5 for rows in both)


async def test_one_lwt(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        rows = accounts(session, keyspace)
        id = next(_ids)
        await rows.insert({"id": id, "balance": 0})
        account = await rows.read(id)
        counting.records.clear()
        outcome = await rows.update(id, {"balance": 1}, expected=account)
        assert (counting.lwts, counting.reads) == (1, 0)
        await rows.update(id, {"balance": 2}, expected=outcome.version)
        assert (counting.lwts, counting.reads) == (2, 0)
        await rows.update(id, plus_one)
        assert (counting.lwts, counting.reads) == (3, 1)
        late = await rows.update(id, {"balance": 1}, expected=account)
        assert late.status is LockStatus.VERSION_CONFLICT
        assert (counting.lwts, counting.reads) == (4, 2)
        current = await rows.read(id)
        counting.records.clear()
        async with UnitOfWork(session) as unit:
            await rows.update(id, {"balance": 5}, expected=current, unit=unit)
            unit.add("UPDATE accounts SET a = ? WHERE id = ?", (1, id))
        sent = [each.verb for each in counting.records if each.verb != "prepare"]
        assert sent == ["batch"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=5)
@given(faults=st.lists(st.sampled_from([*FAULTS, None]), min_size=1, max_size=4))
def test_an_update_counts_once_whatever_fails(
    cassandra: Node, keyspace: str, backend: str, faults: list[str | None]
) -> None:
    """One writer with a bad network: each update is settled, and the balance is their number."""
    id = next(_ids)

    async def run() -> None:
        async with connected(cassandra, keyspace) as session:
            await accounts(session, keyspace).insert({"id": id, "balance": 0})
        done = 0
        async with faulty(cassandra, keyspace, faults) as shaky:
            rows = accounts(shaky, keyspace)
            for _ in range(3):
                try:
                    done += (await rows.update(id, plus_one)).ok
                except cql.ServerOverloaded as error:
                    assert not error.maybe_applied
        await anyio.sleep(0.1)
        async with connected(cassandra, keyspace) as session:
            row = await accounts(session, keyspace).read(id)
        assert (row.values["balance"], row.version) == (done, done + 1)

    anyio.run(run, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=3)
@given(
    faults=st.lists(st.lists(st.sampled_from([*FAULTS, None]), max_size=3), min_size=2, max_size=3)
)
def test_racing_writers_with_bad_networks(
    cassandra: Node, keyspace: str, backend: str, faults: list[list[str | None]]
) -> None:
    """The balance is the number of updates that succeeded, and of some that nobody can tell."""
    id = next(_ids)

    async def writer(mine: list[str | None]) -> tuple[int, int]:
        sure = unknown = 0
        async with faulty(cassandra, keyspace, mine) as session:
            rows = accounts(session, keyspace)
            for _ in range(3):
                try:
                    sure += (await rows.update(id, plus_one)).ok
                except OutcomeUnknown:
                    unknown += 1
                except cql.ServerOverloaded as error:
                    assert not error.maybe_applied
        return sure, unknown

    async def run() -> None:
        async with connected(cassandra, keyspace) as session:
            rows = accounts(session, keyspace)
            await rows.insert({"id": id, "balance": 0})
            found = await all_of([*(partial(writer, mine) for mine in faults)])
            await anyio.sleep(0.6)  # late requests have arrived
            row = await rows.read(id)
        sure = sum(each for each, _ in found)
        assert sure <= row.values["balance"] <= sure + sum(each for _, each in found)
        assert row.version == row.values["balance"] + 1

    anyio.run(run, backend=backend)


async def test_the_naive_update_counts_twice_when_its_reply_is_lost(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    """It takes the error for a failure, and begins again."""
    id = next(_ids)
    insert = "INSERT INTO accounts (id, balance, version) VALUES (?, 0, 1)"
    await session.execute(insert, (id,))
    select = "SELECT balance, version FROM accounts WHERE id = ?"
    update = "UPDATE accounts SET balance = ?, version = ? WHERE id = ? IF version = ?"
    async with faulty(cassandra, keyspace, ["the reply is lost"]) as shaky:
        for _ in range(2):
            row = (await session.execute(select, (id,))).one()
            try:
                values = (row.balance + 1, row.version + 1, id, row.version)
                assert (await shaky.execute(update, values)).applied
            except cql.ConnectionLost:
                continue
            break
    assert (await session.execute(select, (id,))).one().balance == 2  # for one update
