"""The types of units of work, the database manager and the breaker. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, assert_type

from cqlproto_anyio.patterns import (
    AdminNotAllowed,
    CircuitBreaker,
    CircuitOpen,
    Database,
    DatabaseMetrics,
    Health,
    RetryConfig,
    TransactionError,
    UnitOfWork,
    UnitRefused,
)

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def working(executor: cql.Executor, prepared: cql.Prepared[Any]) -> None:
    async with UnitOfWork(executor, max_size=10_000) as unit:
        assert_type(unit, UnitOfWork)
        unit.add("UPDATE t SET a = :a WHERE id = :id", {"a": 1, "id": 2})
        unit.add(prepared, (1, 2))
        unit.add("DELETE FROM t WHERE id = 1")
        assert_type(len(unit), int)
        unit.add(7)  # type: ignore[arg-type]
        unit.add("UPDATE t SET a = ? WHERE id = ?", 1, 2)  # type: ignore[call-arg]


async def managing(executor: cql.Executor) -> None:
    database = Database(
        executor,
        mode="manual",
        retry=RetryConfig(max_retries=5, initial_delay=0.5, max_delay=10, jitter=False),
        validate_queries=True,
        allow_admin=False,
        breaker=CircuitBreaker(failures=5, recovery=timedelta(minutes=1), successes=2),
    )
    query = "SELECT * FROM users WHERE id = :id"
    assert_type(await database.run(query, {"id": 1}), list[dict[str, Any]])
    assert_type(await database.run(query, (1,), fetch="all"), list[dict[str, Any]])
    assert_type(await database.run(query, {"id": 1}, fetch="one"), dict[str, Any] | None)
    assert_type(await database.run(query, fetch="many", size=10), list[dict[str, Any]])
    rows = await database.run(query, fetch="iterate", idempotent=True, timeout=None)
    assert_type(rows, AsyncIterator[dict[str, Any]])
    await database.run(query, {"id": {}}, parameter_types={"id": "json"})
    done = await database.execute_many("INSERT ..", [(1,)], atomic=True, concurrency=8)
    assert_type(done.count, int)
    assert_type(await database.health(), Health)
    assert_type(database.metrics(), DatabaseMetrics)
    async with database.transaction() as unit:
        assert_type(unit, UnitOfWork)
    assert_type(await database.begin(), UnitOfWork)
    assert_type(await database.commit(), None)
    assert_type(await database.rollback(), None)


async def looking_on(health: Health, metrics: DatabaseMetrics, breaker: CircuitBreaker) -> None:
    assert_type((health.healthy, health.latency), tuple[bool, float])
    assert_type(health.error, str | None)
    assert_type(health.checked_at, datetime)
    assert_type((metrics.total, metrics.succeeded, metrics.failed), tuple[int, int, int])
    assert_type((metrics.retries, metrics.rejected), tuple[int, int])
    assert_type(metrics.avg_latency, float)
    assert_type(breaker.state, Literal["closed", "open", "half_open"])
    assert_type(breaker.failure_count, int)

    async def call(number: int, *, text: str) -> bytes:
        return b""

    assert_type(await breaker.call(call, 7, text="a"), bytes)
    await breaker.call(call, "7", text="a")  # type: ignore[arg-type]
    await breaker.call(call)  # type: ignore[call-arg]


async def mistakes(executor: cql.Executor, database: Database) -> None:
    Database(executor, mode="zzz")  # type: ignore[arg-type]
    Database(executor, retry=3)  # type: ignore[arg-type]
    await database.run("SELECT 1", fetch="some")  # type: ignore[call-overload]
    await database.run("SELECT 1", fetch="many")  # type: ignore[call-overload]
    await database.run("SELECT 1", fetch="one", size=3)  # type: ignore[call-overload]
    RetryConfig(max_retry=3)  # type: ignore[call-arg]
    RetryConfig().max_retries = 3  # type: ignore[misc]


def failing(
    admin: AdminNotAllowed, circuit: CircuitOpen, unit: UnitRefused, wrong: TransactionError
) -> None:
    errors: list[cql.UsageError] = [admin, unit, wrong]
    assert errors
    assert_type((admin.statement, admin.query), tuple[str, str])
    assert_type((circuit.retry_after, circuit.failures), tuple[float, int])
    assert_type(unit.query, str | None)
    assert_type((unit.reason, wrong.reason), tuple[str, str])
