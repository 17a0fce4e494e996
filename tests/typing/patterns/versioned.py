"""The types of optimistic locking. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_type

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    Conflict,
    ConflictAnalysis,
    LockStatus,
    MergeConflict,
    Resolution,
    RetryExhausted,
    RowOutcome,
    UnitOfWork,
    UpdateOutcome,
    VersionConflict,
    Versioned,
    VersionedMetrics,
    VersionedRow,
    VersionedUpdate,
)


def deposit(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"balance": values["balance"] + 10}


def union(base: Any, mine: Any, theirs: Any) -> Any:
    return mine | theirs


async def updating(executor: cql.Executor, unit: UnitOfWork) -> None:
    rows = Versioned(executor, keyspace="bank", table="accounts", key=["id"])
    Versioned(
        executor,
        keyspace="bank",
        table="accounts",
        key=["bank", "id"],
        version="revision",
        writer=None,
        max_retries=3,
        retry_delay=0.1,
        backoff=2.0,
        max_delay=5,
        history=10,
    )
    assert_type(await rows.create_schema(), None)
    assert_type(Versioned.schema_cql("bank", table="accounts", writer=None), tuple[str, ...])
    account = await rows.read(1)
    assert_type(account, VersionedRow)
    assert_type((account.version, account.key), tuple[int, tuple[Any, ...]])
    assert_type(account.values, Mapping[str, Any])
    assert_type(await rows.insert({"id": 1}), VersionedRow)
    outcome = await rows.update(1, deposit)
    assert_type(outcome, UpdateOutcome)
    assert_type(await rows.update(1, lambda values: {"a": values["a"] + 1}), UpdateOutcome)
    assert_type(await rows.update(1, {"name": "Ann"}, expected=account), UpdateOutcome)
    assert_type(await rows.update((1, 2), {"name": "Ann"}, expected=3), UpdateOutcome)
    merged = await rows.update(
        {"id": 1},
        {"tags": {"a"}},
        expected=account,
        resolution=Resolution.MERGE,
        merge={"tags": union, "name": "last_writer_wins", "balance": "numeric_add"},
    )
    assert_type(merged.raise_for_status(), UpdateOutcome)
    assert_type(await rows.update(1, {"a": 1}, expected=account, unit=unit), None)
    assert_type((outcome.status, outcome.ok), tuple[LockStatus, bool])
    assert_type((outcome.table, outcome.key), tuple[str, tuple[Any, ...]])
    assert_type(outcome.version, int | None)
    assert_type(outcome.expected, int | None)
    assert_type(outcome.values, Mapping[str, Any] | None)
    assert_type((outcome.retries, outcome.fields), tuple[int, tuple[str, ...]])
    for row in await rows.update_many([VersionedUpdate(1, deposit)], concurrency=4):
        assert_type(row, RowOutcome)
        assert_type(row.outcome, UpdateOutcome | None)
        assert_type(row.error, cql.CQLError | None)


def looking_on(rows: Versioned) -> None:
    metrics = rows.metrics()
    assert_type(metrics, VersionedMetrics)
    assert_type(metrics.total_operations, int)
    assert_type((metrics.conflict_rate, metrics.success_rate), tuple[float, float])
    assert_type(rows.conflicts(limit=10), list[Conflict])
    conflict = rows.conflicts()[0]
    assert_type((conflict.timestamp, conflict.table), tuple[datetime, str])
    assert_type((conflict.expected, conflict.actual, conflict.retries), tuple[int, int, int])
    assert_type(conflict.resolution, Resolution)
    analysis = rows.analyze_conflicts()
    assert_type(analysis, ConflictAnalysis)
    assert_type(analysis.total_conflicts, int)
    assert_type(analysis.hotspots, tuple[tuple[tuple[Any, ...], int], ...])
    assert_type(analysis.retry_distribution, Mapping[int, int])
    assert_type(analysis.recommendations, tuple[str, ...])


async def mistakes(executor: cql.Executor, rows: Versioned, unit: UnitOfWork) -> None:
    Versioned(executor, keyspace="bank", table="accounts")  # type: ignore[call-arg]
    await rows.update(1)  # type: ignore[call-overload]
    await rows.update(1, [("a", 1)])  # type: ignore[call-overload]
    await rows.update(1, deposit, resolution="retry")  # type: ignore[call-overload]
    await rows.update(1, {"a": 1}, expected=1, merge={"a": "best"})  # type: ignore[dict-item]
    await rows.update(1, deposit, unit=unit, resolution=Resolution.RETRY)  # type: ignore[call-overload]
    await rows.update_many([(1, deposit)])  # type: ignore[list-item]


def failing(conflict: VersionConflict, exhausted: RetryExhausted, merge: MergeConflict) -> None:
    assert_type((conflict.table, conflict.expected), tuple[str, int])
    assert_type(conflict.actual, int | None)
    a_conflict: VersionConflict = exhausted
    assert a_conflict
    assert_type(exhausted.retries, int)
    assert_type(merge.fields, tuple[str, ...])
