"""The types of sagas. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from cqlproto_anyio.patterns import (
    CompensationFailed,
    Saga,
    SagaBusy,
    SagaContext,
    SagaFailed,
    SagaRecord,
    Sagas,
    SagaStatus,
    Step,
)

if TYPE_CHECKING:
    import cqlproto_anyio as cql


async def reserve(context: SagaContext) -> dict[str, Any]:
    assert_type((context.saga, context.id, context.step), tuple[str, str, str])
    assert_type(context.data, Any)
    assert_type(context.results, Mapping[str, Any])
    assert_type(context.operation, str)
    assert_type(context.fence, int)
    return {}


async def release(context: SagaContext) -> None:
    context.operation = "mine"  # type: ignore[misc]


def not_async(context: SagaContext) -> None: ...


async def running(executor: cql.Executor) -> None:
    checkout = Saga("checkout", [Step("reserve", reserve, undo=release, attempts=3)])
    sagas = Sagas(executor, keyspace="shop", sagas=[checkout])
    Sagas(
        executor,
        keyspace="shop",
        table="orders",
        sagas=[checkout],
        ttl=timedelta(seconds=30),
        undo_attempts=3,
        undo_delay=0.1,
    )
    assert_type(await sagas.create_schema(), None)
    assert_type(Sagas.schema_cql("shop"), tuple[str, ...])
    done = await sagas.run("checkout", "order-1", {"item": "tea"})
    assert_type(done, SagaRecord)
    assert_type(await sagas.run("checkout", "order-1"), SagaRecord)
    assert_type(done.status, SagaStatus)
    assert_type((done.saga, done.id), tuple[str, str])
    assert_type(done.step, str | None)
    assert_type(done.error, str | None)
    assert_type(done.data, Any)
    assert_type(done.results, Mapping[str, Any])
    assert_type(done.compensated, tuple[str, ...])
    assert_type(done.updated_at, datetime)
    assert_type(await sagas.resume(), list[SagaRecord])
    assert_type(await sagas.get("checkout", "order-1"), SagaRecord | None)
    assert_type(sagas.attention(), AsyncIterator[SagaRecord])
    assert_type(await sagas.retry("checkout", "order-1"), SagaRecord)


async def mistakes(executor: cql.Executor, sagas: Sagas) -> None:
    Step("reserve", not_async)  # type: ignore[arg-type]
    Step("reserve", reserve, release)  # type: ignore[call-arg]
    Saga("checkout", [reserve])  # type: ignore[list-item]
    Sagas(executor, keyspace="shop")  # type: ignore[call-arg]
    await sagas.run("checkout", 7)  # type: ignore[arg-type]


def failing(error: SagaFailed, busy: SagaBusy) -> None:
    assert_type((error.saga, error.id, error.step, error.error), tuple[str, str, str, str])
    assert_type(error.cause, BaseException | None)
    assert_type(error.compensated, tuple[str, ...])
    if isinstance(error, CompensationFailed):
        assert_type(error.undo, str)
    assert_type((busy.saga, busy.id, busy.holder), tuple[str, str, str])
    assert_type(busy.retry_after, float)
