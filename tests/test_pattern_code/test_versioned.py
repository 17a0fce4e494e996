"""Optimistic locking as applications use it: accounts of a bank, a form that two people edit."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    LockStatus,
    MergeConflict,
    RecordExists,
    RecordNotFound,
    Resolution,
    RetryExhausted,
    SchemaMismatch,
    UnitOfWork,
    UnitRefused,
    VersionConflict,
    Versioned,
    VersionedUpdate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

CREATE_ACCOUNTS = (
    "CREATE TABLE IF NOT EXISTS accounts"
    " (id int PRIMARY KEY, name text, balance bigint, tags list<text>, email text)"
)


@pytest.fixture
async def rows(session: cql.Session, keyspace: str) -> Versioned:
    await session.execute(CREATE_ACCOUNTS)
    rows = Versioned(
        session,
        keyspace=keyspace,
        table="accounts",
        key=["id"],
        version="version",
        writer="writer",
        max_retries=5,
        retry_delay=0.01,
        backoff=2.0,
        max_delay=datetime.timedelta(seconds=1),
        history=100,
    )
    await rows.create_schema()
    await session.execute("TRUNCATE accounts")
    return rows


def plus(amount: int) -> Any:
    return lambda values: {"balance": values["balance"] + amount}


async def test_a_row_that_is_read_and_updated(rows: Versioned) -> None:
    created = await rows.insert({"id": 1, "name": "Ann", "balance": 100})
    assert (created.key, created.version) == ((1,), 1)
    account = await rows.read(1)
    assert account.version == 1
    assert account.values == {
        "id": 1,
        "name": "Ann",
        "balance": 100,
        "tags": None,
        "email": None,
    }
    outcome = await rows.update(1, {"name": "Anna"}, expected=account)
    assert (outcome.status, outcome.version, outcome.retries) == (LockStatus.SUCCESS, 2, 0)
    assert outcome.ok
    assert outcome.raise_for_status() is outcome
    assert outcome.values is not None
    assert (outcome.values["name"], outcome.values["balance"]) == ("Anna", 100)
    outcome = await rows.update({"id": 1}, {"name": "Ann"}, expected=2)
    assert outcome.version == 3
    assert (await rows.read((1,))).values["name"] == "Ann"
    with pytest.raises(RecordExists) as exists:
        await rows.insert({"id": 1, "name": "Other"})
    assert exists.value.existing["name"] == "Ann"


async def test_deposits_at_once_are_all_counted(rows: Versioned) -> None:
    """A function of fresh data is tried again; two times ten on 100 are 120."""
    await rows.insert({"id": 2, "balance": 100})
    busy = []

    async def deposit() -> None:
        outcome = await rows.update(2, plus(10))
        while not outcome.ok:
            busy.append(outcome.status)
            outcome = await rows.update(2, plus(10))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(deposit)
    row = await rows.read(2)
    assert (row.values["balance"], row.version) == (180, 9)
    assert set(busy) <= {LockStatus.RETRY_EXHAUSTED}


async def test_a_form_that_two_people_edit(rows: Versioned) -> None:
    """The second one is told what is in the table now."""
    await rows.insert({"id": 3, "name": "Ann", "balance": 1})
    mine = await rows.read(3)
    await rows.update(3, {"balance": 2}, expected=mine)
    late = await rows.update(3, {"name": "Anna"}, expected=mine, resolution=Resolution.FAIL_FAST)
    assert (late.status, late.ok) == (LockStatus.VERSION_CONFLICT, False)
    assert (late.expected, late.version, late.retries) == (1, 2, 0)
    assert late.values is not None
    assert (late.values["name"], late.values["balance"]) == ("Ann", 2)
    with pytest.raises(VersionConflict) as info:
        late.raise_for_status()
    error = info.value
    assert (error.key, error.expected, error.actual) == ((3,), 1, 2)
    assert "accounts" in error.table
    forced = await rows.update(3, {"name": "Anna"}, resolution=Resolution.LAST_WRITER_WINS)
    assert (forced.status, forced.version) == (LockStatus.SUCCESS, 3)


async def test_edits_are_merged(rows: Versioned) -> None:
    """Fields that one side changed are kept; a field that both changed wants a rule."""

    def both(base: Any, mine: Any, theirs: Any) -> Any:
        return f"{theirs} and {mine} (was {base})"

    await rows.insert({"id": 4, "name": "a", "balance": 100, "tags": ["x"], "email": "e"})
    base = await rows.read(4)
    theirs = {"name": "b", "balance": 130, "tags": ["x", "y"]}
    await rows.update(4, theirs, expected=base)
    merged = await rows.update(
        4,
        {"name": "c", "balance": 110, "tags": ["x", "z"], "email": "new"},
        expected=base,
        resolution=Resolution.MERGE,
        merge={"name": both, "balance": "numeric_add", "tags": "list_append"},
    )
    assert merged.raise_for_status().values == {
        "id": 4,
        "name": "b and c (was a)",
        "balance": 140,
        "tags": ["x", "y", "z"],
        "email": "new",
    }
    base = await rows.read(4)
    await rows.update(4, {"name": "d", "email": "theirs"}, expected=base)
    mine = {"name": "e", "email": "mine"}
    conflict = await rows.update(4, mine, expected=base, resolution=Resolution.MERGE)
    assert conflict.status is LockStatus.MERGE_CONFLICT
    assert sorted(conflict.fields) == ["email", "name"]
    with pytest.raises(MergeConflict) as info:
        conflict.raise_for_status()
    assert (info.value.key, sorted(info.value.fields)) == ((4,), ["email", "name"])
    ruled = await rows.update(
        4,
        mine,
        expected=base,
        resolution=Resolution.MERGE,
        merge={"name": "last_writer_wins", "email": "keep_current"},
    )
    assert ruled.values is not None
    assert (ruled.values["name"], ruled.values["email"]) == ("e", "theirs")


async def test_a_row_that_is_gone(session: cql.Session, rows: Versioned) -> None:
    """It isn't revived."""
    await rows.insert({"id": 5, "balance": 1})
    account = await rows.read(5)
    await session.execute("DELETE FROM accounts WHERE id = 5 IF EXISTS")
    for outcome in (
        await rows.update(5, plus(1)),
        await rows.update(5, {"balance": 2}, expected=account),
        await rows.update(5, {"balance": 2}, resolution=Resolution.LAST_WRITER_WINS),
    ):
        assert (outcome.status, outcome.version, outcome.values) == (
            LockStatus.RECORD_NOT_FOUND,
            None,
            None,
        )
    with pytest.raises(RecordNotFound) as info:
        outcome.raise_for_status()
    assert info.value.key == (5,)
    with pytest.raises(RecordNotFound):
        await rows.read(5)


async def test_a_row_from_before_the_versions(session: cql.Session, rows: Versioned) -> None:
    await session.execute("INSERT INTO accounts (id, balance) VALUES (6, 100)")
    assert (await rows.read(6)).version == 0
    assert (await rows.update(6, plus(10))).version == 1
    assert (await rows.read(6)).values["balance"] == 110


async def test_a_row_under_contention(
    session: cql.Session, cassandra: Node, keyspace: str, rows: Versioned
) -> None:
    """Retries are bounded; the outcome says how many there were."""
    await rows.insert({"id": 7, "balance": 0})
    slow = Versioned(
        session,
        keyspace=keyspace,
        table="accounts",
        key=["id"],
        writer=None,
        max_retries=2,
        retry_delay=0,
    )
    seen: list[int] = []

    def another_writer_is_faster(values: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(values["balance"])
        cassandra.cql(
            f"UPDATE {keyspace}.accounts SET balance = {len(seen)}, version = {len(seen) + 1}"
            " WHERE id = 7 IF EXISTS"
        )
        return {"balance": values["balance"] + 100}

    outcome = await slow.update(7, another_writer_is_faster)
    assert (outcome.status, outcome.retries) == (LockStatus.RETRY_EXHAUSTED, 2)
    assert seen == [0, 1, 2]
    with pytest.raises(RetryExhausted) as info:
        outcome.raise_for_status()
    assert isinstance(info.value, VersionConflict)
    assert (info.value.retries, info.value.key) == (2, (7,))
    outcome = await slow.update(7, plus(100))
    assert (outcome.ok, outcome.retries, outcome.version) == (True, 0, 5)


async def test_metrics_and_history(rows: Versioned) -> None:
    assert rows.metrics().success_rate == 0.0
    assert rows.conflicts() == []
    await rows.insert({"id": 8, "balance": 1})
    base = await rows.read(8)
    before = rows.metrics()
    assert (await rows.update(8, {"balance": 2}, expected=base)).ok
    for _ in range(3):
        assert not (await rows.update(8, {"balance": 3}, expected=base)).ok
    metrics = rows.metrics()
    assert metrics.total_operations - before.total_operations == 4
    assert metrics.successful_operations - before.successful_operations == 1
    assert (metrics.version_conflicts, metrics.retries_performed) == (3, 0)
    assert (metrics.merge_conflicts, metrics.avg_retry_count) == (0, 0.0)
    assert metrics.conflict_rate == 3 / metrics.total_operations
    assert metrics.success_rate == metrics.successful_operations / metrics.total_operations

    latest = rows.conflicts(limit=2)
    assert len(latest) == 2
    assert (latest[0].key, latest[0].expected, latest[0].actual) == ((8,), 1, 2)
    assert (latest[0].retries, latest[0].resolution) == (0, Resolution.FAIL_FAST)
    assert latest[0].timestamp >= latest[1].timestamp
    assert "accounts" in latest[0].table
    analysis = rows.analyze_conflicts()
    assert (analysis.total_conflicts, analysis.hotspots) == (3, (((8,), 3),))
    assert (analysis.retry_distribution, analysis.avg_retries) == ({0: 3}, 0.0)
    assert all(isinstance(each, str) for each in analysis.recommendations)


async def test_many_rows_each_with_its_outcome(rows: Versioned) -> None:
    for id in (20, 21):
        await rows.insert({"id": id, "balance": 0})
    outcomes = await rows.update_many(
        [
            VersionedUpdate(20, {"balance": 1}, expected=1),
            VersionedUpdate(21, {"balance": 1}, expected=9),
            VersionedUpdate(22, plus(1)),
            VersionedUpdate(20, {"balance": "many"}, expected=2),
        ],
        concurrency=1,
    )
    assert [each.key for each in outcomes] == [(20,), (21,), (22,), (20,)]
    assert [each.outcome and each.outcome.status for each in outcomes] == [
        LockStatus.SUCCESS,
        LockStatus.VERSION_CONFLICT,
        LockStatus.RECORD_NOT_FOUND,
        None,
    ]
    assert isinstance(outcomes[3].error, cql.ValueConversionError)
    assert [each.error for each in outcomes[:3]] == [None, None, None]


async def test_a_versioned_update_within_a_unit(session: cql.Session, rows: Versioned) -> None:
    """One conditional batch, if the whole unit is one partition."""
    await rows.insert({"id": 30, "balance": 10})
    account = await rows.read(30)
    async with UnitOfWork(session) as unit:
        await rows.update(30, {"balance": 5}, expected=account, unit=unit)
        unit.add("UPDATE accounts SET email = :email WHERE id = :id", {"email": "e", "id": 30})
    after = await rows.read(30)
    assert (after.version, after.values["balance"], after.values["email"]) == (2, 5, "e")

    with pytest.raises(VersionConflict) as info:
        async with UnitOfWork(session) as unit:
            await rows.update(30, {"balance": 7}, expected=account, unit=unit)
            unit.add("UPDATE accounts SET email = 'never' WHERE id = 30")
    assert (info.value.key, info.value.expected, info.value.actual) == ((30,), 1, 2)
    assert (await rows.read(30)).values["email"] == "e"

    with pytest.raises(UnitRefused, match="partition"):
        async with UnitOfWork(session) as unit:
            await rows.update(30, {"balance": 7}, expected=after, unit=unit)
            unit.add("UPDATE accounts SET email = 'never' WHERE id = ?", (31,))
    assert (await rows.read(30)).version == 2


async def test_a_table_without_versions(session: cql.Session, keyspace: str) -> None:
    await session.execute("CREATE TABLE plain (id int PRIMARY KEY, balance bigint)")
    await session.execute("INSERT INTO plain (id, balance) VALUES (1, 1)")
    rows = Versioned(session, keyspace=keyspace, table="plain", key=["id"])
    with pytest.raises(SchemaMismatch) as info:
        await rows.update(1, plus(1))
    assert (info.value.column, info.value.actual) == ("version", None)
    for statement in Versioned.schema_cql(keyspace, table="plain"):
        await session.execute(statement)
    assert (await rows.update(1, plus(1))).version == 1


async def test_mistakes_are_told_before_anything_is_sent(
    session: cql.Session, rows: Versioned
) -> None:
    await rows.insert({"id": 40, "balance": 1})
    update: Any = rows.update
    bad: list[tuple[Any, dict[str, Any], str]] = [
        ({"balance": 2}, {}, "expected"),
        ({"balance": 2}, {"expected": 1, "resolution": Resolution.RETRY}, "function"),
        ({"balance": 2}, {"expected": 1, "resolution": Resolution.MERGE}, "expected"),
        ({}, {"expected": 1}, "changes"),
        ({"id": 41}, {"expected": 1}, "id"),
        ({"version": 7}, {"expected": 1}, "version"),
        ({"name = 'pwn', balance": 1}, {"expected": 1}, "pwn"),
        ({"stars": 1}, {"expected": 1}, "stars"),
        ({"balance": 2}, {"expected": -1}, "expected"),
        (plus(1), {"resolution": "merge_all"}, "resolution"),
        ({"name": "a"}, {"expected": 1, "merge": {"name": "best"}}, "merge"),
    ]
    for changes, arguments, what in bad:
        with pytest.raises(cql.UsageError, match=what):
            await update(40, changes, **arguments)
    for name, value in [("max_retries", -1), ("retry_delay", -1), ("backoff", 0.5), ("history", 0)]:
        settings: dict[str, Any] = {name: value}
        with pytest.raises(cql.UsageError, match=name):
            Versioned(session, keyspace="bank", table="accounts", key=["id"], **settings)
    assert (await rows.read(40)).version == 1
