"""Optimistic locking: what is sent, what becomes of conflicts and faults, and exact counts."""

from __future__ import annotations

import datetime
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    InvalidInput,
    LockStatus,
    MergeConflict,
    OutcomeUnknown,
    RecordExists,
    RecordNotFound,
    Resolution,
    RetryExhausted,
    SchemaMismatch,
    UnitOfWork,
    VersionConflict,
    Versioned,
    VersionedRow,
    VersionedUpdate,
)
from tests.cqlproto_anyio.patterns.accounts import Accounts
from tests.support.virtual_clock import run_virtual

MERGE, LAST = Resolution.MERGE, Resolution.LAST_WRITER_WINS


def versioned(table: Accounts, **options: Any) -> Versioned:
    return Versioned(table.executor, keyspace="ks", table="accounts", key=["id"], **options)


def plus(amount: int) -> Any:
    return lambda values: {"balance": values["balance"] + amount}


def other_writer(table: Accounts, id: int, **values: Any) -> None:
    row = table.rows[id]
    table.rows[id] = {**row, **values, "version": row["version"] + 1, "writer": "other"}


async def test_an_update_is_one_lwt_if_the_version_is_known() -> None:
    table = Accounts()
    table.add(1, balance=100)
    rows = versioned(table)
    account = await rows.read(1)
    assert account == VersionedRow((1,), {"id": 1, "name": None, "balance": 100, "tags": None}, 1)
    del table.executor.asked[:]
    outcome = await rows.update(1, {"balance": 110}, expected=account)
    assert (outcome.status, outcome.version, outcome.ok) == (LockStatus.SUCCESS, 2, True)
    assert outcome.values == {**account.values, "balance": 110}
    (sent,) = table.executor.asked
    assert sent.text == (
        'UPDATE "ks"."accounts" SET "balance" = :v0, "version" = :v1, "writer" = :v2'
        ' WHERE "id" = :k0 IF "version" = :expected'
    )
    by_version = await rows.update(1, plus(1), expected=outcome.version)
    assert by_version.ok
    assert [each.conditional for each in table.executor.asked] == [True, False, True]
    unknown = await rows.update(1, {"balance": 0}, expected=3)
    assert (unknown.version, unknown.values) == (4, None)


async def test_a_function_gets_fresh_values_at_every_attempt() -> None:
    table = Accounts()
    table.add(1, balance=0)
    seen = []

    def deposit(values: Any) -> Any:
        seen.append(values["balance"])
        values["balance"] += 1000  # a copy
        return {"balance": values["balance"] - 990}

    def another_is_faster() -> None:
        if len(seen) < 3:
            other_writer(table, 1, balance=len(seen))

    table.before_write = another_is_faster
    rows = versioned(table, max_retries=2)
    outcome = await rows.update(1, deposit)
    assert (outcome.ok, outcome.retries, seen) == (True, 2, [0, 1, 2])
    assert table.rows[1]["balance"] == 12
    serial = [each.options.get("consistency") for each in table.executor.asked if "*" in each.text]
    assert serial == [None, cql.Consistency.SERIAL, cql.Consistency.SERIAL]


async def test_retries_are_bounded() -> None:
    table = Accounts()
    table.add(1, balance=0)
    table.before_write = lambda: other_writer(table, 1)
    rows = versioned(table, max_retries=3, retry_delay=1.0, backoff=2.0, max_delay=2.5)
    began = anyio.current_time()
    outcome = await rows.update(1, plus(1))
    assert (outcome.status, outcome.retries) == (LockStatus.RETRY_EXHAUSTED, 3)
    assert outcome.version == 5
    elapsed = anyio.current_time() - began
    assert 0.5 + 1 + 1.25 <= elapsed <= 1.5 + 2.5 + 2.5
    with pytest.raises(RetryExhausted) as info:
        outcome.raise_for_status()
    assert (info.value.retries, info.value.actual) == (3, 5)
    assert table.executor.lwts == 4


async def test_failing_fast() -> None:
    table = Accounts()
    table.add(1, balance=0, version=7)
    rows = versioned(table)
    outcome = await rows.update(1, {"balance": 1}, expected=3)
    assert (outcome.status, outcome.version, outcome.expected) == (
        LockStatus.VERSION_CONFLICT,
        7,
        3,
    )
    assert outcome.values is not None
    with pytest.raises(VersionConflict) as info:
        outcome.raise_for_status()
    assert (info.value.expected, info.value.actual, info.value.key) == (3, 7, (1,))
    fast = await rows.update(1, plus(1), expected=3, resolution=Resolution.FAIL_FAST)
    assert (fast.status, table.executor.lwts) == (LockStatus.VERSION_CONFLICT, 1)


async def test_a_three_way_merge() -> None:
    table = Accounts()
    table.add(1, name="a", balance=100, tags=["x"])
    rows = versioned(table)
    base = await rows.read(1)
    other_writer(table, 1, balance=130, tags=["x", "y"])
    mine = {"name": "b", "balance": 110, "tags": ["x", "z"]}
    conflict = await rows.update(1, mine, expected=base, resolution=MERGE)
    assert (conflict.status, conflict.fields) == (LockStatus.MERGE_CONFLICT, ("balance", "tags"))
    with pytest.raises(MergeConflict, match="balance"):
        conflict.raise_for_status()
    rules: Any = {"balance": "numeric_add", "tags": "list_append"}
    merged = await rows.update(1, mine, expected=base, resolution=MERGE, merge=rules)
    assert merged.ok
    row = table.rows[1]
    assert (row["name"], row["balance"], row["tags"]) == ("b", 140, ["x", "y", "z"])


@pytest.mark.parametrize(
    ("rule", "base", "mine", "theirs", "expected"),
    [
        ("last_writer_wins", 1, 2, 3, 2),
        ("keep_current", 1, 2, 3, 3),
        ("numeric_add", 1, 2, 3, 4),
        ("numeric_add", None, 2, 3, 5),
        ("list_append", ["a"], ["a", "b"], ["c"], ["c", "b"]),
        ("list_append", None, ["b"], ["c"], ["c", "b"]),
        ("list_append", ["a"], ["b"], ["c"], None),  # nothing was appended
        (lambda base, mine, theirs: (base, mine, theirs), 1, 2, 3, (1, 2, 3)),
        (None, 1, 2, 3, None),
        (None, 1, 1, 3, 3),  # not changed by this side
        (None, 1, 3, 3, 3),  # changed alike
        (None, 1, 2, 1, 2),  # not changed by the other
    ],
)
async def test_rules_of_merges(rule: Any, base: Any, mine: Any, theirs: Any, expected: Any) -> None:
    table = Accounts()
    table.add(1, name=base, balance=0)
    rows = versioned(table)
    read = await rows.read(1)
    other_writer(table, 1, name=theirs)
    merge = {} if rule is None else {"name": rule}
    outcome = await rows.update(1, {"name": mine}, expected=read, resolution=MERGE, merge=merge)
    if expected is None:
        assert outcome.status is LockStatus.MERGE_CONFLICT
        expected = theirs
    assert table.rows[1]["name"] == expected
    assert outcome.values is not None
    assert outcome.values["name"] == expected


async def test_a_rule_that_does_not_fit() -> None:
    table = Accounts()
    table.add(1, name="a")
    rows = versioned(table)
    read = await rows.read(1)
    other_writer(table, 1, name="b")
    with pytest.raises(InvalidInput, match="numeric_add takes numbers"):
        await rows.update(
            1, {"name": "c"}, expected=read, resolution=MERGE, merge={"name": "numeric_add"}
        )
    assert table.rows[1]["name"] == "b"


@pytest.mark.parametrize("rule", ["newest", [], {}, 5, None])
async def test_what_is_no_rule(rule: Any) -> None:
    rows = versioned(Accounts())
    read = VersionedRow((1,), {"id": 1, "name": "a"}, 1)
    with pytest.raises(InvalidInput, match="merge\\['name'\\]"):
        await rows.update(1, {"name": "c"}, expected=read, resolution=MERGE, merge={"name": rule})


@pytest.mark.parametrize("key", ["id", [], object(), 5, None])
def test_what_is_no_key(key: Any) -> None:
    with pytest.raises(InvalidInput, match="key"):
        Versioned(Accounts().executor, keyspace="ks", table="accounts", key=key)


async def test_the_last_writer_wins_if_asked_for() -> None:
    table = Accounts()
    table.add(1, name="a", balance=1)
    rows = versioned(table)
    read = await rows.read(1)
    other_writer(table, 1, name="b", balance=2)
    outcome = await rows.update(1, {"name": "c"}, expected=read, resolution=LAST)
    assert (outcome.ok, outcome.version, outcome.retries) == (True, 3, 1)
    assert (table.rows[1]["name"], table.rows[1]["balance"]) == ("c", 2)


async def test_a_deleted_row_is_not_revived() -> None:
    """Neither one with a version, nor one from before the versions."""
    table = Accounts()
    rows = versioned(table)
    for version in (1, None):
        table.add(1, balance=1, version=version)
        account = await rows.read(1)
        table.before_write = table.rows.clear
        outcomes = [
            await rows.update(1, {"balance": 2}, expected=account),
            await rows.update(1, plus(1), expected=account),
        ]
        table.before_write = lambda: None
        outcomes += [
            await rows.update(1, plus(1)),
            await rows.update(1, {"balance": 2}, resolution=LAST),
            await rows.update(1, {"balance": 2}, expected=account, resolution=MERGE),
        ]
        for outcome in outcomes:
            assert (outcome.status, outcome.version) == (LockStatus.RECORD_NOT_FOUND, None)
            with pytest.raises(RecordNotFound):
                outcome.raise_for_status()
        assert table.rows == {}
    with pytest.raises(RecordNotFound):
        await rows.read(1)


async def test_rows_from_before_the_versions() -> None:
    table = Accounts()
    table.add(1, balance=100, version=None)
    table.add(2, version=None)
    rows = versioned(table)
    assert (await rows.read(1)).version == 0
    assert (await rows.update(1, {"balance": 1}, expected=0)).version == 1
    with pytest.raises(InvalidInput, match="a value in any column"):
        await rows.update(2, lambda _: {"balance": 1})  # nothing tells it from a deleted row


async def test_inserts() -> None:
    table = Accounts("reply")
    rows = versioned(table)
    row = await rows.insert({"id": 1, "balance": 5, "name": None})  # the lost reply is settled
    assert (row.version, row.values["balance"], row.values["tags"]) == (1, 5, None)
    with pytest.raises(RecordExists) as info:
        await rows.insert({"id": 1, "balance": 6})
    assert (info.value.key, info.value.existing["balance"]) == ((1,), 5)
    table.faults = ["request"]
    with pytest.raises(OutcomeUnknown):  # it may have been applied, and deleted
        await rows.insert({"id": 2, "balance": 6})
    table.faults = ["request"]
    table.add(3, balance=1, writer="other")
    with pytest.raises(RecordExists) as info:
        await rows.insert({"id": 3, "balance": 6})
    assert info.value.existing["balance"] == 1
    for values, what in [({"balance": 1}, "key"), ({"id": None}, "key"), ([1], "mapping")]:
        with pytest.raises(InvalidInput, match=what):
            await rows.insert(values)  # type: ignore[arg-type]


async def test_an_update_without_a_mark() -> None:
    """Without a writer column, an update in doubt is settled only if it was not applied."""
    table = Accounts("request", None, "reply")
    table.add(1, balance=0)
    rows = versioned(table, writer=None)
    assert (await rows.update(1, {"balance": 1}, expected=1)).ok
    with pytest.raises(OutcomeUnknown, match=r"update of \(1,\)"):
        await rows.update(1, {"balance": 2}, expected=2)
    assert table.rows[1]["balance"] == 2


FAULTS = st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(faults=FAULTS, other=st.lists(st.booleans(), max_size=4), delivers=st.booleans())
def test_an_update_counts_once_whatever_is_lost(
    backend: str, faults: list[str | None], other: list[bool], delivers: bool
) -> None:
    """The balance is the sum of the updates that succeeded, and of others' and unknown ones."""
    table = Accounts(*faults)
    table.add(1, balance=0)
    others = iter(other)
    added = 0

    def before_read() -> None:
        nonlocal added
        if delivers:
            table.deliver()
        if next(others, False):
            other_writer(table, 1, balance=table.rows[1]["balance"] + 1000)
            added += 1000

    table.before_read = before_read
    rows = versioned(table)

    async def run() -> None:
        sure = unknown = 0
        for _ in range(3):
            try:
                sure += (await rows.update(1, plus(1))).ok
            except OutcomeUnknown:
                unknown += 1
        table.deliver()
        assert sure <= table.rows[1]["balance"] - added <= sure + unknown
        assert rows.metrics().total_operations == 3
        assert rows.metrics().successful_operations == sure

    run_virtual(run, backend)


async def test_counts_are_exact_after_a_thousand_racing_updates() -> None:
    table = Accounts()
    for id in range(10):
        table.add(id, balance=0)
    both = [versioned(table, max_retries=3, retry_delay=0.01, history=2) for _ in range(2)]
    outcomes = []

    async def work(rows: Versioned, number: int) -> None:
        outcomes.append(await rows.update(number % 10, plus(1)))

    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(work, both[number // 10 % 2], number)
    done = sum(each.ok for each in outcomes)
    metrics = [rows.metrics() for rows in both]
    assert sum(each.total_operations for each in metrics) == 1000
    assert sum(each.successful_operations for each in metrics) == done
    assert sum(row["balance"] for row in table.rows.values()) == done
    assert sum(row["version"] - 1 for row in table.rows.values()) == done
    assert sum(each.retries_performed for each in metrics) == sum(each.retries for each in outcomes)
    conflicts = sum(each.version_conflicts for each in metrics)
    assert conflicts == table.executor.lwts - done
    assert conflicts >= 10
    for rows, each in zip(both, metrics, strict=True):  # the history is a ring
        assert len(rows.conflicts(1000)) == min(2, each.version_conflicts)
    for each in metrics:
        assert each.avg_retry_count == each.retries_performed / each.total_operations
        assert each.conflict_rate == each.version_conflicts / each.total_operations


async def test_metrics_without_updates_and_with_errors() -> None:
    table = Accounts()
    moment = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    rows = versioned(table, clock=lambda: moment)
    assert rows.metrics().success_rate == rows.metrics().conflict_rate == 0.0
    analysis = rows.analyze_conflicts()
    assert (analysis.total_conflicts, analysis.avg_retries, analysis.recommendations) == (0, 0, ())
    table.add(1, balance=0)
    with pytest.raises(ZeroDivisionError):
        await rows.update(1, lambda _: {"balance": 1 / 0})
    with anyio.move_on_after(1):
        table.before_read = lambda: None
        async with anyio.create_task_group() as group:
            group.cancel_scope.cancel()
            await rows.update(1, plus(1))
    assert rows.metrics().total_operations == 2
    assert rows.metrics().successful_operations == 0
    for _ in range(12):
        await rows.update(1, {"balance": 1}, expected=9)
    (newest,) = rows.conflicts(1)
    assert (newest.timestamp, newest.expected, newest.actual) == (moment, 9, 1)
    assert rows.conflicts(0) == []
    analysis = rows.analyze_conflicts()
    assert analysis.hotspots == (((1,), 12),)
    assert len(analysis.recommendations) == 2


async def test_updates_in_a_unit() -> None:
    table = Accounts()
    table.add(1, balance=1)
    rows = versioned(table)
    account = await rows.read(1)
    async with UnitOfWork(table.executor) as unit:
        await rows.update(1, {"balance": 5}, expected=account, unit=unit)
        assert table.rows[1]["balance"] == 1
    assert table.rows[1]["balance"] == 5
    async with UnitOfWork(table.executor) as unit:
        await rows.update(1, plus(1), unit=unit)
    assert (table.rows[1]["balance"], table.rows[1]["version"]) == (6, 3)
    with pytest.raises(VersionConflict) as info:
        async with UnitOfWork(table.executor) as unit:
            await rows.update(1, {"balance": 7}, expected=1, unit=unit)
    assert (info.value.expected, info.value.actual) == (1, 3)
    table.faults = ["reply"]
    async with UnitOfWork(table.executor) as unit:
        await rows.update(1, plus(1), unit=unit)  # settled by the writer's mark
    assert table.rows[1]["balance"] == 7
    metrics = rows.metrics()
    assert (metrics.total_operations, metrics.successful_operations) == (4, 3)
    assert metrics.version_conflicts == 1
    async with UnitOfWork(table.executor) as unit:
        with pytest.raises(RecordNotFound):
            await rows.update(9, plus(1), unit=unit)
        either: Any = rows
        with pytest.raises(InvalidInput, match="resolution"):
            await either.update(1, plus(1), unit=unit, resolution=LAST)
    table.faults = ["request"]
    with pytest.raises(OutcomeUnknown):  # counted as well
        async with UnitOfWork(table.executor) as unit:
            await rows.update(1, plus(1), unit=unit)
            table.before_read = table.rows.clear
    assert rows.metrics().total_operations == 5
    assert rows.metrics().successful_operations == 3


async def test_many_updates_at_once() -> None:
    table = Accounts()
    for id in range(20):
        table.add(id, balance=0)
    rows = versioned(table)
    updates = [VersionedUpdate(id, plus(1)) for id in range(21)]
    outcomes = await rows.update_many(updates, concurrency=4)
    assert [each.key for each in outcomes] == [(id,) for id in range(21)]
    assert sum(each.outcome is not None and each.outcome.ok for each in outcomes) == 20
    bad = VersionedUpdate(1, {"stars": 1}, expected=2)
    (wrong,) = await rows.update_many([bad])
    assert isinstance(wrong.error, InvalidInput)
    assert await rows.update_many([]) == []
    with pytest.raises(ZeroDivisionError):  # of the caller's function, as it is
        await rows.update_many([VersionedUpdate(1, lambda _: {"balance": 1 / 0})] * 5)


async def test_tables_of_another_shape() -> None:
    table = Accounts()
    del table.shape["version"], table.shape["writer"]
    rows = versioned(table)
    with pytest.raises(SchemaMismatch) as info:
        await rows.read(1)
    assert (info.value.column, info.value.actual) == ("version", None)
    assert table.reads == 0
    await rows.create_schema()
    sent = [each.text for each in table.executor.asked if each.text.startswith("ALTER")]
    assert tuple(sent) == Versioned.schema_cql("ks", table="accounts")
    await rows.create_schema()
    assert table.executor.prepared == ['SELECT "version", "writer" FROM "ks"."accounts"'] * 2
    table.add(1, balance=0)
    assert (await rows.read(1)).version == 1
    for name, kind in [("version", "text"), ("writer", "text")]:
        table.shape[name] = kind
        with pytest.raises(SchemaMismatch, match=name):
            await versioned(table).read(1)
        table.shape[name] = {"version": "bigint", "writer": "uuid"}[name]
    other = Versioned(table.executor, keyspace="ks", table="accounts", key=["id", "name"])
    with pytest.raises(SchemaMismatch, match="part of the key"):
        await other.read((1, "a"))
    table.shape.clear()
    with pytest.raises(SchemaMismatch):
        await versioned(table).create_schema()


async def test_columns_that_were_added_later() -> None:
    table = Accounts()
    table.add(1, balance=0)
    rows = versioned(table)
    await rows.read(1)
    with pytest.raises(InvalidInput, match="stars"):
        await rows.update(1, {"stars": 5}, expected=1)
    table.shape["stars"] = "int"
    assert (await rows.update(1, {"stars": 5}, expected=1)).ok


@pytest.mark.parametrize(
    ("changes", "arguments", "what"),
    [
        ({"balance": 2}, {}, "expected"),
        ({"balance": 2}, {"expected": 1, "resolution": Resolution.RETRY}, "function"),
        ({"balance": 2}, {"expected": 1, "resolution": MERGE}, "expected"),
        (plus(1), {"resolution": MERGE}, "expected"),
        ({}, {"expected": 1}, "changes"),
        ([("balance", 1)], {"expected": 1}, "changes"),
        (test_inserts, {}, "awaits nothing"),
        (lambda _: None, {}, "changes"),
        (lambda _: {"id": 1}, {}, "id"),
        ({"id": 41}, {"expected": 1}, "the key"),
        ({"version": 7}, {"expected": 1}, "version"),
        ({"balance = 0 --": 1}, {"expected": 1}, "balance = 0 --"),
        ({"balance": 2}, {"expected": -1}, "expected"),
        ({"balance": 2}, {"expected": True}, "expected"),
        ({"balance": 2}, {"expected": VersionedRow((2,), {}, 1)}, "expected"),
        (plus(1), {"resolution": "retry"}, "resolution"),
        ({"name": "a"}, {"expected": 1, "merge": {"name": "keep_current"}}, "merge"),
        (
            {"name": "a"},
            {
                "expected": VersionedRow((1,), {}, 1),
                "resolution": MERGE,
                "merge": {"name": "best"},
            },
            "merge.*best",
        ),
    ],
)
async def test_mistakes(changes: Any, arguments: dict[str, Any], what: str) -> None:
    table = Accounts()
    table.add(1, balance=0)
    rows: Any = versioned(table)
    with pytest.raises(InvalidInput, match=what):
        await rows.update(1, changes, **arguments)
    assert table.executor.lwts == 0
    assert rows.metrics().successful_operations == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", -1),
        ("retry_delay", -1),
        ("max_delay", float("nan")),
        ("backoff", 0.5),
        ("backoff", "2"),
        ("backoff", True),
        ("history", 0),
        ("key", "id"),
        ("key", []),
        ("version", 'v" = 1'),
        ("writer", ""),
        ("keyspace", "a b"),
        ("table", "t" * 49),
    ],
)
def test_bad_settings(name: str, value: object) -> None:
    settings: Any = {"keyspace": "ks", "table": "t", "key": ["id"], name: value}
    with pytest.raises(InvalidInput):
        Versioned(Accounts().executor, **settings)


@pytest.mark.parametrize("key", [(1, 2), (), None, {"name": 1}, {"id": 1, "x": 2}, (None,)])
async def test_bad_keys(key: Any) -> None:
    table = Accounts()
    with pytest.raises(InvalidInput, match="key"):
        await versioned(table).read(key)
    assert table.executor.asked == []
