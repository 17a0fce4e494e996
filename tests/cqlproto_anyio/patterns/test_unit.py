"""Units of work: what is sent at their end, what is refused, and unknown outcomes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import NATIVE_TYPES, encoder
from cqlproto_anyio.patterns import ConditionFailed, OutcomeUnknown, UnitOfWork, UnitRefused
from tests.support.scripted import Scripted, lost, refusal, timed_out, unavailable

UPDATE = "UPDATE ks.t SET a = :a WHERE id = :id"
OTHER = "INSERT INTO ks.other (id, a) VALUES (:id, :a)"
IF = "UPDATE ks.t SET a = :a WHERE id = :id IF a = 1"


class Typed(Scripted):
    """An executor that knows the types and the key of its tables: ``id`` is the key."""

    def __init__(self, answer: Any = None, **types: str) -> None:
        super().__init__(answer if callable(answer) else lambda _: answer)
        self.types = {"id": "int", "a": "text"} | types

    async def prepare(self, query: str, /, **options: Any) -> Any:
        await super().prepare(query)
        table = "other" if "other" in query else "t"
        names = ("id", "a") if query.startswith("INSERT") else ("a", "id")
        columns = tuple(
            SimpleNamespace(keyspace="ks", table=table, name=name, type=NATIVE_TYPES[kind])
            for name in names
            for kind in [self.types[name]]
        )
        return SimpleNamespace(
            query=query,
            parameters=columns,
            key_positions=(names.index("id"),),
            cells=lambda values: tuple(encoder(each.type)(values[each.name]) for each in columns),
        )


async def commit(executor: Scripted, *items: Any, **options: Any) -> None:
    async with UnitOfWork(executor, **options) as unit:
        for item in items:
            unit.add(*item) if isinstance(item, tuple) else unit.add(item)


async def test_a_unit_is_one_logged_batch_at_its_end() -> None:
    executor = Typed()
    async with UnitOfWork(executor) as unit:
        values = {"a": "x", "id": 1}
        unit.add(UPDATE, values)
        values["a"] = "changed"
        row = ["y"]
        unit.add("DELETE FROM ks.t WHERE id = 2")
        unit.add(OTHER, {"id": 3, "a": "z"})
        unit.add(UPDATE, {"a": row[0], "id": 2})
        assert (len(unit), executor.asked, executor.prepared) == (4, [], [])
    (sent,) = executor.asked
    assert sent.options == {"kind": "logged"}
    assert [text for text, _ in sent.statements] == [
        UPDATE,
        "DELETE FROM ks.t WHERE id = 2",
        OTHER,
        UPDATE,
    ]
    assert sent.statements[0][1] == {"a": "x", "id": 1}
    assert executor.prepared == [UPDATE, OTHER]  # each text once


async def test_one_statement_needs_no_batch_and_none_nothing() -> None:
    executor = Typed()
    await commit(executor)
    await commit(executor, (UPDATE, {"a": "x", "id": 1}))
    assert [each.options for each in executor.asked] == [{}]


async def test_an_error_or_a_cancellation_sends_nothing() -> None:
    executor = Typed()
    with pytest.raises(ZeroDivisionError):
        async with UnitOfWork(executor) as unit:
            unit.add(UPDATE, {"a": "x", "id": 1})
            _ = 1 / 0
    with anyio.move_on_after(1):
        async with UnitOfWork(executor) as unit:
            unit.add(UPDATE, {"a": "x", "id": 1})
            await anyio.sleep(60)
    assert (executor.asked, executor.prepared) == ([], [])


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("SELECT * FROM t", "SELECT"),
        ("/* INSERT */ drop -- x\n table t", "DROP TABLE"),
        ("BEGIN BATCH DELETE FROM t WHERE id = 1 APPLY BATCH", "BATCH"),
        ("UPDATE t SET a = 1 WHERE id = 1; DROP TABLE t", "DROP TABLE"),
        ("", "nothing"),
    ],
)
async def test_refused_when_it_is_added(query: str, what: str) -> None:
    executor = Typed()
    async with UnitOfWork(executor) as unit:
        with pytest.raises(UnitRefused, match=f"not {what}") as info:
            unit.add(query)
        assert info.value.query == query
    assert executor.asked == []


async def test_refused_at_the_commit_before_anything_is_sent() -> None:
    executor = Typed()
    with pytest.raises(UnitRefused, match="counter"):
        await commit(Typed(a="counter"), (UPDATE, {"a": 1, "id": 1}))
    with pytest.raises(UnitRefused, match="size of 2,0"):
        await commit(executor, (UPDATE, {"a": "x" * 2000, "id": 1}), max_size=1000)
    with pytest.raises(UnitRefused, match="size"):  # literals count too
        await commit(executor, f"UPDATE ks.t SET a = '{'x' * 1000}' WHERE id = 1", max_size=1000)
    for other in (UPDATE, {"a": "y", "id": 2}), (OTHER, {"a": "y", "id": 1}):
        with pytest.raises(UnitRefused, match="one partition of one table") as info:
            await commit(executor, (IF, {"a": "x", "id": 1}), other)
        assert info.value.query == IF
    assert executor.asked == []
    await commit(executor, (UPDATE, {"a": "x", "id": 1}), (UPDATE, {"a": "y", "id": 2}))
    assert len(executor.asked) == 1


async def test_what_the_server_refuses() -> None:
    error = cql.InvalidQuery(0x2200, "Batch too large", {}, host="h", query=None)
    with pytest.raises(UnitRefused, match="Batch too large") as info:
        await commit(Typed(error), "DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 2")
    assert info.value.__cause__ is error


async def test_an_outcome_that_nobody_can_tell() -> None:
    for error in (lost(), timed_out()):
        with pytest.raises(OutcomeUnknown, match="2 statements") as info:
            await commit(Typed(error), "DELETE FROM t WHERE id = 1", "DELETE FROM t WHERE id = 2")
        assert info.value.maybe_applied
        assert info.value.__cause__ is error
    with pytest.raises(cql.Unavailable):  # certainly not written
        await commit(Typed(unavailable()), (UPDATE, {"a": "x", "id": 1}))


async def test_conditions_hold_together_or_not_at_all() -> None:
    items = (IF, {"a": "x", "id": 1}), (UPDATE, {"a": "y", "id": 1})
    executor = Typed(True)
    await commit(executor, *items)
    assert (executor.asked[0].options, executor.lwts) == ({"kind": "unlogged"}, 1)
    with pytest.raises(ConditionFailed) as info:
        await commit(Typed(refusal([{"id": 1, "a": "2"}])), *items)
    assert info.value.rows[0]["a"] == "2"
    with pytest.raises(OutcomeUnknown):
        await commit(Typed(lost()), *items)


async def test_it_is_used_once() -> None:
    executor = Typed()
    unit = UnitOfWork(executor)
    with pytest.raises(UnitRefused, match="async with"):
        unit.add(UPDATE)
    async with unit:
        pass
    with pytest.raises(UnitRefused, match="ended"):
        unit.add(UPDATE)
    with pytest.raises(UnitRefused, match="once"):
        async with unit:
            pass
    wrong: Any = 7
    with pytest.raises(cql.UsageError, match="query"):
        unit.add(wrong)
    for size in (0, -1, True, 1.5):
        with pytest.raises(cql.UsageError, match="max_size"):
            UnitOfWork(executor, max_size=size)  # type: ignore[arg-type]


async def test_a_batch_has_a_limited_number_of_statements() -> None:
    async with UnitOfWork(Typed(), max_size=10_000_000) as unit:
        for _ in range(0xFFFF):
            unit.add("DELETE FROM t WHERE id = 1")
        with pytest.raises(UnitRefused, match="65,535"):
            unit.add("DELETE FROM t WHERE id = 1")
