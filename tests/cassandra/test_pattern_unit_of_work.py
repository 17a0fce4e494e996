"""Units of work on a real node: tasks that commit at once, and commits whose reply is lost."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import ConditionFailed, Database, OutcomeUnknown, UnitOfWork
from cqlproto_anyio.testing import Answer, Drop, FaultProxy, Rule
from tests.cassandra.concurrently import all_of
from tests.cassandra.races import PATIENCE, Counting, connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cqlproto_anyio.testing import Fault, Side
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

INSERT = "INSERT INTO parts (unit, part, value) VALUES (?, ?, ?)"


@pytest.fixture(scope="module", autouse=True)
def table(cassandra: Node, keyspace: str) -> None:
    cassandra.cql(
        f"CREATE TABLE {keyspace}.parts (unit uuid, part int, value int,"
        " PRIMARY KEY ((unit, part)))"
    )


@pytest.fixture
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with connected(cassandra, keyspace) as session:
        yield session


async def parts(session: cql.Session, *units: uuid.UUID) -> int:
    """Return how many parts of some units are in the table."""
    found = 0
    for unit in units:
        select = "SELECT part FROM parts WHERE unit = ? AND part IN (0, 1, 2)"
        found += len(await session.execute(select, (unit,)))
    return found


async def test_units_of_tasks_do_not_mix(session: cql.Session) -> None:
    """Tasks take turns between their writes; some commit, some roll back, some fail."""
    database = Database(session, mode="manual")
    units = [uuid.uuid4() for _ in range(20)]

    async def work(number: int) -> None:
        unit = await database.begin()
        for part in range(3):
            await database.run(INSERT, (units[number], part, number))
            await anyio.lowlevel.checkpoint()
        assert len(unit) == 3
        await (database.rollback() if number % 2 else database.commit())

    await all_of([partial(work, number) for number in range(20)])
    assert [await parts(session, unit) for unit in units] == [3, 0] * 10


async def test_the_naive_transaction_mixes_the_tasks(session: cql.Session) -> None:
    """It has one list of statements for all tasks: who rolls back discards what others wrote."""
    mine, other = uuid.uuid4(), uuid.uuid4()
    buffer: list[tuple[str, Any]] = []

    async def write(unit: uuid.UUID) -> None:
        for part in range(3):
            buffer.append((INSERT, (unit, part, 0)))
            await anyio.lowlevel.checkpoint()

    await all_of([partial(write, mine), partial(write, other)])
    buffer.clear()  # the other task rolls back
    if buffer:  # and this one commits
        await session.batch(buffer)
    assert await parts(session, mine) == 0


async def test_an_error_in_the_block_writes_nothing(session: cql.Session) -> None:
    """The naive version, plain statements, has written the half by then."""
    units = [uuid.uuid4() for _ in range(2)]
    with pytest.raises(ZeroDivisionError):
        async with UnitOfWork(session) as unit:
            unit.add(INSERT, (units[0], 0, 0))
            unit.add(INSERT, (units[0], 1, 1 // 0))
    with pytest.raises(ZeroDivisionError):
        await session.execute(INSERT, (units[1], 0, 0))
        await session.execute(INSERT, (units[1], 1, 1 // 0))
    assert [await parts(session, each) for each in units] == [0, 1]


async def test_a_unit_is_one_batch(cassandra: Node, keyspace: str) -> None:
    counting = Counting()
    async with connected(cassandra, keyspace, hooks=counting) as session:
        async with UnitOfWork(session) as unit:
            for part in range(3):
                unit.add(INSERT, (uuid.uuid4(), part, 0))
        sent = [each.verb for each in counting.records]
        assert [verb for verb in sent if verb != "prepare"] == ["batch"]
        assert sent.count("prepare") <= 1


async def test_a_condition_holds_for_the_whole_unit(session: cql.Session) -> None:
    id = uuid.uuid4()
    await session.execute(INSERT, (id, 0, 1))
    update = "UPDATE parts SET value = ? WHERE unit = ? AND part = 0 IF value = ?"
    for before in (7, 1):
        try:
            async with UnitOfWork(session) as unit:
                unit.add(update, (2, id, before))
                unit.add(update, (2, id, before))
        except ConditionFailed as error:
            assert before == 7
            assert error.rows[0]["value"] == 1
    select = "SELECT value FROM parts WHERE unit = ? AND part = 0"
    assert (await session.execute(select, (id,))).scalars() == [2]


FAULTS: dict[str, Callable[[], tuple[Fault, Side]]] = {
    "the reply is lost": lambda: (Drop(connection=True), "reply"),
    "the reply is swallowed": lambda: (Drop(), "reply"),
    "the request is lost": lambda: (Drop(connection=True), "request"),
    "WriteTimeout after it was applied": lambda: (Answer("WRITE_TIMEOUT"), "reply"),
    "WriteTimeout before": lambda: (Answer("WRITE_TIMEOUT"), "request"),
    "OVERLOADED": lambda: (Answer("OVERLOADED"), "request"),
    "UNPREPARED": lambda: (Answer("UNPREPARED"), "request"),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=5)
@given(name=st.sampled_from([*FAULTS]), statements=st.integers(1, 3))
def test_a_commit_with_a_fault(
    cassandra: Node, keyspace: str, backend: str, name: str, statements: int
) -> None:
    """It has written all, or it raises; if it may have written, it raises OutcomeUnknown."""

    async def run() -> None:
        id = uuid.uuid4()
        fault, side = FAULTS[name]()
        profile = cql.Profile(timeout=PATIENCE)
        error: cql.CQLError | None = None
        async with FaultProxy(cassandra.host, cassandra.port) as proxy:
            proxy.add(Rule(fault, side=side, opcode=("EXECUTE", "BATCH"), times=1))
            async with cql.connect(
                proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
            ) as session:
                try:
                    async with UnitOfWork(session) as unit:
                        for part in range(statements):
                            unit.add(INSERT, (id, part, 0))
                except cql.CQLError as exc:
                    error = exc
        async with connected(cassandra, keyspace) as session:
            found = await parts(session, id)
        assert found in (0, statements)
        if side == "reply":
            assert found == statements
            assert isinstance(error, OutcomeUnknown)
        elif name == "UNPREPARED":
            assert (found, error) == (statements, None)
        else:
            assert found == 0
            assert isinstance(error, OutcomeUnknown)

    anyio.run(run, backend=backend)


async def test_the_naive_batch_takes_a_timeout_for_a_failure(
    session: cql.Session, cassandra: Node, keyspace: str
) -> None:
    id = uuid.uuid4()
    failed = False
    async with FaultProxy(cassandra.host, cassandra.port) as proxy:
        proxy.add(Rule(Answer("WRITE_TIMEOUT"), side="reply", opcode="BATCH", times=1))
        async with cql.connect(proxy.host, port=proxy.port, keyspace=keyspace) as shaky:
            try:
                await shaky.batch([(INSERT, (id, part, 0)) for part in range(3)])
            except cql.WriteTimeout:
                failed = True
    assert failed
    assert await parts(session, id) == 3  # it tells the user that nothing was written
