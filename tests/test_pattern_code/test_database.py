"""A database manager as applications use it: queries with retries, a gate, units and health."""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    AdminNotAllowed,
    CircuitBreaker,
    CircuitOpen,
    Database,
    RetryConfig,
    TransactionError,
    UnitRefused,
)
from cqlproto_anyio.testing import Answer, FaultProxy, Rule

pytestmark = pytest.mark.cassandra

CREATE_USERS = (
    "CREATE TABLE IF NOT EXISTS users"
    " (id int PRIMARY KEY, name text, data text, born date, spent decimal, seen timestamp)"
)
INSERT = "INSERT INTO users (id, name) VALUES (:id, :name)"
SELECT = "SELECT id, name FROM users WHERE id = :id"
EVERYTHING = ["QUERY", "EXECUTE", "BATCH"]


@pytest.fixture
async def users(session: cql.Session) -> cql.Session:
    await session.execute(CREATE_USERS)
    await session.execute("TRUNCATE users")
    return session


@pytest.fixture
async def database(users: cql.Session) -> Database:
    return Database(
        users,
        mode="auto",
        retry=RetryConfig(
            max_retries=5, initial_delay=0.5, max_delay=10, exponential_base=2, jitter=True
        ),
        validate_queries=True,
        allow_admin=False,
        breaker=CircuitBreaker(failures=5, recovery=60, successes=2),
    )


async def test_every_way_to_fetch(database: Database) -> None:
    for id in range(5):
        assert await database.run(INSERT, {"id": id, "name": f"user {id}"}) == []
    assert await database.run(SELECT, {"id": 1}, fetch="one") == {"id": 1, "name": "user 1"}
    assert await database.run(SELECT, {"id": 9}, fetch="one") is None
    rows = await database.run("SELECT id FROM users")
    assert sorted(row["id"] for row in rows) == [0, 1, 2, 3, 4]
    assert len(await database.run("SELECT id FROM users", fetch="many", size=2)) == 2
    streamed = [
        row["id"] async for row in await database.run("SELECT id FROM users", fetch="iterate")
    ]
    assert sorted(streamed) == [0, 1, 2, 3, 4]
    by_position = await database.run("SELECT name FROM users WHERE id = ?", (2,), fetch="one")
    assert by_position == {"name": "user 2"}
    within = await database.run("SELECT id FROM users WHERE id IN :ids", {"ids": [1, 3]})
    assert sorted(row["id"] for row in within) == [1, 3]


async def test_parameters_of_all_kinds(database: Database) -> None:
    """JSON goes to text and back; names that begin alike, literals and comments are left alone."""
    seen = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    await database.run(
        "INSERT INTO users (id, name, data, born, spent, seen)"
        " VALUES (:u, ':user', :user, :b, :s, :seen) /* :nothing */",
        {
            "u": 7,
            "user": {"theme": "dark", "tags": [1, None]},
            "b": datetime.date(1990, 2, 28),
            "s": decimal.Decimal("12.50"),
            "seen": seen,
        },
        parameter_types={"user": "json", "u": "int"},
        idempotent=True,
        timeout=5,
    )
    row = await database.run(
        "SELECT * FROM users WHERE id = 7", fetch="one", parameter_types={"data": "json"}
    )
    assert row == {
        "id": 7,
        "name": ":user",
        "data": {"theme": "dark", "tags": [1, None]},
        "born": datetime.date(1990, 2, 28),
        "spent": decimal.Decimal("12.50"),
        "seen": seen,
    }
    with pytest.raises(cql.UsageError, match="id.*int.*'x'"):
        await database.run(SELECT, {"id": "x"}, parameter_types={"id": "int"})


async def test_many_rows(database: Database) -> None:
    rows = [{"id": id, "name": f"user {id}"} for id in range(100)]
    done = await database.execute_many(INSERT, rows, concurrency=16)
    assert (done.count, list(done.failures)) == (100, [])
    both = await database.execute_many(INSERT, rows[:2], atomic=True)
    assert both.count == 2
    with pytest.raises(UnitRefused, match="size"):
        await database.execute_many(
            INSERT, [{"id": id, "name": "x" * 1000} for id in range(200)], atomic=True
        )
    assert len(await database.run("SELECT id FROM users")) == 100


async def test_administration_is_refused_by_its_tokens(database: Database) -> None:
    refused = {
        "DROP TABLE users": "DROP TABLE",
        "drop/* sly */keyspace shop": "DROP KEYSPACE",
        "CREATE ROLE eve WITH SUPERUSER = true": "CREATE ROLE",
        "CREATE USER eve": "CREATE USER",
        "ALTER KEYSPACE shop WITH durable_writes = false": "ALTER KEYSPACE",
        "-- hello\nTRUNCATE users": "TRUNCATE",
        "GRANT ALL ON KEYSPACE shop TO eve": "GRANT",
    }
    for query, statement in refused.items():
        with pytest.raises(AdminNotAllowed) as info:
            await database.run(query)
        assert isinstance(info.value, cql.UsageError)
        assert (info.value.statement, info.value.query) == (statement, query)
    for name in ("a--b", "DROP TABLE x", "it''s /* fine */", "; GRANT"):
        await database.run(f"INSERT INTO users (id, name) VALUES (1, '{name}')")
    row = await database.run(SELECT, {"id": 1}, fetch="one")
    assert row == {"id": 1, "name": "; GRANT"}


async def test_an_administrator(users: cql.Session) -> None:
    for database in (
        Database(users, allow_admin=True),
        Database(users, validate_queries=False, mode="none"),
    ):
        await database.run("CREATE TABLE IF NOT EXISTS extra (id int PRIMARY KEY)")
        assert await database.run("SELECT * FROM extra") == []


async def test_retries_of_what_is_safe(
    shaky: cql.Session, users: cql.Session, proxy: FaultProxy
) -> None:
    """Idempotent requests are tried again, others only if the node can't have applied them."""
    retry = RetryConfig(max_retries=2, initial_delay=0.01)
    database = Database(shaky, retry=retry)
    await database.run(INSERT, {"id": 1, "name": "Ann"}, idempotent=True)
    fault = proxy.add(
        Rule(Answer("READ_TIMEOUT"), opcode=EVERYTHING, statement="%FROM users%", times=2)
    )
    row = await database.run(SELECT, {"id": 1}, fetch="one", idempotent=True)
    assert (row, fault.hits) == ({"id": 1, "name": "Ann"}, 2)
    fault = proxy.add(Rule(Answer("WRITE_TIMEOUT"), opcode=EVERYTHING, statement="%INSERT%"))
    with pytest.raises(cql.WriteTimeout) as info:
        await database.run(INSERT, {"id": 2, "name": "Bob"}, idempotent=False)
    assert (fault.hits, info.value.maybe_applied) == (1, True)
    with pytest.raises(cql.WriteTimeout):
        await database.run(INSERT, {"id": 2, "name": "Bob"}, idempotent=True)
    assert fault.hits == 4
    with pytest.raises(cql.InvalidQuery):
        await database.run("SELECT timeout FROM users")
    metrics = database.metrics()
    assert (metrics.total, metrics.succeeded, metrics.failed) == (5, 2, 3)
    assert metrics.retries == 4
    assert metrics.avg_latency > 0


async def test_a_breaker_before_a_cluster_that_is_down(
    shaky: cql.Session, users: cql.Session, proxy: FaultProxy
) -> None:
    breaker = CircuitBreaker(failures=3, recovery=0.3, successes=1)
    database = Database(shaky, breaker=breaker)
    assert (await database.health()).healthy
    with pytest.raises(cql.InvalidQuery):  # a wrong query says nothing of the cluster
        await database.run("SELECT nothing FROM users")
    assert (breaker.state, breaker.failure_count) == ("closed", 0)
    fault = proxy.add(Rule(Answer("OVERLOADED"), opcode=EVERYTHING, statement="%FROM users%"))
    proxy.add(Rule(Answer("OVERLOADED"), opcode=EVERYTHING, statement="%system.local%"))
    for _ in range(3):
        with pytest.raises(cql.ServerOverloaded):
            await database.run(SELECT, {"id": 1})
    assert (breaker.state, fault.hits) == ("open", 3)
    with pytest.raises(CircuitOpen) as info:
        await database.run(SELECT, {"id": 1})
    assert fault.hits == 3
    assert 0 < info.value.retry_after <= 0.3
    assert info.value.failures == 3
    sick = await database.health()
    assert not sick.healthy
    assert sick.error
    assert database.metrics().rejected == 1

    proxy.clear()
    await anyio.sleep(0.35)
    assert breaker.state == "half_open"
    assert await database.run(SELECT, {"id": 1}) == []
    assert str(breaker.state) == "closed"
    well = await database.health()
    assert (well.healthy, well.error) == (True, None)
    assert 0 < well.latency < 5
    assert datetime.datetime.now(datetime.UTC) - well.checked_at < datetime.timedelta(minutes=1)


async def test_a_breaker_for_calls_of_ones_own() -> None:
    breaker = CircuitBreaker(failures=2, recovery=datetime.timedelta(minutes=1), successes=2)

    async def call(number: int, *, fails: bool = False) -> int:
        if fails:
            raise ConnectionError("down")
        return number

    assert await breaker.call(call, 7) == 7
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await breaker.call(call, 7, fails=True)
    with pytest.raises(CircuitOpen):
        await breaker.call(call, 7)
    assert (breaker.state, breaker.failure_count) == ("open", 2)
    for name in ("failures", "recovery", "successes"):
        settings: dict[str, Any] = {name: 0}
        with pytest.raises(cql.UsageError, match=name):
            CircuitBreaker(**settings)


async def test_a_transaction(database: Database) -> None:
    async with database.transaction() as unit:
        unit.add(INSERT, {"id": 1, "name": "Ann"})
        unit.add(INSERT, {"id": 2, "name": "Bob"})
        assert await database.run("SELECT id FROM users") == []
    assert len(await database.run("SELECT id FROM users")) == 2
    with pytest.raises(LookupError):
        async with database.transaction() as unit:
            unit.add(INSERT, {"id": 3, "name": "Cid"})
            raise LookupError
    assert len(await database.run("SELECT id FROM users")) == 2
    with pytest.raises(TransactionError, match="manual"):
        await database.begin()


async def test_begin_commit_and_rollback(users: cql.Session) -> None:
    """They belong to the task that began."""
    database = Database(users, mode="manual")
    with pytest.raises(TransactionError, match="begin"):
        await database.run(INSERT, {"id": 1, "name": "Ann"})
    with pytest.raises(TransactionError, match="begin"):
        await database.commit()
    unit = await database.begin()
    assert await database.run(INSERT, {"id": 1, "name": "Ann"}) == []
    unit.add(INSERT, {"id": 2, "name": "Bob"})
    assert len(unit) == 2
    assert await database.run("SELECT id FROM users") == []
    with pytest.raises(TransactionError, match="begin") as info:
        await database.begin()
    assert isinstance(info.value, cql.UsageError)
    assert info.value.reason
    await database.commit()
    assert len(await database.run("SELECT id FROM users")) == 2

    async def other_request(id: int) -> None:
        await database.begin()
        await database.run(INSERT, {"id": id, "name": "other"})
        await anyio.sleep(0.05)
        await (database.commit() if id == 11 else database.rollback())

    async with anyio.create_task_group() as group:
        group.start_soon(other_request, 10)
        group.start_soon(other_request, 11)
    ids = sorted(row["id"] for row in await database.run("SELECT id FROM users"))
    assert ids == [1, 2, 11]
    await database.begin()
    await database.rollback()
    with pytest.raises(TransactionError):
        await database.rollback()


async def test_mistakes_are_told_before_anything_is_sent(users: cql.Session) -> None:
    run: Any = Database(users).run
    with pytest.raises(cql.UsageError, match="fetch"):
        await run("SELECT id FROM users", fetch="some")
    with pytest.raises(cql.UsageError, match="size"):
        await run("SELECT id FROM users", fetch="many")
    with pytest.raises(cql.UsageError, match="size"):
        await run("SELECT id FROM users", fetch="many", size=0)
    with pytest.raises(cql.UsageError, match="uuidd"):
        await run(SELECT, {"id": uuid.uuid4()}, parameter_types={"id": "uuidd"})
    with pytest.raises(cql.UsageError, match="mode"):
        Database(users, mode="zzz")  # type: ignore[arg-type]
    for name, value in [
        ("max_retries", -1),
        ("initial_delay", -1),
        ("max_delay", 0),
        ("exponential_base", 0.5),
    ]:
        settings: dict[str, Any] = {name: value}
        with pytest.raises(cql.UsageError, match=name):
            RetryConfig(**settings)
